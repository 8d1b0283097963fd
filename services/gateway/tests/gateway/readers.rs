//! Clients that take their answers slowly.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::bench::{Behaviour, Place, Upstream, orders, until};

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_an_answer_too_slowly_is_let_go() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let body = Bytes::from(vec![b'x'; 64 * 1024 * 1024]);
    let behaviour = Behaviour {
        script: Some(Arc::new(move |_, _| {
            http::Response::new(http_body_util::Full::new(body.clone()))
        })),
        ..Behaviour::default()
    };
    let upstream = Upstream::start_with("orders", behaviour).await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [{ "name": "public", "address": "127.0.0.1:0", "limits": { "idle_ms": 700 } }],
        }))
        .await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let address = gateway.address("public").await;
    let mut stream = socket.connect(address).await.expect("a connection");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(request).await.expect("it is sent");
    // Something is taken each time, so that no pause is a long one.
    let slowly = async {
        let mut part = [0; 200];
        loop {
            let read = stream.read(&mut part).await;
            assert!(matches!(read, Ok(1..)), "{read:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let requests = async || gateway.admin.status().await.expect("a status").requests;
    let given_up = async {
        until("it is under way", async || requests().await == 1).await;
        until("nobody waits for it any more", async || {
            requests().await == 0
        })
        .await;
    };
    tokio::select! {
        () = slowly => (),
        () = given_up => (),
    }
    drop(stream);
    gateway.drain().await;
}
