//! Reads any text as a configuration, and routes by it where it is valid.
#![no_main]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "whole files of the gateway, of which not all is called"
)]

use std::sync::Arc;

use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use platform_gateway_api::Config;

#[path = "../../src/network.rs"]
mod network;
#[path = "../../src/router.rs"]
mod router;

use router::{Asked, Router, normalize};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let config: Option<Config> = if text.starts_with('{') {
        serde_json::from_str(&text).ok()
    } else {
        toml::from_str(&text).ok()
    };
    let Some(config) = config else {
        return;
    };
    let again = serde_json::to_vec(&config).expect("what was read can be written");
    let again: Config = serde_json::from_slice(&again).expect("what was written can be read");
    assert_eq!(config, again);
    if let Err(reasons) = config.validate() {
        assert!(!reasons.is_empty());
        return;
    }
    let networks = network::Networks::parse(&config.trusted_proxies);
    networks.contains("192.0.2.1".parse().expect("an address"));
    let routes = config
        .routes
        .iter()
        .map(|route| (route.matches.clone(), Arc::new(())));
    let router = Router::new(routes);
    let headers = HeaderMap::new();
    for path in ["/", "/a/b/c", "/%7b/{x}", "*"] {
        let path = normalize(path).expect("a good path");
        router.find(&Asked {
            host: "a.test",
            path: &path,
            query: Some("a=b&a"),
            method: "GET",
            headers: &headers,
        });
    }
});
