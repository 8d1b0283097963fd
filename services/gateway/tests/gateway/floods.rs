//! Clients that ask HTTP/2 for more than they ever mean to take.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::bench::{
    Behaviour, PATIENCE, Place, Running, Upstream, ask, client, get, orders, until,
};
use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GET, HEADERS, PING, POST, RESET, SETTINGS,
    frame,
};

/// What a gateway may grow by under an attack, in MiB, without optimisation and with room to spare.
const GROWTH: u64 = 80;
/// `ENHANCE_YOUR_CALM` of RFC 9113, 7.
const CALM: u32 = 11;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// A gateway as a process before a service.
struct Target {
    gateway: Running<Child>,
    upstream: Upstream,
    address: SocketAddr,
    before: u64,
    _place: Place,
}

impl Target {
    async fn start(behaviour: Behaviour, limits: serde_json::Value) -> Self {
        let place = Place::new();
        let gateway = place.process().await;
        let upstream = Upstream::start_with("orders", behaviour).await;
        gateway
            .configure(json!({
                "services": orders(&[&upstream]),
                "listeners": [{ "name": "public", "address": "127.0.0.1:0", "limits": limits }],
            }))
            .await;
        let address = gateway.address("public").await;
        assert_eq!(get(&client(), address, "/").await.status, 200);
        Self {
            before: gateway.resident(),
            gateway,
            upstream,
            address,
            _place: place,
        }
    }

    async fn attacked() -> Self {
        Self::start(Behaviour::default(), json!({})).await
    }

    /// Others are served, nothing of the attack is left, and little memory was taken for it.
    async fn well_after(self) {
        assert_eq!(get(&client(), self.address, "/").await.status, 200);
        until("nothing is under way", async || {
            let status = self.gateway.admin.status().await.expect("a status");
            status.requests == 0
        })
        .await;
        let grown = self.gateway.resident().saturating_sub(self.before);
        assert!(grown < GROWTH, "{grown} MiB");
        self.gateway.stopped().await;
    }
}

