//! TLS: certificates by name, renewed without a drop; compression.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bench::{PATIENCE, Place, Upstream, ask, client, orders, until};
use crate::processes::answer;

/// A certificate for one name, made by the `openssl` program.
pub(crate) fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (
        folder.join(format!("{name}.pem")),
        folder.join(format!("{name}.key")),
    );
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            &format!("/CN={name}"),
            "-addext",
            &format!("subjectAltName=DNS:{name}"),
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("the openssl program");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    (certificate, key)
}

fn entry(name: &str, files: &(PathBuf, PathBuf)) -> Value {
    json!({ "hosts": [name], "certificate": files.0, "key": files.1 })
}

/// Connects trusting one certificate; says which one it was shown.
async fn connect(
    address: SocketAddr,
    name: &'static str,
    trusted: &Path,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(trusted).expect("a certificate");
    roots.add(certificate).expect("it can be trusted");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name).expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Asks on one connection, several requests at once and one after another, of every length.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let sized = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let chunked =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let parts: [(&[&str], usize); 8] = [
        (&[get], 1),
        (&[get, sized, get], 3),
        (&[get], 1),
        (&[sized], 1),
        (
            &["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"],
            0,
        ),
        (&["abc", get], 2),
        (&[chunked, sized], 2),
        (&[get], 1),
    ];
    for (written, answers) in parts {
        let text = written.concat();
        stream
            .write_all(text.as_bytes())
            .await
            .expect("it is taken");
        stream.flush().await.expect("it is sent");
        for _ in 0..answers {
            let answered = tokio::time::timeout(PATIENCE, answer(&mut stream)).await;
            let (head, status) = answered.unwrap_or_else(|_| panic!("no answer to {text:?}"));
            assert_eq!(status, 200, "{head}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_every_length_follow_one_another() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let files = certificate(place.path(), "one.test");
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [
                { "name": "public", "address": "127.0.0.1:0" },
                { "name": "secured", "address": "127.0.0.1:0", "tls": {
                    "certificates": [entry("one.test", &files)] } },
            ],
        }))
        .await;
    let plain = TcpStream::connect(gateway.address("public").await).await;
    talk(plain.expect("a connection")).await;
    let address = gateway.address("secured").await;
    let secured = connect(address, "one.test", &files.0, &[b"http/1.1"]).await;
    talk(secured.expect("a connection")).await;
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_chosen_by_name_and_renewed_in_place() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let (one, two) = (
        certificate(place.path(), "one.test"),
        certificate(place.path(), "two.test"),
    );
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [{ "name": "public", "address": "127.0.0.1:0", "tls": {
                "certificates": [entry("one.test", &one), entry("two.test", &two)] } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let stream = connect(address, "two.test", &two.0, &[b"h2"])
        .await
        .unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let asked = async |sender: &mut hyper::client::conn::http2::SendRequest<Empty<Bytes>>| {
        let request = Request::get("https://two.test/")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&body).unwrap()
    };
    assert_eq!(
        asked(&mut sender).await["headers"]["x-forwarded-proto"],
        "https"
    );
    let stream = connect(address, "one.test", &one.0, &[b"http/1.1"])
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    // A renewed certificate is shown to who comes next; who is there stays.
    let renewed = tempfile::tempdir().unwrap();
    let fresh = certificate(renewed.path(), "two.test");
    std::fs::copy(&fresh.1, &two.1).unwrap();
    std::fs::copy(&fresh.0, &two.0).unwrap();
    until("the new certificate is shown", async || {
        connect(address, "two.test", &fresh.0, &[b"h2"])
            .await
            .is_ok()
    })
    .await;
    assert_eq!(asked(&mut sender).await["name"], "orders");
    drop(sender);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_brings_certificates_and_pushes_finds_them_in_use_whatever_times_the_files_have() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let used = certificate(place.path(), "one.test");
    // As those that an archive without times brings.
    let bring = |files: &(PathBuf, PathBuf)| {
        for (from, to) in [(&files.1, &used.1), (&files.0, &used.0)] {
            let text = std::fs::read(from).unwrap();
            std::fs::write(to, text).unwrap();
            let file = std::fs::File::options().write(true).open(to).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
    };
    bring(&used);
    let configuration = json!({
        "services": orders(&[&upstream]),
        "listeners": [{ "name": "public", "address": "127.0.0.1:0", "tls": {
            "certificates": [entry("one.test", &used)] } }],
    });
    gateway.configure(configuration.clone()).await;
    let address = gateway.address("public").await;
    let renewed = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let fresh = certificate(renewed.path(), "one.test");
        bring(&fresh);
        gateway.configure(configuration.clone()).await;
        let shown = connect(address, "one.test", &fresh.0, &[b"h2"]).await;
        assert!(shown.is_ok(), "{shown:?}");
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_certificate_is_refused() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (one, two) = (
        certificate(place.path(), "one.test"),
        certificate(place.path(), "two.test"),
    );
    let config = crate::bench::configuration(json!({
        "listeners": [{ "name": "public", "address": "127.0.0.1:0", "tls": {
            "certificates": [entry("one.test", &(one.0, two.1))] } }],
    }));
    let refused = gateway
        .admin
        .put_config(&config)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("listeners.0.tls"), "{refused}");
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_compressed_where_asked() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "routes": [{ "name": "all", "service": "orders", "compress": true }],
        }))
        .await;
    let address = gateway.address("public").await;
    let padding = "x".repeat(2_000);
    for (accepted, expected) in [
        ("gzip", "gzip"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip;q=0.5, br;q=0.9", "br"),
        ("gzip;q=0", ""),
        ("identity", ""),
    ] {
        let headers = [
            ("accept-encoding", accepted),
            ("x-padding", padding.as_str()),
        ];
        let answer = ask(&client(), "GET", address, "/", &headers, b"")
            .await
            .unwrap();
        assert_eq!(answer.header("content-encoding"), expected);
        assert_eq!(
            answer.body.len() < 2_000,
            !expected.is_empty(),
            "{accepted}"
        );
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_authority_signs_for_every_name_that_is_asked_for() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let folder = place.path().join("authority");
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [{ "name": "public", "address": "127.0.0.1:0", "tls": { "development": folder } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let believed = folder.join("ca.pem");
    // The last is no name, so that none is sent: it is for this machine.
    for name in ["shop.test", "a.b.shop.test", "localhost", "127.0.0.1"] {
        let shown = connect(address, name, &believed, &[b"http/1.1"]).await;
        talk(shown.expect(name)).await;
    }
    let stranger = certificate(place.path(), "shop.test");
    let shown = connect(address, "shop.test", &stranger.0, &[b"http/1.1"]).await;
    assert!(shown.is_err());
    gateway.drain().await;
    // It is the same authority after a restart.
    let gateway = place.gateway().await;
    let shown = connect(address, "shop.test", &believed, &[b"http/1.1"]).await;
    talk(shown.expect("the same authority")).await;
    gateway.drain().await;
}

/// Whether an answer tells browsers to stay with TLS.
async fn told(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), target: &str) -> bool {
    let request = format!("GET {target} HTTP/1.1\r\nHost: one.test\r\n\r\n");
    let written = stream.write_all(request.as_bytes()).await;
    written.expect("it is taken");
    stream.flush().await.expect("it is sent");
    let (head, status) = answer(stream).await;
    assert_eq!(status, 200);
    head.contains("\r\nstrict-transport-security: max-age=31536000\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_are_told_to_stay_with_tls_only_over_tls() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let files = certificate(place.path(), "one.test");
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [
                { "name": "public", "address": "127.0.0.1:0" },
                { "name": "secured", "address": "127.0.0.1:0", "tls": {
                    "certificates": [entry("one.test", &files)] } },
            ],
            "routes": [
                { "name": "all", "service": "orders", "security_headers": true },
                { "name": "bare", "service": "orders", "match": { "path": { "exact": "/bare" } } },
            ],
        }))
        .await;
    let secured = gateway.address("secured").await;
    let secured = connect(secured, "one.test", &files.0, &[b"http/1.1"]).await;
    let plain = TcpStream::connect(gateway.address("public").await).await;
    let (mut secured, mut plain) = (secured.expect("TLS"), plain.expect("a connection"));
    assert!(told(&mut secured, "/").await);
    assert!(!told(&mut secured, "/bare").await);
    assert!(!told(&mut plain, "/").await);
    drop((secured, plain));
    gateway.drain().await;
}
