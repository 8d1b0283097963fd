//! The admin socket: HTTP/1.1 and JSON, for whoever may open it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use platform_gateway_api::admin::{Applied, Refused};
use platform_gateway_api::{Config, Reason, openapi};
use serde::Serialize;
use tokio::net::UnixListener;

use crate::control::{Control, Refusal};
use crate::figures;

/// Largest configuration.
const LARGEST: usize = 64 * 1024 * 1024;
/// Time to send a request's head.
const HEAD: Duration = Duration::from_secs(10);

/// Serves the socket until the process ends.
pub(crate) async fn serve(listener: UnixListener, control: Arc<Control>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let control = control.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, control.clone()));
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "an admin connection broke off");
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    control: Arc<Control>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_string();
    Ok(match (request.method().clone(), path.as_str()) {
        (Method::PUT, "/config") => put_config(request, &control).await,
        (Method::GET, "/config") => {
            let config = control.gateway.snapshot.load().config.clone();
            json(StatusCode::OK, &*config)
        }
        (Method::GET, "/tallies") => json(StatusCode::OK, &control.gateway.tallies()),
        (Method::GET, "/status") => json(StatusCode::OK, &control.status().await),
        (Method::GET, "/metrics") => figures::answer(&control.gateway),
        (Method::GET, "/openapi.json") => json(StatusCode::OK, &openapi::document()),
        (Method::DELETE, "/cache") => {
            control.gateway.cache.forget_all();
            json(StatusCode::OK, &serde_json::json!({}))
        }
        (Method::POST, "/drain") => {
            control.leave.notify_one();
            json(StatusCode::ACCEPTED, &serde_json::json!({}))
        }
        _ => match methods(&path) {
            Some(methods) => {
                let known = "is not known here";
                let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, "method", known);
                let allow = HeaderValue::from_static(methods);
                response.headers_mut().insert(header::ALLOW, allow);
                response
            }
            None => refused(StatusCode::NOT_FOUND, "path", "is not known"),
        },
    })
}

/// What may be done at a path, where there is one.
fn methods(path: &str) -> Option<&'static str> {
    match path {
        "/config" => Some("GET, PUT"),
        "/tallies" | "/status" | "/metrics" | "/openapi.json" => Some("GET"),
        "/cache" => Some("DELETE"),
        "/drain" => Some("POST"),
        _ => None,
    }
}

async fn put_config(request: Request<Incoming>, control: &Arc<Control>) -> Response<Full<Bytes>> {
    let body = match Limited::new(request.into_body(), LARGEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            return refused(
                StatusCode::BAD_REQUEST,
                "body",
                &format!("cannot be read: {error}"),
            );
        }
    };
    let config: Config = match serde_json::from_slice(&body) {
        Ok(config) => config,
        Err(error) => {
            let message = format!("is not a configuration: {error}");
            return refused(StatusCode::UNPROCESSABLE_ENTITY, "body", &message);
        }
    };
    // A task of its own: whoever asks and leaves must not leave it half done.
    let control = control.clone();
    let applied = tokio::spawn(async move { control.apply(config).await }).await;
    let applied = match applied {
        Ok(applied) => applied,
        Err(error) => {
            tracing::error!(%error, "putting a configuration in force broke off");
            return refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                "body",
                "broke the gateway's control, not its requests",
            );
        }
    };
    match applied {
        Ok(revision) => json(StatusCode::OK, &Applied { revision }),
        Err(Refusal::Invalid(reasons)) => {
            json(StatusCode::UNPROCESSABLE_ENTITY, &Refused { reasons })
        }
        Err(Refusal::Stale(reasons)) => json(StatusCode::CONFLICT, &Refused { reasons }),
    }
}

fn refused(status: StatusCode, path: &str, message: &str) -> Response<Full<Bytes>> {
    let reasons = vec![Reason {
        path: path.into(),
        message: message.into(),
    }];
    json(status, &Refused { reasons })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(text) => respond(status, "application/json", text.into()),
        Err(error) => respond(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain",
            error.to_string().into(),
        ),
    }
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
