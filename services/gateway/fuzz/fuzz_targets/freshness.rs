//! Reads any fields as an answer's, and asks how long it is fresh: what says that it must not be kept never is.
#![no_main]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "whole files of the gateway, of which not all is called"
)]

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use pingora_http::ResponseHeader;
use platform_gateway_api::Cache;

#[path = "../../src/freshness.rs"]
mod freshness;

use freshness::{asks_for, lifetime, renew};

// The first byte is whether the request said who asks, the next two are the status; then come lines of fields.
fuzz_target!(|data: &[u8]| {
    let [named, high, low, fields @ ..] = data else {
        return;
    };
    let named = *named % 2 == 1;
    let status = u16::from_be_bytes([*high, *low]) % 900 + 100;
    let Ok(mut answer) = ResponseHeader::build(status, None) else {
        return;
    };
    for line in fields.split(|byte| *byte == b'\n') {
        let at = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(at.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            let _ = answer.append_header(name, value);
        }
    }
    let settings = Cache {
        fresh_ms: Some(7_000),
        ..Cache::default()
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_435_200);
    let kept = lifetime(&settings, &answer, named, now);
    let headers = &answer.headers;
    // Fields with bytes that are no text are passed over as a whole, by us and by this.
    let says = |directive: &str| asks_for(headers, directive);
    let plain = headers.get_all(header::CACHE_CONTROL).iter().all(|value| {
        value
            .as_bytes()
            .iter()
            .all(|byte| matches!(byte, b' '..=b'~') && *byte != b'"')
    });
    if let Some(meta) = kept {
        assert!(!matches!(status, 100..=199 | 206 | 304));
        assert!(!headers.contains_key(header::SET_COOKIE));
        if plain {
            assert!(!says("no-store") && !says("private"), "{headers:?}");
        }
        if says("no-cache") && plain {
            assert!(!meta.is_fresh(now), "{headers:?}");
        }
        assert!(!meta.headers().contains_key(header::AGE));
    }
    // What checks an answer changes nothing of how its body is to be read.
    let mut before = ResponseHeader::build(200, None).expect("a head");
    before
        .append_header("content-length", "5")
        .expect("a field");
    before.append_header("etag", "\"one\"").expect("a field");
    renew(&mut before, headers);
    assert_eq!(
        before
            .headers
            .get("content-length")
            .map(HeaderValue::as_bytes),
        Some(&b"5"[..])
    );
    assert_eq!(before.headers.get_all("etag").iter().count(), 1);
});
