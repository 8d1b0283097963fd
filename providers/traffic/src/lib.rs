//! The gateway's configuration, joined from routes, shares and the instances that are ready.

pub mod api_keys;
pub mod authority;
pub mod certificates;
mod public;
mod route;
mod shared;
mod tallies;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use platform_blueprint::{self as blueprint, SecretName, ServiceName, ZoneName};
use platform_decide::desired::{Ingress, Upstream};
use platform_decide::group::GroupId;
use platform_decide::traffic::{Copies, Share, Split, Traffic};
use platform_gateway_api as api;
use platform_port::SecretValues;

pub use public::LOCAL_AUTHORITY;
pub use shared::shared_file;
pub use tallies::tallies;

/// What a request asks for the release on trial with.
const NEW: &str = "new";

/// An instance that takes requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadyInstance {
    /// The group it belongs to.
    pub group: GroupId,
    /// Its name.
    pub name: String,
    /// Where the gateway reaches it, `host:port`.
    pub address: String,
    /// The zone it stands in, where its service names any.
    pub zone: Option<ZoneName>,
}

/// A listener inside the environment, over which other services reach one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Internal {
    /// The address that the gateway listens on.
    pub address: String,
    /// The URL under which the gateway itself reaches it.
    pub url: String,
}

impl Internal {
    /// A listener on a port of this machine alone.
    pub fn loopback(port: u16) -> Self {
        Self {
            address: format!("127.0.0.1:{port}"),
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    /// A listener on a port of every interface.
    pub fn everywhere(port: u16) -> Self {
        Self {
            address: format!("0.0.0.0:{port}"),
            ..Self::loopback(port)
        }
    }
}

/// How the gateway asks instances over TLS with the environment's own certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutual {
    /// The groups that are asked so.
    pub groups: BTreeSet<GroupId>,
    /// PEM file of the authority that signed what instances show,
    pub authority: PathBuf,
    /// of the certificate that the gateway shows,
    pub certificate: PathBuf,
    /// and of its key. Another certificate is in another file, so that the gateway sees that it changed.
    pub key: PathBuf,
}

impl Mutual {
    /// What is believed of a group and shown to it; nothing where it is asked in the clear.
    fn tls(&self, group: &GroupId) -> Option<api::UpstreamTls> {
        let text = |path: &Path| Some(path.display().to_string());
        self.groups.contains(group).then(|| api::UpstreamTls {
            ca: text(&self.authority),
            // Not the address: whatever else listens there by now has no such certificate.
            name: Some(group.service.to_string()),
            certificate: text(&self.certificate),
            key: text(&self.key),
        })
    }
}

/// What a configuration is joined from.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Routes and shares, once there are any.
    pub traffic: Option<&'a Traffic>,
    /// Groups that are kept up, ready or not, of services with a port.
    pub groups: &'a BTreeSet<GroupId>,
    /// Instances that are ready.
    pub ready: &'a [ReadyInstance],
    /// The internal listeners, by service.
    pub internal: &'a BTreeMap<ServiceName, Internal>,
    /// The address that the public listeners are on, where that is not the blueprint's.
    pub public: Option<IpAddr>,
    /// How the gateway asks instances itself whether they are well; those of a service without a check are believed to be.
    pub checks: &'a BTreeMap<ServiceName, api::HealthCheck>,
    /// Groups whose instances are asked in HTTP/2.
    pub http2: &'a BTreeSet<GroupId>,
    /// How groups are asked over TLS whose instances show certificates of their own.
    pub one_sided: &'a BTreeMap<GroupId, api::UpstreamTls>,
    /// How instances are asked that speak mtls, where there are any.
    pub mutual: Option<&'a Mutual>,
    /// Values of the secrets that the ingress names.
    pub secrets: &'a SecretValues,
    /// The folder of those that the gateway reads as files.
    pub secret_files: &'a Path,
    /// Where the gateway finds the address of the Redis of `gateway.shared`, if there is one to count through.
    pub shared: Option<&'a Path>,
    /// The folder of the blueprint; `None` where what it names is copied beside the secret files ([`certificates::copied_file`]).
    pub root: Option<&'a Path>,
    /// The project, whose gateways count together where they share a Redis.
    pub project: &'a str,
}

/// The file of a secret. Another version is another file, so that the gateway sees that it changed.
pub fn key_file(folder: &Path, ingress: &Ingress, name: &SecretName) -> Option<PathBuf> {
    let version = ingress.secrets.get(name)?;
    Some(folder.join(format!("{name}.{version}")))
}

