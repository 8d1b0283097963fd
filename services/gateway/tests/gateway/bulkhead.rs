//! Requests to a service at a time, counted where it is asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::bench::{Place, at, client, get, until};

/// A service that answers as many requests as it is let to, and notes how many it had at once.
struct Held {
    address: SocketAddr,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    answers: Arc<Semaphore>,
}

impl Held {
    /// What is at `/kept` may be kept, and is answered at once.
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let held = Self {
            address: listener.local_addr().expect("an address"),
            now: Arc::default(),
            most: Arc::default(),
            answers: Arc::new(Semaphore::new(0)),
        };
        let (now, most, answers) = (held.now.clone(), held.most.clone(), held.answers.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (now, most, answers) = (now.clone(), most.clone(), answers.clone());
                tokio::spawn(async move {
                    let mut part = [0; 4096];
                    while let Ok(1..) = stream.read(&mut part).await {
                        let directive = if part.starts_with(b"GET /kept") {
                            "max-age=600"
                        } else {
                            most.fetch_max(
                                now.fetch_add(1, Ordering::Relaxed) + 1,
                                Ordering::Relaxed,
                            );
                            answers.acquire().await.expect("it is open").forget();
                            now.fetch_sub(1, Ordering::Relaxed);
                            "no-store"
                        };
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\nCache-Control: {directive}\r\nContent-Length: 0\r\n\r\n"
                        );
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                });
            }
        });
        held
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_a_service_holds_where_many_wait_for_one_answer() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let service = Held::start().await;
    let mut services = at(service.address);
    services["orders"]["limits"] = json!({ "concurrent": 2 });
    gateway
        .configure(json!({
            "services": services,
            "routes": [{ "name": "all", "service": "orders", "cache": {} }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    assert_eq!(get(&client, address, "/kept").await.status, 200);
    let all: Vec<_> = (0..40)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { get(&client, address, "/one").await.status })
        })
        .collect();
    until("all of them wait for one", async || {
        gateway.admin.status().await.unwrap().requests == 40
    })
    .await;
    let under_way = || service.now.load(Ordering::Relaxed);
    until("one is asked for", async || under_way() == 1).await;
    assert_eq!(service.most.load(Ordering::Relaxed), 1);
    // It may not be kept, so each of the others has to ask.
    service.answers.add_permits(1);
    until("those that find no room are told", async || {
        gateway.tallies().await.services["orders"].shed == 37
    })
    .await;
    until("two are asked for", async || under_way() == 2).await;
    // What is kept needs no room.
    assert_eq!(
        get(&client, address, "/kept").await.header("cache-status"),
        "gateway; hit"
    );
    assert_eq!(get(&client, address, "/other").await.status, 503);
    service.answers.add_permits(2);
    let mut statuses = Vec::new();
    for task in all {
        statuses.push(task.await.unwrap());
    }
    let of = |status| statuses.iter().filter(|it| **it == status).count();
    assert_eq!((of(200), of(503)), (3, 37));
    assert_eq!(service.most.load(Ordering::Relaxed), 2);
    let tallies = gateway.counted().await;
    assert_eq!(tallies.version("orders", "r1").unwrap().good, 4);
    gateway.drain().await;
}
