//! Services that hang, break off, lie, answer early, move or restart.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bench::{PATIENCE, Place, Upstream, ask, client, get, orders, skip, until};
use crate::load::Load;
use crate::process::program;

/// What a service does after what it says.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    /// Nothing more, ever.
    Waits,
    /// Ends the connection as it should be ended.
    Ends,
    /// Breaks the connection off.
    Breaks,
    /// Says this again and again.
    Repeats(&'static [u8]),
    /// Ends its own side, and takes what still comes.
    Listens,
}

/// A service that says the same on each connection, once a request's head came.
pub(crate) async fn saying(text: &'static [u8], then: Then) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(say(stream, text, then));
        }
    });
    address
}

async fn say(mut stream: TcpStream, text: &[u8], then: Then) -> std::io::Result<()> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await?);
    }
    stream.write_all(text).await?;
    let mut rest = vec![0; 65_536];
    match then {
        Then::Ends => (),
        Then::Breaks => stream.set_zero_linger()?,
        Then::Waits => while stream.read(&mut rest).await? > 0 {},
        Then::Repeats(part) => loop {
            stream.write_all(part).await?;
        },
        Then::Listens => {
            stream.shutdown().await?;
            while stream.read(&mut rest).await? > 0 {}
        }
    }
    Ok(())
}

/// Sends a request and returns all that comes back, and whether it came to a regular end.
async fn exchange(address: SocketAddr, name: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("it is sent");
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    // A reset is as good a sign as the end.
    assert!(read.is_ok(), "no end in time: {name}");
    String::from_utf8_lossy(&all).into_owned()
}

pub(crate) fn at(address: &str) -> Value {
    json!({ "orders": { "versions": { "r1": { "weight": 1000, "endpoints": [
        { "id": "one", "address": address }] } } } })
}

