//! Time to connect, and names that lead elsewhere.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::Command;

use crate::bench::{Place, at, client, get, skip, until};
use crate::load::Load;
use crate::process::program;
use crate::restarts::Restarting;

/// A port that takes no connection, and does not refuse any either.
async fn silent_port() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a port");
    let listener = socket.listen(1).expect("it listens");
    let address = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    // As many as may wait to be accepted; what comes then gets no answer.
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        waiting.push(stream.expect("a connection"));
    }
    (listener, waiting)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_takes_no_longer_than_its_route_says() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (listener, _waiting) = silent_port().await;
    let silent = listener.local_addr().expect("an address").to_string();
    let route = |name: &str, connect: u64| {
        json!({ "name": name, "service": "orders", "match": { "path": { "prefix": format!("/{name}") } },
            "timeouts": { "connect_ms": connect, "first_byte_ms": 600_000, "total_ms": 600_000 } })
    };
    gateway
        .configure(json!({
            "services": at(&silent),
            "routes": [route("hasty", 50), route("patient", 600_000)],
        }))
        .await;
    let address = gateway.address("public").await;
    let patient = tokio::spawn(async move {
        let stream = TcpStream::connect(address).await;
        let mut stream = stream.expect("a connection");
        let request = b"GET /patient HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request).await.expect("it is taken");
        stream.read_u8().await
    });
    let under_way = async || gateway.admin.status().await.expect("a status").requests;
    until("the patient one asks", async || under_way().await == 1).await;
    for _ in 0..3 {
        let answer = get(&client(), address, "/hasty").await;
        assert_eq!(answer.json()["code"], "unreachable");
    }
    // The other goes on trying.
    assert!(!patient.is_finished());
    until("the hasty ones are over", async || under_way().await == 1).await;
    patient.abort();
    drop(listener);
    gateway.drain().await;
}

/// Whether names can be given in a process of its own; only root may.
async fn can_name(hosts: &Path) -> bool {
    let tried = naming(hosts, &["true"]).status().await;
    tried.is_ok_and(|status| status.success())
}

/// A command for which the names are those of a file.
fn naming(hosts: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"")
        .arg(hosts)
        .args(arguments)
        .stderr(std::process::Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_elsewhere_is_followed_at_once() {
    let place = Place::new();
    let hosts = place.path().join("hosts");
    let name = |address: &str| std::fs::write(&hosts, format!("{address} orders.test\n"));
    name("127.0.0.2").expect("a file");
    if !can_name(&hosts).await {
        skip("names cannot be given here");
        return;
    }
    let first = Restarting::start("127.0.0.2:0".parse().expect("an address"));
    let port = first.address.port();
    let path = program();
    let gateway = place
        .process_by(naming(&hosts, &[path.to_str().expect("text")]))
        .await;
    gateway
        .configure(json!({ "services": at(format!("orders.test:{port}")) }))
        .await;
    let address = gateway.address("public").await;
    let load = Load::get(address);
    let mut serving = first;
    for next in ["127.0.0.3", "127.0.0.4"] {
        load.goes_on().await;
        // An address is believed for a moment, however often it fails.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let fresh = Restarting::start(SocketAddr::new(next.parse().expect("an address"), port));
        name(next).expect("a file");
        serving.left().await;
        load.goes_on().await;
        serving = fresh;
    }
    load.end().await;
    let tallies = gateway.counted().await;
    assert_eq!(tallies.routes["all"].bad, 0);
    gateway.stopped().await;
}
