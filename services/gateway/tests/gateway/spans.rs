//! Spans for a collector.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::json;
use tokio::net::TcpListener;

use crate::bench::{Place, Upstream, ask, client, orders, until};

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_a_collector_in_its_form() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let received: Arc<Mutex<Vec<(String, Bytes)>>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let collector = listener.local_addr().expect("an address");
    let kept = received.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let kept = kept.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        let mut kept = kept.lock().expect("nobody panicked");
                        kept.push((head.uri.path().to_owned(), body));
                        Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from("{}"))))
                    }
                });
                let builder = Builder::new(TokioExecutor::new());
                let _ = builder
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "traces": { "endpoint": format!("http://{collector}"), "sample": 1000 },
        }))
        .await;
    let address = gateway.address("public").await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let headers = [("traceparent", parent.as_str())];
    let answer = ask(&client(), "GET", address, "/a?b=c", &headers, b"")
        .await
        .expect("an answer");
    // The service goes on with the same trace, below the gateway's span.
    let passed = answer.json()["headers"]["traceparent"].to_string();
    assert!(
        passed.contains(trace) && !passed.contains("b7ad6b7169203331"),
        "{passed}"
    );
    until("the span arrives", async || {
        !received.lock().expect("nobody panicked").is_empty()
    })
    .await;
    let (path, body) = received.lock().expect("nobody panicked")[0].clone();
    assert_eq!(path, "/v1/traces");
    // The collector's own types, so that a field of another name or form is an error.
    let message: opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest =
        serde_json::from_slice(&body).expect("a message of OTLP");
    let of = &message.resource_spans[0];
    let span = &of.scope_spans[0].spans[0];
    assert_eq!(hex::encode(&span.trace_id), trace);
    assert_eq!(hex::encode(&span.parent_span_id), "b7ad6b7169203331");
    assert!(passed.contains(&hex::encode(&span.span_id)));
    assert_eq!((span.name.as_str(), span.kind), ("GET all", 2));
    assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    let shown = format!("{span:?}");
    assert!(
        shown.contains("http.response.status_code") && !shown.contains("b=c"),
        "{shown}"
    );
    gateway.drain().await;
}
