//! Reads any bytes as a bearer token and as the keys that it should be signed with.
//!
//! In `services/gateway/`: `RUSTC_BOOTSTRAP=1 cargo fuzz run --features token token`
#![no_main]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "whole files of the gateway, of which not all is called"
)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;

#[path = "../../src/jwt.rs"]
mod jwt;

use jwt::{Expected, KeySet, verify};

// Public keys of which nobody has the private ones.
const KEYS: &str = r#"{ "keys": [
  { "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" },
  { "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" }
] }"#;

fuzz_target!(|data: &[u8]| {
    let own = KeySet::parse(KEYS.as_bytes()).expect("keys");
    let expected = Expected {
        issuer: "",
        scopes: "scope",
        roles: "roles",
        leeway: 0,
    };
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or(b"");
    let (head, body, keys) = (part(), part(), part());
    let encoded = [head, body, keys].map(|part| URL_SAFE_NO_PAD.encode(part));
    let tokens = [
        String::from_utf8_lossy(data).into_owned(),
        encoded.join("."),
    ];
    for token in &tokens {
        assert!(
            verify(token, &own, &expected, 0).is_err(),
            "nobody can sign for these keys"
        );
        if let Ok(keys) = KeySet::parse(keys) {
            let _ = verify(token, &keys, &expected, 0);
        }
    }
});
