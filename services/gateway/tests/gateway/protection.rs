//! Who may ask, how often, and what a failing service costs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::bench::{Behaviour, Place, Upstream, ask, client, get, orders, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "trusted_proxies": ["127.0.0.1"],
            "routes": [{ "name": "all", "service": "orders", "rate_limit": { "requests": 5, "every_ms": 60_000 } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let asked = async |from: &str| {
        let headers = [("x-forwarded-for", from)];
        ask(&client, "GET", address, "/", &headers, b"")
            .await
            .unwrap()
    };
    for _ in 0..5 {
        assert_eq!(asked("10.0.0.1").await.status, 200);
    }
    let answer = asked("10.0.0.1").await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "12"));
    assert_eq!(asked("10.0.0.2").await.status, 200);
    assert_eq!(upstream.asked(), 6);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_at_its_limit_sheds_what_is_over_it() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let behaviour = Behaviour {
        delay: Duration::from_millis(500),
        ..Behaviour::default()
    };
    let upstream = Upstream::start_with("slow", behaviour).await;
    let mut services = orders(&[&upstream]);
    services["orders"]["limits"] = json!({ "concurrent": 2 });
    gateway.configure(json!({ "services": services })).await;
    let address = gateway.address("public").await;
    let client = client();
    let held: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { get(&client, address, "/").await.status })
        })
        .collect();
    until("both are under way", async || upstream.asked() == 2).await;
    let answer = get(&client, address, "/").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    for task in held {
        assert_eq!(task.await.unwrap(), 200);
    }
    assert_eq!(gateway.counted().await.services["orders"].shed, 1);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_version_rests() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let behaviour = Behaviour {
        status: 500,
        ..Behaviour::default()
    };
    let upstream = Upstream::start_with("bad", behaviour).await;
    let mut services = orders(&[&upstream]);
    services["orders"]["breaker"] = json!({ "at_least": 10, "rest_ms": 60_000 });
    gateway.configure(json!({ "services": services })).await;
    let address = gateway.address("public").await;
    let client = client();
    for _ in 0..10 {
        assert_eq!(get(&client, address, "/").await.status, 500);
    }
    let answer = get(&client, address, "/").await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (503, Some("resting"))
    );
    assert_eq!(upstream.asked(), 10);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_addresses_and_other_sites() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "routes": [
                { "name": "keyed", "service": "orders", "match": { "path": { "prefix": "/keyed" } }, "auth": {
                    "api_keys": [{ "name": "ci", "sha256": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b" }] } },
                { "name": "denied", "service": "orders", "match": { "path": { "prefix": "/denied" } }, "deny": ["127.0.0.0/8"] },
                { "name": "forms", "service": "orders", "match": { "path": { "prefix": "/forms" } }, "csrf": true,
                  "cors": { "origins": ["https://shop.test"], "headers": ["x-a"] }, "security_headers": true },
                { "name": "read", "service": "orders", "match": { "path": { "prefix": "/by-method" }, "methods": ["GET"] } },
                { "name": "write", "service": "orders", "match": { "path": { "prefix": "/by-method" }, "methods": ["PUT"] },
                  "cors": { "origins": ["https://shop.test"], "headers": ["x-b"] } },
            ],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let asked = async |method: &str, target: &str, headers: &[(&str, &str)]| {
        ask(&client, method, address, target, headers, b"")
            .await
            .unwrap()
    };
    let answer = asked("GET", "/keyed", &[("x-auth-subject", "root")]).await;
    assert_eq!(
        (answer.status, answer.header("www-authenticate")),
        (401, "Bearer")
    );
    let answer = asked(
        "GET",
        "/keyed",
        &[("x-api-key", "secret"), ("x-auth-subject", "root")],
    )
    .await;
    assert_eq!(answer.json()["headers"]["x-auth-subject"], "ci");
    assert_eq!(
        asked("GET", "/denied", &[]).await.json()["code"],
        "address-denied"
    );
    let forged = [("cookie", "session=1"), ("origin", "https://evil.test")];
    assert_eq!(
        asked("POST", "/forms", &forged).await.json()["code"],
        "cross-site"
    );
    let answer = asked(
        "GET",
        "/forms",
        &[("origin", "https://shop.test"), ("x-auth-subject", "root")],
    )
    .await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://shop.test"
    );
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(answer.json()["headers"].get("x-auth-subject").is_none());
    let preflight = [
        ("origin", "https://shop.test"),
        ("access-control-request-method", "PUT"),
    ];
    let answer = asked("OPTIONS", "/forms", &preflight).await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-headers")),
        (204, "x-a")
    );
    // A preflight is for the route of the method that is to follow.
    let answer = asked("OPTIONS", "/by-method", &preflight).await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-headers")),
        (204, "x-b")
    );
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn which_origins_may_read_an_answer_is_for_the_route_to_say() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let behaviour = Behaviour {
        script: Some(Arc::new(|_, _| {
            http::Response::builder()
                .header("access-control-allow-origin", "*")
                .header("access-control-allow-credentials", "true")
                .header("access-control-expose-headers", "x-secret")
                .body(http_body_util::Full::default())
                .expect("an answer")
        })),
        ..Behaviour::default()
    };
    let upstream = Upstream::start_with("orders", behaviour).await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "routes": [
                { "name": "own", "service": "orders", "match": { "path": { "prefix": "/own" } } },
                { "name": "one", "service": "orders", "cors": { "origins": ["https://a.test"] } },
            ],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let asked = async |method: &str, target: &str, origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "PUT")];
        let told = &headers[..if method == "OPTIONS" { 2 } else { 1 }];
        let asked = ask(&client, method, address, target, told, b"").await;
        let answer = asked.unwrap();
        let mut allows: Vec<_> = answer
            .headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("access-control-"))
            .map(|(name, value)| format!("{}={}", &name.as_str()[15..], value.to_str().unwrap()))
            .collect();
        allows.sort();
        (answer.status, allows.join(" "))
    };
    let (good, evil) = ("https://a.test", "https://evil.test");
    let one = |status: u16, allows: &str| (status, allows.to_owned());
    assert_eq!(asked("GET", "/", evil).await, one(200, ""));
    assert_eq!(
        asked("GET", "/", good).await,
        one(200, "allow-origin=https://a.test")
    );
    assert_eq!(asked("OPTIONS", "/", evil).await, one(403, ""));
    assert_eq!(
        asked("OPTIONS", "/", good).await,
        one(204, "allow-methods=PUT allow-origin=https://a.test")
    );
    // Without `cors` it is for the service.
    let own = "allow-credentials=true allow-origin=* expose-headers=x-secret";
    assert_eq!(asked("GET", "/own", evil).await, one(200, own));
    gateway.drain().await;
}

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
async fn a_resting_version_is_tried_now_and_then_and_comes_back() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let well = Arc::new(AtomicBool::new(false));
    let state = well.clone();
    let behaviour = Behaviour {
        script: Some(Arc::new(move |_, _| {
            let status = if state.load(Ordering::Relaxed) {
                200
            } else {
                500
            };
            let answer = http::Response::builder().status(status);
            answer
                .body(http_body_util::Full::default())
                .expect("an answer")
        })),
        ..Behaviour::default()
    };
    let upstream = Upstream::start_with("orders", behaviour).await;
    let mut services = orders(&[&upstream]);
    services["orders"]["breaker"] = json!({ "at_least": 10, "rest_ms": 300 });
    gateway.configure(json!({ "services": services })).await;
    let address = gateway.address("public").await;
    let client = client();
    for _ in 0..10 {
        assert_eq!(get(&client, address, "/").await.status, 500);
    }
    // Of all that ask while it rests, one at a time reaches it, and finds it as it was.
    let mut told = 0_u64;
    until("it was tried twice", async || {
        get(&client, address, "/").await;
        upstream.asked() == 12
    })
    .await;
    for _ in 0..20 {
        told += u64::from(get(&client, address, "/").await.status == 503);
    }
    assert!(told >= 19 && upstream.asked() <= 13, "{told}");
    well.store(true, Ordering::Relaxed);
    until("it is tried and well", async || {
        get(&client, address, "/").await.status == 200
    })
    .await;
    for _ in 0..20 {
        assert_eq!(get(&client, address, "/").await.status, 200);
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_what_was_asked_before_ends_no_rest() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (held, release) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (seen, told) = (held.clone(), release.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = json!({ "id": "one", "address": listener.local_addr().unwrap().to_string() });
    // Fails at once, but for one request that it answers well when it is told to.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (seen, told) = (seen.clone(), told.clone());
            tokio::spawn(async move {
                let mut part = [0; 4096];
                while let Ok(1..) = stream.read(&mut part).await {
                    let status = if part.starts_with(b"GET /held") {
                        seen.store(true, Ordering::Relaxed);
                        told.notified().await;
                        "200 OK"
                    } else {
                        "500 Bad"
                    };
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    gateway
        .configure(json!({ "services": { "orders": {
            "versions": { "r1": { "weight": 1000, "endpoints": [endpoint] } },
            "breaker": { "at_least": 10, "rest_ms": 600_000 },
        } } }))
        .await;
    let address = gateway.address("public").await;
    let early = tokio::spawn(async move { get(&client(), address, "/held").await.status });
    until("it is asked", async || held.load(Ordering::Relaxed)).await;
    let client = client();
    for _ in 0..10 {
        assert_eq!(get(&client, address, "/").await.status, 500);
    }
    // A client has its answer before that is counted.
    until("the service rests", async || {
        get(&client, address, "/").await.status == 503
    })
    .await;
    release.notify_one();
    assert_eq!(early.await.unwrap(), 200);
    assert_eq!(
        gateway
            .counted()
            .await
            .version("orders", "r1")
            .unwrap()
            .good,
        1
    );
    assert_eq!(get(&client, address, "/").await.status, 503);
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
