//! Limits on requests, and answers that are always problem documents.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, StatusCode, Uri, Version};
use hyper::body::{Frame, SizeHint};

use crate::problem::Problem;

/// Answers 408 when the client was too slow to send its request, and 503 when we were too slow to answer it.
pub(crate) async fn time_limit(
    State(limit): State<Duration>,
    request: Request,
    next: Next,
) -> Response {
    let arrived = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let http1 = request.version() < Version::HTTP_2;
    let request = request.map(|body| {
        Body::new(Arriving {
            body,
            arrived: arrived.clone(),
        })
    });
    if let Ok(response) = tokio::time::timeout(limit, next.run(request)).await {
        return response;
    }
    if arrived.load(Ordering::Relaxed) {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE)
            .code("request::timeout")
            .detail(format!("no answer was ready within {limit:?}"))
            .retry_after(1)
            .into_response()
    } else {
        let late = Problem::new(StatusCode::REQUEST_TIMEOUT)
            .detail(format!("the request did not arrive within {limit:?}"));
        // Over HTTP/2 the other requests of the connection go on.
        let late = if http1 {
            late.header(CONNECTION, HeaderValue::from_static("close"))
        } else {
            late
        };
        late.into_response()
    }
}

/// A request body that notes when all of it has arrived.
struct Arriving {
    body: Body,
    arrived: Arc<AtomicBool>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.arrived.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Turns errors that libraries answered in plain text into problem documents.
pub(crate) async fn explain(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let explained = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| !kind.as_bytes().starts_with(b"text/plain"));
    if explained || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let mut problem = Problem::new(status);
    for (name, value) in response.headers() {
        if *name == ALLOW {
            problem = problem.header(name.clone(), value.clone());
        }
    }
    let detail = match axum::body::to_bytes(response.into_body(), 1024).await {
        Ok(text) if !text.is_empty() => String::from_utf8_lossy(&text).into_owned(),
        _ => return problem.into_response(),
    };
    problem.detail(detail).into_response()
}

/// Answers where no route matched.
pub(crate) async fn no_route(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND).detail(format!("there is nothing at {}", uri.path()))
}

/// Answers after a handler panicked; what it said goes to the log only.
pub(crate) fn panicked(_payload: Box<dyn Any + Send + 'static>) -> Response {
    metrics::counter!("http_panics_total").increment(1);
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR)
        .code("service::panic")
        .detail("the service failed in an unexpected way")
        .into_response()
}
