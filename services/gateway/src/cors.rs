//! Cross-origin requests from browsers, and requests forged across sites.
//!
//! Source: the Fetch standard, "HTTP-network-or-cache fetch" and "CORS-preflight fetch".

use http::{HeaderMap, Method};
use platform_gateway_api::Cors;

use crate::own::Own;

/// The headers an answer to this origin carries; none if it is not allowed.
pub(crate) fn headers(cors: &Cors, origin: Option<&str>) -> Vec<(&'static str, String)> {
    let Some(origin) = origin else {
        return vec![("vary", "origin".into())];
    };
    let any = any(cors);
    if !any && !allows(&cors.origins, origin) {
        return vec![("vary", "origin".into())];
    }
    let mut headers = Vec::new();
    if any {
        headers.push(("access-control-allow-origin", "*".into()));
    } else {
        headers.push(("access-control-allow-origin", origin.into()));
        headers.push(("vary", "origin".into()));
    }
    if cors.credentials {
        headers.push(("access-control-allow-credentials", "true".into()));
    }
    if !cors.expose.is_empty() {
        headers.push(("access-control-expose-headers", cors.expose.join(", ")));
    }
    headers
}

fn any(cors: &Cors) -> bool {
    cors.origins.iter().any(|allowed| allowed == "*")
}

fn allows(origins: &[String], origin: &str) -> bool {
    origins
        .iter()
        .any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

/// What a preflight asks leave for: the method of the request that is to follow.
pub(crate) fn method_to_come<'a>(method: &Method, request: &'a HeaderMap) -> Option<&'a str> {
    let asked = text(request, "access-control-request-method")?;
    (*method == Method::OPTIONS && request.contains_key("origin")).then_some(asked)
}

/// The answer to a preflight, if the request is one.
pub(crate) fn preflight(
    cors: &Cors,
    route_methods: &[String],
    method: &Method,
    request: &HeaderMap,
) -> Option<Own> {
    let asked = method_to_come(method, request)?;
    let origin = text(request, "origin").unwrap_or_default();
    if !any(cors) && !allows(&cors.origins, origin) {
        let own = Own::new(
            403,
            "origin-denied",
            "pages of this origin may not ask here",
        );
        return Some(own.header("vary", "origin"));
    }
    let mut own = Own::new(204, "preflight", "");
    for (name, value) in headers(cors, Some(origin)) {
        // What scripts may read concerns the actual answer only.
        if name != "access-control-expose-headers" {
            own = own.header(name, value);
        }
    }
    let methods = match (cors.methods.is_empty(), route_methods.is_empty()) {
        (false, _) => cors.methods.join(", "),
        (true, false) => route_methods.join(", "),
        (true, true) => asked.to_string(),
    };
    own = own.header("access-control-allow-methods", methods);
    if !cors.headers.is_empty() {
        own = own.header("access-control-allow-headers", cors.headers.join(", "));
    }
    if cors.max_age_seconds > 0 {
        own = own.header("access-control-max-age", cors.max_age_seconds.to_string());
    }
    Some(own)
}

/// Whether a browser sent the request on behalf of another site, with the
/// user's cookies: what a forged request looks like.
pub(crate) fn is_forged(
    method: &Method,
    host: &str,
    request: &HeaderMap,
    cors: Option<&Cors>,
) -> bool {
    // A web socket is opened by a GET, and carries whatever follows.
    let changes = !method.is_safe() || request.contains_key(http::header::UPGRADE);
    if !changes || !request.contains_key(http::header::COOKIE) {
        return false;
    }
    let site = text(request, "sec-fetch-site");
    if matches!(site, Some("same-origin" | "none")) {
        return false;
    }
    let Some(origin) = text(request, "origin").or_else(|| text(request, "referer")) else {
        // Browsers send one of the three with every such request; other clients have no ambient
        // cookies.
        return site.is_some();
    };
    if cors.is_some_and(|cors| cors.credentials && allows(&cors.origins, origin)) {
        return false;
    }
    let from = origin
        .split_once("://")
        .map_or("", |(_, rest)| rest)
        .split('/')
        .next()
        .unwrap_or("");
    !from.eq_ignore_ascii_case(host)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<Vec<(http::HeaderName, http::HeaderValue)>>()
            .into_iter()
            .collect()
    }

    #[test]
    fn forged_requests_are_told_from_others() {
        let check = |method: Method, headers: &[(&'static str, &'static str)], expected: bool| {
            assert_eq!(
                is_forged(&method, "shop.test:8000", &map(headers), None),
                expected,
                "{headers:?}"
            );
        };
        let cookie = ("cookie", "session=1");
        check(
            Method::POST,
            &[cookie, ("origin", "http://evil.test")],
            true,
        );
        check(Method::POST, &[cookie, ("origin", "null")], true);
        check(
            Method::POST,
            &[cookie, ("origin", "http://shop.test:8000")],
            false,
        );
        check(
            Method::POST,
            &[cookie, ("referer", "http://shop.test:8000/x")],
            false,
        );
        check(Method::POST, &[("origin", "http://evil.test")], false);
        check(
            Method::GET,
            &[cookie, ("origin", "http://evil.test")],
            false,
        );
        check(
            Method::POST,
            &[cookie, ("sec-fetch-site", "same-origin")],
            false,
        );
        check(
            Method::POST,
            &[cookie, ("sec-fetch-site", "cross-site")],
            true,
        );
        check(Method::POST, &[cookie, ("origin", "http://*")], true);
        let socket = ("upgrade", "websocket");
        let evil = ("origin", "https://evil.test");
        check(Method::GET, &[cookie, socket, evil], true);
        check(Method::GET, &[cookie, evil], false);
    }

    #[test]
    fn preflights_are_answered() {
        let cors = Cors {
            origins: vec!["https://a.test".into()],
            max_age_seconds: 60,
            ..Cors::default()
        };
        let request = map(&[
            ("origin", "https://a.test"),
            ("access-control-request-method", "PUT"),
        ]);
        let own = preflight(&cors, &[], &Method::OPTIONS, &request).unwrap();
        let found = |name: &str| own.headers.iter().find(|(own, _)| *own == name);
        assert_eq!(
            found("access-control-allow-origin").unwrap().1,
            "https://a.test"
        );
        assert_eq!(found("access-control-allow-methods").unwrap().1, "PUT");
        assert!(preflight(&cors, &[], &Method::GET, &request).is_none());
        for origin in ["https://evil.test", "null", "https://a.test.evil.test"] {
            let request = map(&[("origin", origin), ("access-control-request-method", "PUT")]);
            let own = preflight(&cors, &[], &Method::OPTIONS, &request).unwrap();
            assert_eq!((own.status, own.code), (403, "origin-denied"), "{origin}");
            assert_eq!(own.headers, [("vary", "origin".to_owned())]);
        }
    }
}
