//! Texts of routes and the gateway that go into HTTP messages, or are compared with what stands there.

use super::{Check, Scene, steps};
use crate::node::Step;
use crate::{Code, HeaderChanges, Problem, Route, ServiceName};

/// Fields that say where a message ends, or belong to one connection (RFC 9110, 7.6.1; RFC 9112, 6): whoever carries a
/// message writes them.
const OF_THE_CONNECTION: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

impl Check<'_, '_> {
    pub(super) fn texts(&mut self, number: usize, route: &Route) {
        for (item, host) in route.host.iter().enumerate() {
            self.host(host, steps!["routes", number, "host", item]);
        }
        for name in route.headers.keys() {
            self.field_name(name, steps!["routes", number, "headers", name.as_str()]);
        }
        self.changes(number, "request_headers", &route.request_headers);
        self.changes(number, "response_headers", &route.response_headers);
        if let Some(csp) = &route.csp {
            self.field_value(csp, steps!["routes", number, "csp"]);
        }
        if let Some(host) = route
            .rewrite
            .as_ref()
            .and_then(|rewrite| rewrite.host.as_ref())
        {
            self.authority(host, steps!["routes", number, "rewrite", "host"]);
        }
        for (item, name) in route.cache.iter().flat_map(|it| &it.vary).enumerate() {
            self.field_name(name, steps!["routes", number, "cache", "vary", item]);
        }
        if let Some(cors) = &route.cors {
            for (key, names) in [("headers", &cors.headers), ("expose", &cors.expose)] {
                for (item, name) in names.iter().enumerate() {
                    self.field_name(name, steps!["routes", number, "cors", key, item]);
                }
            }
            for (item, origin) in cors.origins.iter().enumerate() {
                self.field_value(origin, steps!["routes", number, "cors", "origins", item]);
            }
        }
    }

    pub(super) fn gateway_texts(&mut self, scene: &Scene<'_>) {
        let gateway = &scene.gateway;
        if let Some(keys) = &gateway.api_keys {
            self.field_name(&keys.header, steps!["gateway", "api_keys", "header"]);
        }
        if let Some(otlp) = &gateway.otlp {
            let place = steps!["gateway", "otlp", "url"];
            self.url(&otlp.url, "http://127.0.0.1:4318", place);
            if otlp.ca.is_some() {
                self.spoken_over_tls(&otlp.url, steps!["gateway", "otlp", "ca"]);
            }
        }
        if let Some(jwt) = &gateway.jwt {
            if jwt.ca.is_some() {
                let url = jwt.jwks.as_ref().unwrap_or(&jwt.issuer);
                self.spoken_over_tls(url, steps!["gateway", "jwt", "ca"]);
            }
            match &jwt.jwks {
                // Without a place of their own the keys are where the issuer is.
                None => self.url(
                    &jwt.issuer,
                    "https://id.example",
                    steps!["gateway", "jwt", "issuer"],
                ),
                Some(keys) => self.keys(scene, keys),
            }
        }
    }

    /// The issuer's keys: at a URL, or on a service of the project.
    fn keys(&mut self, scene: &Scene<'_>, keys: &str) {
        let place = [Step::Key("gateway"), "jwt".into(), "jwks".into()];
        match keys.split_once(':') {
            Some((service, path)) if path.starts_with('/') && !path.starts_with("//") => {
                match ServiceName::new(service) {
                    Ok(service) => {
                        if self.known_service(scene, &service, &place) {
                            self.callable(scene, &service, &place);
                        }
                    }
                    Err(error) => {
                        let place = self.at(&place);
                        self.report(Problem::new(Code::BadValue, error.to_string(), place));
                    }
                }
            }
            _ => self.url(keys, "https://id.example/keys` or `users:/keys", &place),
        }
    }

