//! Reads any fields as a request of a browser's, and asks whether its origin may read the answer and is no other site.
#![no_main]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "whole files of the gateway, of which not all is called"
)]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use platform_gateway_api::Cors;

#[path = "../../src/cors.rs"]
mod cors;
#[path = "../../src/own.rs"]
mod own;

const ALLOWED: &str = "https://app.example";
const HOST: &str = "shop.example";

// Lines: the method, then fields.
fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Ok(method) = Method::from_bytes(lines.next().unwrap_or(b"")) else {
        return;
    };
    let mut request = HeaderMap::new();
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(at.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            request.append(name, value);
        }
    }
    let text = |name: &str| request.get(name).and_then(|value| value.to_str().ok());
    let origin = text("origin");
    let is_allowed = origin.is_some_and(|origin| origin.eq_ignore_ascii_case(ALLOWED));
    for credentials in [false, true] {
        let cors = Cors {
            origins: vec![ALLOWED.to_owned()],
            credentials,
            ..Cors::default()
        };
        let told = cors::headers(&cors, origin);
        let may_read = told
            .iter()
            .any(|(name, _)| name.starts_with("access-control-"));
        assert_eq!(may_read, is_allowed);
        // Who may read it or not, caches have to tell one origin from another.
        assert!(
            told.iter()
                .any(|(name, value)| *name == "vary" && value == "origin")
        );
        if let Some(own) = cors::preflight(&cors, &[], &method, &request) {
            assert_eq!(own.status == 204, is_allowed);
        }
        let changes = !method.is_safe() || request.contains_key("upgrade");
        let is_told = ["sec-fetch-site", "origin", "referer"]
            .iter()
            .any(|name| text(name).is_some());
        if changes && request.contains_key("cookie") && is_told {
            let of_ours = matches!(text("sec-fetch-site"), Some("same-origin" | "none"));
            let from = origin.or_else(|| text("referer")).unwrap_or("");
            let from_us = from
                .split_once("://")
                .is_some_and(|(_, rest)| rest.to_ascii_lowercase().starts_with(HOST));
            let trusted = credentials && from.eq_ignore_ascii_case(ALLOWED);
            let passes = !cors::is_forged(&method, HOST, &request, Some(&cors));
            assert!(!passes || of_ours || from_us || trusted);
        }
    }
});
