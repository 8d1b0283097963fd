//! What is wrong with a route.

use super::Reasons;
use super::text::{check_header_name, check_headers, check_networks};
use crate::{Auth, Config, PathMatch, RateLimit, Route};

pub(super) fn check_route(config: &Config, route: &Route, path: &str, reasons: &mut Reasons) {
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
    let lower = text.to_ascii_lowercase();
    reasons.unless(
        !["\\", "%2f", "%5c", "%00"].iter().any(|part| lower.contains(part)),
        &at,
        "must not contain a backslash, or an escaped slash, backslash or NUL, which no request is matched by",
    );
    let methods = [
        ("match.methods", &route.matches.methods),
        ("mirror_methods", &route.mirror_methods),
    ];
    for (key, methods) in methods {
        for (index, method) in methods.iter().enumerate() {
            reasons.unless(
                !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase()),
                format!("{path}.{key}.{index}"),
                format!("`{method}` is not a method in upper case"),
            );
        }
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
                reasons.unless(
                    !text.contains(['?', '#']),
                    format!("{path}.rewrite.{key}"),
                    "is a path alone: the query is that of the request",
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
