//! Services and others behind TLS: whom the gateway believes, and what it shows.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::bench::{Place, Upstream, ask, client, get, until};

/// An authority of a test's own, and where its certificates lie.
pub(crate) struct Authority {
    folder: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.join(format!("{name}.pem")), own.pem()).expect("a file");
        Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The file of its own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// Files of a certificate for a name and of its key.
    pub(crate) fn signs(&self, name: &str) -> (PathBuf, PathBuf) {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        let file = |kind: &str| self.folder.join(format!("{}-{name}.{kind}", self.name));
        std::fs::write(file("pem"), signed.pem()).expect("a file");
        std::fs::write(file("key"), key.serialize_pem()).expect("a file");
        (file("pem"), file("key"))
    }
}

/// Serves over TLS what a function answers.
///
/// - `clients`: who must have signed the certificates that clients show; nobody is asked for one without
pub(crate) async fn secure_server(
    own: &(PathBuf, PathBuf),
    clients: Option<&Authority>,
    answer: impl Fn(&Request<Incoming>) -> String + Clone + Send + Sync + 'static,
) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("TLS");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_file(authority.file()).expect("a certificate");
            roots.add(root).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let chain = vec![CertificateDer::from_pem_file(&own.0).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(&own.1).expect("a key");
    let mut config = builder.with_single_cert(chain, key).expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let service = service_fn(move |request: Request<Incoming>| {
                    let body = Full::new(Bytes::from(answer(&request)));
                    async move { Ok::<_, Infallible>(Response::new(body)) }
                });
                let builder = Builder::new(TokioExecutor::new());
                let _ = builder
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_behind_tls_is_believed_and_believes_by_certificates_alone() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (ours, others) = (
        Authority::new(place.path(), "ours"),
        Authority::new(place.path(), "others"),
    );
    let tell = |request: &Request<Incoming>| format!("{:?}", request.version());
    let server = secure_server(&ours.signs("orders.test"), Some(&ours), tell).await;
    let own = ours.signs("gateway.test");
    let foreign = others.signs("gateway.test");
    let tls = |ca: &Authority, name: &str, own: Option<&(PathBuf, PathBuf)>| {
        json!({
            "ca": ca.file(),
            "name": name,
            "certificate": own.map(|own| &own.0),
            "key": own.map(|own| &own.1),
        })
    };
    let client = client();
    let cases = [
        (
            tls(&ours, "orders.test", Some(&own)),
            false,
            Some("HTTP/1.1"),
        ),
        (
            tls(&ours, "orders.test", Some(&own)),
            true,
            Some("HTTP/2.0"),
        ),
        (tls(&others, "orders.test", Some(&own)), false, None),
        (tls(&ours, "else.test", Some(&own)), false, None),
        (tls(&ours, "orders.test", None), false, None),
        (tls(&ours, "orders.test", Some(&foreign)), false, None),
    ];
    for (revision, (tls, http2, expected)) in (1_u64..).zip(cases) {
        let endpoint = json!({ "id": "a", "address": server.to_string() });
        gateway
            .configure(json!({
                "revision": revision,
                "services": { "orders": {
                    "versions": { "r1": { "weight": 1000, "endpoints": [endpoint] } },
                    "tls": tls, "http2": http2,
                } },
            }))
            .await;
        let answer = get(&client, gateway.address("public").await, "/").await;
        match expected {
            Some(version) => assert_eq!(
                (answer.status, &*answer.body),
                (200, version.as_bytes()),
                "{tls}"
            ),
            None => assert_eq!(answer.status, 502, "{tls}"),
        }
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_services_are_shown_is_read_again_when_its_files_change() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (ours, others) = (
        Authority::new(place.path(), "ours"),
        Authority::new(place.path(), "others"),
    );
    let answer = |_: &Request<Incoming>| "hello".to_owned();
    let server = secure_server(&ours.signs("orders.test"), Some(&ours), answer).await;
    // Certificate and key in one file, so that none is ever seen without the other.
    let shown = place.path().join("shown.pem");
    let show = |(certificate, key): (PathBuf, PathBuf)| {
        let texts = [certificate, key].map(|file| std::fs::read_to_string(file).expect("a file"));
        let fresh = place.path().join("fresh.pem");
        std::fs::write(&fresh, texts.concat()).expect("a file");
        std::fs::rename(&fresh, &shown).expect("a file");
    };
    show(others.signs("gateway.test"));
    let endpoint = json!({ "id": "a", "address": server.to_string() });
    let tls =
        json!({ "ca": ours.file(), "name": "orders.test", "certificate": shown, "key": shown });
    gateway
        .configure(json!({
            "revision": 1,
            "services": { "orders": {
                "versions": { "r1": { "weight": 1000, "endpoints": [endpoint], "tls": tls } },
                // One that cannot be asked is asked again.
                "outliers": { "consecutive_unreachable": 0 },
            } },
        }))
        .await;
    let client = client();
    let address = gateway.address("public").await;
    let answers = async || get(&client, address, "/").await.status;
    assert_eq!(answers().await, 502);
    show(ours.signs("gateway.test"));
    until("it shows the other one", async || answers().await == 200).await;
    show(others.signs("gateway.test"));
    until("it is refused again", async || answers().await == 502).await;
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_behind_tls_are_asked_how_they_are_and_get_copies() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let ours = Authority::new(place.path(), "ours");
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = seen.clone();
    let shown = ours.signs("orders.test");
    let real = secure_server(&shown, Some(&ours), |_| "real".to_owned()).await;
    let tell = move |request: &Request<Incoming>| {
        let copy = request.headers().contains_key("x-platform-mirror");
        let told = format!("{:?} {} {copy}", request.version(), request.uri().path());
        noted.lock().expect("nobody panicked").push(told);
        "shadow".to_owned()
    };
    let shadow = secure_server(&shown, Some(&ours), tell).await;
    let own = ours.signs("gateway.test");
    let endpoint =
        |id: &str, address: SocketAddr| json!([{ "id": id, "address": address.to_string() }]);
    for (revision, version) in [(1_u64, "HTTP/1.1"), (2, "HTTP/2.0")] {
        gateway
            .configure(json!({
                "revision": revision,
                "services": { "orders": {
                    "http2": version == "HTTP/2.0",
                    "tls": { "ca": ours.file(), "name": "orders.test", "certificate": own.0, "key": own.1 },
                    "health": { "path": "/health", "every_ms": 20, "prove": true },
                    "versions": {
                        "r5": { "weight": 1000, "endpoints": endpoint("real", real) },
                        "r6": { "weight": 0, "role": "shadow", "endpoints": endpoint("shadow", shadow) },
                    },
                } },
                "routes": [{ "name": "all", "service": "orders", "mirror": "r6" }],
            }))
            .await;
        let has = |told: String| seen.lock().expect("nobody panicked").contains(&told);
        until("it is asked how it is", async || {
            has(format!("{version} /health false"))
        })
        .await;
        let tallies = async || gateway.tallies().await.services["orders"].endpoints.clone();
        until("both are well", async || {
            tallies().await.values().all(|endpoint| endpoint.serving)
        })
        .await;
        let answer = get(&client(), gateway.address("public").await, "/x").await;
        assert_eq!((answer.status, &*answer.body), (200, &b"real"[..]));
        until("the copy arrives", async || {
            has(format!("{version} /x true"))
        })
        .await;
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_one_service_are_asked_over_tls_and_in_the_clear() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let ours = Authority::new(place.path(), "ours");
    let tell = |_: &Request<Incoming>| "secured".to_owned();
    let server = secure_server(&ours.signs("orders"), Some(&ours), tell).await;
    let plain = Upstream::start("plain").await;
    let own = ours.signs("gateway");
    let versions = json!({
        "r1": { "weight": 1000, "endpoints": [plain.endpoint()] },
        "r2": {
            "weight": 0,
            "role": "preview",
            "endpoints": [{ "id": "secured", "address": server.to_string() }],
            "tls": { "ca": ours.file(), "name": "orders", "certificate": own.0, "key": own.1 },
        },
    });
    let overrides = json!([{ "header": "x-release", "value": "new", "version": "r2" }]);
    gateway
        .configure(json!({
            "services": { "orders": { "versions": versions, "overrides": overrides } },
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    assert_eq!(get(&client, address, "/").await.name(), "plain");
    let asked = [("x-release", "new")];
    let answer = ask(&client, "GET", address, "/", &asked, b"").await;
    let answer = answer.expect("an answer");
    assert_eq!((answer.status, &*answer.body), (200, &b"secured"[..]));
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_configuration_whose_keys_are_gone_does_not_keep_a_gateway_down() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let ours = Authority::new(place.path(), "ours");
    let own = ours.signs("gateway");
    let config = |revision: u64, tls: Option<Value>| {
        let versions = json!({ "r1": { "weight": 1000, "endpoints": [upstream.endpoint()] } });
        json!({
            "revision": revision,
            "services": { "orders": { "versions": versions, "tls": tls } },
        })
    };
    let tls = json!({ "ca": ours.file(), "certificate": own.0, "key": own.1 });
    gateway.configure(config(7, Some(tls))).await;
    gateway.drain().await;
    std::fs::remove_file(&own.1).expect("the key");
    let gateway = place.gateway().await;
    let status = gateway.admin.status().await.expect("a status");
    assert_eq!((status.revision, status.listeners.len()), (7, 0));
    gateway.configure(config(8, None)).await;
    let address = gateway.address("public").await;
    assert_eq!(get(&client(), address, "/").await.status, 200);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_that_cannot_be_believed_are_refused() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let empty = place.path().join("empty.pem");
    std::fs::write(&empty, "").expect("a file");
    let refused = gateway
        .admin
        .put_config(
            &serde_json::from_value(json!({
                "revision": 1,
                "identity": {
                    "issuer": "me",
                    "jwks": { "url": "https://localhost/keys" },
                    "ca": place.path().join("gone.pem"),
                },
                "traces": { "endpoint": "https://localhost:4318", "ca": empty },
            }))
            .expect("a configuration"),
        )
        .await
        .expect_err("it is refused")
        .to_string();
    for told in [
        "`identity.ca` cannot use",
        "`traces.ca` cannot use",
        "it holds no certificate",
    ] {
        assert!(refused.contains(told), "{refused}");
    }
    gateway.drain().await;
}
