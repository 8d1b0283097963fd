//! The gateway's configuration: joined from what was asked and what runs, and read back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use bollard::models::ContainerInspectResponse;
use platform_blueprint::{Gateway, ServiceName};
use platform_decide::digest::Digest;
use platform_decide::group::GroupId;
use platform_decide::observed::GatewaySeen;
use platform_decide::traffic::{Share, Split, Traffic};
use platform_gateway_api::{Config, Role as LaneRole};
use platform_port::SecretValues;
use platform_traffic::{Internal, Parts, ReadyInstance};

use crate::gateway::{CERTIFICATES, Hearing, Published, Routed};
use crate::names::Names;
use crate::network::Network;
use crate::observe::Found;

/// The URL that requests are sent to.
fn url(gateway: &Gateway) -> String {
    let host = match gateway.address {
        address if address.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
        IpAddr::V4(address) => address.to_string(),
    };
    match &gateway.tls {
        Some(tls) => format!("https://{host}:{}", tls.port),
        None => format!("http://{host}:{}", gateway.port),
    }
}

/// Joins a configuration from what was asked and the instances that are there; its revision is left at 0.
pub(crate) fn join(
    network: &Network,
    routed: &Routed,
    found: &[Found],
    leaving: &BTreeSet<String>,
    secrets: &SecretValues,
    names: &Names,
) -> Config {
    // What was made ahead is none of the gateway's business yet.
    let serving = found.iter().filter(|one| one.was_started());
    let serving: Vec<&Found> = serving.filter(|one| one.address.is_some()).collect();
    let groups: BTreeSet<GroupId> = serving.iter().map(|one| one.group.clone()).collect();
    let http2 = serving.iter().filter(|one| one.keep.protocol.is_http2());
    let http2 = http2.map(|one| one.group.clone()).collect();
    let one_sided = serving.iter();
    let one_sided = one_sided
        .filter_map(|one| Some((one.group.clone(), one.keep.tls.clone()?)))
        .collect();
    let mutual = crate::certificates::mutual(found);
    let mut ready: Vec<ReadyInstance> = serving
        .iter()
        .filter(|one| one.takes_requests() && !leaving.contains(&one.name()))
        .filter_map(|one| {
            Some(ReadyInstance {
                group: one.group.clone(),
                name: one.name(),
                address: one.address.clone()?,
                zone: one.zone.clone(),
            })
        })
        .collect();
    ready.sort();
    let mut checks = BTreeMap::new();
    for one in &serving {
        let check = checks
            .entry(one.group.service.clone())
            .or_insert_with(|| one.keep.check());
        let path = one.keep.path.clone().unwrap_or_default();
        check.paths.insert(one.group.lane(), path);
    }
    let internal = routed
        .ports
        .iter()
        .map(|(name, port)| (name.clone(), Internal::everywhere(*port)))
        .collect();
    let certificates = Path::new(CERTIFICATES);
    let shared = routed.shared.as_ref().map(|file| certificates.join(file));
    let mut config = platform_traffic::join(&Parts {
        traffic: routed.traffic.as_ref(),
        groups: &groups,
        ready: &ready,
        internal: &internal,
        http2: &http2,
        one_sided: &one_sided,
        public: Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        checks: &checks,
        mutual: mutual.as_ref(),
        secrets,
        secret_files: certificates,
        shared: shared.as_deref(),
        root: None,
        project: names.project.as_str(),
    });
    // Whoever comes from the engine's own machine, and every service, comes from there.
    config.shared_addresses = network.subnet.iter().map(|subnet| subnet.text()).collect();
    config
}

/// The gateway as people and plans see it: its container, and what it says of itself where it answers.
pub(crate) fn seen(
    network: &Network,
    routed: &Routed,
    found: &[Found],
    (container, hearing): (&ContainerInspectResponse, &Hearing),
    published: &Gateway,
    names: &Names,
) -> GatewaySeen {
    let heard = hearing.heard();
    let hangs = matches!(hearing, Hearing::Hangs);
    let traffic = routed.traffic.as_ref();
    let gateway = traffic.map_or(published, |traffic| &traffic.ingress.gateway);
    let asked = traffic.map_or_else(
        || Digest::of(b""),
        |traffic| Digest::of_value(&traffic.ingress),
    );
    let asked_splits = || traffic.map_or_else(BTreeMap::new, |traffic| traffic.splits.clone());
    let elsewhere = traffic.is_some_and(|traffic| {
        let wanted = Published::of(&traffic.ingress.gateway);
        Published::by(container).is_some_and(|here| here != wanted)
    });
    let (ingress, splits) = match heard {
        _ if elsewhere => (Digest::of(b"another place"), asked_splits()),
        None => (asked, asked_splits()),
        Some(heard) => {
            let wanted = join(
                network,
                routed,
                found,
                &BTreeSet::new(),
                &SecretValues::new(),
                names,
            );
            let as_asked = traffic.is_none() || routes_of(&wanted) == routes_of(&heard.config);
            let ingress = if as_asked {
                asked
            } else {
                Digest::of(b"other routes than were asked for")
            };
            let in_force = |traffic| shares(traffic, &heard.config);
            (ingress, traffic.map_or_else(BTreeMap::new, in_force))
        }
    };
    GatewaySeen {
        url: url(gateway),
        ready: heard.is_some(),
        revision: heard.map_or(0, |heard| heard.status.revision),
        ingress,
        splits,
        amiss: crate::gateway::amiss(container, names)
            .or_else(|| hangs.then(|| "it runs and does not answer".to_owned())),
    }
}