/// Joins a configuration; its revision is left at 0.
pub fn join(parts: &Parts<'_>) -> api::Config {
    let mut config = api::Config {
        show_version: true,
        ..api::Config::default()
    };
    let mut names: BTreeSet<&ServiceName> = parts.groups.iter().map(|id| &id.service).collect();
    if let Some(traffic) = parts.traffic {
        names.extend(traffic.ingress.services.keys());
        public::side(&mut config, parts, &traffic.ingress);
        let keys = public::keys_at(&traffic.ingress.gateway).map(|(service, _)| service);
        for (name, upstream) in &traffic.ingress.services {
            if (upstream.internal || keys == Some(name.as_str()))
                && let Some(internal) = parts.internal.get(name)
            {
                config.listeners.push(api::Listener {
                    name: format!("internal-{name}"),
                    address: internal.address.clone(),
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
        let keys = public::api_keys(parts, &traffic.ingress);
        let routes = traffic.ingress.routes.iter().enumerate();
        config.routes = routes
            // A route to what is not there at all would be refused with everything else.
            .filter(|(_, route)| {
                route
                    .service
                    .as_ref()
                    .is_none_or(|name| config.services.contains_key(name.as_str()))
            })
            .map(|(index, written)| route::route(index, written, traffic, &keys))
            .collect();
        shared::count(&mut config, parts);
    }
    config
}

fn millis(period: blueprint::Period) -> u64 {
    u64::try_from(period.duration().as_millis()).unwrap_or(u64::MAX)
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
        let endpoints = endpoints(parts, "", |group| group == id);
        versions.insert(
            id.lane(),
            api::Version {
                weight,
                endpoints,
                role: role(id, split, weight),
                tls: tls(parts, id),
                http2: http2(parts, id),
            },
        );
    }
    for shadowed in shadows(parts, name) {
        let shares = parts
            .traffic
            .and_then(|traffic| traffic.splits.get(shadowed))
            .unwrap_or(&none);
        // A copy judges nothing, so it goes to what serves and not to what is on trial.
        let serving = shares.shares.iter().max_by_key(|(_, share)| **share);
        let serving = serving.map(|(id, _)| id);
        versions.insert(
            route::shadow(shadowed),
            api::Version {
                weight: 0,
                endpoints: endpoints(parts, "mirror:", |group| serving == Some(group)),
                role: api::Role::Shadow,
                tls: serving.and_then(|id| tls(parts, id)),
                http2: serving.and_then(|id| http2(parts, id)),
            },
        );
    }
    let mut health = parts.checks.get(name).cloned();
    if let Some(copies) = &split.copies {
        let lane = tallies::copies(&copies.to);
        if let Some(health) = &mut health
            && let Some(path) = health.paths.get(&copies.to.lane()).cloned()
        {
            health.paths.insert(lane.clone(), path);
        }
        versions.insert(
            lane,
            api::Version {
                weight: 0,
                // No name may come twice in one service.
                endpoints: endpoints(parts, "copies:", |group| *group == copies.to),
                role: api::Role::Shadow,
                tls: tls(parts, &copies.to),
                http2: http2(parts, &copies.to),
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
        copies: split.copies.as_ref().map(copied),
        health,
        ..api::Service::default()
    };
    if let Some((gateway, upstream)) = settings {
        behaviour(&mut service, gateway, upstream, split);
    }
    service
}

/// Copies of requests for a group, as the gateway is told of them.
fn copied(copies: &Copies) -> api::Copies {
    api::Copies {
        version: tallies::copies(&copies.to),
        of: copies.of.as_ref().map(GroupId::lane),
        share: u32::from(copies.share.get()),
    }
}

/// The group on trial that requests may ask for by header or cookie, as a service's configuration has it.
///
/// - `name`: of the service
pub fn preview_of(name: &ServiceName, service: &api::Service) -> Option<GroupId> {
    let mut asked = service.overrides.iter();
    let lane = &asked.find(|one| one.value == NEW)?.version;
    format!("{name}@{lane}").parse().ok()
}

/// The copies that a service's configuration asks for, read back.
///
/// - `name`: of the service
pub fn copies_of(name: &ServiceName, service: &api::Service) -> Option<Copies> {
    let copies = service.copies.as_ref()?;
    Some(Copies {
        to: tallies::copied_to(name.as_str(), &copies.version)?,
        of: match &copies.of {
            Some(lane) => Some(format!("{name}@{lane}").parse().ok()?),
            None => None,
        },
        share: Share::thousandths(u16::try_from(copies.share).unwrap_or(1000)),
    })
}

/// How a group is spoken to over TLS, if it is; each for itself, as a release may change it.
fn tls(parts: &Parts<'_>, id: &GroupId) -> Option<api::UpstreamTls> {
    let one_sided = parts.one_sided.get(id).cloned();
    one_sided.or_else(|| parts.mutual.and_then(|mutual| mutual.tls(id)))
}

/// `Some(true)` for a group that is asked in HTTP/2.
fn http2(parts: &Parts<'_>, id: &GroupId) -> Option<bool> {
    parts.http2.contains(id).then_some(true)
}

/// The ready instances of some groups.
///
/// - `before`: what goes before their names, as no name may come twice in one service
fn endpoints(parts: &Parts<'_>, before: &str, of: impl Fn(&GroupId) -> bool) -> Vec<api::Endpoint> {
    parts
        .ready
        .iter()
        .filter(|instance| of(&instance.group))
        .map(|instance| api::Endpoint {
            id: format!("{before}{}", instance.name),
            address: instance.address.clone(),
            zone: instance.zone.as_ref().map(ToString::to_string),
        })
        .collect()
}

/// The services that get copies of what a service is asked.
fn shadows<'a>(parts: &Parts<'a>, name: &ServiceName) -> BTreeSet<&'a ServiceName> {
    let routes = parts.traffic.map(|traffic| &traffic.ingress.routes);
    routes
        .into_iter()
        .flatten()
        .filter(|route| route.service.as_ref() == Some(name))
        .filter_map(|route| route::mirrored(route).map(|mirror| &mirror.service))
        .collect()
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
    let mut endpoints = service.versions.values().flat_map(|one| &one.endpoints);
    // A service without zones is spared the search for what is near.
    if endpoints.any(|endpoint| endpoint.zone.is_some()) {
        service.zone = gateway.zone.as_ref().map(ToString::to_string);
    }
    service.balance = balance(&traffic.balance);
    service.slow_after_ms = upstream.slow_after;
    service.slow_start_ms = millis(traffic.slow_start);
    service.limits.concurrent = traffic.concurrency.unwrap_or(0);
    service.limits.concurrent_per_endpoint = traffic.concurrency_each.unwrap_or(0);
    let outliers = traffic.outliers.as_ref().unwrap_or(&gateway.outliers);
    service.outliers = api::Outliers {
        consecutive_unreachable: outliers.failures,
        consecutive_bad: outliers.errors,
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
    if let Some(pool) = &traffic.pool {
        service.pool = api::Pool {
            idle_ms: millis(pool.idle),
            per_endpoint: pool.keep,
        };
    }
    service.overrides = overrides(upstream, split);
    // Both ways: whoever met the new release stays with it, whoever did not stays with the old
    // one. A route can leave it out for itself.
    service.sticky = Some(api::Sticky::Client);
}

/// Requests that ask for the new or the old version by header or cookie.
fn overrides(upstream: &Upstream, split: &Split) -> Vec<api::Override> {
    let new = split.preview.as_ref();
    let old = split
        .shares
        .keys()
        .filter(|id| Some(*id) != new && id.track == platform_decide::group::Track::Main)
        .min_by_key(|id| id.version);
    let sides = [(new, NEW), (old.filter(|_| new.is_some()), "old")];
    let asked = |header: Option<&String>, cookie: Option<&String>| {
        let (header, cookie) = (header.cloned(), cookie.cloned());
        sides.into_iter().filter_map(move |(id, value)| {
            Some(api::Override {
                header: header.clone(),
                cookie: cookie.clone(),
                value: value.to_owned(),
                version: id?.lane(),
            })
        })
    };
    let (header, cookie) = (&upstream.opt_in.header, &upstream.opt_in.cookie);
    let mut found = Vec::new();
    // The first that matches counts: a header is of this request, and a cookie may be from long ago.
    if !header.is_empty() {
        found.extend(asked(Some(header), None));
    }
    if !cookie.is_empty() {
        found.extend(asked(None, Some(cookie)));
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
            None => match on.strip_prefix("cookie:") {
                Some(cookie) => api::Balance::CookieHash(cookie.to_owned()),
                None => api::Balance::ClientHash,
            },
        },
        (Hash, None) => api::Balance::ClientHash,
    }
}

#[cfg(test)]
mod tests;
