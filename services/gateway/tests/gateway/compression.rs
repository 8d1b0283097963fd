//! Answers that the client gets in fewer bytes: which, by what, and when their parts arrive.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::bench::{PATIENCE, Place, Upstream, ask, at, client, orders};
use crate::grpc::{Written, channel, service};

/// Answers in two parts, the second when it is told to; of the media type that the path names.
async fn in_parts(go_on: Arc<Notify>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let go_on = go_on.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let go_on = go_on.clone();
                async move {
                    let (sender, body) = channel();
                    tokio::spawn(async move {
                        let _ = sender.send(Frame::data("first,".repeat(100).into()));
                        go_on.notified().await;
                        let _ = sender.send(Frame::data("second".into()));
                    });
                    let kind = &request.uri().path()[1..];
                    let answer = Response::builder().header("content-type", kind);
                    Ok::<_, Infallible>(answer.body(body).expect("an answer"))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

/// Reads what was coded, as far as it came.
enum Decoder {
    Gzip(flate2::write::GzDecoder<Vec<u8>>),
    Brotli(Box<brotli::DecompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
    Plain(Vec<u8>),
}

impl Decoder {
    fn of(coding: &str) -> Self {
        match coding {
            "gzip" => Self::Gzip(flate2::write::GzDecoder::new(Vec::new())),
            "br" => Self::Brotli(Box::new(brotli::DecompressorWriter::new(Vec::new(), 4096))),
            "zstd" => Self::Zstd(zstd::stream::write::Decoder::new(Vec::new()).expect("a decoder")),
            _ => Self::Plain(Vec::new()),
        }
    }

    /// Takes a part in; all that can be read by now.
    fn read(&mut self, part: &Bytes) -> String {
        fn into(decoder: &mut impl Write, part: &Bytes) {
            decoder.write_all(part).expect("it is coded well");
            decoder.flush().expect("it is coded well");
        }
        let text = match self {
            Self::Gzip(decoder) => {
                into(decoder, part);
                decoder.get_ref()
            }
            Self::Brotli(decoder) => {
                into(decoder, part);
                decoder.get_ref()
            }
            Self::Zstd(decoder) => {
                into(decoder, part);
                decoder.get_ref()
            }
            Self::Plain(text) => {
                text.extend_from_slice(part);
                &*text
            }
        };
        String::from_utf8_lossy(text).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_parts_is_compressed_part_by_part() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let go_on = Arc::new(Notify::new());
    let services = at(in_parts(go_on.clone()).await);
    gateway
        .configure(json!({
            "services": services,
            "routes": [{ "name": "all", "service": "orders", "compress": true }],
        }))
        .await;
    let address = gateway.address("public").await;
    let client = client();
    let first = "first,".repeat(100);
    for (kind, coding, expected) in [
        ("application/json", "gzip", "gzip"),
        ("application/json", "br", "br"),
        ("text/html", "zstd", "zstd"),
        // Who reads events may know no coding, and pictures have their own.
        ("text/event-stream", "gzip", ""),
        ("image/png", "gzip", ""),
    ] {
        let request = Request::get(format!("http://{address}/{kind}"))
            .header("accept-encoding", coding)
            .body(http_body_util::Full::default())
            .unwrap();
        let exchange = async {
            let answer = client.request(request).await.unwrap();
            let said = answer.headers().get("content-encoding");
            let said = said.map_or("", |said| said.to_str().unwrap()).to_owned();
            let mut body = answer.into_body();
            let mut decoder = Decoder::of(&said);
            let (mut text, mut coded) = (String::new(), 0);
            while let Some(frame) = body.frame().await {
                let part = frame.unwrap().into_data().unwrap();
                coded += part.len();
                text = decoder.read(&part);
                if text == first {
                    go_on.notify_one();
                }
            }
            (said, text, coded)
        };
        let (said, text, coded) = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
        assert_eq!(said, expected, "{kind}");
        assert_eq!(text, format!("{first}second"), "{kind} {coding}");
        assert_eq!(
            coded < 200,
            !expected.is_empty(),
            "{kind} {coding}: {coded}"
        );
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_says_by_what_it_compresses() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "routes": [{ "name": "all", "service": "orders", "compress": true, "encodings": ["gzip", "zstd"] }],
        }))
        .await;
    let address = gateway.address("public").await;
    for (accepted, expected) in [
        ("br", ""),
        ("br, gzip;q=0.5", "gzip"),
        ("zstd, gzip", "zstd"),
        ("deflate", ""),
    ] {
        let padding = "x".repeat(2_000);
        let headers = [("accept-encoding", accepted), ("x-padding", &*padding)];
        let answer = ask(&client(), "GET", address, "/", &headers, b"").await;
        let answer = answer.unwrap();
        assert_eq!(answer.header("content-encoding"), expected, "{accepted}");
        assert_eq!(
            answer.body.len() < 2_000,
            !expected.is_empty(),
            "{accepted}"
        );
    }
    gateway.drain().await;
}

/// Answers with a trailer where the request says that such are taken, in the media type of the request.
async fn with_trailers(request: Request<Incoming>) -> Response<Written> {
    let taken = request.headers().get("te").cloned();
    let kind = request.headers()["content-type"].clone();
    let (parts, body) = channel();
    let _ = parts.send(Frame::data("text,".repeat(100).into()));
    if let Some(taken) = &taken {
        let trailers = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("x-sum"),
            http::HeaderValue::from_static("7"),
        )]);
        assert_eq!(taken, "trailers");
        let _ = parts.send(Frame::trailers(trailers));
    }
    let answer = Response::builder().header("content-type", kind);
    answer.body(body).expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_sends_trailers_where_none_are_lost() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let mut services = at(service(with_trailers).await);
    services["orders"]["http2"] = json!(true);
    gateway
        .configure(json!({
            "services": services,
            "routes": [
                { "name": "plain", "service": "orders", "match": { "path": { "prefix": "/plain" } } },
                { "name": "all", "service": "orders", "compress": true, "encodings": ["gzip"] },
            ],
        }))
        .await;
    let address = gateway.address("public").await;
    let stream = tokio::net::TcpStream::connect(address).await;
    let stream = TokioIo::new(stream.expect("a connection"));
    let executor = hyper_util::rt::TokioExecutor::new();
    let shaken = hyper::client::conn::http2::handshake(executor, stream).await;
    let (mut sender, connection) = shaken.expect("HTTP/2");
    tokio::spawn(connection);
    let cases = [
        ("/", "gzip, br", "text/plain", false),
        ("/", "br", "text/plain", true),
        ("/", "gzip", "application/grpc", true),
        ("/plain", "gzip", "text/plain", true),
    ];
    for (path, codings, kind, expected) in cases {
        let request = Request::get(format!("http://{address}{path}"))
            .header("te", "trailers")
            .header("accept-encoding", codings)
            .header("content-type", kind)
            .body(http_body_util::Empty::<Bytes>::new())
            .expect("a request");
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        let answer = answer.expect("an answer in time").expect("an answer");
        let (head, body) = answer.into_parts();
        let whole = body.collect().await.expect("a body");
        let sum = whole.trailers().map(|trailers| trailers["x-sum"].clone());
        let coded = head.headers.contains_key("content-encoding");
        let seen = (sum.is_some(), coded);
        assert_eq!(seen, (expected, !expected), "{path} {codings} {kind}");
        let mut decoder = Decoder::of(if coded { "gzip" } else { "" });
        let text = decoder.read(&whole.to_bytes());
        assert_eq!(text, "text,".repeat(100), "{path} {codings} {kind}");
    }
    gateway.drain().await;
}
