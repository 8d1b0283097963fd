//! Finds everything that is wrong with a configuration, in one go.

mod route;
mod service;
mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::route::check_route;
use self::service::check_service;
use self::text::{check_networks, is_url};
use crate::{Config, Jwks, Listener, ListenerKind};

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// Dotted path, such as `services.orders.versions.r5.weight`.
    pub path: String,
    /// What is wrong, as a phrase.
    pub message: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` {}", self.path, self.message)
    }
}

#[derive(Default)]
struct Reasons(Vec<Reason>);

impl Reasons {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Reason {
            path: path.into(),
            message: message.into(),
        });
    }

    fn unless(&mut self, holds: bool, path: impl Into<String>, message: impl Into<String>) {
        if !holds {
            self.add(path, message);
        }
    }
}

impl Config {
    /// Checks everything that can be checked without touching the machine.
    ///
    /// # Errors
    ///
    /// All reasons why it would be refused.
    pub fn validate(&self) -> Result<(), Vec<Reason>> {
        let mut reasons = Reasons::default();
        let mut names = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for (index, listener) in self.listeners.iter().enumerate() {
            let path = format!("listeners.{index}");
            reasons.unless(
                names.insert(&listener.name),
                format!("{path}.name"),
                format!("`{}` is taken by another listener", listener.name),
            );
            check_listener(self, listener, &path, &mut addresses, &mut reasons);
        }
        let mut names = BTreeSet::new();
        for (index, route) in self.routes.iter().enumerate() {
            let path = format!("routes.{index}");
            reasons.unless(
                !route.name.is_empty(),
                format!("{path}.name"),
                "must not be empty",
            );
            reasons.unless(
                names.insert(&route.name),
                format!("{path}.name"),
                format!("`{}` is taken by another route", route.name),
            );
            check_route(self, route, &path, &mut reasons);
        }
        for (name, service) in &self.services {
            let path = format!("services.{name}");
            reasons.unless(!name.is_empty(), &path, "must have a name");
            check_service(service, &path, &mut reasons);
        }
        if let Some(identity) = &self.identity {
            match &identity.jwks {
                Jwks::Url(url) => reasons.unless(
                    is_url(url),
                    "identity.jwks.url",
                    "must be an `http://` or `https://` URL",
                ),
                Jwks::Inline(text) => reasons.unless(
                    serde_json::from_str::<serde_json::Value>(text)
                        .is_ok_and(|value| value["keys"].is_array()),
                    "identity.jwks.inline",
                    "is not a JSON Web Key Set",
                ),
            }
        }
        if let Some(traces) = &self.traces {
            reasons.unless(
                is_url(&traces.endpoint),
                "traces.endpoint",
                "must be an `http://` or `https://` URL",
            );
            reasons.unless(
                traces.sample <= 1000,
                "traces.sample",
                "is more than 1000 thousandths",
            );
        }
        if let Some(shared) = &self.shared {
            reasons.unless(
                shared.url.is_some() != shared.url_file.is_some(),
                "shared",
                "needs either `url` or `url_file`",
            );
            let plain = shared
                .url
                .as_deref()
                .is_none_or(|url| url.starts_with("redis://") && !url.contains('@'));
            reasons.unless(
                plain,
                "shared.url",
                "must be `redis://host:port`; put one with a password into `url_file`",
            );
        }
        check_networks(&self.trusted_proxies, "trusted_proxies", &mut reasons);
        check_networks(&self.shared_addresses, "shared_addresses", &mut reasons);
        reasons.unless(
            self.access_log.sample <= 1000,
            "access_log.sample",
            "is more than 1000 thousandths",
        );
        if reasons.0.is_empty() {
            Ok(())
        } else {
            Err(reasons.0)
        }
    }
}

fn check_listener(
    config: &Config,
    listener: &Listener,
    path: &str,
    addresses: &mut BTreeSet<SocketAddr>,
    reasons: &mut Reasons,
) {
    reasons.unless(
        !listener.name.is_empty(),
        format!("{path}.name"),
        "must not be empty",
    );
    match listener.address.parse::<SocketAddr>() {
        Err(_) => reasons.add(
            format!("{path}.address"),
            format!("`{}` is not ip:port", listener.address),
        ),
        Ok(address) => reasons.unless(
            address.port() == 0 || addresses.insert(address),
            format!("{path}.address"),
            format!("`{address}` is taken by another listener"),
        ),
    }
    if let ListenerKind::Internal { service } = &listener.kind {
        reasons.unless(
            config.services.contains_key(service),
            format!("{path}.kind.internal.service"),
            format!("names no service: `{service}`"),
        );
    }
    if let Some(tls) = &listener.tls {
        reasons.unless(
            !tls.certificates.is_empty() || tls.development.is_some(),
            format!("{path}.tls.certificates"),
            "must not be empty",
        );
        for (index, certificate) in tls.certificates.iter().enumerate() {
            let path = format!("{path}.tls.certificates.{index}");
            reasons.unless(
                !certificate.certificate.is_empty(),
                format!("{path}.certificate"),
                "must not be empty",
            );
            reasons.unless(
                !certificate.key.is_empty(),
                format!("{path}.key"),
                "must not be empty",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endpoint, Override, Role, Version};

    fn shop() -> Config {
        serde_json::from_value(serde_json::json!({
            "revision": 3,
            "listeners": [
                { "name": "public", "address": "127.0.0.1:8000" },
                { "name": "orders", "address": "127.0.0.1:0", "kind": { "internal": { "service": "orders" } } },
            ],
            "routes": [{ "name": "orders", "match": { "path": { "prefix": "/api" } }, "service": "orders" }],
            "services": { "orders": { "versions": { "r5": {
                "weight": 1000,
                "endpoints": [{ "id": "orders-1", "address": "127.0.0.1:9000" }],
            } } } },
        }))
        .unwrap()
    }

    fn check(change: impl FnOnce(&mut Config), expected: &[&str]) {
        let mut config = shop();
        change(&mut config);
        let found: Vec<String> = match config.validate() {
            Ok(()) => Vec::new(),
            Err(reasons) => reasons.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn the_example_is_valid() {
        check(|_| (), &[]);
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        check(
            |config| {
                config.listeners[0].address = "nowhere".into();
                config.routes[0].service = Some("order".into());
                let service = config.services.get_mut("orders").unwrap();
                service.versions.insert(
                    "r6".into(),
                    Version {
                        weight: 1001,
                        role: Role::Canary,
                        endpoints: vec![Endpoint {
                            id: "orders-1".into(),
                            address: "host".into(),
                            zone: None,
                        }],
                        ..Version::default()
                    },
                );
                service.overrides.push(Override {
                    version: "r9".into(),
                    ..Override::default()
                });
            },
            &[
                "`listeners.0.address` `nowhere` is not ip:port",
                "`routes.0.service` names no service: `order`",
                "`services.orders.versions.r6.weight` 1001 is more than 1000 thousandths",
                "`services.orders.versions.r6.endpoints.0.id` `orders-1` is taken by another endpoint",
                "`services.orders.versions.r6.endpoints.0.address` `host` is not host:port",
                "`services.orders.overrides.0` needs either `header` or `cookie`",
                "`services.orders.overrides.0.version` names no version: `r9`",
            ],
        );
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = serde_json::from_str::<Config>(r#"{"listener":[]}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `listener`"));
    }

    #[test]
    fn a_configuration_survives_json() {
        let config = shop();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
    }
}
