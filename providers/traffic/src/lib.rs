//! The gateway's configuration, joined from routes, shares and the instances that are ready.

pub mod api_keys;
mod public;
mod route;
mod tallies;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use platform_blueprint::{self as blueprint, SecretName, ServiceName};
use platform_decide::desired::{Ingress, Upstream};
use platform_decide::group::GroupId;
use platform_decide::traffic::{Split, Traffic};
use platform_gateway_api as api;
use platform_port::SecretValues;

pub use tallies::tallies;

/// An instance that takes requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadyInstance {
    /// The group it belongs to.
    pub group: GroupId,
    /// Its name.
    pub name: String,
    /// Where the gateway reaches it, `host:port`.
    pub address: String,
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
    /// Groups whose instances are asked in HTTP/2 without TLS.
    pub h2c: &'a BTreeSet<GroupId>,
    /// How instances are asked that speak mtls, where there are any.
    pub mutual: Option<&'a Mutual>,
    /// Values of the secrets that the ingress names.
    pub secrets: &'a SecretValues,
    /// The folder of those that the gateway reads as files.
    pub secret_files: &'a Path,
    /// The folder of the blueprint.
    pub root: &'a Path,
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
    let upstream = parts
        .traffic
        .and_then(|traffic| traffic.ingress.services.get(name));
    let settings = parts
        .traffic
        .map(|traffic| &traffic.ingress.gateway)
        .zip(upstream);
    let mut service = api::Service {
        versions,
        health: parts.checks.get(name).cloned(),
        ..api::Service::default()
    };
    if let Some((gateway, upstream)) = settings {
        behaviour(&mut service, gateway, upstream, split);
    }
    service
}

/// How a group is spoken to over TLS, if it is; each for itself, as a release may change it.
fn tls(parts: &Parts<'_>, id: &GroupId) -> Option<api::UpstreamTls> {
    parts.mutual.and_then(|mutual| mutual.tls(id))
}

