//! Tokens: what they open, and where the keys for them come from.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bench::{Place, Upstream, ask, client, orders, until};
use crate::peers::{Authority, secure_server};

/// Serves a JSON Web Key Set, as it is just then, or fails while that is empty; counts how often it is asked for.
async fn key_server(document: Arc<Mutex<String>>) -> (std::net::SocketAddr, Arc<AtomicU64>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let mut part = [0; 2048];
            let _ = stream.read(&mut part).await;
            let document = document.lock().expect("nobody panicked").clone();
            let length = document.len();
            let status = if length > 0 {
                "200 OK"
            } else {
                "500 Internal Server Error"
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{document}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

/// The document of these keys, each under its id.
fn key_set(keys: &[(&str, &Ed25519KeyPair)]) -> String {
    let key = |(id, pair): &(&str, &Ed25519KeyPair)| {
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": x })
    };
    json!({ "keys": keys.iter().map(key).collect::<Vec<_>>() }).to_string()
}

/// A signed token, as it stands in `Authorization`.
fn bearer(pair: &Ed25519KeyPair, id: &str, claims: serde_json::Value) -> String {
    let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!(
        "{}.{}",
        encode(json!({ "alg": "EdDSA", "kid": id })),
        encode(claims)
    );
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()).as_ref());
    format!("Bearer {signed}.{signature}")
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_tokens_come_and_go_while_the_gateway_runs() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let pairs = [(), ()].map(|()| Ed25519KeyPair::generate().unwrap());
    let (old, new) = (("k1", &pairs[0]), ("k2", &pairs[1]));
    let keys = Arc::new(Mutex::new(key_set(&[old])));
    let publish = |set: &[(&str, &Ed25519KeyPair)]| *keys.lock().unwrap() = key_set(set);
    let (key_address, _) = key_server(keys.clone()).await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "identity": { "issuer": "me", "refresh_seconds": 1,
                "jwks": { "url": format!("http://{key_address}/jwks.json") } },
            "routes": [{ "name": "all", "service": "orders", "auth": { "tokens": true } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let claims = json!({ "iss": "me", "sub": "ann", "exp": 4_000_000_000_u64 });
    let [old_token, new_token] = [old, new].map(|(id, pair)| bearer(pair, id, claims.clone()));
    let status = async |token: &str| {
        let headers = [("authorization", token)];
        let answer = ask(&client, "GET", address, "/", &headers, b"").await;
        answer.unwrap().status
    };
    assert_eq!(status(&old_token).await, 200);
    assert_eq!(status(&new_token).await, 401);
    // Beside the old one, as both are good while tokens of the old one are about.
    publish(&[old, new]);
    until("the new key counts", async || {
        status(&new_token).await == 200
    })
    .await;
    assert_eq!(status(&old_token).await, 200);
    // Withdrawn: what was signed by it is good no more, also what was known to be.
    publish(&[new]);
    until("the old key is forgotten", async || {
        status(&old_token).await == 401
    })
    .await;
    assert_eq!(status(&new_token).await, 200);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_nobody_could_check_is_not_called_wrong() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let pair = Ed25519KeyPair::generate().unwrap();
    let keys = Arc::new(Mutex::new(String::new()));
    let (key_address, fetched) = key_server(keys.clone()).await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "identity": { "jwks": { "url": format!("http://{key_address}/jwks.json") } },
            "routes": [{ "name": "all", "service": "orders", "auth": { "failures": 1 } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let token = bearer(
        &pair,
        "k1",
        json!({ "sub": "ann", "exp": 4_000_000_000_u64 }),
    );
    let asked = async || {
        let headers = [("authorization", token.as_str())];
        let asked = ask(&client, "GET", address, "/", &headers, b"").await;
        asked.unwrap()
    };
    // However often it fails: that is nobody's guess, and it is asked for again in time.
    until("the keys were asked for three times", async || {
        let answer = asked().await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
        assert_eq!(answer.json()["code"], "no-keys");
        fetched.load(Ordering::Relaxed) == 3
    })
    .await;
    *keys.lock().unwrap() = key_set(&[("k1", &pair)]);
    until("the keys are there", async || asked().await.status == 200).await;
    // What is known stays good while they cannot be had again.
    keys.lock().unwrap().clear();
    assert_eq!(asked().await.status, 200);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_open_what_their_scopes_allow() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let pair = Ed25519KeyPair::generate().unwrap();
    let keys = Arc::new(Mutex::new(key_set(&[("k1", &pair)])));
    let (key_address, fetched) = key_server(keys).await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "identity": { "issuer": "me", "audiences": ["shop"], "jwks": { "url": format!("http://{key_address}/jwks.json") } },
            "routes": [{ "name": "all", "service": "orders", "auth": { "scopes": ["orders:read"] } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let token = |id: &str, claims| bearer(&pair, id, claims);
    let claims = |audience: &str, scope: &str| json!({ "iss": "me", "sub": "ann", "aud": audience, "exp": 4_000_000_000_u64, "scope": scope });
    let good = token("k1", claims("shop", "orders:read orders:write"));
    let cases = [
        (good.clone(), 200),
        (good, 200),
        (token("k1", claims("shop", "else")), 403),
        (token("k1", claims("bank", "orders:read")), 401),
        (token("k2", claims("shop", "orders:read")), 401),
        ("Bearer a.b.c".into(), 401),
        ("Basic YTpi".into(), 401),
    ];
    for (authorization, expected) in cases {
        let headers = [("authorization", authorization.as_str())];
        let answer = ask(&client, "GET", address, "/", &headers, b"")
            .await
            .unwrap();
        assert_eq!(answer.status, expected, "{authorization}");
        if expected == 200 {
            assert_eq!(answer.json()["headers"]["x-auth-subject"], "ann");
        }
    }
    // An unknown key id just after a fetch does not cause another.
    assert_eq!(fetched.load(Ordering::Relaxed), 1);
    assert_eq!(upstream.asked(), 2);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_tokens_are_fetched_from_whom_we_believe() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let (ours, others) = (
        Authority::new(place.path(), "ours"),
        Authority::new(place.path(), "others"),
    );
    let pair = Ed25519KeyPair::generate().expect("a key");
    let keys = key_set(&[("k1", &pair)]);
    let server = secure_server(&ours.signs("localhost"), None, move |_| keys.clone()).await;
    let claims = json!({ "iss": "me", "sub": "ann", "exp": 4_000_000_000_u64 });
    let authorization = bearer(&pair, "k1", claims);
    for (revision, (authority, expected)) in (1_u64..).zip([(&others, 503), (&ours, 200)]) {
        gateway
            .configure(json!({
                "revision": revision,
                "services": orders(&[&upstream]),
                "identity": {
                    "issuer": "me",
                    "jwks": { "url": format!("https://localhost:{}/keys", server.port()) },
                    "ca": authority.file(),
                },
                "routes": [{ "name": "all", "service": "orders", "auth": { "tokens": true } }],
            }))
            .await;
        let address = gateway.address("public").await;
        let headers = [("authorization", authorization.as_str())];
        let answer = ask(&client(), "GET", address, "/", &headers, b"").await;
        assert_eq!(answer.expect("an answer").status, expected);
    }
    gateway.drain().await;
}