fn id(number: u32) -> u32 {
    number * 2 + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let target = Target::attacked().await;
    let mut frames = Frames::connect(target.address, &[]).await;
    let mut sent = 0;
    for burst in 0..100 {
        let mut bytes = Vec::new();
        for number in burst * 500..(burst + 1) * 500 {
            let flags = END_HEADERS | END_STREAM;
            bytes.extend(frame(HEADERS, flags, id(number), GET));
            bytes.extend(frame(RESET, 0, id(number), &CANCEL));
        }
        sent += 500;
        if !frames.send(&bytes).await {
            break;
        }
    }
    let end = frames.end().await;
    assert!(end.reason.is_none_or(|reason| reason == CALM), "{end:?}");
    assert!(
        target.upstream.asked() < 5_000,
        "{} of {sent} reached the service",
        target.upstream.asked()
    );
    target.well_after().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_taken_back_again_and_again_end_the_connection() {
    let behaviour = Behaviour {
        delay: Duration::from_secs(10),
        ..Behaviour::default()
    };
    let place = Place::new();
    let gateway = place.process().await;
    let upstream = Upstream::start_with("slow", behaviour).await;
    gateway
        .configure(json!({ "services": orders(&[&upstream]) }))
        .await;
    let address = gateway.address("public").await;
    let mut frames = Frames::connect(address, &[]).await;
    let mut asked = 0;
    // Each is let through before it is taken back, so no queue of the protocol ever fills.
    'attack: for burst in 0..1_000 {
        for number in burst * 10..(burst + 1) * 10 {
            let flags = END_HEADERS | END_STREAM;
            if !frames.send(&frame(HEADERS, flags, id(number), GET)).await {
                break 'attack;
            }
        }
        asked += 10;
        if !frames.settled(burst.into()).await {
            break;
        }
        for number in burst * 10..(burst + 1) * 10 {
            if !frames.send(&frame(RESET, 0, id(number), &CANCEL)).await {
                break 'attack;
            }
        }
    }
    assert!(asked < 2_000, "{asked} requests on one connection");
    // Whoever takes back a few now and then is not meant.
    let mut frames = Frames::connect(address, &[]).await;
    for number in 0..100 {
        let flags = END_HEADERS | END_STREAM;
        frames.send(&frame(HEADERS, flags, id(number), GET)).await;
        assert!(frames.settled(number.into()).await);
        frames.send(&frame(RESET, 0, id(number), &CANCEL)).await;
    }
    assert!(frames.settled(1_000).await);
    gateway.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_never_end_are_cut_off() {
    let target = Target::attacked().await;
    let field = [&[0, 1, b'x', 127][..], &[129, 124], &[b'y'; 16_000]].concat();
    let mut taken = Vec::new();
    for part in [&[][..], &[0, 1, b'x', 1, b'y'], &field] {
        let mut frames = Frames::connect(target.address, &[]).await;
        let first = frame(HEADERS, END_STREAM, 1, GET);
        assert!(frames.send(&first).await);
        let more = frame(CONTINUATION, 0, 1, part);
        let batch = more.repeat(20_000_usize.min(1024 * 1024 / more.len()));
        let mut bytes = 0;
        while frames.send(&batch).await {
            bytes += batch.len();
            assert!(bytes < 64 * 1024 * 1024, "{bytes} bytes of {}", part.len());
        }
        taken.push(frames.end().await.reason);
    }
    assert!(
        taken.iter().flatten().all(|reason| *reason == CALM),
        "{taken:?}"
    );
    assert_eq!(target.upstream.asked(), 1);
    target.well_after().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_frames_that_unpack_to_large_heads_are_refused() {
    let target = Target::attacked().await;
    let mut frames = Frames::connect(target.address, &[]).await;
    // A field of 4,000 bytes into the table, by its first request, and 16,000 times out of it in each.
    let mut first = GET.to_vec();
    first.extend([&[0x40, 1, b'x', 127][..], &[0xa1, 0x1e], &[b'y'; 4_000]].concat());
    let flags = END_HEADERS | END_STREAM;
    assert!(frames.send(&frame(HEADERS, flags, 1, &first)).await);
    let bomb = [GET, &[0xbe; 16_000]].concat();
    for number in 1..200 {
        if !frames.send(&frame(HEADERS, flags, id(number), &bomb)).await {
            break;
        }
    }
    // Each alone is too large for a head; nothing of them reaches the service.
    frames.end().await;
    assert!(target.upstream.asked() <= 2);
    target.well_after().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_echoes_and_never_listens_is_let_go() {
    let limits = json!({ "keep_alive_ms": 500, "head_ms": 500 });
    let target = Target::start(Behaviour::default(), limits).await;
    for (kind, payload) in [(PING, &[0; 8][..]), (SETTINGS, &[0, 3, 0, 0, 0, 1][..])] {
        let mut stream = TcpStream::connect(target.address)
            .await
            .expect("a connection");
        let mut start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        start.extend(frame(SETTINGS, 0, 0, &[]));
        let batch = frame(kind, 0, 0, payload).repeat(4_000);
        let flood = async {
            stream.write_all(&start).await?;
            loop {
                stream.write_all(&batch).await?;
            }
        };
        let ended: std::io::Result<()> = tokio::time::timeout(PATIENCE, flood)
            .await
            .expect("it is let go in time");
        assert!(ended.is_err());
    }
    target.well_after().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_are_not_gathered() {
    let body = vec![b'x'; 4 * 1024 * 1024];
    let behaviour = Behaviour {
        script: Some(std::sync::Arc::new(move |_, number| {
            let body = if number == 1 {
                Vec::new()
            } else {
                body.clone()
            };
            http::Response::new(http_body_util::Full::new(body.into()))
        })),
        ..Behaviour::default()
    };
    let limits = json!({ "idle_ms": 700 });
    let target = Target::start(behaviour, limits).await;
    // A window of nothing for each stream.
    let mut frames = Frames::connect(target.address, &[0, 4, 0, 0, 0, 0]).await;
    for number in 0..100 {
        let flags = END_HEADERS | END_STREAM;
        assert!(frames.send(&frame(HEADERS, flags, id(number), GET)).await);
    }
    let mut over = 0;
    while over < 100 {
        let frame = frames.wait_for(|frame| frame.kind == RESET).await;
        assert!(frame.is_some(), "{over} streams were ended alone");
        over += 1;
    }
    drop(frames);
    target.well_after().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stays_away_is_the_clients_fault() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "routes": [{ "name": "all", "service": "orders", "timeouts": { "first_byte_ms": 300 } }],
        }))
        .await;
    let address = gateway.address("public").await;
    let mut frames = Frames::connect(address, &[]).await;
    assert!(frames.send(&frame(HEADERS, END_HEADERS, 1, POST)).await);
    assert!(frames.send(&frame(DATA, 0, 1, b"a start")).await);
    let ended = frames
        .wait_for(|frame| frame.stream == 1 && (frame.kind == HEADERS || frame.kind == RESET))
        .await;
    assert!(ended.is_some());
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let start = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\na start";
    stream.write_all(start).await.expect("it is sent");
    let mut told = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut told)).await;
    read.expect("an end in time").expect("an answer");
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    let answer = ask(&client(), "POST", address, "/", &[], b"whole").await;
    assert_eq!(answer.expect("an answer").json()["length"], 5);
    until("both are counted", async || {
        let tallies = gateway.tallies().await;
        let tally = tallies.version("orders", "r1").cloned().unwrap_or_default();
        (tally.good, tally.aborted) == (1, 2)
    })
    .await;
    let tallies = gateway.tallies().await;
    assert_eq!(
        tallies.version("orders", "r1").map(|tally| tally.bad),
        Some(0)
    );
    gateway.drain().await;
}
