//! What is known about the request being answered, and the middleware that watches it.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use tracing::{Instrument, Level};

use crate::export;
use crate::health::Health;
use crate::settings::Identity;
use crate::trace_context::TraceContext;

/// Name of the header that identifies one request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Name of the header that tells which version of which service answered, such as `orders@r5`.
pub const VERSION: HeaderName = HeaderName::from_static("x-platform-version");
/// Name of the header that tells which instance answered.
pub const INSTANCE: HeaderName = HeaderName::from_static("x-platform-instance");

tokio::task_local! {
    static CONTEXT: RequestContext;
}

/// Identifies the request being answered, in logs and in calls made for it.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Identifier from `x-request-id`, or a new one.
    pub request_id: String,
    /// This request's place in its trace.
    pub trace: TraceContext,
}

/// Returns the context of the request that this task answers.
pub fn current() -> Option<RequestContext> {
    CONTEXT.try_with(Clone::clone).ok()
}

/// Calls `look` with the context of the request that this task answers.
pub(crate) fn with_current(look: impl FnOnce(&RequestContext)) {
    let _ = CONTEXT.try_with(look);
}

/// What the middleware needs to know about the service.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    health: Arc<Health>,
    answers_as: Option<HeaderValue>,
    instance: Option<HeaderValue>,
}

impl Observer {
    pub(crate) fn new(identity: &Identity, health: Arc<Health>) -> Self {
        let answers_as = identity
            .release
            .as_ref()
            .map(|release| format!("{}@{release}", identity.service));
        let value = |text: &String| HeaderValue::from_str(text).ok();
        Self {
            health,
            answers_as: answers_as.as_ref().and_then(value),
            instance: identity.instance.as_ref().and_then(value),
        }
    }
}

/// Gives each request its context, counts it, logs it, and marks the answer.
pub(crate) async fn observe(
    State(observer): State<Observer>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let http1 = request.version() <= Version::HTTP_11;
    let method = known_method(request.method());
    let path = request.uri().path().to_owned();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let caller = TraceContext::of_caller(request.headers());
    let span = export::request_span(method, &route, &path, caller.as_ref());
    let context = RequestContext {
        request_id: request_id(request.headers()),
        trace: export::context_of(&span)
            .or_else(|| caller.as_ref().map(TraceContext::child))
            .unwrap_or_else(TraceContext::root),
    };
    let id = HeaderValue::from_str(&context.request_id).ok();
    let flight = InFlight::enter();
    CONTEXT
        .scope(context, async {
            let mut response = next.run(request).instrument(span.clone()).await;
            let status = response.status();
            let seconds = started.elapsed().as_secs_f64();
            drop(flight);
            record(method, &route, status.as_u16(), seconds);
            export::answered(&span, status);
            log(method, &route, &path, status.as_u16(), seconds);
            let headers = response.headers_mut();
            let mut set = |name: HeaderName, value: Option<HeaderValue>| {
                if let Some(value) = value {
                    headers.insert(name, value);
                }
            };
            set(REQUEST_ID, id);
            set(VERSION, observer.answers_as);
            set(INSTANCE, observer.instance);
            if http1 && observer.health.is_draining() {
                set(CONNECTION, Some(HeaderValue::from_static("close")));
            }
            response
        })
        .await
}

/// Takes the caller's identifier if it is short and printable, else makes one.
fn request_id(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()))
        .map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

/// Methods come from strangers; a label must not.
fn known_method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

fn record(method: &'static str, route: &str, status: u16, seconds: f64) {
    let labels = [
        ("method", method.to_owned()),
        ("route", route.to_owned()),
        ("status", status.to_string()),
    ];
    metrics::counter!("http_requests_total", &labels).increment(1);
    metrics::histogram!("http_request_duration_seconds", &labels[..2]).record(seconds);
}

fn log(method: &'static str, route: &str, path: &str, status: u16, seconds: f64) {
    let milliseconds = (seconds * 1e6).round() / 1e3;
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                target: "request",
                $level,
                method,
                route,
                path,
                status,
                milliseconds,
                "answered"
            )
        };
    }
    if status >= 500 {
        line!(Level::WARN);
    } else if route.starts_with("/health/") || route == "/metrics" {
        line!(Level::DEBUG);
    } else {
        line!(Level::INFO);
    }
}

/// Counts a request as in flight for as long as it lives, also when its client goes away.
struct InFlight;

impl InFlight {
    fn enter() -> Self {
        metrics::gauge!("http_requests_in_flight").increment(1.0);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!("http_requests_in_flight").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_request_id_is_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("abc-1"));
        assert_eq!(request_id(&headers), "abc-1");
        headers.insert(REQUEST_ID, HeaderValue::from_static("a b"));
        assert_eq!(request_id(&headers).len(), 36);
    }
}
