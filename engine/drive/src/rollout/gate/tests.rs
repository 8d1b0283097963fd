//! What is made of a webhook's answers.

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
        let answered = post(&url, &letter(&surroundings), Duration::from_secs(60)).await;
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
