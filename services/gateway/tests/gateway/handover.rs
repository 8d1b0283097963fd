//! One process follows the other, under load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;

use crate::bench::{Behaviour, Place, Upstream, ask, client, orders};

/// Clients that ask without pause, half of them on a new connection each time.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let (stop, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let tasks = (0..8)
            .map(|index| {
                let (stop, asked) = (stop.clone(), asked.clone());
                tokio::spawn(async move {
                    let kept = client();
                    while !stop.load(Ordering::Relaxed) {
                        let client = if index % 2 == 0 {
                            kept.clone()
                        } else {
                            client()
                        };
                        let answer = ask(&client, "POST", address, "/", &[], b"x").await;
                        assert_eq!(answer.expect("an answer").status, 200);
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self { stop, asked, tasks }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no request fails");
        }
        self.asked.load(Ordering::Relaxed)
    }
}

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
        let before = load.asked.load(Ordering::Relaxed);
        gateway.ended().await;
        crate::bench::until("the successor serves", async || {
            load.asked.load(Ordering::Relaxed) > before + 50
        })
        .await;
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
