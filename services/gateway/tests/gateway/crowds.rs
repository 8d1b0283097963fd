//! More connections than anybody could want.

use std::net::SocketAddr;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;

use crate::bench::{Place, Upstream, client, get, orders, until};
use crate::process::program;

/// Takes as many descriptors as may be had; how many that is.
fn raise() -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a limit");
    hard
}

/// Opens a connection, from one of many addresses, as each has ports for less than 30,000.
async fn opened(address: SocketAddr, number: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let host = u8::try_from(number / 10_000).expect("an address") + 2;
    let source = SocketAddr::from(([127, 0, 0, host], 0));
    socket.bind(source).expect("a port");
    socket.connect(address).await.expect("a connection")
}

/// Opens a connection on which one request was answered.
async fn used(address: SocketAddr, number: usize) -> TcpStream {
    let mut stream = opened(address, number).await;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(request).await.expect("it is sent");
    let mut answer = [0; 1024];
    assert!(stream.read(&mut answer).await.expect("an answer") > 12);
    stream
}

async fn hold(count: usize) {
    let place = Place::new();
    let gateway = place.process().await;
    let upstream = Upstream::start("orders").await;
    // Where they are opened slowly, the first ones stay until the last ones have come.
    let limits = json!({ "keep_alive_ms": 3_600_000 });
    gateway
        .configure(json!({
            "listeners": [{ "name": "public", "address": "127.0.0.1:0", "limits": limits }],
            "services": orders(&[&upstream]),
        }))
        .await;
    let address = gateway.address("public").await;
    let before = gateway.resident();
    let mut idle = Vec::with_capacity(count);
    for number in 0..count {
        // Some never said anything, the others rest after a request.
        idle.push(if number % 4 == 0 {
            used(address, number).await
        } else {
            opened(address, number).await
        });
    }
    until("all are held", async || {
        let status = gateway.admin.status().await.expect("a status");
        status.connections >= count as u64
    })
    .await;
    for _ in 0..100 {
        assert_eq!(get(&client(), address, "/").await.status, 200);
    }
    // None of them was sacrificed.
    let status = gateway.admin.status().await.expect("a status");
    assert!(status.connections >= count as u64);
    let each = (gateway.resident().saturating_sub(before) << 20) / count as u64;
    assert!(each < 48 * 1024, "{each} bytes for each");
    drop(idle);
    gateway.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_may_be_idle_while_others_are_served() {
    let most = usize::try_from(raise()).unwrap_or(usize::MAX) / 3;
    hold(most.min(4_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a limit of more than 72,000 descriptors, as `tests/conformance/gateway/crowd` has"]
async fn fifty_thousand_may_be_idle_while_others_are_served() {
    let most = usize::try_from(raise()).unwrap_or(usize::MAX) / 10 * 7;
    hold(most.min(50_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room_before_descriptors_run_out() {
    raise();
    let place = Place::new();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\""])
        .arg(program());
    let gateway = place.process_by(command).await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({ "services": orders(&[&upstream]) }))
        .await;
    let address = gateway.address("public").await;
    // A client that was there before and comes back now and then.
    let kept = client();
    let mut idle = Vec::new();
    for number in 0..1_000 {
        idle.push(TcpStream::connect(address).await.expect("a connection"));
        if number % 50 == 0 {
            assert_eq!(get(&kept, address, "/").await.status, 200, "after {number}");
            assert_eq!(
                get(&client(), address, "/").await.status,
                200,
                "after {number}"
            );
        }
    }
    until("the crowd is taken in", async || {
        let status = gateway.admin.status().await.expect("a status");
        status.connections <= 200
    })
    .await;
    assert_eq!(get(&client(), address, "/").await.status, 200);
    drop(idle);
    gateway.stopped().await;
}
