//! Versions that fail, rest and are tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::bench::{Behaviour, Place, Upstream, at, client, get, orders, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_version_rests() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let behaviour = Behaviour {
        status: 500,
        ..Behaviour::default()
    };
    let upstream = Upstream::start_with("bad", behaviour).await;
    let mut services = orders(&[&upstream]);
    services["orders"]["breaker"] = json!({ "at_least": 10, "rest_ms": 60_000 });
    gateway.configure(json!({ "services": services })).await;
    let address = gateway.address("public").await;
    let client = client();
    for _ in 0..10 {
        assert_eq!(get(&client, address, "/").await.status, 500);
    }
    let answer = get(&client, address, "/").await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (503, Some("resting"))
    );
    assert_eq!(upstream.asked(), 10);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resting_version_is_tried_now_and_then_and_comes_back() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let well = Arc::new(AtomicBool::new(false));
    let state = well.clone();
    let behaviour = Behaviour {
        script: Some(Arc::new(move |_, _| {
            let status = if state.load(Ordering::Relaxed) {
                200
            } else {
                500
            };
            let answer = http::Response::builder().status(status);
            answer
                .body(http_body_util::Full::default())
                .expect("an answer")
        })),
        ..Behaviour::default()
    };
    let upstream = Upstream::start_with("orders", behaviour).await;
    let mut services = orders(&[&upstream]);
    services["orders"]["breaker"] = json!({ "at_least": 10, "rest_ms": 300 });
    gateway.configure(json!({ "services": services })).await;
    let address = gateway.address("public").await;
    let client = client();
    for _ in 0..10 {
        assert_eq!(get(&client, address, "/").await.status, 500);
    }
    // Of all that ask while it rests, one at a time reaches it, and finds it as it was.
    let mut told = 0_u64;
    until("it was tried twice", async || {
        get(&client, address, "/").await;
        upstream.asked() == 12
    })
    .await;
    for _ in 0..20 {
        told += u64::from(get(&client, address, "/").await.status == 503);
    }
    assert!(told >= 19 && upstream.asked() <= 13, "{told}");
    well.store(true, Ordering::Relaxed);
    until("it is tried and well", async || {
        get(&client, address, "/").await.status == 200
    })
    .await;
    for _ in 0..20 {
        assert_eq!(get(&client, address, "/").await.status, 200);
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_what_was_asked_before_ends_no_rest() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (held, release) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (seen, told) = (held.clone(), release.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut services = at(listener.local_addr().unwrap());
    services["orders"]["breaker"] = json!({ "at_least": 10, "rest_ms": 600_000 });
    // Fails at once, but for one request that it answers well when it is told to.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (seen, told) = (seen.clone(), told.clone());
            tokio::spawn(async move {
                let mut part = [0; 4096];
                while let Ok(1..) = stream.read(&mut part).await {
                    let status = if part.starts_with(b"GET /held") {
                        seen.store(true, Ordering::Relaxed);
                        told.notified().await;
                        "200 OK"
                    } else {
                        "500 Bad"
                    };
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    gateway.configure(json!({ "services": services })).await;
    let address = gateway.address("public").await;
    let early = tokio::spawn(async move { get(&client(), address, "/held").await.status });
    until("it is asked", async || held.load(Ordering::Relaxed)).await;
    let client = client();
    for _ in 0..10 {
        assert_eq!(get(&client, address, "/").await.status, 500);
    }
    // A client has its answer before that is counted.
    until("the service rests", async || {
        get(&client, address, "/").await.status == 503
    })
    .await;
    release.notify_one();
    assert_eq!(early.await.unwrap(), 200);
    assert_eq!(
        gateway
            .counted()
            .await
            .version("orders", "r1")
            .unwrap()
            .good,
        1
    );
    assert_eq!(get(&client, address, "/").await.status, 503);
    gateway.drain().await;
}
