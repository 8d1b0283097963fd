//! The gateway's configuration, joined from routes, shares and the instances that are ready.

mod route;

use std::collections::{BTreeMap, BTreeSet};

use platform_blueprint::{self as blueprint, ServiceName};
use platform_decide::desired::{Ingress, Upstream};
use platform_decide::group::GroupId;
use platform_decide::traffic::{Split, Traffic};
use platform_gateway_api as api;

/// An instance that takes requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReadyInstance {
    /// The group it belongs to.
    pub(crate) group: GroupId,
    /// Its name.
    pub(crate) name: String,
    /// Its port.
    pub(crate) port: u16,
}

/// What a configuration is joined from.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    /// Routes and shares, once there are any.
    pub(crate) traffic: Option<&'a Traffic>,
    /// Groups that are kept up, ready or not, of services with a port.
    pub(crate) groups: &'a BTreeSet<GroupId>,
    /// Instances that are ready.
    pub(crate) ready: &'a [ReadyInstance],
    /// Ports of the internal listeners, by service.
    pub(crate) internal: &'a BTreeMap<ServiceName, u16>,
}

/// Joins a configuration; its revision is left at 0.
pub(crate) fn join(parts: &Parts<'_>) -> api::Config {
    let mut config = api::Config {
        show_version: true,
        ..api::Config::default()
    };
    let mut names: BTreeSet<&ServiceName> = parts.groups.iter().map(|id| &id.service).collect();
    if let Some(traffic) = parts.traffic {
        names.extend(traffic.ingress.services.keys());
        public_side(&mut config, &traffic.ingress);
        for (name, upstream) in &traffic.ingress.services {
            if upstream.internal
                && let Some(port) = parts.internal.get(name)
            {
                config.listeners.push(api::Listener {
                    name: format!("internal-{name}"),
                    address: format!("127.0.0.1:{port}"),
                    kind: api::ListenerKind::Internal {
                        service: name.to_string(),
                    },
                    ..api::Listener::default()
                });
            }
        }
    }
    for name in names {
        config
            .services
            .insert(name.to_string(), service(parts, name));
    }
    if let Some(traffic) = parts.traffic {
        let routes = traffic.ingress.routes.iter().enumerate();
        config.routes = routes
            // A route to what is not there at all would be refused with everything else.
            .filter(|(_, route)| {
                route
                    .service
                    .as_ref()
                    .is_none_or(|name| config.services.contains_key(name.as_str()))
            })
            .map(|(index, written)| route::route(index, written, &traffic.ingress))
            .collect();
    }
    config
}

fn millis(period: blueprint::Period) -> u64 {
    u64::try_from(period.duration().as_millis()).unwrap_or(u64::MAX)
}

fn public_side(config: &mut api::Config, ingress: &Ingress) {
    let gateway = &ingress.gateway;
    let limits = api::ListenerLimits {
        head_ms: millis(gateway.limits.header_time),
        idle_ms: millis(gateway.limits.body_pause),
        keep_alive_ms: millis(gateway.limits.idle),
        connections: gateway.limits.connections,
    };
    let address = |port: blueprint::Port| std::net::SocketAddr::new(gateway.address, port.get());
    config.listeners.push(api::Listener {
        name: "public".to_owned(),
        address: address(gateway.port).to_string(),
        kind: api::ListenerKind::Public,
        tls: None,
        limits,
    });
    config.trusted_proxies.clone_from(&gateway.trust);
    config.access_log.sample = if gateway.access_log.on {
        u32::from(gateway.access_log.sample.tenths())
    } else {
        0
    };
    config
        .access_log
        .redact_query
        .extend(gateway.access_log.redact.iter().cloned());
    config.identity = gateway.jwt.as_ref().map(|jwt| api::Identity {
        issuer: jwt.issuer.clone(),
        audiences: jwt.audience.clone(),
        jwks: api::Jwks::Url(jwt.jwks.clone().unwrap_or_else(|| {
            format!("{}/.well-known/jwks.json", jwt.issuer.trim_end_matches('/'))
        })),
        leeway_seconds: jwt.leeway.duration().as_secs(),
    });
}

