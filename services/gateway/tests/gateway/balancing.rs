//! Which instance of a release is asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::{
    Behaviour, Http, Place, Running, Upstream, ask, client, closed_port, get, orders, until,
};

/// How often each of these values of a header was answered by which instance.
async fn answered_by(gateway: &Running, client: &Http, keys: &[String]) -> Vec<String> {
    let address = gateway.address("public").await;
    let mut names = Vec::new();
    for key in keys {
        let cookie = format!("tenant={key}");
        let headers = [("x-tenant", key.as_str()), ("cookie", &cookie)];
        let answer = ask(client, "GET", address, "/", &headers, b"").await;
        names.push(answer.expect("an answer").name());
    }
    names
}

fn shares(names: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.as_str()).or_default() += 1;
    }
    counts
}

fn balanced(instances: &[&Upstream], revision: u64, settings: &[(&str, Value)]) -> Value {
    let mut services = orders(instances);
    for (name, value) in settings {
        services["orders"][*name] = value.clone();
    }
    json!({ "services": services, "revision": revision })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_or_a_cookie_leads_to_one_instance_and_few_move() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let client = client();
    let (a, b, c) = (
        Upstream::start("a").await,
        Upstream::start("b").await,
        Upstream::start("c").await,
    );
    let keys: Vec<String> = (0..90).map(|number| number.to_string()).collect();
    let ways = [
        json!({ "header-hash": "x-tenant" }),
        json!({ "cookie-hash": "tenant" }),
    ];
    for (revision, way) in (1_u64..).step_by(2).zip(ways) {
        let settings = [("balance", way)];
        gateway
            .configure(balanced(&[&a, &b, &c], revision, &settings))
            .await;
        let before = answered_by(&gateway, &client, &keys).await;
        assert_eq!(before, answered_by(&gateway, &client, &keys).await);
        let counts = shares(&before);
        assert_eq!(counts.len(), 3);
        assert!(counts.values().all(|count| *count >= 10), "{counts:?}");
        // Only those of the instance that left have another.
        gateway
            .configure(balanced(&[&a, &b], revision + 1, &settings))
            .await;
        let after = answered_by(&gateway, &client, &keys).await;
        for (old, new) in before.iter().zip(&after) {
            assert!(old == new || old == "c", "{old} became {new}");
        }
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_instance_is_asked_less() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let behaviour = Behaviour {
        delay: Duration::from_secs(3),
        ..Behaviour::default()
    };
    let slow = Upstream::start_with("slow", behaviour).await;
    let quick = Upstream::start("quick").await;
    let settings = [("balance", json!("least-requests"))];
    gateway
        .configure(balanced(&[&slow, &quick], 1, &settings))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let held = {
        let client = client.clone();
        tokio::spawn(async move { while get(&client, address, "/").await.name() != "slow" {} })
    };
    until("one waits", async || slow.asked() == 1).await;
    // One may still count as under way when its answer is here, and the next then meets a tie.
    let patience = Duration::from_millis(500);
    for _ in 0..20 {
        let _ = tokio::time::timeout(patience, get(&client, address, "/")).await;
    }
    assert!(slow.asked() <= 3, "{}", slow.asked());
    held.await.unwrap();
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_is_preferred_while_an_instance_there_is_fit() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (near, far) = (Upstream::start("near").await, Upstream::start("far").await);
    let config = |revision: u64, address: SocketAddr| {
        json!({ "revision": revision, "services": { "orders": {
            "zone": "a",
            "versions": { "r1": { "weight": 1000, "endpoints": [
                { "id": "far", "address": far.address.to_string(), "zone": "b" },
                { "id": "near", "address": address.to_string(), "zone": "a" },
            ] } },
        } } })
    };
    let client = client();
    // Later nobody listens there any more.
    for (revision, at, expected) in [(1, near.address, "near"), (2, closed_port(), "far")] {
        gateway.configure(config(revision, at)).await;
        let address = gateway.address("public").await;
        for _ in 0..20 {
            assert_eq!(get(&client, address, "/").await.name(), expected);
        }
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_instance_is_asked_little_at_first() {
    const SLOW_START: Duration = Duration::from_secs(3);
    let place = Place::new();
    let gateway = place.gateway().await;
    let (old, new) = (Upstream::start("old").await, Upstream::start("new").await);
    let settings = [("slow_start_ms", json!(SLOW_START.as_millis()))];
    let client = client();
    gateway.configure(balanced(&[&old], 1, &settings)).await;
    // The one that is there is no longer new by then.
    tokio::time::sleep(SLOW_START).await;
    gateway
        .configure(balanced(&[&old, &new], 2, &settings))
        .await;
    let keys = vec![String::new(); 60];
    let first = answered_by(&gateway, &client, &keys).await;
    let first = shares(&first).get("new").copied().unwrap_or(0);
    assert!(first < 25, "{first} of 60 at once");
    until("it has its share", async || {
        let names = answered_by(&gateway, &client, &keys).await;
        shares(&names).get("new") == Some(&30)
    })
    .await;
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_s_address_leads_to_one_instance_and_few_move() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let client = client();
    let (a, b, c) = (
        Upstream::start("a").await,
        Upstream::start("b").await,
        Upstream::start("c").await,
    );
    let met = async || {
        let address = gateway.address("public").await;
        let mut names = Vec::new();
        for number in 0..90 {
            let from = format!("192.0.2.{number}");
            let headers = [("x-forwarded-for", from.as_str())];
            let answer = ask(&client, "GET", address, "/", &headers, b"").await;
            names.push(answer.expect("an answer").name());
        }
        names
    };
    let by_client = |instances: &[&Upstream], revision: u64| {
        let mut config = balanced(instances, revision, &[("balance", json!("client-hash"))]);
        config["trusted_proxies"] = json!(["127.0.0.1"]);
        config
    };
    gateway.configure(by_client(&[&a, &b, &c], 1)).await;
    let before = met().await;
    assert_eq!(met().await, before);
    let shares = shares(&before);
    assert!(
        shares.len() == 3 && shares.values().all(|count| *count > 10),
        "{shares:?}"
    );
    gateway.configure(by_client(&[&a, &c], 2)).await;
    for (was, is) in before.iter().zip(met().await) {
        assert!(*was == is || was == "b", "{was} became {is}");
    }
    gateway.drain().await;
}
