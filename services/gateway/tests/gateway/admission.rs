//! Who is let in and how often, beyond the usual: by key, subject, role, certificate, and while there is room.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::bench::{Behaviour, Http, Place, Upstream, ask, client, get, orders, until};
use crate::secured::certificate;

/// Signs tokens of one issuer.
struct Issuer(Ed25519KeyPair);

impl Issuer {
    fn new() -> Self {
        Self(Ed25519KeyPair::generate().expect("a key"))
    }

    fn identity(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref());
        let keys = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": x }] });
        json!({ "jwks": { "inline": keys.to_string() } })
    }

    /// The value of an `Authorization` field.
    fn bearer(&self, subject: &str, roles: &[&str]) -> String {
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({ "sub": subject, "roles": roles, "exp": 4_000_000_000_u64 });
        let head = json!({ "alg": "EdDSA", "kid": "k1" });
        let signed = format!("{}.{}", encode(head), encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes()).as_ref());
        format!("Bearer {signed}.{signature}")
    }
}

async fn status(client: &Http, address: SocketAddr, target: &str, header: (&str, &str)) -> u16 {
    ask(client, "GET", address, target, &[header], b"")
        .await
        .expect("an answer")
        .status
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_count_by_key_by_subject_and_by_route() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let issuer = Issuer::new();
    let key = |name: &str| json!({ "name": name, "sha256": hex::encode(Sha256::digest(name)) });
    let limit = |per: &str| json!({ "requests": 2, "every_ms": 600_000, "per": per });
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "identity": issuer.identity(),
            "routes": [
                { "name": "key", "service": "orders", "match": { "path": { "prefix": "/key" } },
                  "auth": { "api_keys": [key("first"), key("second")] }, "rate_limit": limit("api-key") },
                { "name": "subject", "service": "orders", "match": { "path": { "prefix": "/subject" } },
                  "auth": {}, "rate_limit": limit("subject") },
                { "name": "route", "service": "orders", "match": { "path": { "prefix": "/route" } },
                  "rate_limit": limit("route") },
            ],
            "trusted_proxies": ["127.0.0.1"],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    // Two tokens of one subject count together.
    let (ann, also_ann) = (issuer.bearer("ann", &[]), issuer.bearer("ann", &["clerk"]));
    let bob = issuer.bearer("bob", &[]);
    let cases = [
        ("/key", "x-api-key", ["first", "first", "first", "second"]),
        (
            "/subject",
            "authorization",
            [&*ann, &*also_ann, &*ann, &*bob],
        ),
    ];
    for (target, name, values) in cases {
        for (value, expected) in values.into_iter().zip([200, 200, 429, 200]) {
            let seen = status(&client, address, target, (name, value)).await;
            assert_eq!(seen, expected, "{target} {value}");
        }
    }
    for (from, expected) in [("10.0.0.1", 200), ("10.0.0.2", 200), ("10.0.0.3", 429)] {
        let header = ("x-forwarded-for", from);
        assert_eq!(status(&client, address, "/route", header).await, expected);
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_one_network_of_ipv6_count_together() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "routes": [{ "name": "all", "service": "orders",
                "rate_limit": { "requests": 2, "every_ms": 600_000 } }],
            "trusted_proxies": ["127.0.0.1"],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    for (from, expected) in [
        ("2001:db8:1:2::1", 200),
        ("2001:db8:1:2:ffff::7", 200),
        ("2001:db8:1:2::9", 429),
        ("2001:db8:1:3::1", 200),
        // An address of IPv4 is a client of its own.
        ("192.0.2.1", 200),
        ("192.0.2.2", 200),
    ] {
        let seen = status(&client, address, "/", ("x-forwarded-for", from)).await;
        assert_eq!(seen, expected, "{from}");
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_takes_as_many_connections_as_it_may() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [{ "name": "public", "address": "127.0.0.1:0", "limits": { "connections": 2 } }],
        }))
        .await;
    let address = gateway.address("public").await;
    // The connection, once a request on it was answered.
    let served = async || {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.ok()?;
        assert_eq!(&start, b"HTTP/1.1 200");
        Some(stream)
    };
    let first = served().await.expect("room");
    let _second = served().await.expect("room");
    for _ in 0..3 {
        assert!(served().await.is_none());
    }
    assert_eq!(upstream.asked(), 2);
    drop(first);
    until("there is room again", async || served().await.is_some()).await;
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_the_roles_is_needed() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let issuer = Issuer::new();
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "identity": issuer.identity(),
            "routes": [{ "name": "all", "service": "orders", "auth": { "roles": ["clerk", "admin"] } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    for (roles, expected) in [
        (&["clerk"][..], 200),
        (&["guest", "admin"], 200),
        (&["guest"], 403),
        (&[], 403),
    ] {
        let bearer = issuer.bearer("ann", roles);
        let seen = status(&client, address, "/", ("authorization", &bearer)).await;
        assert_eq!(seen, expected, "{roles:?}");
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_of_keys_have_roles_and_scopes() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let key = |name: &str, roles: &[&str]| json!({ "name": name, "sha256": hex::encode(Sha256::digest(name)), "scopes": ["read"], "roles": roles });
    let keys = json!([
        key("clerk", &["clerk"]),
        key("guest", &["guest"]),
        key("nobody", &[])
    ]);
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "routes": [{ "name": "all", "service": "orders",
                "auth": { "scopes": ["read"], "roles": ["clerk", "admin"], "api_keys": keys } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    for (key, expected) in [
        ("clerk", 200),
        ("guest", 403),
        ("nobody", 403),
        ("else", 401),
    ] {
        let seen = status(&client, address, "/", ("x-api-key", key)).await;
        assert_eq!(seen, expected, "{key}");
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_is_not_listened_to_for_a_while() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let keys = json!([{ "name": "ci", "sha256": hex::encode(Sha256::digest("secret")) }]);
    let auth = json!({ "api_keys": keys, "failures": 3, "scopes": [] });
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "identity": issuer.identity(),
            "trusted_proxies": ["127.0.0.1"],
            "routes": [
                { "name": "all", "service": "orders", "auth": auth },
                { "name": "open", "service": "orders", "match": { "path": { "prefix": "/open" } },
                  "auth": { "api_keys": keys, "failures": 0 } },
            ],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let asked = async |target: &str, from: &str, name: &str, value: &str| {
        let headers = [("x-forwarded-for", from), (name, value)];
        let asked = ask(&client, "GET", address, target, &headers, b"").await;
        asked.unwrap()
    };
    let forged = stranger.bearer("ann", &[]);
    let guesses = [
        ("x-api-key", "a"),
        ("x-api-key", "b"),
        ("authorization", &*forged),
    ];
    for (name, value) in guesses {
        assert_eq!(asked("/", "10.0.0.1", name, value).await.status, 401);
        // What shows nothing guesses nothing, and what is good costs nothing.
        assert_eq!(asked("/", "10.0.0.1", "x-other", "1").await.status, 401);
        assert_eq!(
            asked("/", "10.0.0.2", "x-api-key", "secret").await.status,
            200
        );
    }
    let found = asked("/", "10.0.0.1", "x-api-key", "secret").await;
    assert_eq!(found.status, 429);
    assert_eq!(found.json()["code"], "too-many-failures");
    assert!(found.header("retry-after").parse::<u64>().unwrap() <= 20);
    assert_eq!(
        asked("/", "10.0.0.1", "authorization", &forged)
            .await
            .status,
        429
    );
    // Other addresses and other routes have counts of their own.
    assert_eq!(
        asked("/", "10.0.0.2", "x-api-key", "secret").await.status,
        200
    );
    for _ in 0..9 {
        assert_eq!(
            asked("/open", "10.0.0.1", "x-api-key", "a").await.status,
            401
        );
    }
    assert_eq!(
        asked("/open", "10.0.0.1", "x-api-key", "secret")
            .await
            .status,
        200
    );
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_room_is_told_so_at_once() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let behaviour = Behaviour {
        delay: Duration::from_secs(2),
        ..Behaviour::default()
    };
    let upstream = Upstream::start_with("slow", behaviour).await;
    let mut limited = orders(&[&upstream]);
    limited["orders"]["limits"] = json!({ "concurrent_per_endpoint": 1 });
    let configs = [
        json!({ "services": orders(&[&upstream]), "max_requests": 1 }),
        json!({ "services": limited, "revision": 2 }),
    ];
    let client = client();
    for (before, config) in (0_u64..).zip(configs) {
        gateway.configure(config).await;
        let address = gateway.address("public").await;
        let held = {
            let client = client.clone();
            tokio::spawn(async move { get(&client, address, "/").await.status })
        };
        until("one is under way", async || upstream.asked() == before + 1).await;
        let answer = get(&client, address, "/").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
        assert_eq!(held.await.unwrap(), 200);
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn good_answers_may_be_left_out_of_the_log() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let mut services = orders(&[&upstream]);
    services["gone"] = json!({});
    gateway
        .configure(json!({
            "services": services,
            "access_log": { "sample": 0 },
            "routes": [
                { "name": "all", "service": "orders" },
                { "name": "gone", "service": "gone", "match": { "path": { "prefix": "/gone" } } },
            ],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    for _ in 0..5 {
        assert_eq!(get(&client, address, "/").await.status, 200);
    }
    assert_eq!(get(&client, address, "/gone").await.status, 503);
    let log = place.log();
    until("the bad one is written", async || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("/gone"));
    gateway.drain().await;
}

/// A client of TLS that shows a certificate or none, and takes its sessions up again.
fn tls_client(
    trusted: &PathBuf,
    own: Option<&(PathBuf, PathBuf)>,
    version: &'static rustls::SupportedProtocolVersion,
) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(trusted).expect("a certificate"))
        .expect("it can be trusted");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("TLS")
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).expect("a certificate")];
            let key = PrivateKeyDer::from_pem_file(key).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    TlsConnector::from(Arc::new(config))
}

/// Asks over TLS; the first line of the answer.
async fn asked_over_tls(address: SocketAddr, client: &TlsConnector) -> std::io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("shop.test").expect("a name");
    let mut stream = client.connect(name, stream).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
        .await?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_certificates_and_speak_no_older_tls_where_asked() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let own = certificate(place.path(), "shop.test");
    let (known, foreign) = (
        certificate(place.path(), "known.test"),
        certificate(place.path(), "foreign.test"),
    );
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [{ "name": "public", "address": "127.0.0.1:0", "tls": {
                "certificates": [{ "certificate": own.0, "key": own.1 }],
                "client_ca": known.0, "minimum": "1.3" } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let (old, new) = (&rustls::version::TLS12, &rustls::version::TLS13);
    for (shown, version, expected) in [
        (Some(&known), new, true),
        (Some(&known), old, false),
        (Some(&foreign), new, false),
        (None, new, false),
    ] {
        let client = tls_client(&own.0, shown, version);
        let answer = asked_over_tls(address, &client).await;
        let good = answer.as_ref().is_ok_and(|line| line == "HTTP/1.1 200 OK");
        assert_eq!(good, expected, "{shown:?} {version:?}: {answer:?}");
    }
    assert_eq!(upstream.asked(), 1);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_of_clients_come_and_go_with_their_file() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let own = certificate(place.path(), "shop.test");
    let (first, second) = (
        certificate(place.path(), "first.test"),
        certificate(place.path(), "second.test"),
    );
    let authorities = place.path().join("clients.pem");
    std::fs::copy(&first.0, &authorities).unwrap();
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [{ "name": "public", "address": "127.0.0.1:0", "tls": {
                "certificates": [{ "certificate": own.0, "key": own.1 }], "client_ca": authorities } }],
        }))
        .await;
    let address = gateway.address("public").await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = |trusted, shown| tls_client(trusted, Some(shown), version);
        let (old, new) = (client(&own.0, &first), client(&own.0, &second));
        let asked = async |client| {
            let answer = asked_over_tls(address, client).await;
            answer.is_ok_and(|line| line == "HTTP/1.1 200 OK")
        };
        until("the first is let in", async || asked(&old).await).await;
        assert!(!asked(&new).await);
        std::fs::copy(&second.0, &authorities).unwrap();
        until("the second is let in", async || asked(&new).await).await;
        // Not by the session that it had, either.
        assert!(!asked(&old).await);
        // A file that holds no authority changes nothing; what is read with it shows that it was seen.
        let fresh = certificate(place.path(), "shop.test");
        std::fs::write(&authorities, "nothing").unwrap();
        let trusting = client(&fresh.0, &second);
        until("the renewed certificate is shown", async || {
            asked(&trusting).await
        })
        .await;
        assert!(!asked(&client(&fresh.0, &first)).await);
        std::fs::copy(&first.0, &authorities).unwrap();
    }
    gateway.drain().await;
}
