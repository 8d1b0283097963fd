//! Certificates that change while clients come, stay and come back.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bench::{PATIENCE, Place, Upstream, orders, until};
use crate::processes::answer;
use crate::secured::certificate;

const NAME: &str = "shop.test";
/// Certificates that follow one another.
const RENEWALS: usize = 5;

/// A client that believes all of the certificates, and remembers its sessions.
fn connector(believed: &[CertificateDer<'static>], protocol: &[u8]) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in believed {
        roots.add(certificate.clone()).expect("it can be believed");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn connect(connector: &TlsConnector, address: SocketAddr) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let name = ServerName::try_from(NAME).expect("a name");
    let handshake = tokio::time::timeout(PATIENCE, connector.connect(name, stream));
    handshake.await.expect("in time").expect("a handshake")
}

async fn ask(stream: &mut TlsStream<TcpStream>) {
    let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    let written = stream.write_all(request.as_bytes()).await;
    written.expect("it is taken");
    stream.flush().await.expect("it is sent");
    let answered = tokio::time::timeout(PATIENCE, answer(stream)).await;
    assert_eq!(answered.expect("in time").1, 200);
}

/// What the load has in common.
struct Load {
    address: SocketAddr,
    believed: Vec<CertificateDer<'static>>,
    ends: AtomicBool,
    /// Answers, by kind of client.
    answered: [AtomicU64; 4],
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.ends.load(Ordering::Relaxed)
    }

    fn count(&self, kind: usize) {
        self.answered[kind].fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self) -> [u64; 4] {
        std::array::from_fn(|kind| self.answered[kind].load(Ordering::Relaxed))
    }

    /// Each request on a connection of its own, whose client was never here.
    async fn fresh(self: Arc<Self>) {
        while self.goes_on() {
            let connector = connector(&self.believed, b"http/1.1");
            ask(&mut connect(&connector, self.address).await).await;
            self.count(0);
        }
    }

    /// Each request on a connection of its own, whose client takes its session up again.
    async fn resumed(self: Arc<Self>) {
        let connector = connector(&self.believed, b"http/1.1");
        while self.goes_on() {
            ask(&mut connect(&connector, self.address).await).await;
            self.count(1);
        }
    }

    async fn kept(self: Arc<Self>) {
        let connector = connector(&self.believed, b"http/1.1");
        let mut stream = connect(&connector, self.address).await;
        while self.goes_on() {
            ask(&mut stream).await;
            self.count(2);
        }
    }

    async fn kept_http2(self: Arc<Self>) {
        let connector = connector(&self.believed, b"h2");
        let stream = TokioIo::new(connect(&connector, self.address).await);
        let executor = TokioExecutor::new();
        let shaken = hyper::client::conn::http2::handshake(executor, stream).await;
        let (mut sender, connection) = shaken.expect("HTTP/2");
        tokio::spawn(connection);
        while self.goes_on() {
            let request = Request::get(format!("https://{NAME}/"));
            let request = request.body(Empty::<Bytes>::new()).expect("a request");
            let asked = tokio::time::timeout(PATIENCE, sender.send_request(request));
            let answer = asked.await.expect("in time").expect("an answer");
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.expect("a body");
            self.count(3);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_change_under_load_cost_no_handshake_and_no_request() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let made: Vec<(PathBuf, PathBuf)> = (0..RENEWALS)
        .map(|number| {
            let folder = place.path().join(format!("made-{number}"));
            std::fs::create_dir(&folder).expect("a folder");
            certificate(&folder, NAME)
        })
        .collect();
    let read = |(certificate, _): &(PathBuf, PathBuf)| {
        CertificateDer::from_pem_file(certificate).expect("a certificate")
    };
    let believed: Vec<_> = made.iter().map(read).collect();
    let used = (place.path().join("used.pem"), place.path().join("used.key"));
    let renew = |(certificate, key): &(PathBuf, PathBuf)| {
        // One after the other, so that for a while they do not belong together.
        std::fs::copy(certificate, &used.0).expect("it is written");
        std::fs::copy(key, &used.1).expect("it is written");
    };
    renew(&made[0]);
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [{ "name": "public", "address": "127.0.0.1:0", "tls": {
                "certificates": [{ "hosts": [NAME], "certificate": used.0, "key": used.1 }] } }],
        }))
        .await;
    let load = Arc::new(Load {
        address: gateway.address("public").await,
        believed: believed.clone(),
        ends: AtomicBool::new(false),
        answered: Default::default(),
    });
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..2 {
        tasks.spawn(load.clone().fresh());
        tasks.spawn(load.clone().resumed());
        tasks.spawn(load.clone().kept());
        tasks.spawn(load.clone().kept_http2());
    }
    for (files, expected) in made.iter().zip(&believed).skip(1) {
        renew(files);
        until("the new certificate is shown", async || {
            let connector = connector(&load.believed, b"http/1.1");
            let stream = connect(&connector, load.address).await;
            let shown = stream.get_ref().1.peer_certificates();
            shown.is_some_and(|chain| chain[0] == *expected)
        })
        .await;
        let before = load.counts();
        until("all kinds of clients are served under it", async || {
            let counts = load.counts().into_iter();
            counts.zip(before).all(|(now, before)| now > before + 1)
        })
        .await;
    }
    load.ends.store(true, Ordering::Relaxed);
    // A handshake or a request that failed has ended its task.
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no client met a failure");
    }
    gateway.drain().await;
}
