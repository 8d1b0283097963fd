//! How queries are asked, and what is made of the answers.

use std::io::{Read, Write};
use std::sync::Arc;

use platform_port::SecretValue;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::*;

#[test]
fn a_number_is_read_from_a_scalar_or_a_single_series() {
    let table = [
        (
            r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"3.25"]}}"#,
            Ok(3.25),
        ),
        (
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.5"]}]}}"#,
            Ok(0.5),
        ),
        (
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}}"#,
            Err("`NaN` is no number that can be compared, as where something was divided by 0"),
        ),
        (
            r#"{"status":"success","data":{"resultType":"scalar","result":[1,"+Inf"]}}"#,
            Err("`+Inf` is no number that can be compared, as where something was divided by 0"),
        ),
        (
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
            Err("0 series in place of one"),
        ),
        (
            r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#,
            Err("neither a scalar nor a vector"),
        ),
        (
            r#"{"status":"error","error":"parse error"}"#,
            Err("parse error"),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(number_in(text), expected.map_err(str::to_owned), "{text}");
    }
}

#[tokio::test]
async fn a_command_that_prints_no_number_is_told() {
    for (printed, expected) in [
        ("1.5", Ok(1.5)),
        ("nan", Err("`nan` is no number that can be compared")),
        ("-inf", Err("`-inf` is no number that can be compared")),
        ("much", Err("`much` is no number")),
    ] {
        let command = ["echo", printed].map(str::to_owned);
        let group = "orders@r5".parse().unwrap();
        match (
            from_command(&command, Path::new("/"), &group).await,
            expected,
        ) {
            (Err(error), Err(expected)) => assert!(error.starts_with(expected), "{error}"),
            (read, expected) => assert_eq!(read, expected.map_err(str::to_owned)),
        }
    }
}

fn metric(address: &str, headers: &str) -> Metric {
    let text = format!(
        r#"{{ "name": "heap", "query": "heap", "prometheus": "{address}", "headers": {headers} }}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn secrets() -> SecretValues {
    let value = SecretValue::new("Bearer s3cr3t\n".to_owned());
    [("metrics".parse().unwrap(), value)].into()
}

async fn asked(address: &str, headers: &str) -> Result<f64, String> {
    let metric = metric(address, headers);
    let asking = asking(&metric, &secrets(), Path::new("/"));
    value(&metric, &asking, &"orders@r5".parse().unwrap()).await
}

#[tokio::test]
async fn a_query_is_sent_with_the_headers_that_are_asked_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let body = r#"{"data":{"resultType":"scalar","result":[1,"5"]}}"#;
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(head).unwrap()
    });
    let headers = r#"{ "Authorization": { "secret": "metrics" }, "X-Scope-OrgID": "shop" }"#;
    assert_eq!(asked(&address, headers).await, Ok(5.0));
    let head = answers.join().unwrap();
    assert!(head.contains("authorization: Bearer s3cr3t\r\n"), "{head}");
    assert!(head.contains("x-scope-orgid: shop\r\n"), "{head}");
}

#[tokio::test]
async fn an_answer_that_never_ends_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b' '; 4096]).await.is_ok() {}
    });
    let told = asked(&address, "{}").await;
    assert_eq!(
        told,
        Err("answered 200 OK with more than 1024 KiB".to_owned())
    );
    // Whoever asked has left.
    serving.await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_asked_says_why_and_no_secret() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let address = format!("http://ada:s3cr3t@127.0.0.1:{port}");
    for (headers, expected) in [
        ("{}", "error sending request"),
        (
            r#"{ "Authorization": { "secret": "other" } }"#,
            "secret `other` has no value",
        ),
        (r#"{ "a b": "c" }"#, "`a b` cannot be the name of a header"),
        (
            r#"{ "a": "b\nc" }"#,
            "the value of `a` cannot be sent as a header",
        ),
    ] {
        let error = asked(&address, headers).await.unwrap_err();
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains("s3cr3t"), "{error}");
    }
    let shown = super::headers(
        &metric(&address, r#"{ "Authorization": { "secret": "metrics" } }"#).headers,
        &secrets(),
    );
    assert!(!format!("{shown:?}").contains("s3cr3t"));
}

#[test]
fn the_query_is_told_which_side_is_meant() {
    let group: GroupId = "orders@r5-baseline".parse().unwrap();
    let query = "rate(x{service=\"${SERVICE}\",version=\"${VERSION}\"}[1m])";
    assert_eq!(
        filled(query, &group),
        "rate(x{service=\"orders\",version=\"r5-baseline\"}[1m])"
    );
}

/// A Prometheus whose certificate an authority signed that nobody else knows.
struct Secured {
    /// Holds the authority's certificate, as `ca.pem`.
    folder: tempfile::TempDir,
    address: String,
    _serving: AbortOnDropHandle<()>,
}

impl Secured {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), own.pem()).unwrap();
        let authority = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let named = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let shown = named.signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![shown.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Whoever does not believe the certificate leaves.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let body = r#"{"data":{"resultType":"scalar","result":[1,"5"]}}"#;
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        Self {
            folder,
            address: format!("https://localhost:{port}"),
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// The number that is read with this authority, which lies beside the blueprint.
    async fn asked(&self, ca: Option<&str>) -> Result<f64, String> {
        let metric = Metric {
            ca: ca.map(str::to_owned),
            ..metric(&self.address, "{}")
        };
        let asking = asking(&metric, &secrets(), self.folder.path());
        value(&metric, &asking, &"orders@r5".parse().unwrap()).await
    }
}

#[tokio::test]
async fn an_authority_of_its_own_is_believed_where_it_is_named() {
    let secured = Secured::start().await;
    assert_eq!(secured.asked(Some("ca.pem")).await, Ok(5.0));
    let stranger = secured.asked(None).await.unwrap_err();
    assert!(stranger.contains("certificate"), "{stranger}");
    // Another one than signed it.
    let other = Secured::start().await;
    let both = secured.folder.path().join("other.pem");
    std::fs::copy(other.folder.path().join("ca.pem"), both).unwrap();
    let stranger = secured.asked(Some("other.pem")).await.unwrap_err();
    assert!(stranger.contains("certificate"), "{stranger}");
}

#[test]
fn a_file_that_holds_no_authority_is_told_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "good.pem",
        "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
    );
    write(
        "key.pem",
        "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n",
    );
    write("torn.pem", "-----BEGIN CERTIFICATE-----\nMA");
    let told = |file: &str| authorities(&folder.path().join(file)).err();
    assert_eq!(told("good.pem"), None);
    for (file, expected) in [
        ("key.pem", "no certificate in PEM"),
        ("torn.pem", "is of no use"),
        ("gone.pem", "No such file"),
    ] {
        let told = told(file).unwrap();
        assert!(told.contains(expected) && told.contains(file), "{told}");
    }
}
