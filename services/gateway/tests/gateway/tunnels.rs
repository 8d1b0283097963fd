//! Handshakes of web sockets that are not taken at once, or not at all.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::bench::{PATIENCE, Place, at};
use crate::upstreams::{Then, saying};

/// Asks for a web socket and returns all that comes back until it ends.
async fn handshake(address: SocketAddr) -> String {
    let mut stream = begun(address, "").await;
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    read.expect("an end in time").expect("a regular end");
    String::from_utf8_lossy(&all).to_lowercase()
}

/// A connection on which a web socket was asked for, with further fields.
async fn begun(address: SocketAddr, fields: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = format!(
        "GET /live HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("it is sent");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_over_with_its_body() {
    let place = Place::new();
    let gateway = place.gateway().await;
    // What the service says before it waits for more, what the answer's head has, and its body.
    let cases: [(&'static [u8], &str, &str); 4] = [
        (
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope",
            "\r\ncontent-length: 4\r\n",
            "nope",
        ),
        (
            b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnope\r\n0\r\n\r\n",
            "\r\ntransfer-encoding: chunked\r\n",
            "4\r\nnope\r\n0\r\n\r\n",
        ),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope",
            "http/1.1 403 forbidden\r\n",
            "nope",
        ),
        (
            b"HTTP/1.1 204 No Content\r\n\r\n",
            "http/1.1 204 no content\r\n",
            "",
        ),
    ];
    for (revision, (text, expected, whole)) in (1_u64..).zip(cases) {
        let upstream = saying(text, Then::Waits).await;
        gateway
            .configure(json!({ "revision": revision, "services": at(upstream) }))
            .await;
        let answer = handshake(gateway.address("public").await).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(format!("{head}\r\n").contains(expected), "{answer}");
        assert_eq!(body, whole, "{answer}");
    }
    let tallies = gateway.counted().await;
    let tally = tallies.version("orders", "r1").expect("it was asked");
    assert_eq!((tally.good, tally.bad, tally.aborted), (4, 0, 0));
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interim_answer_is_not_taken_for_the_answer() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let text = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nfirst";
    let upstream = saying(text, Then::Ends).await;
    gateway.configure(json!({ "services": at(upstream) })).await;
    let answer = handshake(gateway.address("public").await).await;
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    // What came with the head is not lost.
    assert!(answer.ends_with("\r\n\r\nfirst"), "{answer}");
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_breaks_off_is_seen_to_and_counts_against_the_service() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let text = b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnope\r\n";
    for (revision, then) in (1_u64..).zip([Then::Ends, Then::Waits]) {
        let upstream = saying(text, then).await;
        gateway
            .configure(json!({
                "revision": revision,
                "services": at(upstream),
                "routes": [{ "name": "all", "service": "orders", "timeouts": { "idle_ms": 300 } }],
            }))
            .await;
        let answer = handshake(gateway.address("public").await).await;
        assert!(answer.starts_with("http/1.1 403 "), "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    }
    let tallies = gateway.counted().await;
    let tally = tallies.version("orders", "r1").expect("it was asked");
    assert_eq!((tally.good, tally.bad, tally.aborted), (0, 2, 0));
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_s_page_opens_no_web_socket_with_the_user_s_cookies() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let text = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let upstream = saying(text, Then::Ends).await;
    gateway
        .configure(json!({
            "services": at(upstream),
            "routes": [{ "name": "all", "service": "orders", "csrf": true,
                "cors": { "origins": ["https://shop.test"], "credentials": true } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let cookie = "Cookie: session=1\r\n";
    for (fields, expected) in [
        (format!("{cookie}Origin: https://evil.test\r\n"), "403"),
        (format!("{cookie}Sec-Fetch-Site: cross-site\r\n"), "403"),
        (format!("{cookie}Origin: http://a\r\n"), "101"),
        (format!("{cookie}Origin: https://shop.test\r\n"), "101"),
        ("Origin: https://evil.test\r\n".to_owned(), "101"),
    ] {
        let mut answer = BufReader::new(begun(address, &fields).await);
        let mut line = String::new();
        answer.read_line(&mut line).await.expect("an answer");
        let status = line.split(' ').nth(1);
        assert_eq!(status, Some(expected), "{fields}: {line}");
    }
    let tallies = gateway.counted().await;
    let tally = tallies.version("orders", "r1").expect("it was asked");
    assert_eq!(tally.total, 3);
    gateway.drain().await;
}
