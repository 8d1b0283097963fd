//! Which release a client meets: asked for, kept, mirrored.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Response;
use platform_gateway_api::Tally;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::{Behaviour, Place, Running, Upstream, ask, client, get, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_header_a_cookie_and_a_route_ask_for_a_release() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (old, new) = (Upstream::start("old").await, Upstream::start("new").await);
    gateway
        .configure(json!({
            "services": { "orders": {
                "versions": {
                    "r5": { "weight": 1000, "endpoints": [old.endpoint()] },
                    "r6": { "weight": 0, "role": "preview", "endpoints": [new.endpoint()] },
                },
                "overrides": [
                    { "header": "x-release", "value": "next", "version": "r6" },
                    { "cookie": "release", "value": "next", "version": "r6" },
                ],
            } },
            "routes": [
                { "name": "all", "service": "orders" },
                { "name": "preview", "service": "orders", "version": "r6", "match": { "hosts": ["preview.test"] } },
            ],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let asked = async |headers: &[(&str, &str)]| {
        ask(&client, "GET", address, "/", headers, b"")
            .await
            .unwrap()
            .name()
    };
    assert_eq!(asked(&[]).await, "old");
    assert_eq!(asked(&[("x-release", "next")]).await, "new");
    assert_eq!(asked(&[("x-release", "other")]).await, "old");
    assert_eq!(asked(&[("cookie", "a=b; release=next")]).await, "new");
    assert_eq!(asked(&[("host", "preview.test")]).await, "new");
    let tallies = gateway.counted().await;
    assert_eq!(tallies.version("orders", "r6").unwrap().asked_for, 3);
    assert_eq!(tallies.version("orders", "r5").unwrap().asked_for, 0);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_keeps_the_release_it_met() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (old, new) = (Upstream::start("old").await, Upstream::start("new").await);
    let config = |revision: u64, canary: u32| {
        json!({ "revision": revision, "services": { "orders": {
            "sticky": { "header": "x-user" },
            "versions": {
                "r5": { "weight": 1000 - canary, "endpoints": [old.endpoint()] },
                "r6": { "weight": canary, "endpoints": [new.endpoint()], "role": "canary" },
            },
        } } })
    };
    let client = client();
    let mut before = vec![String::from("old"); 200];
    for (revision, canary) in [(1, 100_u32), (2, 500), (3, 1000)] {
        gateway.configure(config(revision, canary)).await;
        let address = gateway.address("public").await;
        for (user, met) in before.iter_mut().enumerate() {
            let user = format!("user-{user}");
            for _ in 0..2 {
                let headers = [("x-user", user.as_str())];
                let answer = ask(&client, "GET", address, "/", &headers, b"")
                    .await
                    .unwrap();
                // Whoever met the new release stays with it.
                assert!(*met == "old" || answer.name() == "new", "{user} went back");
                *met = answer.name();
            }
        }
        let share = before.iter().filter(|name| *name == "new").count();
        assert!(
            share.abs_diff(canary as usize / 5) <= 30,
            "{canary}: {share}"
        );
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_gets_copies_and_nobody_waits_for_it() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (real, shadow) = (
        Upstream::start("real").await,
        Upstream::start("shadow").await,
    );
    gateway
        .configure(json!({
            "services": { "orders": { "versions": {
                "r5": { "weight": 1000, "endpoints": [real.endpoint()] },
                "r6": { "weight": 0, "role": "shadow", "endpoints": [shadow.endpoint()] },
            } } },
            "routes": [
                { "name": "all", "service": "orders", "mirror": "r6" },
                { "name": "both", "service": "orders", "mirror": "r6", "mirror_methods": ["POST", "GET"],
                  "match": { "path": { "prefix": "/both" } } },
            ],
        }))
        .await;
    let address = gateway.address("public").await;
    let posted = async |path: &str| {
        for _ in 0..10 {
            let answer = ask(&client(), "POST", address, path, &[], b"12345").await;
            assert_eq!(answer.unwrap().name(), "real");
        }
    };
    // What changes something is done twice only where that was asked for.
    posted("/x").await;
    posted("/both").await;
    for path in ["/", "/both"] {
        assert_eq!(get(&client(), address, path).await.name(), "real");
    }
    until("all copies arrived", async || {
        let tallies = gateway.tallies().await;
        tallies
            .version("orders", "r6")
            .is_some_and(|tally| tally.good == 12)
    })
    .await;
    gateway.drain().await;
    assert_eq!((real.asked(), shadow.asked()), (22, 12));
}

/// A service whose requests are copied from one to another.
fn shadowed(real: &Upstream, shadow: &Upstream) -> Value {
    json!({ "orders": { "versions": {
        "r5": { "weight": 1000, "endpoints": [real.endpoint()] },
        "r6": { "weight": 0, "role": "shadow", "endpoints": [shadow.endpoint()] },
    } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_gets_the_share_that_it_is_to_get() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (real, shadow) = (
        Upstream::start("real").await,
        Upstream::start("shadow").await,
    );
    gateway
        .configure(json!({
            "services": shadowed(&real, &shadow),
            "routes": [{ "name": "all", "service": "orders", "mirror": "r6", "mirror_share": 100 }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    for _ in 0..200 {
        assert_eq!(get(&client, address, "/").await.name(), "real");
    }
    until("a tenth was copied", async || shadow.asked() >= 18).await;
    gateway.drain().await;
    assert!((18..=22).contains(&shadow.asked()), "{}", shadow.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_on_trial_gets_copies_of_what_one_version_is_asked() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (real, fresh, new) = (
        failing_at_bad("real").await,
        failing_at_bad("fresh").await,
        failing_at_bad("new").await,
    );
    let copies = |revision: u64, of: Value| {
        json!({
            "revision": revision,
            "services": { "orders": {
                "versions": {
                    "r5": { "weight": 750, "endpoints": [real.endpoint()] },
                    "r5-baseline": { "weight": 250, "role": "baseline", "endpoints": [fresh.endpoint()] },
                    "copies:r6": { "weight": 0, "role": "shadow", "endpoints": [new.endpoint()] },
                    "r6": { "weight": 0, "role": "preview", "endpoints": [
                        { "id": "itself", "address": new.address.to_string() },
                    ] },
                },
                "overrides": [{ "header": "x-release", "value": "new", "version": "r6" }],
                "copies": { "version": "copies:r6", "of": of, "share": 1000 },
            } },
            "routes": [{ "name": "all", "service": "orders" }],
        })
    };
    gateway.configure(copies(1, json!("r5-baseline"))).await;
    let address = gateway.address("public").await;
    let client = client();
    let mut by_fresh = 0;
    for number in 0..120 {
        let (method, path) = match number % 4 {
            0 => ("POST", "/bad"),
            1 => ("HEAD", "/"),
            2 => ("GET", "/bad"),
            _ => ("GET", "/"),
        };
        let answer = ask(&client, method, address, path, &[], b"").await.unwrap();
        let name = answer.header("x-name");
        assert_ne!(name, "new", "a copy is answered to nobody");
        by_fresh += u64::from(name == "fresh" && method != "POST");
    }
    assert!(by_fresh > 0);
    until("all copies were answered", async || {
        let tallies = gateway.tallies().await;
        let new = tallies.version("orders", "copies:r6");
        new.is_some_and(|tally| tally.total == by_fresh)
    })
    .await;
    assert_eq!(new.asked(), by_fresh);
    let tallies = gateway.tallies().await;
    let of = |version: &str| {
        tallies
            .version("orders", version)
            .expect("it was asked")
            .clone()
    };
    let (shadow, fresh, main) = (of("copies:r6"), of("r5-baseline"), of("r5"));
    assert_eq!((fresh.copied, fresh.copied_bad), (shadow.total, shadow.bad));
    assert!(0 < shadow.bad && shadow.bad < fresh.bad, "{shadow:?}");
    assert_eq!(main.copied, 0);
    // Whoever answers.
    gateway.configure(copies(2, Value::Null)).await;
    let before = new.asked();
    for _ in 0..20 {
        let answer = get(&client, address, "/").await;
        assert_ne!(answer.header("x-name"), "new");
    }
    until("all were copied", async || new.asked() == before + 20).await;
    // But not what the release on trial was asked for by name.
    let headers = [("x-release", "new")];
    let answer = ask(&client, "GET", address, "/", &headers, b"").await;
    assert_eq!(answer.unwrap().header("x-name"), "new");
    get(&client, address, "/").await;
    until("the last was copied", async || new.asked() == before + 22).await;
    let tallies = gateway.tallies().await;
    let of = |version: &str| tallies.version("orders", version).expect("it was asked");
    assert_eq!((of("r6").total, of("r6").copied), (1, 0));
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_gets_whole_bodies_alone() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (real, shadow) = (
        Upstream::start("real").await,
        Upstream::start("shadow").await,
    );
    gateway
        .configure(json!({
            "services": shadowed(&real, &shadow),
            "routes": [{ "name": "all", "service": "orders", "mirror": "r6", "mirror_methods": ["POST"] }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    // One that breaks off; it is known that the gateway has seen the end once it was counted.
    let mut broken = TcpStream::connect(address).await.unwrap();
    let head = b"POST /broken HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf";
    broken.write_all(head).await.unwrap();
    broken.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = broken.read_to_end(&mut rest).await;
    // One that is larger than what is copied.
    let large = vec![b'x'; 64 * 1024 + 1];
    let sent = async |target: &str, body: &[u8]| {
        let answer = ask(&client, "POST", address, target, &[], body).await;
        assert_eq!(answer.unwrap().json()["length"], body.len());
    };
    sent("/large", &large).await;
    gateway.counted().await;
    sent("/fits", &large[1..]).await;
    until("the copy arrived", async || {
        let tallies = gateway.tallies().await;
        tallies
            .version("orders", "r6")
            .is_some_and(|tally| tally.good + tally.bad > 0)
    })
    .await;
    gateway.drain().await;
    assert_eq!(shadow.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_keeps_its_release_unless_its_route_goes_by_weight() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (old, new) = (Upstream::start("old").await, Upstream::start("new").await);
    gateway
        .configure(json!({
            "trusted_proxies": ["127.0.0.1"],
            "services": { "orders": {
                "sticky": "client",
                "versions": {
                    "r5": { "weight": 500, "endpoints": [old.endpoint()] },
                    "r6": { "weight": 500, "endpoints": [new.endpoint()], "role": "canary" },
                },
            } },
            "routes": [
                { "name": "all", "service": "orders" },
                { "name": "spread", "service": "orders", "by_weight": true, "match": { "path": { "prefix": "/spread" } } },
            ],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let met = async |target: &str, from: &str| {
        let mut names = BTreeSet::new();
        for _ in 0..6 {
            let headers = [("x-forwarded-for", from)];
            let answer = ask(&client, "GET", address, target, &headers, b"").await;
            names.insert(answer.unwrap().name());
        }
        names
    };
    let mut all = BTreeSet::new();
    for number in 0..30 {
        let from = format!("192.0.2.{number}");
        let one = met("/", &from).await;
        assert_eq!(one.len(), 1, "{from} went from one to the other: {one:?}");
        all.extend(one);
        assert_eq!(met("/spread", &from).await.len(), 2, "{from}");
    }
    assert_eq!(all.len(), 2);
    // An address of this machine is many clients.
    assert_eq!(met("/", "127.0.0.1").await.len(), 2);
    gateway.drain().await;
}

/// A release that answers 500 at `/bad`, and everywhere says its name.
async fn failing_at_bad(name: &'static str) -> Upstream {
    let behaviour = Behaviour {
        script: Some(Arc::new(move |head, _| {
            let mut answer = Response::new(bytes::Bytes::new().into());
            if head.uri.path() == "/bad" {
                *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            }
            let headers = answer.headers_mut();
            headers.insert("x-name", http::HeaderValue::from_static(name));
            answer
        })),
        ..Behaviour::default()
    };
    Upstream::start_with(name, behaviour).await
}

/// A release that answers one client of many with 500.
async fn failing_for_one(name: &str) -> Upstream {
    let behaviour = Behaviour {
        script: Some(Arc::new(|head, _| {
            let failed = head
                .headers
                .get("x-user")
                .is_some_and(|user| user == "batch");
            let mut answer = Response::new(bytes::Bytes::new().into());
            if failed {
                *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            }
            answer
        })),
        ..Behaviour::default()
    };
    Upstream::start_with(name, behaviour).await
}

/// What both releases counted, together.
async fn of_both(gateway: &Running) -> Tally {
    let tallies = gateway.counted().await;
    let mut sum = Tally::default();
    for tally in tallies.services["orders"].versions.values() {
        sum.total += tally.total;
        sum.bad += tally.bad;
        sum.heavy += tally.heavy;
        sum.heavy_bad += tally.heavy_bad;
        sum.heavy_slow += tally.heavy_slow;
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_heavy_client_asks_is_counted_apart_while_there_are_two_releases() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (old, new) = (failing_for_one("old").await, failing_for_one("new").await);
    let config = |revision: u64, both: bool| {
        let mut versions = json!({ "r5": { "weight": 500, "endpoints": [old.endpoint()] } });
        if both {
            versions["r6"] =
                json!({ "weight": 500, "endpoints": [new.endpoint()], "role": "canary" });
        }
        json!({
            "revision": revision,
            "services": { "orders": { "sticky": { "header": "x-user" }, "versions": versions } },
            "routes": [
                { "name": "all", "service": "orders" },
                { "name": "spread", "service": "orders", "by_weight": true, "match": { "path": { "prefix": "/spread" } } },
            ],
        })
    };
    let client = client();
    // Of so many requests every fourth is of one client, and the others of a hundred.
    let sent = async |target: &str, requests: u32| {
        let address = gateway.address("public").await;
        for number in 0..requests {
            let user = match number % 4 {
                0 => "batch".to_owned(),
                _ => format!("user-{}", number % 101),
            };
            let headers = [("x-user", user.as_str())];
            ask(&client, "GET", address, target, &headers, b"")
                .await
                .expect("an answer");
        }
    };
    gateway.configure(config(1, false)).await;
    sent("/", 400).await;
    let alone = of_both(&gateway).await;
    assert_eq!((alone.total, alone.bad, alone.heavy), (400, 100, 0));
    gateway.configure(config(2, true)).await;
    sent("/", 400).await;
    let both = of_both(&gateway).await.since(&alone);
    // Each of its requests, and nobody else's.
    assert_eq!((both.total, both.bad), (400, 100));
    assert_eq!((both.heavy, both.heavy_bad, both.heavy_slow), (100, 100, 0));
    let before = of_both(&gateway).await;
    sent("/spread", 100).await;
    let spread = of_both(&gateway).await.since(&before);
    assert_eq!((spread.total, spread.bad, spread.heavy), (100, 25, 0));
    gateway.configure(config(3, false)).await;
    let before = of_both(&gateway).await;
    sent("/", 100).await;
    let over = of_both(&gateway).await.since(&before);
    assert_eq!((over.total, over.heavy), (100, 0));
    gateway.drain().await;
}
