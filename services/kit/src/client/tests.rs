//! The client against a real listener.

use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::any;

use super::*;

/// Serves `statuses` one after another, the last one for ever.
async fn service(statuses: &'static [u16]) -> (String, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let answer = move |State(calls): State<Arc<AtomicU32>>, headers: HeaderMap| async move {
        let call = calls.fetch_add(1, Ordering::SeqCst) as usize;
        let status = statuses[call.min(statuses.len() - 1)];
        let trace = headers["traceparent"].to_str().unwrap().to_owned();
        (StatusCode::from_u16(status).unwrap(), trace)
    };
    let app = Router::new()
        .route("/", any(answer))
        .with_state(calls.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (base, calls)
}

fn client(base: &str) -> Client {
    let policy = ClientPolicy {
        first_pause: Duration::from_millis(1),
        ..ClientPolicy::default()
    };
    Client::new("orders", base, policy).unwrap()
}

#[tokio::test]
async fn a_passing_error_is_tried_again() {
    let (base, calls) = service(&[503, 502, 200]).await;
    let reply = client(&base).send(Call::get("/")).await.unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert!(reply.body.starts_with(b"00-"));
}

#[tokio::test]
async fn a_write_is_repeated_only_under_a_key() {
    let (base, calls) = service(&[503]).await;
    let client = client(&base);
    let write = Call::new(Method::POST, "/");
    let reply = client.send(write.clone()).await.unwrap();
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let key = HeaderName::from_static("idempotency-key");
    let write = write.header(key, HeaderValue::from_static("1"));
    client.send(write).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn pointless_calls_are_refused() {
    let (base, calls) = service(&[500]).await;
    let client = client(&base);
    let least = ClientPolicy::default().breaker.least;
    for _ in 0..least {
        client.send(Call::get("/")).await.unwrap();
    }
    let error = client.send(Call::get("/")).await.unwrap_err();
    assert!(matches!(error, CallError::Refused { .. }), "{error}");
    assert_eq!(calls.load(Ordering::SeqCst), least);
}

#[tokio::test]
async fn nobody_there_is_an_error_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&base).send(Call::get("/")).await.unwrap_err();
    assert!(matches!(error, CallError::Failed { .. }), "{error}");
}
