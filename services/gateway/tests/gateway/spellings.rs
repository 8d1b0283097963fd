//! One path in several spellings: whichever a client chooses, the same rules hold.

use serde_json::json;

use crate::bench::{Place, Upstream, client, get, orders};

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_passes_by_its_route() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let denied = json!(["127.0.0.0/8"]);
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "routes": [
                { "name": "open", "service": "orders" },
                { "name": "admin", "service": "orders", "match": { "path": { "prefix": "/admin" } }, "deny": denied },
                { "name": "batch", "service": "orders", "match": { "path": { "exact": "/v1/items:batch" } }, "deny": denied },
                { "name": "coffee", "service": "orders", "match": { "path": { "prefix": "/caf\u{e9}" } }, "deny": denied },
                { "name": "packages", "service": "orders", "match": { "path": { "prefix": "/packages" } }, "escaped_slashes": "keep" },
                { "name": "private", "service": "orders", "match": { "path": { "prefix": "/packages/private" } }, "deny": denied,
                  "escaped_slashes": "keep" },
            ],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    for (target, expected) in [
        ("/admin/secret", 403),
        ("/%61dmin/secret", 403),
        ("//admin///secret", 403),
        ("/admin%2Fsecret", 400),
        ("/admin%5csecret", 400),
        ("/x%2Fy", 400),
        ("/admin;x=1/secret", 400),
        ("/admin%3bx/secret", 400),
        ("/;x/admin", 400),
        ("/x/..;/admin", 400),
        ("/x/%2e%2e/admin", 400),
        ("/x%00", 400),
        ("/v1/items:batch", 403),
        ("/v1/items%3Abatch", 403),
        ("/v1/items%3abatch", 403),
        ("/caf%C3%A9/x", 403),
        ("/caf%c3%a9", 403),
        ("/packages/private%2fsecret", 400),
        ("/packages%2Fprivate", 400),
    ] {
        assert_eq!(
            get(&client, address, target).await.status,
            expected,
            "{target}"
        );
    }
    assert_eq!(upstream.asked(), 0);
    // What can be read in one way only reaches the service as it was written.
    for target in [
        "/x;color=red/y",
        "/x%3Bcolor%3a/%7Ey//z",
        "/packages/@scope%2Fname%5c",
        "/packages/..x%2f.y",
        "/Admin/x",
        "/admin./x",
    ] {
        let answer = get(&client, address, target).await;
        assert_eq!(
            (answer.status, answer.json()["target"].as_str()),
            (200, Some(target))
        );
    }
    gateway.drain().await;
}
