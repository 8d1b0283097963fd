//! Finds everything that is wrong with a configuration, in one go.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Auth, Config, HeaderChange, Jwks, Listener, ListenerKind, PathMatch, RateLimit, Route, Service,
};

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

fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        text.strip_prefix(scheme)
            .is_some_and(|rest| !rest.is_empty())
    })
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

fn check_route(config: &Config, route: &Route, path: &str, reasons: &mut Reasons) {
    let (kind, text) = match &route.matches.path {
        PathMatch::Prefix(text) => ("prefix", text),
        PathMatch::Exact(text) => ("exact", text),
        PathMatch::Template(text) => ("template", text),
    };
    let at = format!("{path}.match.path.{kind}");
    reasons.unless(text.starts_with('/'), &at, "must start with `/`");
    reasons.unless(
        !text.contains(['?', '#', ' ']),
        &at,
        "must not contain `?`, `#` or a space",
    );
    for (index, method) in route.matches.methods.iter().enumerate() {
        reasons.unless(
            !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase()),
            format!("{path}.match.methods.{index}"),
            format!("`{method}` is not a method in upper case"),
        );
    }
    for name in route.matches.headers.keys() {
        check_header_name(name, &format!("{path}.match.headers"), reasons);
    }
    check_destination(config, route, path, reasons);
    check_rewrite(route, path, reasons);
    if let Some(limit) = &route.rate_limit {
        check_rate(limit, &format!("{path}.rate_limit"), reasons);
    }
    if let Some(auth) = &route.auth {
        check_auth(config, auth, &format!("{path}.auth"), reasons);
    }
    if let Some(cors) = &route.cors {
        reasons.unless(
            !cors.credentials || !cors.origins.iter().any(|origin| origin == "*"),
            format!("{path}.cors.credentials"),
            "cannot be allowed to every origin",
        );
    }
    reasons.unless(
        route.retries.budget <= 1000,
        format!("{path}.retries.budget"),
        "is more than 1000 thousandths",
    );
    reasons.unless(
        route.retries.attempts <= 10,
        format!("{path}.retries.attempts"),
        "is more than 10",
    );
    reasons.unless(
        route.mirror_share <= 1000,
        format!("{path}.mirror_share"),
        "is more than 1000 thousandths",
    );
    check_headers(
        &route.request_headers,
        &format!("{path}.request_headers"),
        reasons,
    );
    check_headers(
        &route.response_headers,
        &format!("{path}.response_headers"),
        reasons,
    );
    for (index, encoding) in route.encodings.iter().enumerate() {
        reasons.unless(
            ["br", "zstd", "gzip"].contains(&encoding.as_str()),
            format!("{path}.encodings.{index}"),
            format!("`{encoding}` is not `br`, `zstd` or `gzip`"),
        );
    }
    if route.rate_limit.as_ref().is_some_and(|limit| limit.shared) {
        reasons.unless(
            config.shared.is_some(),
            format!("{path}.rate_limit.shared"),
            "needs `shared` in the configuration",
        );
    }
    for name in route.cache.iter().flat_map(|cache| &cache.vary) {
        check_header_name(name, &format!("{path}.cache.vary"), reasons);
    }
    check_networks(&route.allow, &format!("{path}.allow"), reasons);
    check_networks(&route.deny, &format!("{path}.deny"), reasons);
}

fn check_destination(config: &Config, route: &Route, path: &str, reasons: &mut Reasons) {
    let service = match (&route.service, &route.redirect) {
        (None, None) => {
            reasons.add(path, "needs a `service` or a `redirect`");
            None
        }
        (Some(_), Some(_)) => {
            reasons.add(path, "has both a `service` and a `redirect`");
            None
        }
        (None, Some(redirect)) => {
            reasons.unless(
                matches!(redirect.status, 301 | 302 | 303 | 307 | 308),
                format!("{path}.redirect.status"),
                format!("`{}` is no redirect", redirect.status),
            );
            None
        }
        (Some(name), None) => {
            let service = config.services.get(name);
            reasons.unless(
                service.is_some(),
                format!("{path}.service"),
                format!("names no service: `{name}`"),
            );
            service
        }
    };
    if let Some(service) = service {
        for (key, version) in [("version", &route.version), ("mirror", &route.mirror)] {
            if let Some(version) = version {
                reasons.unless(
                    service.versions.contains_key(version),
                    format!("{path}.{key}"),
                    format!("names no version of the service: `{version}`"),
                );
            }
        }
    }
}

fn check_rewrite(route: &Route, path: &str, reasons: &mut Reasons) {
    if let Some(rewrite) = &route.rewrite {
        reasons.unless(
            rewrite.prefix.is_none() || rewrite.path.is_none(),
            format!("{path}.rewrite"),
            "has both `prefix` and `path`",
        );
        reasons.unless(
            rewrite.prefix.is_none() || matches!(route.matches.path, PathMatch::Prefix(_)),
            format!("{path}.rewrite.prefix"),
            "needs a prefix match",
        );
        for (key, text) in [("prefix", &rewrite.prefix), ("path", &rewrite.path)] {
            if let Some(text) = text {
                reasons.unless(
                    text.starts_with('/'),
                    format!("{path}.rewrite.{key}"),
                    "must start with `/`",
                );
            }
        }
    }
}

fn check_rate(limit: &RateLimit, path: &str, reasons: &mut Reasons) {
    reasons.unless(
        limit.requests > 0,
        format!("{path}.requests"),
        "must be at least 1",
    );
    reasons.unless(
        limit.every_ms > 0,
        format!("{path}.every_ms"),
        "must be at least 1",
    );
}

