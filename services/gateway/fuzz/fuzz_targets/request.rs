//! Reads any bytes as a request's target and fields, as the gateway does before it forwards one.
//!
//! In `services/gateway/`, on stable Rust:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run request -- -max_total_time=60`
#![no_main]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "whole files of the gateway, of which not all is called"
)]

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use libfuzzer_sys::fuzz_target;
use platform_gateway_api::Match;

#[path = "../../src/client.rs"]
mod client;
#[path = "../../src/forwarded.rs"]
mod forwarded;
#[path = "../../src/network.rs"]
mod network;
#[path = "../../src/redaction.rs"]
mod redaction;
#[path = "../../src/router.rs"]
mod router;
#[path = "../../src/trace.rs"]
mod trace;

use network::Networks;
use router::{Asked, Found, Router, host_fits, normalize, template_values};

const ROUTES: &str = r#"[
  { "path": { "prefix": "/api/v1/" } },
  { "path": { "exact": "/only" }, "methods": ["POST"] },
  { "path": { "template": "/o/{id}/items/{item}" } },
  { "path": { "template": "/files/{name}/{rest...}" } },
  { "path": { "template": "/{any...}" }, "hosts": ["*.example.org"] },
  { "headers": { "x-api": { "prefix": "v" } }, "query": { "page": { "exact": "1" } } },
  { "query": { "debug": { "present": true } }, "hosts": ["a.test"] }
]"#;
const TEMPLATES: [&str; 4] = [
    "/o/{id}/items/{item}",
    "/files/{name}/{rest...}",
    "/{any...}",
    "/{a}",
];
const SECRET: &str = "token";

// Lines: the target, the host, then fields.
fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let target = String::from_utf8_lossy(lines.next().unwrap_or(b""));
    let host = String::from_utf8_lossy(lines.next().unwrap_or(b"")).into_owned();
    let mut headers = HeaderMap::new();
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or(b""), parts.next().unwrap_or(b""));
        let name = match name {
            b"f" => Ok(HeaderName::from_static(client::FORWARDED_FOR)),
            b"F" => Ok(http::header::FORWARDED),
            b"t" => Ok(HeaderName::from_static("traceparent")),
            b"i" => Ok(HeaderName::from_static(client::REQUEST_ID)),
            name => HeaderName::from_bytes(name),
        };
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    identity(&headers);
    redacted(&target);
    host_fits(&host, &target);
    let Ok(uri) = target.parse::<Uri>() else {
        return;
    };
    route(&uri, &host, &headers);
});

fn route(uri: &Uri, host: &str, headers: &HeaderMap) {
    let Some(path) = normalize(uri.path()) else {
        return;
    };
    assert_eq!(normalize(&path).as_deref(), Some(&*path), "twice is once");
    assert!(!path.contains("//") && !path.contains('\\'), "{path}");
    for segment in path.split(['/', '\\']) {
        assert!(segment != "." && segment != "..", "{path}");
    }
    let matches: Vec<Match> = serde_json::from_str(ROUTES).expect("routes");
    let router = Router::new(
        matches
            .into_iter()
            .enumerate()
            .map(|(index, one)| (one, Arc::new(index))),
    );
    for method in ["GET", "POST"] {
        let asked = Asked {
            host,
            path: &path,
            query: uri.query(),
            method,
            headers,
        };
        if let Found::OtherMethods(methods) = router.find(&asked) {
            assert!(!methods.is_empty());
        }
    }
    for template in TEMPLATES {
        let Some(values) = template_values(template, &path) else {
            continue;
        };
        let filled = values
            .iter()
            .fold(template.to_owned(), |filled, (name, value)| {
                let place = filled.find(&format!("{{{name}")).expect("the name");
                let end = filled[place..].find('}').expect("its end") + place;
                format!(
                    "{}{}{}",
                    &filled[..place],
                    value.replace('{', "\u{1}"),
                    &filled[end + 1..]
                )
            });
        assert_eq!(filled.replace('\u{1}', "{"), path, "{template}");
    }
}

fn identity(headers: &HeaderMap) {
    let trusted = Networks::parse(&["10.0.0.0/8".into(), "fe80::/10".into()]);
    for peer in ["10.0.0.1", "192.0.2.1", "fe80::1"] {
        let peer: IpAddr = peer.parse().expect("an address");
        for internal in [true, false] {
            let found = client::client(&trusted, peer, internal, headers);
            assert!(
                found.trusted || found.address == peer,
                "who is not trusted speaks for nobody"
            );
            assert_eq!(found.address, found.address.to_canonical());
        }
    }
    for trusted in [true, false] {
        let id = client::request_id(headers, trusted);
        assert!((1..=128).contains(&id.len()) && id.is_ascii());
        assert!(HeaderValue::from_str(&id).is_ok());
    }
    let (parent, given) = trace::trace_parent(headers);
    let (joined, before, _) = trace::join_trace(&parent, given, 500, given);
    assert_eq!(joined.len(), 55);
    assert_eq!(trace::trace_id(&joined), trace::trace_id(&parent));
    assert_eq!(before.is_some(), given);
    assert!(before.is_none_or(|span| span.len() == 16));
}

fn redacted(target: &str) {
    let secret = [SECRET.to_owned()];
    let shown = redaction::redact(target, &secret);
    let Some((_, query)) = shown.split_once('?') else {
        return;
    };
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        assert!(
            !name.eq_ignore_ascii_case(SECRET) || value == "[redacted]",
            "{shown}"
        );
    }
}