/// `Some(true)` for a group that is asked in HTTP/2.
fn http2(parts: &Parts<'_>, id: &GroupId) -> Option<bool> {
    parts.h2c.contains(id).then_some(true)
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
            zone: None,
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
            None => match on.strip_prefix("cookie:") {
                Some(cookie) => api::Balance::CookieHash(cookie.to_owned()),
                None => api::Balance::ClientHash,
            },
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
            secrets: BTreeMap::new(),
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
            address: "127.0.0.1:21000".to_owned(),
        }];
        let config = join(&Parts {
            traffic: Some(&traffic),
            groups: &BTreeSet::from([old.clone(), new]),
            ready: &ready,
            internal: &BTreeMap::from([(orders, Internal::loopback(22_000))]),
            h2c: &BTreeSet::new(),
            public: None,
            checks: &BTreeMap::new(),
            mutual: None,
            secrets: &SecretValues::new(),
            secret_files: Path::new("/secrets"),
            root: Path::new("/shop"),
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

    /// The configuration of `orders`, beside which `audit` and `users` run.
    fn joined(change: impl FnOnce(&mut Ingress)) -> api::Config {
        let mut ingress = ingress();
        ingress.routes.truncate(1);
        let upstream = ingress.services.values().next().unwrap().clone();
        for name in ["audit", "users"] {
            let beside = Upstream {
                internal: false,
                ..upstream.clone()
            };
            ingress.services.insert(name.parse().unwrap(), beside);
        }
        change(&mut ingress);
        let groups: BTreeSet<GroupId> = ["orders@r1", "audit@r1", "users@r1"]
            .map(|id| id.parse().unwrap())
            .into();
        let ready: Vec<ReadyInstance> = groups
            .iter()
            .zip(21_000..)
            .map(|(group, port)| ReadyInstance {
                group: group.clone(),
                name: format!("{group}.1"),
                address: format!("127.0.0.1:{port}"),
            })
            .collect();
        let internal = groups
            .iter()
            .zip(22_000..)
            .map(|(id, port)| (id.service.clone(), Internal::loopback(port)));
        let splits = groups
            .iter()
            .map(|id| (id.service.clone(), Split::all(id.clone())));
        let traffic = Traffic {
            splits: splits.collect(),
            ingress,
        };
        let config = join(&Parts {
            traffic: Some(&traffic),
            groups: &groups,
            ready: &ready,
            internal: &internal.collect(),
            h2c: &BTreeSet::new(),
            public: None,
            checks: &BTreeMap::new(),
            mutual: None,
            secrets: &secrets(),
            secret_files: Path::new("/secrets"),
            root: Path::new("/shop"),
        });
        assert_eq!(config.validate(), Ok(()));
        config
    }

    /// The keys `key` and `list`.
    fn secrets() -> SecretValues {
        let list = format!("partner {} orders:read", "ab".repeat(32));
        [("key", "PEM".to_owned()), ("list", list)]
            .map(|(name, value)| {
                let value = platform_port::SecretValue::new(value);
                (name.parse().unwrap(), value)
            })
            .into()
    }

    #[test]
    fn keys_and_certificates_come_from_secrets() {
        let config = joined(|ingress| {
            let gateway = serde_json::json!({
                "tls": { "certificates": [{ "certificate": "tls/shop.pem", "key": "key" }] },
                "api_keys": { "keys": "list", "header": "x-key" },
            });
            ingress.gateway = serde_json::from_value(gateway).unwrap();
            ingress.secrets = [("key", 3), ("list", 1)]
                .map(|(name, version)| (name.parse().unwrap(), version))
                .into();
            let auth = serde_json::json!({ "by": ["api-key"], "scopes": ["orders:read"] });
            ingress.routes[0].auth = Some(serde_json::from_value(auth).unwrap());
        });
        let public = &config.listeners[0];
        assert_eq!((public.name.as_str(), public.https), ("public", Some(8443)));
        let secured = &config.listeners[1];
        assert_eq!(secured.address, "127.0.0.1:8443");
        let pair = &secured.tls.as_ref().unwrap().certificates[0];
        assert_eq!(pair.certificate, "/shop/tls/shop.pem");
        assert_eq!(pair.key, "/secrets/key.3");
        let auth = config.routes[0].auth.as_ref().unwrap();
        assert!(!auth.tokens);
        assert_eq!(auth.key_header, "x-key");
        assert_eq!(auth.api_keys[0].name, "partner");
        assert!(!text(&config).contains("PEM"));
    }

    fn text(value: &impl serde::Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn a_route_hands_over_all_of_its_options() {
        let config = joined(|ingress| {
            let route = &mut ingress.routes[0];
            route.csrf = true;
            route.csp = Some("default-src 'self'".to_owned());
            route.sticky = false;
            route.max_answer = Some(blueprint::ByteSize::from_mib(1));
            route.mirror = Some(blueprint::Mirror {
                service: "audit".parse().unwrap(),
                share: blueprint::Percent::whole(10),
            });
            ingress.gateway.limits.requests = 500;
            ingress.gateway.limits.cache = blueprint::ByteSize::from_mib(1);
            ingress.gateway.outliers.errors = 7;
            let orders = ingress.services.get_mut("orders").unwrap();
            orders.traffic.concurrency_each = Some(9);
        });
        let route = &config.routes[0];
        assert!(route.csrf && route.by_weight && route.security_headers);
        assert_eq!(route.max_answer, 1 << 20);
        assert_eq!(
            text(&route.response_headers),
            r#"{"remove":[],"set":{"content-security-policy":"default-src 'self'"},"add":{}}"#
        );
        assert_eq!(
            (route.mirror.as_deref(), route.mirror_share),
            (Some("mirror:audit"), 100)
        );
        let service = &config.services["orders"];
        assert_eq!(
            text(&service.versions["mirror:audit"]),
            r#"{"weight":0,"endpoints":[{"id":"mirror:audit@r1.1","address":"127.0.0.1:21000","zone":null}],"role":"shadow"}"#
        );
        assert_eq!(service.sticky, Some(api::Sticky::Client));
        assert_eq!((config.max_requests, config.cache_memory), (500, 1 << 20));
        assert_eq!(service.outliers.consecutive_bad, 7);
        assert_eq!(service.limits.concurrent_per_endpoint, 9);
    }

    #[test]
    fn a_preview_route_leads_to_what_is_on_trial() {
        let (old, new): (GroupId, GroupId) =
            ("orders@r1".parse().unwrap(), "orders@r2".parse().unwrap());
        let check = |preview: bool, trial: Option<&GroupId>, expected: Option<&str>| {
            let mut ingress = ingress();
            ingress.routes[0].preview = preview;
            let split = Split {
                shares: BTreeMap::from([(old.clone(), Share::FULL)]),
                preview: trial.cloned(),
            };
            let traffic = Traffic {
                ingress,
                splits: BTreeMap::from([("orders".parse().unwrap(), split)]),
            };
            let config = join(&Parts {
                traffic: Some(&traffic),
                groups: &BTreeSet::from([old.clone(), new.clone()]),
                ready: &[],
                internal: &BTreeMap::new(),
                h2c: &BTreeSet::new(),
                public: None,
                checks: &BTreeMap::new(),
                mutual: None,
                secrets: &SecretValues::new(),
                secret_files: Path::new("/secrets"),
                root: Path::new("/shop"),
            });
            assert_eq!(config.validate(), Ok(()));
            assert_eq!(config.routes[0].version.as_deref(), expected);
            assert_eq!(config.routes[1].version, None);
        };
        check(true, Some(&new), Some("r2"));
        check(true, None, None);
        check(false, Some(&new), None);
    }

    #[test]
    fn groups_are_asked_as_each_speaks() {
        let (old, new): (GroupId, GroupId) =
            ("orders@r1".parse().unwrap(), "orders@r2".parse().unwrap());
        let mutual = Mutual {
            groups: BTreeSet::from([new.clone()]),
            authority: "/own/authority".into(),
            certificate: "/own/certificate".into(),
            key: "/own/key".into(),
        };
        let config = join(&Parts {
            traffic: None,
            groups: &BTreeSet::from([old.clone(), new]),
            ready: &[],
            internal: &BTreeMap::new(),
            h2c: &BTreeSet::from([old.clone()]),
            public: None,
            checks: &BTreeMap::new(),
            mutual: Some(&mutual),
            secrets: &SecretValues::new(),
            secret_files: Path::new("/secrets"),
            root: Path::new("/shop"),
        });
        let versions = &config.services["orders"].versions;
        assert_eq!(
            (&versions["r1"].tls, versions["r1"].http2),
            (&None, Some(true))
        );
        assert_eq!(versions["r2"].http2, None);
        assert_eq!(
            text(&versions["r2"].tls),
            r#"{"ca":"/own/authority","name":"orders","certificate":"/own/certificate","key":"/own/key"}"#
        );
    }

    #[test]
    fn a_stated_policy_header_and_an_empty_mirror_win() {
        let config = joined(|ingress| {
            let route = &mut ingress.routes[0];
            route.csp = Some("default-src 'self'".to_owned());
            let set = &mut route.response_headers.set;
            set.insert("Content-Security-Policy".to_owned(), "none".to_owned());
            route.mirror = Some(blueprint::Mirror {
                service: "audit".parse().unwrap(),
                share: blueprint::Percent::whole(0),
            });
        });
        assert_eq!(
            text(&config.routes[0].response_headers.set),
            r#"{"Content-Security-Policy":"none"}"#
        );
        assert_eq!(config.routes[0].mirror, None);
        assert_eq!(config.services["orders"].versions.len(), 1);
    }

    #[test]
    fn keys_of_a_service_are_at_its_internal_listener() {
        for (stated, url, listens) in [
            (Some("users:/keys"), "http://127.0.0.1:22002/keys", true),
            (
                Some("http://id.example/keys"),
                "http://id.example/keys",
                false,
            ),
            (None, "http://id.example/.well-known/jwks.json", false),
        ] {
            let config = joined(|ingress| {
                let jwt = serde_json::json!({ "issuer": "http://id.example", "jwks": stated });
                ingress.gateway.jwt = Some(serde_json::from_value(jwt).unwrap());
            });
            let jwks = config.identity.unwrap().jwks;
            assert_eq!(jwks, api::Jwks::Url(url.to_owned()));
            let found = config
                .listeners
                .iter()
                .any(|one| one.name == "internal-users" && one.address == "127.0.0.1:22002");
            assert_eq!(found, listens, "{stated:?}");
        }
    }
}
