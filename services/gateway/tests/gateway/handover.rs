//! One process follows the other, under load.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;

use crate::bench::{Behaviour, Place, Upstream, ask, client, orders, until};
use crate::load::{Load, was_not_sent};

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
    until("the service is asked", async || upstream.asked() == 1).await;
    let successor = place.gateway().await;
    gateway.ended().await;
    let answer = under_way.await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    successor.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http2_that_speaks_late_is_told_to_go() {
    let place = Place::new();
    let upstream = Upstream::start("orders").await;
    let gateway = place.gateway().await;
    gateway
        .configure(json!({ "services": orders(&[&upstream]) }))
        .await;
    let address = gateway.address("public").await;
    let stream = TcpStream::connect(address).await.expect("a connection");
    until("it is accepted", async || {
        let status = gateway.admin.status().await;
        status.is_ok_and(|status| status.connections == 1)
    })
    .await;
    let successor = place.gateway().await;
    // The old process serves what it accepted, and the client asks on until it must not.
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("a handshake");
    let connection = tokio::spawn(connection);
    while client.ready().await.is_ok() {
        let request = Request::get(format!("http://{address}/"));
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        match client.send_request(request).await {
            Ok(answer) => assert_eq!(answer.status(), 200),
            Err(error) => {
                assert!(error.is_canceled() || was_not_sent(&error), "{error:?}");
                break;
            }
        }
    }
    connection.await.expect("no panic").expect("it ends well");
    gateway.ended().await;
    successor.drain().await;
}
