//! Processes that end, follow one another and break off, under load.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Child;

use crate::bench::{
    Behaviour, PATIENCE, Place, Running, Upstream, ask, client, configuration, get, orders, until,
};
use crate::load::Load;

async fn brief_service() -> Upstream {
    let behaviour = Behaviour {
        delay: Duration::from_millis(2),
        ..Behaviour::default()
    };
    Upstream::start_with("orders", behaviour).await
}

async fn serving(place: &Place, upstream: &Upstream) -> Running<Child> {
    let gateway = place.process().await;
    gateway
        .configure(json!({ "revision": 9, "services": orders(&[upstream]) }))
        .await;
    gateway
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_told_to_end_answers_what_it_took() {
    let place = Place::new();
    let upstream = brief_service().await;
    let gateway = serving(&place, &upstream).await;
    let address = gateway.address("public").await;
    // Clients that keep their connection until they are told that it ends.
    let clients: Vec<_> = (0..16)
        .map(|_| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.expect("a connection");
                let mut answered = 0_u32;
                loop {
                    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
                    stream.write_all(request).await.expect("it is taken");
                    let (head, status) = answer(&mut stream).await;
                    assert_eq!(status, 200, "{head}");
                    answered += 1;
                    if head.contains("connection: close") {
                        return answered;
                    }
                }
            })
        })
        .collect();
    until("all are at it", async || upstream.asked() > 200).await;
    gateway.terminate();
    for client in clients {
        let answered = tokio::time::timeout(PATIENCE, client).await;
        assert!(answered.expect("it ends").expect("no request fails") > 1);
    }
    gateway.ended().await;
    assert!(TcpStream::connect(address).await.is_err());
}

/// Reads one answer whole; its head in lower case, and its status.
pub(crate) async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> (String, u16) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    let head = String::from_utf8(head).expect("text").to_lowercase();
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let length = fields.find(|(name, _)| *name == "content-length");
    let length = length.and_then(|(_, value)| value.trim().parse().ok());
    let mut body = vec![0; length.expect("a length")];
    stream.read_exact(&mut body).await.expect("a body");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (head.clone(), status.expect("a status"))
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_follow_one_another_without_a_failed_request() {
    let place = Place::new();
    let upstream = brief_service().await;
    let mut gateway = serving(&place, &upstream).await;
    let address = gateway.address("public").await;
    let load = Load::of_both_protocols(address);
    for _ in 0..4 {
        load.goes_on().await;
        let successor = place.process().await;
        assert_eq!(successor.address("public").await, address);
        assert_eq!(
            successor.admin.status().await.expect("a status").revision,
            9
        );
        gateway.ended().await;
        gateway = successor;
    }
    load.goes_on().await;
    load.end().await;
    gateway.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_dies_half_way_changes_nothing() {
    let place = Place::new();
    let upstream = brief_service().await;
    let gateway = serving(&place, &upstream).await;
    let address = gateway.address("public").await;
    let load = Load::start(address);
    for _ in 0..3 {
        // Takes all that there is, and goes without a word.
        let mut stream = UnixStream::connect(place.path().join("handover.sock"))
            .await
            .expect("a connection");
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.expect("a length");
        let mut document = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut document).await.expect("a document");
        drop(stream);
        load.goes_on().await;
    }
    let status = gateway.admin.status().await.expect("a status");
    assert!(!status.draining);
    // One that does come gets everything.
    let successor = place.process().await;
    gateway.ended().await;
    load.goes_on().await;
    load.end().await;
    successor.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_killed_comes_back_with_the_last_configuration() {
    let place = Place::new();
    let upstream = brief_service().await;
    let mut gateway = serving(&place, &upstream).await;
    let address = gateway.address("public").await;
    gateway.task.kill().await.expect("it runs");
    let gateway = place.process().await;
    assert_eq!(gateway.address("public").await, address);
    let answer = ask(&client(), "GET", address, "/", &[], b"").await;
    assert_eq!(answer.expect("an answer").name(), "orders");
    gateway.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_reads_its_file_again_when_it_is_told_to() {
    let place = Place::new();
    let (one, two) = (Upstream::start("one").await, Upstream::start("two").await);
    let write = |text: String| std::fs::write(place.config(), text).expect("a file");
    let config = |upstream: &Upstream| {
        let config = configuration(json!({ "revision": 7, "services": orders(&[upstream]) }));
        serde_json::to_string(&config).expect("text")
    };
    write(config(&one));
    let gateway = place.process().await;
    let address = gateway.address("public").await;
    let client = client();
    assert_eq!(get(&client, address, "/").await.name(), "one");
    let epoch = gateway.admin.status().await.expect("a status").epoch;
    // Neither what cannot be read nor what is wrong changes anything.
    for wrong in [
        "{",
        "{ \"routes\": [{ \"name\": \"a\", \"service\": \"gone\" }] }",
    ] {
        write(wrong.to_owned());
        gateway.reload();
        for _ in 0..10 {
            assert_eq!(get(&client, address, "/").await.name(), "one");
        }
    }
    write(config(&two));
    gateway.reload();
    until("the new file counts", async || {
        get(&client, address, "/").await.name() == "two"
    })
    .await;
    let status = gateway.admin.status().await.expect("a status");
    // What is read again is newer than what was, whatever its revision.
    assert_eq!((status.revision, status.epoch), (8, epoch));
    gateway.stopped().await;
}
