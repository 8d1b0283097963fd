//! One process follows the other, under load.

use std::time::Duration;

use serde_json::json;

use crate::bench::{Behaviour, Place, Upstream, ask, client, orders};
use crate::load::Load;

#[tokio::test(flavor = "multi_thread")]
async fn successors_take_over_without_a_failed_request() {
    let place = Place::new();
    let behaviour = Behaviour {
        delay: Duration::from_millis(2),
        ..Behaviour::default()
    };
    let upstream = Upstream::start_with("orders", behaviour).await;
    let mut gateway = place.gateway().await;
    gateway
        .configure(json!({ "revision": 9, "services": orders(&[&upstream]) }))
        .await;
    let address = gateway.address("public").await;
    let load = Load::start(address);
    for _ in 0..5 {
        let successor = place.gateway().await;
        assert_eq!(successor.address("public").await, address);
        assert_eq!(successor.admin.status().await.unwrap().revision, 9);
        gateway.ended().await;
        load.goes_on().await;
        gateway = successor;
    }
    assert!(load.end().await > 250);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_finishes_in_the_old_process() {
    let place = Place::new();
    let behaviour = Behaviour {
        delay: Duration::from_millis(700),
        ..Behaviour::default()
    };
    let upstream = Upstream::start_with("slow", behaviour).await;
    let gateway = place.gateway().await;
    gateway
        .configure(json!({ "services": orders(&[&upstream]) }))
        .await;
    let address = gateway.address("public").await;
    let under_way = tokio::spawn(async move {
        ask(&client(), "POST", address, "/", &[], b"x")
            .await
            .expect("an answer")
    });
    crate::bench::until("the service is asked", async || upstream.asked() == 1).await;
    let successor = place.gateway().await;
    gateway.ended().await;
    let answer = under_way.await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    successor.drain().await;
}
