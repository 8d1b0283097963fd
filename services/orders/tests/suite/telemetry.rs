//! What the service tells about itself.

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::mpsc::unbounded_channel;

use crate::database::Database;
use crate::program::{DEADLINE, Program, json, order};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_request_is_counted_and_logged_with_its_trace() {
    let database = Database::sqlite();
    let program = Program::start_with(&database.url, &[("PLATFORM_RELEASE", "r7")]).await;
    let request = program.client.get(program.url("/api/v1/orders"));
    let request = request
        .header("traceparent", PARENT)
        .header("x-request-id", "abc-1");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["x-platform-version"], "orders@r7");
    assert_eq!(response.headers()["x-request-id"], "abc-1");
    let line = program.wait_for_answer("abc-1");
    assert_eq!(line["trace_id"], TRACE);
    assert_eq!(line["request_id"], "abc-1");
    assert_eq!(line["route"], "/api/v1/orders");
    assert_eq!(line["release"], "r7");
    let metrics = program.get("/metrics").await.text().await.unwrap();
    let counted = "http_requests_total{service=\"orders\",release=\"r7\",method=\"GET\",route=\"/api/v1/orders\",status=\"200\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_reach_a_collector() {
    let (sender, mut exports) = unbounded_channel();
    let app = Router::new().route(
        "/v1/traces",
        post(async move |body: Bytes| {
            let _ = sender.send(body);
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });

    let database = Database::sqlite();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let program = Program::start_with(&database.url, &variables).await;
    let request = program.client.post(program.url("/api/v1/orders"));
    let response = request
        .header("traceparent", PARENT)
        .json(&order("Ada"))
        .send()
        .await
        .unwrap();
    json(response, 201).await;
    // The end of the program sends what is left.
    program.stop().await;
    let trace: Vec<u8> = (0..16)
        .map(|byte| u8::from_str_radix(&TRACE[2 * byte..2 * byte + 2], 16).unwrap())
        .collect();
    let arrived = tokio::time::timeout(DEADLINE, async {
        while let Some(export) = exports.recv().await {
            let holds = |part: &[u8]| export.windows(part.len()).any(|window| window == part);
            if holds(&trace) && holds(b"POST /api/v1/orders") && holds(b"orders") {
                return true;
            }
        }
        false
    });
    assert!(arrived.await.unwrap());
}
