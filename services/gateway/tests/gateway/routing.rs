//! Which service is asked what.

use serde_json::json;

use crate::bench::{Place, Upstream, ask, client, get, orders};

#[tokio::test(flavor = "multi_thread")]
async fn requests_follow_their_routes() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (orders, web) = (
        Upstream::start("orders").await,
        Upstream::start("web").await,
    );
    let service = |upstream: &Upstream| json!({ "versions": { "r1": { "weight": 1000, "endpoints": [upstream.endpoint()] } } });
    gateway
        .configure(json!({
            "services": { "orders": service(&orders), "web": service(&web) },
            "routes": [
                { "name": "web", "service": "web" },
                { "name": "orders", "service": "orders", "match": { "path": { "prefix": "/api/v1/orders" } }, "rewrite": { "prefix": "/orders" } },
                { "name": "read", "service": "web", "match": { "path": { "exact": "/only" }, "methods": ["POST"], "hosts": ["only.test"] } },
                { "name": "old", "match": { "path": { "prefix": "/old" } }, "redirect": { "path": "/new", "status": 301 } },
                { "name": "item", "match": { "path": { "template": "/shops/{shop}/items/{item}" } }, "redirect": { "path": "/items/{item}?of={shop}", "status": 307 } },
                { "name": "next", "service": "orders", "match": { "headers": { "x-api": { "exact": "2" } } } },
            ],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    assert_eq!(get(&client, address, "/").await.name(), "web");
    let answer = get(&client, address, "/api/v1/orders/7?page=2").await;
    assert_eq!(answer.name(), "orders");
    assert_eq!(answer.json()["target"], "/orders/7?page=2");
    let answer = get(&client, address, "/old/x?a=1").await;
    assert_eq!(answer.status, 301);
    assert_eq!(
        answer.header("location"),
        format!("http://{address}/new?a=1")
    );
    let answer = get(&client, address, "/shops/bonn/items/%7Bshop%7D?a=1").await;
    assert_eq!(answer.status, 307);
    assert_eq!(
        answer.header("location"),
        format!("http://{address}/items/%7Bshop%7D?of=bonn&a=1")
    );
    let answer = ask(&client, "GET", address, "/", &[("x-api", "2")], b"")
        .await
        .unwrap();
    assert_eq!(answer.name(), "orders");
    let answer = get(&client, address, "/a/../b").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (400, "application/problem+json")
    );
    assert_eq!(answer.json()["code"], "ambiguous-path");
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_forwarded_by_the_book() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "show_version": true,
            "routes": [{ "name": "all", "service": "orders",
                "request_headers": { "remove": ["x-debug"], "set": { "X-Shop": "main" } } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let forged = [
        ("x-forwarded-for", "1.2.3.4"),
        ("forwarded", "for=1.2.3.4"),
        ("x-request-id", "forged"),
        ("x_request_id", "forged"),
        ("x_shop", "forged"),
        ("x_debug", "1"),
        ("via", "1.0 before"),
        ("traceparent", "00-0"),
        ("tracestate", "vendor=1"),
        ("connection", "x-secret"),
        ("x-secret", "1"),
        ("te", "trailers"),
    ];
    let answer = ask(&client(), "GET", address, "/", &forged, b"")
        .await
        .unwrap();
    let sent = &answer.json()["headers"];
    assert_eq!(sent["x-forwarded-for"], "127.0.0.1");
    assert_eq!(sent["x-forwarded-proto"], "http");
    assert_eq!(sent["x-forwarded-host"], address.to_string());
    assert_eq!(sent["host"], address.to_string());
    for name in [
        "forwarded",
        "x-secret",
        "x_request_id",
        "x_shop",
        "x_debug",
        "tracestate",
    ] {
        assert!(sent.get(name).is_none(), "{name}");
    }
    assert_eq!(sent["x-shop"], "main");
    assert_eq!(sent["via"], "1.0 before, 1.1 platform");
    let id = sent["x-request-id"].as_str().unwrap();
    assert_eq!((id.len(), id), (32, answer.header("x-request-id")));
    assert_eq!(sent["traceparent"].as_str().unwrap().len(), 55);
    assert_eq!(answer.header("x-platform-version"), "r1");
    assert_eq!(answer.header("x-hop"), "");
    let known = [
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("tracestate", "vendor=1"),
    ];
    let answer = ask(&client(), "GET", address, "/", &known, b"").await;
    let sent = &answer.unwrap().json()["headers"];
    assert_eq!(sent["traceparent"], known[0].1);
    assert_eq!(sent["tracestate"], "vendor=1");
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_asks_for_its_way_goes_no_further_than_it_says() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "routes": [
                { "name": "all", "service": "orders" },
                { "name": "read", "service": "orders", "match": { "path": { "prefix": "/read" }, "methods": ["GET", "OPTIONS"] } },
            ],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let asked = async |method: &str, target: &str, hops: &str| {
        let headers = [("max-forwards", hops)];
        let asked = ask(&client, method, address, target, &headers, b"").await;
        asked.unwrap()
    };
    let answer = asked("OPTIONS", "/read", "0").await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (204, "GET, OPTIONS")
    );
    assert_eq!(asked("OPTIONS", "/", "0").await.status, 204);
    assert_eq!(asked("TRACE", "/", "0").await.status, 405);
    assert_eq!(upstream.asked(), 0);
    for (method, given, sent) in [
        ("OPTIONS", "7", "6"),
        ("TRACE", "1", "0"),
        ("GET", "0", "0"),
        ("OPTIONS", "x", "x"),
    ] {
        let answer = asked(method, "/", given).await;
        assert_eq!(
            answer.json()["headers"]["max-forwards"],
            sent,
            "{method} {given}"
        );
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_listener_leads_to_one_service_and_keeps_the_request_id() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [{ "name": "orders", "address": "127.0.0.1:0", "kind": { "internal": { "service": "orders" } } }],
            "routes": [],
        }))
        .await;
    let address = gateway.address("orders").await;
    let headers = [("x-request-id", "from-web-1")];
    let answer = ask(&client(), "POST", address, "/any/path", &headers, b"body")
        .await
        .unwrap();
    assert_eq!(answer.json()["headers"]["x-request-id"], "from-web-1");
    assert_eq!(answer.json()["length"], 4);
    let tallies = gateway.counted().await;
    assert_eq!(tallies.version("orders", "r1").unwrap().good, 1);
    assert_eq!(tallies.routes["internal/orders"].good, 1);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_ready_is_said_and_can_be_retried() {
    let place = Place::new();
    let gateway = place.gateway().await;
    gateway.configure(json!({ "services": orders(&[]) })).await;
    let address = gateway.address("public").await;
    let answer = get(&client(), address, "/").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    assert_eq!(answer.json()["code"], "no-endpoint");
    assert_eq!(gateway.counted().await.services["orders"].unserved, 1);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_leaves_a_line() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders-1").await;
    gateway
        .configure(json!({ "services": orders(&[&upstream]) }))
        .await;
    let address = gateway.address("public").await;
    get(&client(), address, "/x?token=secret&a=1").await;
    let log = place.log();
    crate::bench::until("the line is written", async || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    let text = std::fs::read_to_string(&log).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["target"], "/x?token=[redacted]&a=1");
    assert_eq!(line["status"], 200);
    assert_eq!(line["service"], "orders");
    assert_eq!(line["version"], "r1");
    assert_eq!(line["endpoint"], "orders-1");
    assert_eq!(line["client"], "127.0.0.1");
    gateway.drain().await;
}
