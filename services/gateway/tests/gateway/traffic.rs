//! How requests are spread, and what happens when an instance fails.

use std::time::Duration;

use serde_json::json;

use crate::bench::{Behaviour, Place, Upstream, ask, client, closed_port, get, orders};

#[tokio::test(flavor = "multi_thread")]
async fn weights_hold_to_a_tenth_of_a_percent() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (old, new) = (Upstream::start("old").await, Upstream::start("new").await);
    let config = |revision: u64, canary: u32| {
        json!({ "revision": revision, "services": { "orders": { "versions": {
            "r5": { "weight": 1000 - canary, "endpoints": [old.endpoint()] },
            "r6": { "weight": canary, "endpoints": [new.endpoint()], "role": "canary" },
        } } } })
    };
    let client = client();
    for (revision, canary) in [(1, 1_u32), (2, 50), (3, 999)] {
        gateway.configure(config(revision, canary)).await;
        let address = gateway.address("public").await;
        let before = gateway.counted().await;
        let count = 4_000;
        let mut tasks = Vec::new();
        for _ in 0..8 {
            let client = client.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..count / 8 {
                    assert_eq!(get(&client, address, "/").await.status, 200);
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let after = gateway.counted().await;
        let empty = platform_gateway_api::Tally::default();
        let taken = after
            .version("orders", "r6")
            .unwrap()
            .since(before.version("orders", "r6").unwrap_or(&empty))
            .good;
        let expected = u64::from(canary) * count / 1000;
        assert!(taken.abs_diff(expected) <= 8, "{canary}: {taken}");
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_instance_costs_no_request_and_is_set_aside() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let alive = Upstream::start("alive").await;
    let dead = json!({ "id": "dead", "address": closed_port().to_string() });
    gateway
        .configure(json!({ "services": { "orders": { "versions": { "r1": {
            "weight": 1000, "endpoints": [alive.endpoint(), dead],
        } } } } }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    for _ in 0..50 {
        // Not idempotent, but never sent to the dead one.
        let answer = ask(&client, "POST", address, "/", &[], b"x").await.unwrap();
        assert_eq!(answer.status, 200);
    }
    let tallies = gateway.counted().await;
    let version = tallies.version("orders", "r1").unwrap();
    assert_eq!((version.good, version.bad, version.retried), (50, 0, 3));
    let endpoints = &tallies.services["orders"].endpoints;
    assert_eq!(endpoints["dead"].unreachable, 3);
    assert_eq!(endpoints["dead"].ejections, 1);
    assert!(!endpoints["dead"].serving);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_answers_badly_is_set_aside_where_that_is_asked_for() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let well = Upstream::start("well").await;
    let unwell = Behaviour {
        status: 500,
        ..Behaviour::default()
    };
    let unwell = Upstream::start_with("unwell", unwell).await;
    let client = client();
    for (revision, bad, set_aside) in [(1, 0, false), (2, 3, true)] {
        let mut services = orders(&[&well, &unwell]);
        services["orders"]["outliers"] = json!({ "consecutive_bad": bad, "eject_ms": 600_000 });
        gateway
            .configure(json!({ "revision": revision, "services": services }))
            .await;
        let address = gateway.address("public").await;
        let before = unwell.asked();
        for _ in 0..20 {
            get(&client, address, "/").await;
        }
        let asked = unwell.asked() - before;
        assert_eq!(asked, if set_aside { 1 } else { 10 }, "{revision}");
    }
    let tallies = gateway.counted().await;
    assert_eq!(tallies.services["orders"].endpoints["unwell"].ejections, 1);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_instances_leaves_its_share_to_the_others() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let old = Upstream::start("old").await;
    let dead = json!({ "id": "dead", "address": closed_port().to_string() });
    gateway
        .configure(json!({ "services": { "orders": { "versions": {
            "r5": { "weight": 0, "endpoints": [old.endpoint()] },
            "r6": { "weight": 500, "endpoints": [] },
            "r7": { "weight": 500, "endpoints": [dead] },
        } } } }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    for _ in 0..20 {
        assert_eq!(get(&client, address, "/").await.name(), "old");
    }
    let tallies = gateway.counted().await;
    let dead = tallies.version("orders", "r7").unwrap();
    assert_eq!((dead.bad, dead.unreachable), (20, 20));
    assert_eq!(tallies.version("orders", "r5").unwrap().good, 20);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_and_slow_answers_are_counted() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let behaviour = Behaviour {
        status: 500,
        delay: Duration::from_millis(30),
        ..Behaviour::default()
    };
    let upstream = Upstream::start_with("bad", behaviour).await;
    let mut services = orders(&[&upstream]);
    services["orders"]["slow_after_ms"] = json!(20);
    gateway.configure(json!({ "services": services })).await;
    let address = gateway.address("public").await;
    let answer = get(&client(), address, "/").await;
    assert_eq!((answer.status, answer.name().as_str()), (500, "bad"));
    let tallies = gateway.counted().await;
    let tally = tallies.version("orders", "r1").unwrap();
    assert_eq!(
        (tally.total, tally.bad, tally.slow, tally.unreachable),
        (1, 1, 1, 0)
    );
    assert_eq!(tally.latency.iter().sum::<u64>(), 1);
    assert_eq!(tallies.routes["all"].bad, 1);
    let metrics = gateway.admin.metrics().await.unwrap();
    assert!(metrics.contains(r#"gateway_slow_requests_total{service="orders",version="r1"} 1"#));
    gateway.drain().await;
}

/// One that answers 503, and one that is well.
async fn one_of_two_fails() -> (Upstream, Upstream) {
    let behaviour = Behaviour {
        status: 503,
        ..Behaviour::default()
    };
    let bad = Upstream::start_with("bad", behaviour).await;
    (bad, Upstream::start("good").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_may_be_repeated_elsewhere() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (bad, good) = one_of_two_fails().await;
    gateway
        .configure(json!({
            "services": orders(&[&bad, &good]),
            "routes": [{ "name": "all", "service": "orders", "retries": { "statuses": [503], "attempts": 1, "backoff_ms": 1 } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    for _ in 0..10 {
        assert_eq!(get(&client, address, "/").await.name(), "good");
    }
    assert_eq!(bad.asked(), 5);
    // A request that may have an effect is never sent twice.
    let mut seen = Vec::new();
    for _ in 0..2 {
        let answer = ask(&client, "POST", address, "/", &[], b"x").await.unwrap();
        seen.push(answer.status);
    }
    seen.sort_unstable();
    assert_eq!(seen, [200, 503]);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_sent_twice_counts_once() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (bad, good) = one_of_two_fails().await;
    gateway
        .configure(json!({
            "services": orders(&[&bad, &good]),
            "routes": [{ "name": "all", "service": "orders", "max_body": 50_000,
                "retries": { "statuses": [503], "attempts": 1, "backoff_ms": 1 } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let body = vec![b'x'; 40_000];
    for _ in 0..4 {
        let answer = ask(&client, "PUT", address, "/", &[], &body).await.unwrap();
        assert_eq!(
            (answer.status, answer.json()["length"].as_u64()),
            (200, Some(40_000))
        );
    }
    assert!(bad.asked() > 0);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_connection_broke_is_repeated_if_it_may_be() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let breaking = || Behaviour {
        breaks: true,
        ..Behaviour::default()
    };
    let dying = Upstream::start_with("dying", breaking()).await;
    let good = Upstream::start("good").await;
    let route = |path: &str, retries: serde_json::Value| json!({ "name": path, "match": { "path": { "prefix": path } }, "service": "orders", "retries": retries });
    gateway
        .configure(json!({
            "services": orders(&[&dying, &good]),
            "show_version": true,
            "routes": [
                route("/usual", json!({ "attempts": 1, "backoff_ms": 1 })),
                route("/never", json!({ "attempts": 1, "reset": false })),
            ],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    for _ in 0..4 {
        assert_eq!(get(&client, address, "/usual").await.name(), "good");
    }
    assert!(dying.asked() > 0);
    let mut broken = 0;
    for (method, path) in [("POST", "/usual"), ("GET", "/never")].repeat(2) {
        let answer = ask(&client, method, address, path, &[], b"x")
            .await
            .unwrap();
        broken += u32::from(answer.status == 502);
        // Whose fault it was is told as for any other answer of a release.
        assert_eq!(answer.header("x-platform-version"), "r1");
    }
    assert!(broken > 0);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_is_given_up() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let behaviour = Behaviour {
        delay: Duration::from_secs(60),
        ..Behaviour::default()
    };
    let upstream = Upstream::start_with("slow", behaviour).await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "routes": [{ "name": "all", "service": "orders", "timeouts": { "total_ms": 150 } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let started = std::time::Instant::now();
    let answer = get(&client(), address, "/").await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (504, Some("timeout"))
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    let tallies = gateway.counted().await;
    let tally = tallies.version("orders", "r1").unwrap();
    assert_eq!((tally.bad, tally.unreachable), (1, 1));
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_refused_where_a_limit_is_set() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "routes": [{ "name": "all", "service": "orders", "max_body": 1000 }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let answer = ask(&client, "POST", address, "/", &[], &[0; 1000])
        .await
        .unwrap();
    assert_eq!(answer.json()["length"], 1000);
    let answer = ask(&client, "POST", address, "/", &[], &[0; 1001])
        .await
        .unwrap();
    assert_eq!(answer.json()["code"], "body-too-large");
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unhealthy_instance_gets_no_requests() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let behaviour = Behaviour {
        status: 503,
        ..Behaviour::default()
    };
    let sick = Upstream::start_with("sick", behaviour).await;
    let well = Upstream::start("well").await;
    let mut services = orders(&[&sick, &well]);
    services["orders"]["health"] =
        json!({ "path": "/health", "every_ms": 20, "unhealthy_after": 1 });
    gateway.configure(json!({ "services": services })).await;
    let address = gateway.address("public").await;
    crate::bench::until("the sick one is found", async || {
        !gateway.tallies().await.services["orders"].endpoints["sick"].serving
    })
    .await;
    let client = client();
    for _ in 0..10 {
        assert_eq!(get(&client, address, "/").await.name(), "well");
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_instance_takes_no_requests_before_it_passed() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let behaviour = Behaviour {
        status: 503,
        ..Behaviour::default()
    };
    let sick = Upstream::start_with("sick", behaviour).await;
    let bare = Upstream::start("bare").await;
    let closed = json!({ "id": "closed", "address": closed_port().to_string() });
    // Each in a version of its own, as the checks are: by path, by the default path, by a connection.
    let services = json!({ "orders": {
        "versions": {
            "r1": { "weight": 400, "endpoints": [sick.endpoint()] },
            "r2": { "weight": 300, "endpoints": [bare.endpoint()] },
            "r3": { "weight": 300, "endpoints": [closed] },
        },
        "health": { "paths": { "r2": "", "r3": "" }, "prove": true },
    } });
    gateway.configure(json!({ "services": services })).await;
    let address = gateway.address("public").await;
    crate::bench::until("the bare one passes", async || {
        gateway.tallies().await.services["orders"].endpoints["bare"].serving
    })
    .await;
    let client = client();
    for _ in 0..20 {
        assert_eq!(get(&client, address, "/").await.name(), "bare");
    }
    let tallies = gateway.counted().await;
    let endpoints = &tallies.services["orders"].endpoints;
    for never in ["sick", "closed"] {
        let tally = &endpoints[never];
        assert_eq!(
            (tally.good, tally.bad, tally.serving),
            (0, 0, false),
            "{never}"
        );
    }
    gateway.drain().await;
}
