//! Services that hang, break off, lie or answer early, and clients whose chunks are odd.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::bench::{PATIENCE, Place, Upstream, at, client, get, orders};

/// What a service does after what it says.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    /// Nothing more, ever.
    Waits,
    /// Ends the connection as it should be ended.
    Ends,
    /// Breaks the connection off.
    Breaks,
    /// Says this again and again.
    Repeats(&'static [u8]),
    /// Ends its own side, and takes what still comes.
    Listens,
}

/// A service that says the same on each connection, once a request's head came.
pub(crate) async fn saying(text: &'static [u8], then: Then) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(say(stream, text, then));
        }
    });
    address
}

async fn say(mut stream: TcpStream, text: &[u8], then: Then) -> std::io::Result<()> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await?);
    }
    stream.write_all(text).await?;
    let mut rest = vec![0; 65_536];
    match then {
        Then::Ends => (),
        Then::Breaks => stream.set_zero_linger()?,
        Then::Waits => while stream.read(&mut rest).await? > 0 {},
        Then::Repeats(part) => loop {
            stream.write_all(part).await?;
        },
        Then::Listens => {
            stream.shutdown().await?;
            while stream.read(&mut rest).await? > 0 {}
        }
    }
    Ok(())
}

/// Sends a request and returns all that comes back, and whether it came to a regular end.
async fn exchange(address: SocketAddr, name: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("it is sent");
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    // A reset is as good a sign as the end.
    assert!(read.is_ok(), "no end in time: {name}");
    String::from_utf8_lossy(&all).into_owned()
}

/// Name, what is said, what is done then, and what the client gets to see. What is found out before the
/// head reached the client is 502 or 504; what comes later breaks off.
const NO_ANSWERS: [(&str, &[u8], Then, &str); 11] = [
    ("silence", b"", Then::Waits, " 504 "),
    ("a break", b"", Then::Breaks, " 502 "),
    ("a pause in the head", b"HTTP/1.1 200 OK\r\nX: ", Then::Waits, " 504 "),
    ("a pause in the body", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", Then::Waits, ""),
    ("a break in the body", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n", Then::Breaks, ""),
    ("no last chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n", Then::Ends, "part"),
    ("a chunk that is none", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\npart\r\n0\r\n\r\n", Then::Ends, ""),
    ("a chunk beyond all numbers", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff1\r\npart\r\n0\r\n\r\n", Then::Ends, ""),
    ("a chunk's size without end", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;", Then::Repeats(&[b'x'; 4096]), ""),
    ("a head without end", b"HTTP/1.1 200 OK\r\n", Then::Repeats(b"X-Y: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\r\n"), " 502 "),
    ("beginnings without end", b"", Then::Repeats(b"HTTP/1.1 103 Early Hints\r\n\r\n"), " 50"),
];

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_no_answers_harm_nobody() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let good = Upstream::start("good").await;
    let mut revision = 0;
    for (name, text, then, expected) in NO_ANSWERS {
        revision += 1;
        let bad = saying(text, then).await;
        let mut services = at(bad);
        services["good"] = orders(&[&good])["orders"].clone();
        gateway
            .configure(json!({
                "revision": revision,
                "services": services,
                "routes": [
                    { "name": "bad", "service": "orders", "retries": { "attempts": 0 },
                      "timeouts": { "first_byte_ms": 300, "total_ms": 1_000 } },
                    { "name": "good", "service": "good", "match": { "path": { "prefix": "/good" } } },
                ],
            }))
            .await;
        let address = gateway.address("public").await;
        let answer = exchange(address, name).await;
        assert!(answer.contains(expected), "{name}: {answer}");
        // Whoever counts lengths or chunks sees that it is not whole.
        let whole = answer.contains("\r\n0\r\n\r\n") && answer.contains(" 200 ");
        assert!(!whole, "{name}: {answer}");
        assert_eq!(
            get(&client(), address, "/good").await.name(),
            "good",
            "{name}"
        );
    }
    let tallies = gateway.counted().await;
    let bad = tallies.version("orders", "r1").expect("it was asked");
    assert_eq!((bad.good, bad.bad), (0, revision));
    assert_eq!(
        tallies.version("good", "r1").expect("it was asked").good,
        revision
    );
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_body_was_read_reaches_the_client() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let head =
        b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch";
    let early = saying(head, Then::Listens).await;
    gateway.configure(json!({ "services": at(early) })).await;
    let address = gateway.address("public").await;
    let body = vec![b'x'; 8 * 1024 * 1024];
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("it is sent");
    let (mut reader, mut writer) = stream.into_split();
    let sending = tokio::spawn(async move {
        // Whether all of it is taken is up to the gateway.
        let _ = writer.write_all(&body).await;
        writer
    });
    let mut answer = Vec::new();
    let read = async {
        let mut part = [0; 4096];
        while !answer.ends_with(b"much") {
            match reader.read(&mut part).await {
                Ok(count @ 1..) => answer.extend_from_slice(&part[..count]),
                _ => break,
            }
        }
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("an answer in time");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.ends_with("much"), "{answer}");
    sending.abort();
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_clients_are_taken_as_the_book_says() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [{ "name": "public", "address": "127.0.0.1:0", "limits": { "idle_ms": 500 } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let head =
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases = [
        (
            "beyond all numbers",
            format!("{head}fffffffffffffffff1\r\nx\r\n0\r\n\r\n"),
            None,
        ),
        (
            "just below",
            format!("{head}7fffffffffffffff\r\nx\r\n0\r\n\r\n"),
            None,
        ),
        (
            "an extension without end",
            format!("{head}1;{}", "x".repeat(4_000_000)),
            None,
        ),
        (
            "trailers without end",
            format!("{head}0\r\n{}", "X: y\r\n".repeat(500_000)),
            None,
        ),
        (
            "crumbs",
            format!("{head}{}0\r\n\r\n", "1\r\nx\r\n".repeat(20_000)),
            Some(20_000),
        ),
        (
            "zeros ahead",
            format!("{head}{}1\r\nx\r\n0\r\n\r\n", "0".repeat(10)),
            Some(1),
        ),
    ];
    for (name, text, expected) in cases {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (mut reader, mut writer) = stream.into_split();
        let sending = tokio::spawn(async move {
            let _ = writer.write_all(text.as_bytes()).await;
            writer
        });
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answer)).await;
        let _ = read.expect("an end in time");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        match expected {
            None => assert!(!answer.contains(" 200 "), "{name}: {answer}"),
            Some(length) => assert!(
                answer.contains(&format!("\"length\":{length}")),
                "{name}: {answer}"
            ),
        }
        sending.abort();
        assert_eq!(get(&client(), address, "/").await.status, 200, "{name}");
    }
    gateway.drain().await;
}
