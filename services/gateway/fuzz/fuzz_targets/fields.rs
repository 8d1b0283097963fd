//! Reads any bytes as a request's form, its codings and its cookies.
#![no_main]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "whole files of the gateway, of which not all is called"
)]

use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use libfuzzer_sys::fuzz_target;
use pingora_http::RequestHeader;

#[path = "../../src/codings.rs"]
mod codings;
#[path = "../../src/cookie.rs"]
mod cookie;
#[path = "../../src/form.rs"]
mod form;
#[path = "../../src/own.rs"]
mod own;

// Lines: the method, the target, then fields. Version 2 where the method is followed by a space.
fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let method = String::from_utf8_lossy(lines.next().unwrap_or(b"")).into_owned();
    let target = lines.next().unwrap_or(b"");
    let Ok(mut head) = RequestHeader::build(method.trim_end(), target, None) else {
        return;
    };
    head.set_version(if method.ends_with(' ') {
        Version::HTTP_2
    } else {
        Version::HTTP_11
    });
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or(b""), parts.next().unwrap_or(b""));
        let name = match name {
            b"h" => Ok(HOST),
            b"l" => Ok(CONTENT_LENGTH),
            b"t" => Ok(TRANSFER_ENCODING),
            b"a" => Ok(ACCEPT_ENCODING),
            b"c" => Ok(COOKIE),
            name => HeaderName::from_bytes(name),
        };
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            let _ = head.append_header(name, value);
        }
    }
    codings(&head.headers);
    cookies(&head.headers);
    one_meaning(head);
});

/// What is taken leaves open neither where it ends nor whom it is for.
fn one_meaning(mut head: RequestHeader) {
    if form::to_path(&mut head).is_err() || form::check(&head).is_err() {
        return;
    }
    let target = head.raw_path();
    assert!(target.starts_with(b"/") || target == b"*");
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        assert!(head.headers.get_all(name).iter().count() <= 1);
    }
    if let Some(length) = head.headers.get(CONTENT_LENGTH) {
        assert!(length.as_bytes().iter().all(u8::is_ascii_digit));
    }
    if let Some(host) = head.headers.get(HOST) {
        let odd = |byte: &u8| byte.is_ascii_whitespace() || b"@/?#,\"<>\\".contains(byte);
        assert!(
            !host.is_empty() && !host.as_bytes().iter().any(odd),
            "{host:?}"
        );
    }
    let before = head.raw_path().to_vec();
    assert!(form::to_path(&mut head).is_ok() && head.raw_path() == before);
}

fn codings(headers: &HeaderMap) {
    let all = headers.get_all(ACCEPT_ENCODING).iter();
    let most: usize = all
        .map(|value| value.as_bytes().split(|byte| *byte == b',').count())
        .sum();
    let wanted = codings::wanted(headers);
    assert!(wanted.len() <= most);
    for coding in wanted {
        assert!(coding == coding.trim() && !coding.contains([',', ';']));
    }
}

fn cookies(headers: &HeaderMap) {
    const NAME: &str = "session";
    let known = cookie::cookie(headers, NAME).map(str::to_owned);
    assert!(known.as_ref().is_none_or(|value| !value.contains(';')));
    // The first of a name counts, whatever follows it.
    let mut headers = headers.clone();
    headers.append(COOKIE, HeaderValue::from_static("a; session=own; b=c"));
    let found = cookie::cookie(&headers, NAME);
    assert_eq!(found, Some(known.as_deref().unwrap_or("own")));
}
