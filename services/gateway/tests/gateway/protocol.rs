//! Protocols and bodies of every kind pass, and malformed ones do not.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::bench::{PATIENCE, Place, Upstream, ask, at, client, orders};

/// Sends bytes as they are and returns what comes back until the end or a pause.
async fn raw(address: SocketAddr, text: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(text).await.expect("it is sent");
    let mut all = Vec::new();
    let mut part = [0; 4096];
    // However busy the machine is, something comes; only after that a pause is an end.
    let mut patience = PATIENCE;
    while let Ok(Ok(count @ 1..)) = tokio::time::timeout(patience, stream.read(&mut part)).await {
        all.extend_from_slice(&part[..count]);
        patience = Duration::from_millis(400);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// A service that answers each connection with fixed bytes, and keeps what it was sent.
async fn fixed(
    answer: &'static [u8],
) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut part = vec![0; 65_536];
                if let Ok(count) = stream.read(&mut part).await {
                    part.truncate(count);
                    let _ = sender.send(part);
                    let _ = stream.write_all(answer).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    (address, receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_framing_is_refused_or_made_plain() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [
                { "name": "public", "address": "127.0.0.1:0" },
                { "name": "inside", "address": "127.0.0.1:0", "kind": { "internal": { "service": "orders" } } },
            ],
        }))
        .await;
    for listener in ["public", "inside"] {
        // Services share their connections, whoever asks over them.
        frames_are_plain(gateway.address(listener).await, &upstream).await;
    }
    gateway.drain().await;
}

