//! What is changed on the way, which version of an interface answers, and how large a head may be.

use serde_json::json;

use crate::bench::{Place, Upstream, ask, client, get, orders};

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_removed_set_and_added_both_ways() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "routes": [{ "name": "all", "service": "orders",
                "request_headers": { "remove": ["x-debug"], "set": { "x-shop": "main" }, "add": { "x-seen": "gateway" } },
                "response_headers": { "remove": ["x-hop", "content-type"], "set": { "cache-control": "no-store" }, "add": { "vary": "origin" } },
            }],
        }))
        .await;
    let address = gateway.address("public").await;
    let sent = [("x-debug", "1"), ("x-shop", "other"), ("x-seen", "client")];
    let answer = ask(&client(), "GET", address, "/", &sent, b"")
        .await
        .unwrap();
    let seen = &answer.json()["headers"];
    assert!(seen.get("x-debug").is_none());
    assert_eq!(seen["x-shop"], "main");
    // The service of these tests shows the last of several.
    assert_eq!(seen["x-seen"], "gateway");
    assert_eq!(answer.header("content-type"), "");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("vary"), "origin");
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn interfaces_have_versions_by_path_and_by_header() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (first, second) = (
        Upstream::start("first").await,
        Upstream::start("second").await,
    );
    let service = |upstream: &Upstream| json!({ "versions": { "r1": { "weight": 1000, "endpoints": [upstream.endpoint()] } } });
    gateway
        .configure(json!({
            "services": { "first": service(&first), "second": service(&second) },
            "routes": [
                { "name": "first", "service": "first", "match": { "path": { "prefix": "/orders" } } },
                { "name": "accepts", "service": "second", "match": { "path": { "prefix": "/orders" },
                    "headers": { "accept": { "prefix": "application/vnd.shop.v2" } } } },
                { "name": "asks", "service": "second", "match": { "path": { "prefix": "/orders" },
                    "headers": { "api-version": { "exact": "2" } } } },
                { "name": "query", "service": "second", "match": { "path": { "prefix": "/orders" },
                    "query": { "v": { "exact": "2" } } } },
                { "name": "path", "service": "second", "match": { "path": { "prefix": "/v2/orders" } }, "rewrite": { "prefix": "/orders" } },
                { "name": "item", "service": "second", "match": { "path": { "template": "/shops/{shop}/items/{item}" } },
                  "rewrite": { "path": "/items/{item}" } },
            ],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let none = ("x-other", "2");
    for (target, header, name, seen) in [
        ("/orders/7", none, "first", "/orders/7"),
        ("/orders/7", ("api-version", "1"), "first", "/orders/7"),
        ("/orders/7", ("api-version", "2"), "second", "/orders/7"),
        (
            "/orders/7",
            ("accept", "application/vnd.shop.v2+json"),
            "second",
            "/orders/7",
        ),
        ("/orders/7?v=2", none, "second", "/orders/7?v=2"),
        ("/v2/orders/7?a=b", none, "second", "/orders/7?a=b"),
        ("/shops/x/items/7", none, "second", "/items/7"),
    ] {
        let answer = ask(&client, "GET", address, target, &[header], b"")
            .await
            .unwrap();
        assert_eq!(answer.name(), name, "{target} {header:?}");
        assert_eq!(answer.json()["target"], seen);
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_have_a_largest_size() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [{ "name": "public", "address": "127.0.0.1:0",
                "limits": { "target_bytes": 1000, "head_bytes": 4000, "head_fields": 20 } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    assert_eq!(get(&client, address, "/fits").await.status, 200);
    let long = format!("/{}", "x".repeat(1000));
    assert_eq!(get(&client, address, &long).await.status, 414);
    let large = "x".repeat(4000);
    let answer = ask(&client, "GET", address, "/", &[("x-large", &large)], b"")
        .await
        .unwrap();
    assert_eq!(answer.status, 431);
    let many = vec![("x-many", "1"); 21];
    let answer = ask(&client, "GET", address, "/", &many, b"").await.unwrap();
    assert_eq!(answer.status, 431);
    assert_eq!(upstream.asked(), 1);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_addresses_that_are_allowed_may_ask() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "trusted_proxies": ["127.0.0.1"],
            "routes": [{ "name": "all", "service": "orders", "allow": ["10.1.0.0/16", "2001:db8::/32"], "deny": ["10.1.2.3"] }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    for (from, expected) in [
        ("10.1.9.9", 200),
        ("2001:db8::7", 200),
        ("10.1.2.3", 403),
        ("10.2.0.1", 403),
        ("2001:db9::7", 403),
    ] {
        let headers = [("x-forwarded-for", from)];
        let answer = ask(&client, "GET", address, "/", &headers, b"")
            .await
            .unwrap();
        assert_eq!(answer.status, expected, "{from}");
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trusted_proxy_says_in_forwarded_counts() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let said = "for=\"[2001:db8::7]:4711\";proto=https;host=\"shop.test\"";
    for (revision, trusted) in [(1_u64, vec!["127.0.0.1"]), (2, vec![])] {
        gateway
            .configure(json!({
                "revision": revision,
                "services": orders(&[&upstream]),
                "trusted_proxies": trusted,
                "routes": [
                    { "name": "all", "service": "orders", "security_headers": true },
                    { "name": "denied", "service": "orders", "deny": ["2001:db8::/32"], "match": { "path": { "prefix": "/denied" } } },
                    { "name": "old", "redirect": { "path": "/new" }, "match": { "path": { "exact": "/old" } } },
                ],
            }))
            .await;
        let address = gateway.address("public").await;
        let client = client();
        let asked = async |target: &str| {
            let headers = [("forwarded", said)];
            let answer = ask(&client, "GET", address, target, &headers, b"").await;
            answer.unwrap()
        };
        let (host, denied) = (address.to_string(), asked("/denied").await.status);
        let answer = asked("/").await;
        let seen = &answer.json()["headers"];
        let moved = asked("/old").await.header("location").to_owned();
        if trusted.is_empty() {
            assert_eq!(denied, 200);
            assert_eq!(seen["x-forwarded-for"], "127.0.0.1");
            assert_eq!(seen["x-forwarded-proto"], "http");
            assert_eq!(seen["x-forwarded-host"], host);
            assert!(seen.get("forwarded").is_none());
            assert_eq!(answer.header("strict-transport-security"), "");
            assert_eq!(moved, format!("http://{host}/new"));
        } else {
            assert_eq!(denied, 403);
            assert_eq!(seen["x-forwarded-for"], "2001:db8::7, 127.0.0.1");
            assert_eq!(seen["x-forwarded-proto"], "https");
            assert_eq!(seen["x-forwarded-host"], "shop.test");
            // The service of these tests shows the last of several: what the gateway adds.
            let own = format!("for=127.0.0.1;proto=http;host=\"{host}\"");
            assert_eq!(seen["forwarded"], own);
            assert_ne!(answer.header("strict-transport-security"), "");
            assert_eq!(moved, "https://shop.test/new");
        }
    }
    gateway.drain().await;
}
