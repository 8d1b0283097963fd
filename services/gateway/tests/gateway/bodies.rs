//! Bodies that take too long, or are larger than is allowed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;

use crate::bench::{PATIENCE, Place, Upstream, ask, client, orders};
use crate::grpc::channel;

/// How a client of these tests speaks.
const PROTOCOLS: [&str; 2] = ["HTTP/1.1", "HTTP/2"];

/// Begins a request whose body is written through what is returned first.
async fn begun(
    address: SocketAddr,
    protocol: &str,
    kind: &str,
) -> (
    UnboundedSender<Frame<Bytes>>,
    tokio::task::JoinHandle<hyper::Result<http::Response<Incoming>>>,
) {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let stream = TokioIo::new(stream);
    let (parts, body) = channel();
    let request = Request::post(format!("http://{address}/"))
        .header("host", address.to_string())
        .header("content-type", kind)
        .body(body)
        .expect("a request");
    let answering = if protocol == "HTTP/2" {
        let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await;
        let (mut sender, connection) = made.expect("a connection");
        tokio::spawn(connection);
        tokio::spawn(async move { sender.send_request(request).await })
    } else {
        let made = hyper::client::conn::http1::handshake(stream).await;
        let (mut sender, connection) = made.expect("a connection");
        tokio::spawn(connection);
        tokio::spawn(async move { sender.send_request(request).await })
    };
    (parts, answering)
}