/// What of a configuration comes from the blueprint and holds no secret.
fn routes_of(config: &Config) -> Config {
    let mut config = Config {
        revision: 0,
        services: BTreeMap::new(),
        ..config.clone()
    };
    for route in &mut config.routes {
        if let Some(auth) = &mut route.auth {
            auth.api_keys.clear();
        }
    }
    config
}

/// The shares in force. Where they are not those that were asked for, what the gateway has counts: a run may have ended between
/// asking and telling it.
fn shares(asked: &Traffic, config: &Config) -> BTreeMap<ServiceName, Split> {
    let mut splits = BTreeMap::new();
    for (name, split) in &asked.splits {
        let Some(service) = config.services.get(name.as_str()) else {
            continue;
        };
        let mut in_force = Split {
            shares: BTreeMap::new(),
            preview: if is_asked_by_name(asked, name) {
                platform_traffic::preview_of(name, service)
            } else {
                split.preview.clone()
            },
            copies: platform_traffic::copies_of(name, service),
        };
        for (lane, version) in &service.versions {
            let Ok(group) = format!("{name}@{lane}").parse::<GroupId>() else {
                continue;
            };
            let share = Share::thousandths(u16::try_from(version.weight).unwrap_or(1000));
            if version.role != LaneRole::Shadow
                && (share != Share::NONE || split.shares.contains_key(&group))
            {
                in_force.shares.insert(group, share);
            }
        }
        splits.insert(name.clone(), in_force);
    }
    splits
}

/// Whether a request can ask for a release of this service, so that the gateway's configuration tells which is on trial.
fn is_asked_by_name(traffic: &Traffic, name: &ServiceName) -> bool {
    let upstream = traffic.ingress.services.get(name);
    upstream.is_some_and(|to| !to.opt_in.header.is_empty() || !to.opt_in.cookie.is_empty())
}

#[cfg(test)]
mod tests {
    use platform_decide::desired::{Ingress, Upstream};
    use platform_decide::traffic::Copies;

    use super::*;

    fn traffic(preview: bool, copies: bool) -> Traffic {
        let (old, new): (GroupId, GroupId) =
            ("orders@r1".parse().unwrap(), "orders@r2".parse().unwrap());
        let upstream = Upstream {
            internal: false,
            protocol: platform_blueprint::Protocol::Http,
            traffic: platform_blueprint::Traffic::default(),
            opt_in: platform_blueprint::OptIn::default(),
            slow_after: 100,
        };
        let split = Split {
            preview: preview.then(|| new.clone()),
            copies: copies.then(|| Copies {
                to: new,
                of: None,
                share: Share::thousandths(100),
            }),
            ..Split::all(old)
        };
        let orders: ServiceName = "orders".parse().unwrap();
        Traffic {
            ingress: Ingress {
                gateway: Gateway::default(),
                routes: Vec::new(),
                services: BTreeMap::from([(orders.clone(), upstream)]),
                secrets: BTreeMap::new(),
                authorities: BTreeMap::new(),
                certificates: BTreeMap::new(),
            },
            splits: BTreeMap::from([(orders, split)]),
        }
    }

    fn told(traffic: &Traffic) -> Config {
        platform_traffic::join(&Parts {
            traffic: Some(traffic),
            groups: &BTreeSet::new(),
            ready: &[],
            internal: &BTreeMap::new(),
            http2: &BTreeSet::new(),
            one_sided: &BTreeMap::new(),
            public: None,
            checks: &BTreeMap::new(),
            mutual: None,
            secrets: &SecretValues::new(),
            secret_files: Path::new("/secrets"),
            shared: None,
            root: None,
            project: "shop",
        })
    }

    #[test]
    fn what_is_in_force_is_what_the_gateway_was_told_last() {
        let all = [(false, false), (true, false), (true, true)];
        for (preview, copies) in all {
            let in_force = traffic(preview, copies);
            for (preview, copies) in all {
                let seen = shares(&traffic(preview, copies), &told(&in_force));
                assert_eq!(seen, in_force.splits, "{preview} {copies}");
            }
        }
    }
}
