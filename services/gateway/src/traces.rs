//! Spans of requests, sent to a collector by OTLP over HTTP as JSON.
//!
//! Spans wait in a bounded queue; what is over it is counted and lost. No
//! request ever waits for a collector.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use platform_gateway_api::Traces;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::clock::unix_nanos;
use crate::context::RequestContext;
use crate::fetch::fetch;
use crate::tally::Counter;
use crate::trace::{span_id, trace_id};

/// Spans that may wait.
const WAITING: usize = 8_192;
/// Spans in one message.
const BATCH: usize = 512;
/// How long spans are gathered.
const GATHER: Duration = Duration::from_secs(1);
/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A span on its way, with where to.
struct Sent {
    to: Arc<Traces>,
    span: Value,
}

/// The way of spans to their collector.
#[derive(Debug)]
pub(crate) struct Exporter {
    sender: mpsc::Sender<Sent>,
    pub(crate) lost: Arc<Counter>,
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sent").finish_non_exhaustive()
    }
}

impl Exporter {
    /// Starts the task that sends; it ends with the exporter.
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let lost = Arc::new(Counter::default());
        tokio::spawn(send_all(receiver, lost.clone()));
        Self { sender, lost }
    }

    /// Sends the span of a request that is over, if its trace is sampled.
    pub(crate) fn send(&self, context: &RequestContext, method: &str, status: Option<u16>) {
        let Some(to) = context.snapshot.traces.clone().filter(|_| context.sampled) else {
            return;
        };
        let span = span(context, method, status);
        if self.sender.try_send(Sent { to, span }).is_err() {
            self.lost.increment();
        }
    }
}

async fn send_all(mut receiver: mpsc::Receiver<Sent>, lost: Arc<Counter>) {
    let mut batch: Vec<Sent> = Vec::new();
    loop {
        if receiver.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        if batch.len() < BATCH {
            tokio::time::sleep(GATHER).await;
            while batch.len() < BATCH
                && let Ok(more) = receiver.try_recv()
            {
                batch.push(more);
            }
        }
        let Some(to) = batch.last().map(|sent| sent.to.clone()) else {
            continue;
        };
        let count = batch.len();
        let spans: Vec<Value> = batch.drain(..).map(|sent| sent.span).collect();
        if let Err(error) = deliver(&to, spans).await {
            tracing::warn!(error, "spans cannot be delivered");
            for _ in 0..count {
                lost.increment();
            }
        }
    }
}

async fn deliver(to: &Traces, spans: Vec<Value>) -> Result<(), String> {
    let message = json!({ "resourceSpans": [{
        "resource": { "attributes": [
            text("service.name", "gateway"),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ] },
        "scopeSpans": [{ "scope": { "name": "platform-gateway" }, "spans": spans }],
    }] });
    let request = Request::post("/").header("content-type", "application/json");
    let url = url(&to.endpoint);
    let body = Bytes::from(message.to_string());
    let asking = fetch(&url, request, body, to.ca.as_deref());
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(Ok((status, _))) if status.is_success() => Ok(()),
        Ok(Ok((status, _))) => Err(format!("the collector answered {status}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the collector did not answer in time".to_owned()),
    }
}

/// The URL of the collector's traces; a path that is there stays.
fn url(endpoint: &str) -> String {
    let has_path = endpoint
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'))
        .is_some_and(|(_, path)| !path.is_empty());
    if has_path {
        endpoint.to_owned()
    } else {
        format!("{}/v1/traces", endpoint.trim_end_matches('/'))
    }
}

fn text(name: &str, value: &str) -> Value {
    json!({ "key": name, "value": { "stringValue": value } })
}

fn number(name: &str, value: u64) -> Value {
    // 64 bits are texts in the JSON of protobuf.
    json!({ "key": name, "value": { "intValue": value.to_string() } })
}

/// Source: OpenTelemetry semantic conventions for HTTP servers.
fn span(context: &RequestContext, method: &str, status: Option<u16>) -> Value {
    let end = unix_nanos();
    let took = u64::try_from(context.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let route = context
        .route
        .as_ref()
        .map_or("", |route| &*route.route.name);
    let path = context.target.split('?').next().unwrap_or("");
    let mut attributes = vec![
        text("http.request.method", method),
        text("http.route", route),
        text("url.path", path),
        text("server.address", &context.host),
        number("platform.attempts", context.attempts.into()),
    ];
    if let Some(status) = status {
        attributes.push(number("http.response.status_code", status.into()));
    }
    if let Some(service) = context.service() {
        attributes.push(text("platform.service", &service.name));
        if let Some(version) = context.version {
            attributes.push(text("platform.version", &service.versions[version].name));
        }
    }
    if let Some(own) = &context.own {
        attributes.push(text("error.type", own.code));
    }
    let bad = status.is_none_or(|status| status >= 500);
    let mut span = json!({
        "traceId": trace_id(&context.trace_parent),
        "spanId": span_id(&context.trace_parent),
        "name": format!("{method} {route}"),
        "kind": 2,
        "startTimeUnixNano": end.saturating_sub(took).to_string(),
        "endTimeUnixNano": end.to_string(),
        "attributes": attributes,
        "status": { "code": if bad { 2 } else { 0 } },
    });
    if let Some(parent) = &context.parent_span {
        span["parentSpanId"] = json!(parent);
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_reached_at_its_usual_path() {
        for (endpoint, expected) in [
            ("http://a:4318", "http://a:4318/v1/traces"),
            ("http://a:4318/", "http://a:4318/v1/traces"),
            ("http://a/otlp/traces", "http://a/otlp/traces"),
        ] {
            assert_eq!(url(endpoint), expected);
        }
    }
}