async fn frames_are_plain(address: SocketAddr, upstream: &Upstream) {
    let before = upstream.asked();
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let refused = [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET admin HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://u@a/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        "GET admin\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nX: b\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a|b HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    ];
    for text in refused {
        let answer = raw(address, text.as_bytes()).await;
        assert!(!answer.contains(" 200 "), "{text:?}: {answer}");
        assert!(
            answer.matches("HTTP/1.1 ").count() < 2,
            "{text:?}: {answer}"
        );
    }
    assert_eq!(upstream.asked(), before);
    // A chunk size with a letter too many is none.
    let chunk =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5x\r\nhello\r\n0\r\n\r\n";
    let answer = raw(address, chunk.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // Both lengths: the chunked one counts, and the connection ends (RFC 9112, 6.3).
    let both = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}",
        smuggled.len()
    );
    let answer = raw(address, both.as_bytes()).await;
    assert!(!answer.contains("/smuggled"), "{answer}");
    // A line feed in what may follow a chunk's size is made plain, as nobody has to understand that.
    let extended = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;\nab\r\nhello\r\n{smuggled}"
    );
    let answer = raw(address, extended.as_bytes()).await;
    let whole = answer.contains("\"length\":5") && answer.contains("\"/smuggled\"");
    assert!(!answer.contains(" 200 ") || whole, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_get_a_path_and_a_host() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({ "services": orders(&[&upstream]) }))
        .await;
    let address = gateway.address("public").await;
    for (text, target, host) in [
        (
            "GET http://a.test:81/x?y HTTP/1.1\r\nHost: a.test:81\r\n\r\n",
            "/x?y",
            "a.test:81",
        ),
        ("GET /x HTTP/1.0\r\n\r\n", "/x", "orders"),
        // What no target may have reaches services escaped.
        (
            "GET /a\x01b\x7fc HTTP/1.1\r\nHost: a\r\n\r\n",
            "/a%01b%7Fc",
            "a",
        ),
    ] {
        let answer = raw(address, text.as_bytes()).await;
        let told = |part: &str| answer.contains(&format!("\"{part}\""));
        assert!(told(target) && told(host), "{text:?}: {answer}");
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({ "services": orders(&[&upstream]) }))
        .await;
    let address = gateway.address("public").await;
    let text = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET /3 HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = raw(address, text.as_bytes()).await;
    let found: Vec<_> = ["\"/1\"", "\"/2\"", "\"/3\""]
        .map(|target| answer.find(target))
        .into();
    assert!(
        found.is_sorted() && found.iter().all(Option::is_some),
        "{answer}"
    );
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_silent_clients_are_let_go() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [{ "name": "public", "address": "127.0.0.1:0", "limits": { "head_ms": 300, "keep_alive_ms": 700, "idle_ms": 300 } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let closes = async |first: &[u8], drip: &[u8]| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(first).await.unwrap();
        let started = std::time::Instant::now();
        let mut part = [0; 1024];
        let end = async {
            loop {
                tokio::select! {
                    read = stream.read(&mut part) => if !matches!(read, Ok(1..)) { break },
                    () = tokio::time::sleep(Duration::from_millis(50)) => {
                        let _ = stream.write_all(drip).await;
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, end)
            .await
            .expect("it is closed");
        started.elapsed()
    };
    // One byte of a head after the other.
    let took = closes(b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a").await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    let took = closes(b"", b"").await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    let took = closes(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
        b"",
    )
    .await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_lie_about_their_answer_are_found_out() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let cases: [(&[u8], &str); 5] = [
        (b"", " 502 "),
        (b"no HTTP at all\r\n\r\n", " 502 "),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            " 502 ",
        ),
        // The client has to see the body break off; or nothing at all, where the end came along with the head.
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
            "short",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nmore",
            "\r\n\r\nok",
        ),
    ];
    for (revision, (answer, expected)) in (1_u64..).zip(cases) {
        let (upstream, _kept) = fixed(answer).await;
        gateway
            .configure(json!({ "revision": revision, "services": at(upstream) }))
            .await;
        let address = gateway.address("public").await;
        let found = raw(
            address,
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        )
        .await;
        let nothing = expected == "short" && found.is_empty();
        assert!(
            nothing || found.contains(expected),
            "{:?}: {found}",
            String::from_utf8_lossy(answer)
        );
        assert!(!found.contains("more"), "{found}");
    }
    let tallies = gateway.counted().await;
    let tally = tallies.version("orders", "r1").unwrap();
    assert_eq!((tally.good, tally.bad, tally.unreachable), (1, 4, 3));
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_sockets_pass() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut part = vec![0; 4096];
        let _ = stream.read(&mut part).await.unwrap();
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // Echoes what it gets, after the handshake.
        while let Ok(count @ 1..) = stream.read(&mut part).await {
            stream.write_all(&part[..count]).await.unwrap();
        }
    });
    gateway.configure(json!({ "services": at(upstream) })).await;
    let address = gateway.address("public").await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "GET /live HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut part = vec![0; 4096];
    let count = stream.read(&mut part).await.unwrap();
    assert!(
        part[..count].starts_with(b"HTTP/1.1 101 "),
        "{}",
        String::from_utf8_lossy(&part[..count])
    );
    for text in ["one", "two"] {
        stream.write_all(text.as_bytes()).await.unwrap();
        let count = stream.read(&mut part).await.unwrap();
        assert_eq!(&part[..count], text.as_bytes());
    }
    // More than all buffers hold, in both directions at once.
    let much = 32 << 20;
    let (mut from, mut to) = stream.into_split();
    let sending = tokio::spawn(async move {
        to.write_all(&vec![b'x'; much]).await.unwrap();
        to
    });
    let mut received = 0;
    let receiving = async {
        let mut part = vec![0; 65_536];
        while received < much {
            received += from.read(&mut part).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, receiving)
        .await
        .expect("neither waits for the other");
    drop(sending.await.unwrap());
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_they_are_sent() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut part = vec![0; 4096];
        let _ = stream.read(&mut part).await.unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // The second only once the first was seen at the other end.
        gone.await.unwrap();
        stream
            .write_all(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
            .await
            .unwrap();
        let _ = stream.read(&mut part).await;
    });
    gateway
        .configure(json!({
            "services": at(upstream),
            "routes": [{ "name": "all", "service": "orders", "timeouts": { "total_ms": 200 } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let request = Request::get(format!("http://{address}/events"))
        .header("accept", "text/event-stream")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let mut body = client().request(request).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "data: 1\n\n");
    // Longer than the limit for an answer's head.
    tokio::time::sleep(Duration::from_millis(300)).await;
    go.send(()).unwrap();
    let second = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(second, "data: 2\n\n");
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_without_tls_on_both_sides() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let mut services = orders(&[&upstream]);
    services["orders"]["http2"] = json!(true);
    gateway.configure(json!({ "services": services })).await;
    let address = gateway.address("public").await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let mut tasks = Vec::new();
    for index in 0..20 {
        let mut sender = sender.clone();
        tasks.push(tokio::spawn(async move {
            let request = Request::post(format!("http://{address}/{index}"))
                .header("te", "trailers")
                .body(Full::new(Bytes::from(vec![0; 100_000])))
                .unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let text: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(text["length"], 100_000);
            assert_eq!(text["target"], format!("/{index}"));
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    // Draining says goodbye by GOAWAY, after which the connection ends by itself.
    gateway.admin.drain().await.unwrap();
    tokio::time::timeout(PATIENCE, connection)
        .await
        .expect("the connection ends")
        .unwrap()
        .unwrap();
    drop(sender);
    gateway.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_in_both_directions() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({ "services": orders(&[&upstream]) }))
        .await;
    let address = gateway.address("public").await;
    let body = vec![7; 20 * 1024 * 1024];
    let answer = ask(&client(), "PUT", address, "/", &[], &body)
        .await
        .unwrap();
    assert_eq!(answer.json()["length"], body.len());
    gateway.drain().await;
}
