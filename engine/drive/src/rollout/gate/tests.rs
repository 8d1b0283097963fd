//! What is made of a webhook's answers.

use platform_blueprint::GateWhen;
use platform_decide::rollout::GateKey;
use platform_port::SecretValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers one request with a status and a body that never ends; returns how much of that was sent until the caller left.
async fn endless(listener: TcpListener, status: &'static str) -> usize {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let answer = format!("HTTP/1.1 {status}\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
    let mut sent = 0;
    while stream.write_all(&[b'x'; 4096]).await.is_ok() {
        sent += 4096;
    }
    sent
}

fn letter(surroundings: &Surroundings) -> Letter<'_> {
    Letter {
        gate: "tests",
        when: "per-step",
        surroundings,
    }
}

fn surroundings() -> Surroundings {
    Surroundings {
        project: "shop".to_owned(),
        environment: "dev".to_owned(),
        run: "one".to_owned(),
        release: "r2".to_owned(),
        services: vec!["orders".to_owned()],
        stage: "10 %".to_owned(),
        gateway: None,
        header: "x-platform-release".to_owned(),
        folder: PathBuf::from("/"),
        smoke: Smoke::default(),
        front: None,
    }
}

/// Listens for one request, answers it well and returns its head.
async fn heard(listener: TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .await
        .unwrap();
    // A connection that is closed with something unread is reset, and the answer with it.
    stream.shutdown().await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    String::from_utf8(head).unwrap()
}

fn call(url: &str) -> GateCall {
    let gate = serde_json::json!({
        "when": "per-step",
        "webhook": url,
        "headers": { "Authorization": { "secret": "ops" }, "X-Team": "shop" },
    });
    GateCall {
        key: GateKey("per-step/0/0".to_owned()),
        name: "ops".to_owned(),
        when: GateWhen::PerStep,
        ask: Ask::Gate(serde_json::from_value(gate).unwrap()),
    }
}

#[tokio::test]
async fn a_webhook_is_sent_with_its_headers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/gate", listener.local_addr().unwrap());
    let serving = tokio::spawn(heard(listener));
    let secret = SecretValue::new("Bearer s3cr3t\n".to_owned());
    let secrets: SecretValues = [("ops".parse().unwrap(), secret)].into();
    let call = call(&url);
    let headers = headers(&call, &secrets);
    assert!(!format!("{headers:?}").contains("s3cr3t"));
    let Ask::Gate(gate) = &call.ask else {
        unreachable!("it is a gate");
    };
    let with = (&call, headers.unwrap());
    assert_eq!(agrees(gate, with, &surroundings()).await, Ok(()));
    let head = serving.await.unwrap();
    assert!(head.contains("authorization: Bearer s3cr3t\r\n"), "{head}");
    assert!(head.contains("x-team: shop\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/json\r\n"),
        "{head}"
    );
}

#[test]
fn a_webhook_whose_secret_has_no_value_says_so() {
    let said = headers(&call("http://127.0.0.1:1"), &SecretValues::new());
    assert_eq!(said.unwrap_err(), "secret `ops` has no value");
}

#[tokio::test]
async fn an_answer_that_never_ends_is_an_answer() {
    for (status, expected) in [
        ("200 OK", None),
        (
            "503 Service Unavailable",
            Some("answered 503 Service Unavailable: xxx"),
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/gate", listener.local_addr().unwrap());
        let serving = tokio::spawn(endless(listener, status));
        let surroundings = surroundings();
        let answered = post(
            &url,
            HeaderMap::new(),
            &letter(&surroundings),
            Duration::from_secs(60),
        )
        .await;
        match expected {
            None => assert_eq!(answered, Ok(())),
            Some(beginning) => {
                let said = answered.unwrap_err();
                assert!(said.starts_with(beginning) && said.len() < 600, "{said}");
            }
        }
        // The caller left; had it read on, this would not end.
        serving.await.unwrap();
    }
}
