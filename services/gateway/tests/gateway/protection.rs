//! Who may ask and how often, and which sites may read an answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

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
