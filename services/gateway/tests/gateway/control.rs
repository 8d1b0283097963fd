//! Configurations come and go; requests do not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use platform_gateway_api::client::ClientError;
use serde_json::json;

use crate::bench::{Place, Upstream, ask, client, configuration, get, orders};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_refused_whole() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({ "revision": 5, "services": orders(&[&upstream]) }))
        .await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let cases = [
        (
            json!({ "revision": 4 }),
            "`revision` 4 is older than 5, which is in force",
        ),
        (
            json!({ "revision": 6, "services": {}, "routes": [{ "name": "a", "service": "b" }] }),
            "`routes.0.service` names no service: `b`",
        ),
        (
            json!({ "revision": 6, "listeners": [{ "name": "x", "address": taken.local_addr().unwrap().to_string() }] }),
            "cannot listen on",
        ),
    ];
    for (config, expected) in cases {
        match gateway.admin.put_config(&configuration(config)).await {
            Err(ClientError::Refused(reasons)) => {
                assert!(reasons[0].to_string().contains(expected), "{reasons:?}");
            }
            other => panic!("not refused: {other:?}"),
        }
    }
    assert_eq!(gateway.admin.config().await.unwrap().revision, 5);
    let address = gateway.address("public").await;
    assert_eq!(get(&client(), address, "/").await.name(), "orders");
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_up_the_last_configuration_and_its_ports() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({ "revision": 3, "services": orders(&[&upstream]) }))
        .await;
    let address = gateway.address("public").await;
    gateway.drain().await;
    let gateway = place.gateway().await;
    assert_eq!(gateway.admin.status().await.unwrap().revision, 3);
    assert_eq!(gateway.address("public").await, address);
    assert_eq!(get(&client(), address, "/").await.name(), "orders");
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_configurations_cost_no_request() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstreams = [
        Upstream::start("one").await,
        Upstream::start("two").await,
        Upstream::start("three").await,
    ];
    gateway
        .configure(json!({ "services": orders(&[&upstreams[0]]) }))
        .await;
    let address = gateway.address("public").await;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (stop, asked, client) = (stop.clone(), asked.clone(), client());
        tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = ask(&client, "POST", address, "/", &[], b"x").await.unwrap();
                assert_eq!(answer.status, 200);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for revision in 2..102_u64 {
        let chosen = &upstreams[usize::try_from(revision % 3).unwrap()];
        gateway
            .configure(json!({ "revision": revision, "services": orders(&[chosen]) }))
            .await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 0);
    let tallies = gateway.tallies().await;
    let tally = tallies.version("orders", "r1").unwrap();
    assert_eq!((tally.good, tally.bad), (asked.load(Ordering::Relaxed), 0));
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_come_and_go() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let config = |revision: u64, names: &[&str]| {
        let listeners: Vec<_> = names
            .iter()
            .map(|name| json!({ "name": name, "address": "127.0.0.1:0" }))
            .collect();
        json!({ "revision": revision, "services": orders(&[&upstream]), "listeners": listeners })
    };
    gateway.configure(config(1, &["a", "b"])).await;
    let (a, b) = (gateway.address("a").await, gateway.address("b").await);
    let client = client();
    get(&client, a, "/").await;
    gateway.configure(config(2, &["b", "c"])).await;
    assert_eq!(gateway.address("b").await, b);
    get(&client, gateway.address("c").await, "/").await;
    crate::bench::until("the first is gone", async || {
        tokio::net::TcpStream::connect(a).await.is_err()
    })
    .await;
    gateway.drain().await;
}
