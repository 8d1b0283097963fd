//! Reads any text as `Forwarded`, and reads what the gateway itself says by it.
#![no_main]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "whole files of the gateway, of which not all is called"
)]

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

#[path = "../../src/forwarded.rs"]
mod forwarded;

use forwarded::{Hop, element, hops};

// Lines, each a field; the first 16 bytes are an address, too, and all of it a host.
fuzz_target!(|data: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append("forwarded", value);
        }
    }
    let before = hops(&headers);
    for host in before.iter().filter_map(|hop| hop.host.as_ref()) {
        assert!(!host.is_empty());
    }
    let address: [u8; 16] = data
        .get(..16)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or_default();
    let peer = IpAddr::from(Ipv6Addr::from(address)).to_canonical();
    let host = String::from_utf8_lossy(data);
    let said = HeaderValue::from_str(&element(peer, true, &host)).expect("a field");
    // Whatever was said before, what is added is read as it was meant.
    headers.append("forwarded", said);
    let all = hops(&headers);
    assert_eq!(all[..all.len() - 1], before);
    let Some(Hop {
        client,
        secure,
        host: read,
    }) = all.last()
    else {
        panic!("the own hop is lost");
    };
    assert_eq!((*client, *secure), (Some(peer), Some(true)));
    assert!(read.as_ref().is_none_or(|read| *read == host));
});