fn service(parts: &Parts<'_>, name: &ServiceName) -> api::Service {
    let none = Split::default();
    let split = parts
        .traffic
        .and_then(|traffic| traffic.splits.get(name))
        .unwrap_or(&none);
    let named = split.shares.keys().chain(&split.preview);
    let groups: BTreeSet<&GroupId> = parts
        .groups
        .iter()
        .filter(|id| id.service == *name)
        .chain(named)
        .collect();
    let mut versions = BTreeMap::new();
    for id in groups {
        let weight = u32::from(split.share(id).get());
        let endpoints = parts
            .ready
            .iter()
            .filter(|instance| instance.group == *id)
            .map(|instance| api::Endpoint {
                id: instance.name.clone(),
                address: format!("127.0.0.1:{}", instance.port),
                zone: None,
            })
            .collect();
        versions.insert(
            id.lane(),
            api::Version {
                weight,
                endpoints,
                role: role(id, split, weight),
            },
        );
    }
    let upstream = parts
        .traffic
        .and_then(|traffic| traffic.ingress.services.get(name));
    let settings = parts
        .traffic
        .map(|traffic| &traffic.ingress.gateway)
        .zip(upstream);
    let mut service = api::Service {
        versions,
        ..api::Service::default()
    };
    if let Some((gateway, upstream)) = settings {
        behaviour(&mut service, gateway, upstream, split);
    }
    service
}

fn role(id: &GroupId, split: &Split, weight: u32) -> api::Role {
    let newest = split
        .shares
        .keys()
        .filter(|other| other.track == platform_decide::group::Track::Main)
        .max_by_key(|other| other.version);
    let several = split.shares.len() > 1;
    if id.track == platform_decide::group::Track::Baseline {
        api::Role::Baseline
    } else if weight == 0 && split.preview.as_ref() == Some(id) {
        api::Role::Preview
    } else if several && newest == Some(id) && weight < 1000 {
        api::Role::Canary
    } else {
        api::Role::Stable
    }
}

fn behaviour(
    service: &mut api::Service,
    gateway: &blueprint::Gateway,
    upstream: &Upstream,
    split: &Split,
) {
    let traffic = &upstream.traffic;
    service.balance = balance(&traffic.balance);
    service.http2 = upstream.protocol == blueprint::Protocol::H2c;
    service.slow_after_ms = upstream.slow_after;
    service.slow_start_ms = millis(traffic.slow_start);
    service.limits.concurrent = traffic.concurrency.unwrap_or(0);
    let outliers = traffic.outliers.as_ref().unwrap_or(&gateway.outliers);
    service.outliers = api::Outliers {
        consecutive_unreachable: outliers.failures,
        consecutive_bad: 0,
        eject_ms: millis(outliers.leave_out),
        floor_percent: u32::from(outliers.at_most.rest().tenths() / 10),
    };
    let breaker = traffic.breaker.as_ref().unwrap_or(&gateway.breaker);
    service.breaker = Some(api::Breaker {
        bad_percent: u32::from(breaker.errors.tenths() / 10).max(1),
        window_ms: millis(breaker.window),
        at_least: breaker.at_least,
        rest_ms: millis(breaker.pause),
    });
    service.overrides = overrides(upstream, split);
}

/// Requests that ask for the new or the old version by header or cookie.
fn overrides(upstream: &Upstream, split: &Split) -> Vec<api::Override> {
    let new = split.preview.as_ref();
    let old = split
        .shares
        .keys()
        .filter(|id| Some(*id) != new && id.track == platform_decide::group::Track::Main)
        .min_by_key(|id| id.version);
    let mut found = Vec::new();
    for (id, value) in [(new, "new"), (old.filter(|_| new.is_some()), "old")] {
        let Some(id) = id else { continue };
        let asked = |header: Option<&String>, cookie: Option<&String>| api::Override {
            header: header.cloned(),
            cookie: cookie.cloned(),
            value: value.to_owned(),
            version: id.lane(),
        };
        if !upstream.opt_in.header.is_empty() {
            found.push(asked(Some(&upstream.opt_in.header), None));
        }
        if !upstream.opt_in.cookie.is_empty() {
            found.push(asked(None, Some(&upstream.opt_in.cookie)));
        }
    }
    found
}