    fn changes(&mut self, number: usize, key: &str, changes: &HeaderChanges) {
        for (how, fields) in [("set", &changes.set), ("add", &changes.add)] {
            for (name, value) in fields {
                let place = steps!["routes", number, key, how, name.as_str()];
                self.changeable(name, place);
                self.field_value(value, place);
            }
        }
        for (item, name) in changes.remove.iter().enumerate() {
            self.changeable(name, steps!["routes", number, key, "remove", item]);
        }
    }

    fn changeable(&mut self, name: &str, place: &[Step<'_>]) {
        self.field_name(name, place);
        if OF_THE_CONNECTION
            .iter()
            .any(|own| own.eq_ignore_ascii_case(name))
        {
            let problem = Problem::new(
                Code::BadValue,
                format!("`{name}` tells how a message is carried, and is the gateway's to write"),
                self.at(place),
            )
            .help("take it out");
            self.report(problem);
        }
    }

    pub(super) fn field_name(&mut self, name: &str, place: &[Step<'_>]) {
        if !is_token(name) {
            let problem = Problem::new(
                Code::BadValue,
                format!("`{}` is not the name of a header", name.escape_debug()),
                self.at(place),
            )
            .help("write letters, digits and hyphens, such as `x-request-id`");
            self.report(problem);
        }
    }

    fn field_value(&mut self, value: &str, place: &[Step<'_>]) {
        if value.contains(|letter: char| letter.is_control() && letter != '\t') {
            let problem = Problem::new(
                Code::BadValue,
                "a header is one line, without control characters",
                self.at(place),
            )
            .help("write it on one line");
            self.report(problem);
        }
    }

    /// What a request's host is compared with, which has no port.
    fn host(&mut self, host: &str, place: &[Step<'_>]) {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let good = is_name(name) || (name == host && is_bracketed(name));
        if !good {
            let problem = Problem::new(
                Code::BadValue,
                format!("`{}` is not a host", host.escape_debug()),
                self.at(place),
            )
            .help(
                "write a name without scheme and port, such as `shop.example` or `*.shop.example`; one with other \
                 letters as clients send it, such as `xn--bcher-kva.example`",
            );
            self.report(problem);
        }
    }

    /// What the service is told as its host: it may have a port.
    fn authority(&mut self, text: &str, place: &[Step<'_>]) {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let good = (is_name(host) || is_bracketed(host))
            && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        if !good {
            let problem = Problem::new(
                Code::BadValue,
                format!("`{}` is not a host", text.escape_debug()),
                self.at(place),
            )
            .help("write a name without scheme, such as `shop.example`");
            self.report(problem);
        }
    }

    /// Checks that authorities are named of what is asked over TLS.
    fn spoken_over_tls(&mut self, url: &str, place: &[Step<'_>]) {
        if !url.starts_with("https://") {
            let problem = Problem::new(
                Code::Contradiction,
                format!(
                    "`{}` is asked in the clear, and shows no certificate",
                    url.escape_debug()
                ),
                self.at(place),
            )
            .help("write a URL that begins with `https://`, or take `ca` out");
            self.report(problem);
        }
    }

    pub(super) fn url(&mut self, text: &str, example: &str, place: &[Step<'_>]) {
        let rest = ["http://", "https://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let good = rest.is_some_and(|rest| {
            !rest.is_empty()
                && !rest.starts_with(['/', ':'])
                && !rest.contains(|letter: char| letter.is_whitespace() || letter.is_control())
        });
        if !good {
            let problem = Problem::new(
                Code::BadValue,
                format!("`{}` is not a URL", text.escape_debug()),
                self.at(place),
            )
            .help(format!("write one such as `{example}`"));
            self.report(problem);
        }
    }
}

/// Whether a text is a token, as RFC 9110, 5.6.2 has it; names of headers and cookies are.
pub(super) fn is_token(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(known)
}

/// Whether a text is the name of a host.
pub(super) fn is_name(host: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    host.split('.')
        .all(|label| !label.is_empty() && label.bytes().all(known))
}

fn is_bracketed(host: &str) -> bool {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}