/// Status and code of an answer that the gateway gave itself.
async fn told(answer: http::Response<Incoming>) -> (u16, Value) {
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a body");
    let problem: Value = serde_json::from_slice(&body.to_bytes()).expect("a problem document");
    (status, problem["code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_in_has_the_time_of_its_route_and_no_more() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let mut services = orders(&[&upstream]);
    services["second"] = services["orders"].clone();
    services["second"]["http2"] = json!(true);
    let timeouts = json!({ "total_ms": 400 });
    gateway
        .configure(json!({
            "services": services,
            "routes": [
                { "name": "first", "service": "orders", "timeouts": timeouts },
                { "name": "second", "service": "second", "timeouts": timeouts, "match": { "methods": ["POST"],
                  "headers": { "content-type": { "exact": "second" } } } },
            ],
        }))
        .await;
    let address = gateway.address("public").await;
    for protocol in PROTOCOLS {
        for kind in ["first", "second"] {
            let (parts, mut answering) = begun(address, protocol, kind).await;
            let dripping = async {
                loop {
                    let _ = parts.send(Frame::data(Bytes::from_static(b"x")));
                    // Sooner than any pause would be too long.
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
            };
            let answer = tokio::select! {
                () = dripping => unreachable!("it has no end"),
                answered = tokio::time::timeout(PATIENCE, &mut answering) => answered,
            };
            let answer = answer.expect("an answer in time").expect("no panic");
            let answer = answer.expect("an answer");
            let expected = (408, json!("slow-request"));
            assert_eq!(told(answer).await, expected, "{protocol} {kind}");
        }
    }
    // A large body over a slow line is no drip, and takes as long as it takes.
    for protocol in PROTOCOLS {
        let (parts, answering) = begun(address, protocol, "first").await;
        for _ in 0..15 {
            let _ = parts.send(Frame::data(Bytes::from_static(&[b'x'; 500])));
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        drop(parts);
        let answer = tokio::time::timeout(PATIENCE, answering).await;
        let answer = answer.expect("an answer in time").expect("no panic");
        assert_eq!(answer.expect("an answer").status(), 200, "{protocol}");
    }
    // The client's fault, and no release's.
    let tallies = gateway.counted().await;
    for service in ["orders", "second"] {
        let tally = tallies.version(service, "r1").expect("it was asked");
        assert_eq!((tally.aborted, tally.bad), (2, 0), "{service}");
    }
    // What streams by its nature goes on.
    let (parts, answering) = begun(address, "HTTP/2", "application/grpc").await;
    for _ in 0..12 {
        let _ = parts.send(Frame::data(Bytes::from_static(b"x")));
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    drop(parts);
    let answer = tokio::time::timeout(PATIENCE, answering).await;
    let answer = answer.expect("an answer in time").expect("no panic");
    assert_eq!(answer.expect("an answer").status(), 200);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_turns_out_too_large_is_the_client_s_fault() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "routes": [{ "name": "all", "service": "orders", "max_body": 1000 }],
        }))
        .await;
    let address = gateway.address("public").await;
    for protocol in PROTOCOLS {
        let (parts, answering) = begun(address, protocol, "text/plain").await;
        for _ in 0..3 {
            let _ = parts.send(Frame::data(vec![b'x'; 400].into()));
        }
        let answer = tokio::time::timeout(PATIENCE, answering).await;
        let answer = answer.expect("an answer in time").expect("no panic");
        let expected = (413, json!("body-too-large"));
        assert_eq!(
            told(answer.expect("an answer")).await,
            expected,
            "{protocol}"
        );
        drop(parts);
    }
    let tallies = gateway.counted().await;
    let tally = tallies.version("orders", "r1").expect("it was asked");
    assert_eq!((tally.aborted, tally.bad), (2, 0));
    gateway.drain().await;
}

/// Answers with so many bytes as a path says, in chunks or with their length.
async fn generous() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(async |request: Request<Incoming>| {
                let mut path = request.uri().path().split('/').skip(1);
                let stated = path.next() == Some("stated");
                let length: usize = path
                    .next()
                    .and_then(|it| it.parse().ok())
                    .expect("a length");
                let (parts, body) = channel();
                let sent = if request.method() == http::Method::HEAD {
                    0
                } else {
                    length
                };
                for _ in 0..sent / 100 {
                    let _ = parts.send(Frame::data(vec![b'x'; 100].into()));
                }
                let mut answer = Response::builder().header("cache-control", "max-age=60");
                if stated {
                    answer = answer.header("content-length", length);
                }
                Ok::<_, Infallible>(answer.body(body).expect("an answer"))
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                let _ = builder
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_larger_than_its_route_lets_through_is_none() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let endpoint = json!([{ "id": "one", "address": generous().await.to_string() }]);
    let http1 = client();
    let http2 = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let mut revision = 0;
    for (second, cache) in [(false, false), (true, false), (false, true)] {
        revision += 1;
        gateway
            .configure(json!({
                "revision": revision,
                "services": { "orders": { "http2": second,
                    "versions": { format!("r{revision}"): { "weight": 1000, "endpoints": endpoint } } } },
                "routes": [{ "name": "all", "service": "orders", "max_answer": 1000,
                    "cache": cache.then(|| json!({})) }],
            }))
            .await;
        let address = gateway.address("public").await;
        for client in [&http1, &http2] {
            let get = async |target: &str| ask(client, "GET", address, target, &[], b"").await;
            for target in ["/stated/1000", "/chunked/1000"] {
                let answer = get(target).await.expect("an answer");
                assert_eq!((answer.status, answer.body.len()), (200, 1000), "{target}");
            }
            let answer = get("/stated/1100").await.expect("an answer");
            let told = (answer.status, answer.json()["code"].clone());
            assert_eq!(told, (502, json!("answer-too-large")));
            // Nothing of it is taken for the whole; where nothing was sent yet, it can be told.
            for _ in 0..2 {
                let answer = get("/chunked/90000").await;
                assert!(answer.is_err() || answer.is_ok_and(|it| it.status == 502));
            }
            if !cache {
                // No body follows, however long it would be. To keep it, it is asked for whole.
                let answer = ask(client, "HEAD", address, "/stated/1100", &[], b"").await;
                assert_eq!(answer.expect("an answer").status, 200);
            }
        }
        let tallies = gateway.counted().await;
        let tally = tallies.version("orders", &format!("r{revision}"));
        let tally = tally.expect("it was asked");
        assert_eq!((tally.bad, tally.unreachable), (6, 0), "{second} {cache}");
    }
    gateway.drain().await;
}
