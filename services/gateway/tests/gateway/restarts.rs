//! Services that are killed, leave and restart.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bench::{Place, ask, client, until};
use crate::load::Load;

/// A service that can be killed, with all its connections, and started again where it was.
pub(crate) struct Restarting {
    pub(crate) address: SocketAddr,
    all: JoinSet<()>,
    leave: CancellationToken,
}

/// How often a service was asked for each target.
type Asked = Arc<Mutex<HashMap<String, u32>>>;

impl Restarting {
    pub(crate) fn start(address: SocketAddr) -> Self {
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
    pub(crate) async fn left(self) {
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