/// Name, what is said, what is done then, and what the client gets to see. What is found out before the
/// head reached the client is 502 or 504; what comes later breaks off.
const NO_ANSWERS: [(&str, &[u8], Then, &str); 11] = [
    ("silence", b"", Then::Waits, " 504 "),
    ("a break", b"", Then::Breaks, " 502 "),
    ("a pause in the head", b"HTTP/1.1 200 OK\r\nX: ", Then::Waits, " 504 "),
    ("a pause in the body", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", Then::Waits, ""),
    ("a break in the body", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n", Then::Breaks, ""),
    ("no last chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n", Then::Ends, "part"),
    ("a chunk that is none", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\npart\r\n0\r\n\r\n", Then::Ends, ""),
    ("a chunk beyond all numbers", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff1\r\npart\r\n0\r\n\r\n", Then::Ends, ""),
    ("a chunk's size without end", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;", Then::Repeats(&[b'x'; 4096]), ""),
    ("a head without end", b"HTTP/1.1 200 OK\r\n", Then::Repeats(b"X-Y: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\r\n"), " 502 "),
    ("beginnings without end", b"", Then::Repeats(b"HTTP/1.1 103 Early Hints\r\n\r\n"), " 50"),
];

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_no_answers_harm_nobody() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let good = Upstream::start("good").await;
    let mut revision = 0;
    for (name, text, then, expected) in NO_ANSWERS {
        revision += 1;
        let bad = saying(text, then).await;
        let mut services = at(&bad.to_string());
        services["good"] = orders(&[&good])["orders"].clone();
        gateway
            .configure(json!({
                "revision": revision,
                "services": services,
                "routes": [
                    { "name": "bad", "service": "orders", "retries": { "attempts": 0 },
                      "timeouts": { "first_byte_ms": 300, "total_ms": 1_000 } },
                    { "name": "good", "service": "good", "match": { "path": { "prefix": "/good" } } },
                ],
            }))
            .await;
        let address = gateway.address("public").await;
        let answer = exchange(address, name).await;
        assert!(answer.contains(expected), "{name}: {answer}");
        // Whoever counts lengths or chunks sees that it is not whole.
        let whole = answer.contains("\r\n0\r\n\r\n") && answer.contains(" 200 ");
        assert!(!whole, "{name}: {answer}");
        assert_eq!(
            get(&client(), address, "/good").await.name(),
            "good",
            "{name}"
        );
    }
    let tallies = gateway.counted().await;
    let bad = tallies.version("orders", "r1").expect("it was asked");
    assert_eq!((bad.good, bad.bad), (0, revision));
    assert_eq!(
        tallies.version("good", "r1").expect("it was asked").good,
        revision
    );
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_body_was_read_reaches_the_client() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let head =
        b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch";
    let early = saying(head, Then::Listens).await;
    gateway
        .configure(json!({ "services": at(&early.to_string()) }))
        .await;
    let address = gateway.address("public").await;
    let body = vec![b'x'; 8 * 1024 * 1024];
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("it is sent");
    let (mut reader, mut writer) = stream.into_split();
    let sending = tokio::spawn(async move {
        // Whether all of it is taken is up to the gateway.
        let _ = writer.write_all(&body).await;
        writer
    });
    let mut answer = Vec::new();
    let read = async {
        let mut part = [0; 4096];
        while !answer.ends_with(b"much") {
            match reader.read(&mut part).await {
                Ok(count @ 1..) => answer.extend_from_slice(&part[..count]),
                _ => break,
            }
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("an answer in time");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.ends_with("much"), "{answer}");
    sending.abort();
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_clients_are_taken_as_the_book_says() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [{ "name": "public", "address": "127.0.0.1:0", "limits": { "idle_ms": 500 } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let head =
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases = [
        (
            "beyond all numbers",
            format!("{head}fffffffffffffffff1\r\nx\r\n0\r\n\r\n"),
            None,
        ),
        (
            "just below",
            format!("{head}7fffffffffffffff\r\nx\r\n0\r\n\r\n"),
            None,
        ),
        (
            "an extension without end",
            format!("{head}1;{}", "x".repeat(4_000_000)),
            None,
        ),
        (
            "trailers without end",
            format!("{head}0\r\n{}", "X: y\r\n".repeat(500_000)),
            None,
        ),
        (
            "crumbs",
            format!("{head}{}0\r\n\r\n", "1\r\nx\r\n".repeat(20_000)),
            Some(20_000),
        ),
        (
            "zeros ahead",
            format!("{head}{}1\r\nx\r\n0\r\n\r\n", "0".repeat(10)),
            Some(1),
        ),
    ];
    for (name, text, expected) in cases {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (mut reader, mut writer) = stream.into_split();
        let sending = tokio::spawn(async move {
            let _ = writer.write_all(text.as_bytes()).await;
            writer
        });
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answer)).await;
        let _ = read.expect("an end in time");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        match expected {
            None => assert!(!answer.contains(" 200 "), "{name}: {answer}"),
            Some(length) => assert!(
                answer.contains(&format!("\"length\":{length}")),
                "{name}: {answer}"
            ),
        }
        sending.abort();
        assert_eq!(get(&client(), address, "/").await.status, 200, "{name}");
    }
    gateway.drain().await;
}

/// A service that can be killed, with all its connections, and started again where it was.
struct Restarting {
    address: SocketAddr,
    all: JoinSet<()>,
    leave: CancellationToken,
}

/// How often a service was asked for each target.
type Asked = Arc<Mutex<HashMap<String, u32>>>;

impl Restarting {
    fn start(address: SocketAddr) -> Self {
        Self::noting(address, Asked::default())
    }

    fn noting(address: SocketAddr, asked: Asked) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(address).expect("the address");
        let listener = socket.listen(1024).expect("it listens");
        let address = listener.local_addr().expect("an address");
        let mut all = JoinSet::new();
        let leave = CancellationToken::new();
        let leaving = leave.clone();
        all.spawn(async move {
            // Dropped, and thereby closed, together with the listener.
            let mut connections = JoinSet::new();
            while let Some(Ok((stream, _))) = leaving.run_until_cancelled(listener.accept()).await {
                let (leaving, asked) = (leaving.clone(), asked.clone());
                connections.spawn(async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        let target = request.uri().path().to_owned();
                        let mut asked = asked.lock().expect("nobody panicked");
                        *asked.entry(target).or_default() += 1;
                        std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(
                            Bytes::from("{}"),
                        ))))
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    let mut connection = std::pin::pin!(connection);
                    tokio::select! {
                        _ = connection.as_mut() => (),
                        () = leaving.cancelled() => {
                            connection.as_mut().graceful_shutdown();
                            let _ = connection.await;
                        }
                    }
                });
            }
            drop(listener);
            connections.join_all().await;
        });
        Self {
            address,
            all,
            leave,
        }
    }

    /// Has it answer what it took, and waits until nothing of it is left.
    async fn left(self) {
        self.leave.cancel();
        self.all.join_all().await;
    }

    /// Kills it and waits until nothing of it is left.
    async fn killed(mut self) {
        self.all.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_restart_cost_no_request() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let any = "127.0.0.1:0".parse().expect("an address");
    let mut both = vec![Restarting::start(any), Restarting::start(any)];
    let endpoints: Vec<Value> = both
        .iter()
        .map(|one| json!({ "id": one.address.port().to_string(), "address": one.address.to_string() }))
        .collect();
    gateway
        .configure(json!({ "services": { "orders": { "versions": { "r1": {
            "weight": 1000, "endpoints": endpoints } } } } }))
        .await;
    let load = Load::get(gateway.address("public").await);
    for _ in 0..6 {
        load.goes_on().await;
        let one = both.remove(0);
        let address = one.address;
        one.killed().await;
        load.goes_on().await;
        both.push(Restarting::start(address));
    }
    assert!(load.end().await > 300);
    let tallies = gateway.counted().await;
    assert_eq!(tallies.routes["all"].bad, 0);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_restart_get_no_request_twice_that_may_have_an_effect() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let asked = Asked::default();
    let mut both = vec![
        Restarting::noting(any, asked.clone()),
        Restarting::noting(any, asked.clone()),
    ];
    let endpoints: Vec<Value> = both
        .iter()
        .map(|one| json!({ "id": one.address.port().to_string(), "address": one.address.to_string() }))
        .collect();
    gateway
        .configure(json!({ "services": { "orders": { "versions": { "r1": {
            "weight": 1000, "endpoints": endpoints } } } } }))
        .await;
    let address = gateway.address("public").await;
    let (count, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let mut clients = JoinSet::new();
    for number in 0..4 {
        let (count, stop) = (count.clone(), stop.clone());
        clients.spawn(async move {
            let client = client();
            let mut told = Vec::new();
            while !stop.is_cancelled() {
                let target = format!("/{number}/{}", told.len());
                let answer = ask(&client, "POST", address, &target, &[], b"x").await;
                told.push((target, answer.expect("an answer").status));
                count.fetch_add(1, Ordering::Relaxed);
            }
            told
        });
    }
    let goes_on = async || {
        let before = count.load(Ordering::Relaxed);
        until("requests are answered", async || {
            count.load(Ordering::Relaxed) > before + 30
        })
        .await;
    };
    for _ in 0..4 {
        goes_on().await;
        let one = both.remove(0);
        let address = one.address;
        one.killed().await;
        goes_on().await;
        both.push(Restarting::noting(address, asked.clone()));
    }
    stop.cancel();
    let told: Vec<(String, u16)> = clients.join_all().await.into_iter().flatten().collect();
    let asked = asked.lock().expect("nobody panicked").clone();
    for (target, status) in &told {
        let times = asked.get(target).copied().unwrap_or_default();
        match status {
            200 => assert_eq!(times, 1, "{target}"),
            // Sent, and nobody knows what became of it.
            502 => assert!(times <= 1, "{target}"),
            other => panic!("{target}: {other}"),
        }
    }
    // What could not be sent to one went to the other.
    let tallies = gateway.counted().await;
    assert!(tallies.version("orders", "r1").expect("counts").retried > 0);
    gateway.drain().await;
}

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
        .configure(json!({ "services": at(&format!("orders.test:{port}")) }))
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
