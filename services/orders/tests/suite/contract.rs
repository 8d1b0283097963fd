//! The protocol around the orders: documents, limits and errors.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::database::Database;
use crate::program::{Program, command, json, order, problem};

#[tokio::test]
async fn the_document_in_the_repository_is_current() {
    let printed = command().arg("--openapi").output().unwrap().stdout;
    let printed = String::from_utf8(printed).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let kept = std::fs::read_to_string(path).unwrap();
    let hint = "run: cargo run -p orders -- --openapi > services/orders/openapi.json";
    assert!(kept == printed, "openapi.json is not current; {hint}");
    let database = Database::sqlite();
    let program = Program::start(&database.url).await;
    let served: Value = json(program.get("/openapi.json").await, 200).await;
    assert_eq!(served, serde_json::from_str::<Value>(&kept).unwrap());
}

#[tokio::test]
async fn every_error_is_a_problem_document() {
    let database = Database::sqlite();
    let program = Program::start_with(&database.url, &[("MAX_BODY", "2KiB")]).await;
    let url = program.url("/api/v1/orders");
    let post = |kind: &'static str, body: String| {
        program
            .client
            .post(&url)
            .header("content-type", kind)
            .body(body)
            .send()
    };
    problem(program.get("/nothing").await, 404).await;
    let wrong = program.client.delete(&url).send().await.unwrap();
    assert!(wrong.headers().contains_key("allow"));
    problem(wrong, 405).await;
    problem(post("application/json", "{".to_owned()).await.unwrap(), 400).await;
    problem(
        post("application/json", "[]".to_owned()).await.unwrap(),
        422,
    )
    .await;
    problem(
        post("text/plain", order("Ada").to_string()).await.unwrap(),
        415,
    )
    .await;
    problem(
        post("application/json", " ".repeat(3000)).await.unwrap(),
        413,
    )
    .await;
    // Without a length it is found out while reading.
    let chunks = futures::stream::iter((0..30).map(|_| Ok::<_, std::io::Error>(" ".repeat(100))));
    let request = program
        .client
        .post(&url)
        .header("content-type", "application/json");
    let response = request
        .body(reqwest::Body::wrap_stream(chunks))
        .send()
        .await
        .unwrap();
    problem(response, 413).await;
}

#[tokio::test]
async fn a_request_that_does_not_arrive_is_given_up() {
    let database = Database::sqlite();
    let variables = [("REQUEST_TIMEOUT", "200ms"), ("HEADER_TIMEOUT", "200ms")];
    let program = Program::start_with(&database.url, &variables).await;
    let address = program.base.strip_prefix("http://").unwrap();
    let mut body = TcpStream::connect(address).await.unwrap();
    body.write_all(
        b"POST /api/v1/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
    )
    .await
    .unwrap();
    let mut answer = Vec::new();
    read(&mut body, &mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    let mut head = TcpStream::connect(address).await.unwrap();
    head.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    let mut answer = Vec::new();
    read(&mut head, &mut answer).await;
    assert_eq!(String::from_utf8(answer).unwrap(), "");
}

async fn read(stream: &mut TcpStream, answer: &mut Vec<u8>) {
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(answer))
        .await
        .expect("the connection ends")
        .expect("an answer");
}

#[tokio::test]
async fn a_handler_that_is_too_slow_is_our_fault() {
    let database = Database::sqlite();
    let variables = [
        ("REQUEST_TIMEOUT", "100ms"),
        ("ORDERS_FAULT", "slow=100%:5s"),
    ];
    let program = Program::start_with(&database.url, &variables).await;
    let response = program.get("/api/v1/orders").await;
    assert_eq!(problem(response, 503).await["code"], "request::timeout");
}

#[tokio::test]
async fn every_configuration_problem_is_told_at_once() {
    let output = command()
        .env("PORT", "http")
        .env("LOG_FORMAT", "xml")
        .env("ORDERS_DB_URL", "mysql://shop:hunter2@db/orders")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.starts_with("orders: 3 problems in the configuration\n"),
        "{told}"
    );
    assert!(!told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn the_address_can_come_from_a_file() {
    let database = Database::sqlite();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    std::fs::write(&path, format!("{}\n", database.url)).unwrap();
    let file = path.to_str().unwrap();
    let program = Program::start_with("", &[("ORDERS_DB_URL_FILE", file)]).await;
    json(program.place(&order("Ada"), None).await, 201).await;
}