fn balance(wanted: &blueprint::Balance) -> api::Balance {
    use blueprint::BalanceStrategy::{Hash, LeastRequests, RoundRobin};
    match (wanted.strategy, wanted.on.as_deref()) {
        (LeastRequests, _) => api::Balance::LeastRequests,
        (RoundRobin, _) => api::Balance::RoundRobin,
        (Hash, Some(on)) => match on.strip_prefix("header:") {
            Some(header) => api::Balance::HeaderHash(header.to_owned()),
            None => api::Balance::ClientHash,
        },
        (Hash, None) => api::Balance::ClientHash,
    }
}

#[cfg(test)]
mod tests {
    use platform_decide::traffic::Share;

    use super::*;

    fn ingress() -> Ingress {
        let upstream = Upstream {
            internal: true,
            protocol: blueprint::Protocol::Http,
            traffic: blueprint::Traffic::default(),
            opt_in: blueprint::OptIn::default(),
            slow_after: 100,
        };
        let route = blueprint::Route {
            path: blueprint::PathMatch::Prefix("/api".to_owned()),
            service: Some("orders".parse().unwrap()),
            ..blueprint::Route::default()
        };
        Ingress {
            gateway: blueprint::Gateway::default(),
            routes: vec![route.clone(), route],
            services: BTreeMap::from([("orders".parse().unwrap(), upstream)]),
        }
    }

    #[test]
    fn shares_and_ready_instances_make_weighted_versions() {
        let (old, new): (GroupId, GroupId) =
            ("orders@r1".parse().unwrap(), "orders@r2".parse().unwrap());
        let orders: ServiceName = "orders".parse().unwrap();
        let split = Split {
            shares: BTreeMap::from([
                (old.clone(), Share::thousandths(950)),
                (new.clone(), Share::thousandths(50)),
            ]),
            preview: Some(new.clone()),
        };
        let traffic = Traffic {
            ingress: ingress(),
            splits: BTreeMap::from([(orders.clone(), split)]),
        };
        let ready = [ReadyInstance {
            group: new.clone(),
            name: "orders@r2.1".to_owned(),
            port: 21_000,
        }];
        let config = join(&Parts {
            traffic: Some(&traffic),
            groups: &BTreeSet::from([old, new]),
            ready: &ready,
            internal: &BTreeMap::from([(orders, 22_000)]),
        });
        let service = &config.services["orders"];
        assert_eq!(service.versions["r1"].weight, 950);
        assert_eq!(service.versions["r2"].role, api::Role::Canary);
        assert_eq!(
            service.versions["r2"].endpoints[0].address,
            "127.0.0.1:21000"
        );
        assert_eq!(service.overrides.len(), 4);
        let addresses: Vec<&str> = config
            .listeners
            .iter()
            .map(|l| l.address.as_str())
            .collect();
        assert_eq!(addresses, ["127.0.0.1:8080", "127.0.0.1:22000"]);
        assert_eq!(config.routes[0].name, "/api");
        assert_eq!(config.routes[1].name, "/api-2");
    }

    #[test]
    fn an_absolute_redirect_is_split() {
        let split = |to: &str| {
            let found = route::redirect(&blueprint::Redirect {
                to: to.to_owned(),
                status: 308,
            });
            (found.origin, found.path)
        };
        assert_eq!(
            split("https://a.example/b"),
            (Some("https://a.example".to_owned()), Some("/b".to_owned()))
        );
        assert_eq!(
            split("https://a.example"),
            (Some("https://a.example".to_owned()), None)
        );
        assert_eq!(split("/b"), (None, Some("/b".to_owned())));
    }
}
