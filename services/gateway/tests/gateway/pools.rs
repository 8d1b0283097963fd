//! Connections to services that are kept for the next requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::bench::{Place, Running, at, client, get, until};

/// A service that answers as many requests as it is let to, and counts its connections.
struct Counting {
    address: SocketAddr,
    came: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
    answers: Arc<Semaphore>,
}

impl Counting {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = Self {
            address: listener.local_addr().expect("an address"),
            came: Arc::default(),
            open: Arc::default(),
            waiting: Arc::default(),
            answers: Arc::new(Semaphore::new(0)),
        };
        let (came, open) = (own.came.clone(), own.open.clone());
        let (waiting, answers) = (own.waiting.clone(), own.answers.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                came.fetch_add(1, Ordering::Relaxed);
                open.fetch_add(1, Ordering::Relaxed);
                let (open, waiting, answers) = (open.clone(), waiting.clone(), answers.clone());
                tokio::spawn(async move {
                    let mut part = [0; 4096];
                    while let Ok(1..) = stream.read(&mut part).await {
                        waiting.fetch_add(1, Ordering::Relaxed);
                        answers.acquire().await.expect("it is open").forget();
                        waiting.fetch_sub(1, Ordering::Relaxed);
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                        let _ = stream.write_all(answer).await;
                    }
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        own
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }

    /// Has the gateway keep connections so.
    async fn keep(&self, gateway: &Running, revision: u64, pool: Value) {
        let mut services = at(self.address);
        services["orders"]["pool"] = pool;
        gateway
            .configure(json!({
                "revision": revision,
                "services": services,
                "routes": [{ "name": "all", "service": "orders" }],
            }))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_idle_connections_are_kept_than_asked_for() {
    const AT_ONCE: usize = 24;
    let place = Place::new();
    let gateway = place.gateway().await;
    let service = Counting::start().await;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for (revision, most) in [(1_u64, 2_usize), (2, 0)] {
        let pool = json!({ "idle_ms": 3_600_000, "per_endpoint": most });
        service.keep(&gateway, revision, pool).await;
        let address = gateway.address("public").await;
        let client = client();
        let all: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { get(&client, address, "/").await.status })
            })
            .collect();
        until("all of them wait", async || {
            service.waiting.load(Ordering::Relaxed) == AT_ONCE
        })
        .await;
        assert!(service.open() >= AT_ONCE);
        service.answers.add_permits(AT_ONCE);
        for one in all {
            assert_eq!(one.await.expect("an answer"), 200);
        }
        let kept = most.div_ceil(threads) * threads;
        until("the others are closed", async || service.open() <= kept).await;
        if most > 0 {
            assert!(service.open() > 0);
            let before = service.came();
            service.answers.add_permits(1);
            // One that is kept serves, and is kept again.
            assert_eq!(get(&client, address, "/").await.status, 200);
            assert!(service.came() <= before + 1);
        }
    }
    gateway.drain().await;
}

/// Asks once over a connection.
async fn asks(line: &mut TcpStream) {
    line.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect("it is taken");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(line.read_u8().await.expect("an answer"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_for_as_long_as_asked_for() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let service = Counting::start().await;
    service.answers.add_permits(100);
    service.keep(&gateway, 1, json!({ "idle_ms": 0 })).await;
    let address = gateway.address("public").await;
    // One connection stays with one thread, and so do those that it uses.
    let mut line = TcpStream::connect(address).await.expect("a connection");
    for number in 1..=3 {
        asks(&mut line).await;
        until("it is closed", async || service.open() == 0).await;
        assert_eq!(service.came(), number);
    }
    let pool = json!({ "idle_ms": 3_600_000, "per_endpoint": 1 });
    service.keep(&gateway, 2, pool).await;
    for _ in 0..20 {
        asks(&mut line).await;
    }
    assert_eq!((service.came(), service.open()), (4, 1));
    drop(line);
    gateway.drain().await;
}
