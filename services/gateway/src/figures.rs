//! The figures for Prometheus, on the admin socket and on listeners of their own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::gateway::Gateway;
use crate::metrics;

/// All counts, in the text exposition format.
pub(crate) fn answer(gateway: &Gateway) -> Response<Full<Bytes>> {
    let text = metrics::render(
        &gateway.tallies(),
        &gateway.status(),
        gateway.log.lost.get(),
        gateway.traces.lost.get(),
    );
    let mut response = Response::new(Full::new(text.into()));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Answers one request of a connection: nobody who gathers figures is in a hurry, and none holds up the gateway's end.
///
/// - `head_ms`: time to send the request's head; 0 is unlimited
pub(crate) async fn serve<S>(gateway: Arc<Gateway>, stream: S, head_ms: u64)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let respond = |request: Request<Incoming>| {
        let response = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => answer(&gateway),
            (_, "/metrics") => empty(StatusCode::METHOD_NOT_ALLOWED),
            _ => empty(StatusCode::NOT_FOUND),
        };
        std::future::ready(Ok::<_, Infallible>(response))
    };
    let limit = (head_ms > 0).then(|| Duration::from_millis(head_ms));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service_fn(respond))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection for figures broke off");
    }
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allow = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