fn check_auth(config: &Config, auth: &Auth, path: &str, reasons: &mut Reasons) {
    reasons.unless(
        (auth.tokens && config.identity.is_some()) || !auth.api_keys.is_empty(),
        path,
        "needs `identity` in the configuration, or `api_keys`",
    );
    check_header_name(&auth.key_header, &format!("{path}.key_header"), reasons);
    for (index, key) in auth.api_keys.iter().enumerate() {
        reasons.unless(
            key.sha256.len() == 64 && key.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()),
            format!("{path}.api_keys.{index}.sha256"),
            "is not a SHA-256 in hex",
        );
    }
}

fn check_service(service: &Service, path: &str, reasons: &mut Reasons) {
    let mut ids = BTreeSet::new();
    for (name, version) in &service.versions {
        let path = format!("{path}.versions.{name}");
        reasons.unless(!name.is_empty(), &path, "must have a name");
        reasons.unless(
            version.weight <= 1000,
            format!("{path}.weight"),
            format!("{} is more than 1000 thousandths", version.weight),
        );
        reasons.unless(
            version.role.takes_traffic() || version.weight == 0,
            format!("{path}.weight"),
            "must be 0 for the roles `preview` and `shadow`",
        );
        for (index, endpoint) in version.endpoints.iter().enumerate() {
            let path = format!("{path}.endpoints.{index}");
            reasons.unless(
                !endpoint.id.is_empty(),
                format!("{path}.id"),
                "must not be empty",
            );
            reasons.unless(
                ids.insert(&endpoint.id),
                format!("{path}.id"),
                format!("`{}` is taken by another endpoint", endpoint.id),
            );
            reasons.unless(
                is_host_and_port(&endpoint.address),
                format!("{path}.address"),
                format!("`{}` is not host:port", endpoint.address),
            );
        }
    }
    if let Some(tls) = &service.tls {
        reasons.unless(
            tls.certificate.is_some() == tls.key.is_some(),
            format!("{path}.tls"),
            "needs both `certificate` and `key`, or neither",
        );
    }
    for (index, wanted) in service.overrides.iter().enumerate() {
        let path = format!("{path}.overrides.{index}");
        reasons.unless(
            wanted.header.is_some() != wanted.cookie.is_some(),
            &path,
            "needs either `header` or `cookie`",
        );
        reasons.unless(
            service.versions.contains_key(&wanted.version),
            format!("{path}.version"),
            format!("names no version: `{}`", wanted.version),
        );
    }
    if let Some(health) = &service.health {
        reasons.unless(
            health.path.starts_with('/'),
            format!("{path}.health.path"),
            "must start with `/`",
        );
        for (version, asked) in &health.paths {
            reasons.unless(
                asked.is_empty() || asked.starts_with('/'),
                format!("{path}.health.paths.{version}"),
                "must be empty or start with `/`",
            );
        }
        for (key, value) in [
            ("every_ms", health.every_ms),
            ("timeout_ms", health.timeout_ms),
            ("healthy_after", health.healthy_after.into()),
            ("unhealthy_after", health.unhealthy_after.into()),
        ] {
            reasons.unless(
                value > 0,
                format!("{path}.health.{key}"),
                "must be at least 1",
            );
        }
    }
    reasons.unless(
        service.outliers.floor_percent <= 100,
        format!("{path}.outliers.floor_percent"),
        "is more than 100",
    );
    check_breaker(service, path, reasons);
}

fn check_breaker(service: &Service, path: &str, reasons: &mut Reasons) {
    if let Some(breaker) = &service.breaker {
        reasons.unless(
            (1..=100).contains(&breaker.bad_percent),
            format!("{path}.breaker.bad_percent"),
            "must be 1 to 100",
        );
        for (key, value) in [
            ("window_ms", breaker.window_ms),
            ("rest_ms", breaker.rest_ms),
            ("at_least", breaker.at_least.into()),
        ] {
            reasons.unless(
                value > 0,
                format!("{path}.breaker.{key}"),
                "must be at least 1",
            );
        }
    }
}

fn check_headers(change: &HeaderChange, path: &str, reasons: &mut Reasons) {
    for name in change
        .remove
        .iter()
        .chain(change.set.keys())
        .chain(change.add.keys())
    {
        check_header_name(name, path, reasons);
    }
    for (name, value) in change.set.iter().chain(&change.add) {
        reasons.unless(
            value
                .bytes()
                .all(|byte| byte == b'\t' || (byte >= 32 && byte != 127)),
            path,
            format!("gives `{name}` a value with control characters"),
        );
    }
}

/// RFC 9110, 5.6.2: a token.
fn check_header_name(name: &str, path: &str, reasons: &mut Reasons) {
    let token = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    reasons.unless(token, path, format!("`{name}` is not a header name"));
}

fn check_networks(networks: &[String], path: &str, reasons: &mut Reasons) {
    for (index, network) in networks.iter().enumerate() {
        reasons.unless(
            is_network(network),
            format!("{path}.{index}"),
            format!("`{network}` is neither an address nor a CIDR block"),
        );
    }
}

fn is_network(text: &str) -> bool {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= most))
}

fn is_host_and_port(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() {
        return !text.ends_with(":0");
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        && port.parse::<u16>().is_ok_and(|port| port != 0)
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

    #[test]
    fn networks() {
        for (text, expected) in [
            ("10.0.0.0/8", true),
            ("10.0.0.1", true),
            ("::1/129", false),
            ("fe80::/10", true),
            ("host", false),
        ] {
            assert_eq!(is_network(text), expected, "{text}");
        }
    }
}
