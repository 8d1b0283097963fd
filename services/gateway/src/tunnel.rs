//! Upgraded connections, such as web sockets: bytes both ways until one side ends.
//!
//! Pingora could do this itself, but loses a tunnel whose service answers
//! before Pingora has told it that the request has no body. Here nothing is
//! read from the client before the answer is known.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::choose::choose;
use crate::clock::limit;
use crate::context::RequestContext;
use crate::endpoint::Attempted;
use crate::failure::{MOST_ATTEMPTS, none_left_answer};
use crate::fetch::Failure;
use crate::forward;
use crate::own::Own;
use crate::upstream_tls::{self, Channel};

/// Largest head of an answer.
const LARGEST_HEAD: usize = 64 * 1024;
/// Most headers of an answer.
const MOST_HEADERS: usize = 128;
/// Bytes moved at a time.
const PORTION: usize = 16 * 1024;
/// A pause that nobody waits to the end of.
const NO_LIMIT: Duration = Duration::from_secs(u32::MAX as u64);

/// Whether a request asks for a web socket (RFC 6455, 4.2.1).
pub(crate) fn is_asked_for(session: &Session) -> bool {
    let head = session.req_header();
    let upgrade = head.headers.get(header::UPGRADE);
    !session.is_http2()
        && head.method == http::Method::GET
        && session.is_upgrade_req()
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Answers an upgrade request.
///
/// - returns: as error inside, what the client is told instead
pub(crate) async fn serve(
    session: &mut Session,
    context: &mut RequestContext,
) -> Result<Result<(), Own>> {
    let answer = match open(session, context).await {
        Ok(answer) => answer,
        Err(own) => return Ok(Err(own)),
    };
    let status = answer.status();
    context.head_after = Some(context.started.elapsed());
    context.attempt_took = context
        .attempt
        .as_ref()
        .map(|attempt| attempt.started.elapsed());
    context.settle(if status.is_server_error() {
        Attempted::Bad
    } else {
        Attempted::Good
    });
    let mut head = ResponseHeader::build(status, Some(answer.headers().len()))?;
    for (name, value) in answer.headers() {
        head.append_header(name, value)?;
    }
    forward::remove_hop_by_hop(&mut head);
    if status != StatusCode::SWITCHING_PROTOCOLS {
        frame(&mut head, &answer, session.req_header().version)?;
    }
    forward::response(&mut head, context)?;
    session.set_keepalive(None);
    session.set_read_timeout(None);
    session
        .as_downstream_mut()
        .write_response_header(Box::new(head))
        .await
        .map_err(Error::into_down)?;
    let idle = context
        .route
        .as_ref()
        .and_then(|route| limit(route.route.timeouts.idle_ms))
        .unwrap_or(NO_LIMIT);
    if status != StatusCode::SWITCHING_PROTOCOLS {
        refuse(session, answer.into_body(), idle).await?;
    } else if let Ok(upgraded) = hyper::upgrade::on(answer).await {
        pump(session, TokioIo::new(upgraded), idle)
            .await
            .map_err(Error::into_down)?;
    }
    Ok(Ok(()))
}

/// Says how long the body of a refusal is.
fn frame(head: &mut ResponseHeader, answer: &Response<Incoming>, version: Version) -> Result<()> {
    head.remove_header(&header::TRANSFER_ENCODING);
    if matches!(
        head.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    ) {
        return Ok(());
    }
    match answer.body().size_hint().exact() {
        Some(length) => head.insert_header(header::CONTENT_LENGTH, length),
        // HTTP/1.0 knows no chunks: the connection's end is the body's.
        None if version == Version::HTTP_10 => Ok(()),
        None => head.insert_header(header::TRANSFER_ENCODING, "chunked"),
    }
}

/// Passes on what a service says that does not take the handshake.
async fn refuse(session: &mut Session, mut body: Incoming, idle: Duration) -> Result<()> {
    let client = session.as_downstream_mut();
    loop {
        let failed = match timeout(idle, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(part) = frame.into_data() {
                    let written = client.write_response_body(part, false).await;
                    written.map_err(Error::into_down)?;
                }
                continue;
            }
            Ok(None) => {
                let ended = client.write_response_body(Bytes::new(), true).await;
                return ended.map_err(Error::into_down);
            }
            Ok(Some(Err(error))) => {
                Error::because(ErrorType::ReadError, "reading a refusal", error)
            }
            Err(_) => Error::explain(ErrorType::ReadTimedout, "a refusal pauses for too long"),
        };
        return Err(failed.into_up());
    }
}

/// Writes some of what is pending, or flushes when nothing is; returns how much was written.
async fn hand(to: &mut (impl AsyncWrite + Unpin), pending: &[u8]) -> std::io::Result<usize> {
    if pending.is_empty() {
        to.flush().await?;
        return Ok(0);
    }
    match to.write(pending).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

/// Moves bytes until one side ends or nothing moves for too long.
async fn pump(session: &mut Session, stream: TokioIo<Upgraded>, idle: Duration) -> Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    let client = session.as_downstream_mut();
    let mut portion = BytesMut::with_capacity(PORTION);
    // What the service has yet to take. It is read on meanwhile, or two that both wait to be read
    // would wait for ever.
    let mut pending = Bytes::new();
    let mut flushed = true;
    loop {
        portion.reserve(PORTION);
        tokio::select! {
            sent = client.read_request_body(), if pending.is_empty() => match sent {
                Ok(Some(bytes)) => {
                    pending = bytes;
                    flushed = false;
                }
                Ok(None) | Err(_) => break,
            },
            handed = hand(&mut to, &pending), if !flushed => match handed {
                Ok(0) => flushed = true,
                Ok(count) => pending.advance(count),
                Err(_) => break,
            },
            read = from.read_buf(&mut portion) => match read {
                Ok(0) | Err(_) => break,
                Ok(_) => client.write_response_body(portion.split().freeze(), false).await?,
            },
            () = tokio::time::sleep(idle) => break,
        }
    }
    client.write_response_body(Bytes::new(), true).await
}

/// Asks endpoints until one answers.
async fn open(
    session: &mut Session,
    context: &mut RequestContext,
) -> Result<Response<Incoming>, Own> {
    let Some(route) = context.route.clone() else {
        return Err(crate::admit::nothing_here());
    };
    context.enter_service()?;
    let timeouts = &route.route.timeouts;
    let connect = limit(timeouts.connect_ms).unwrap_or(Duration::from_mins(1));
    let first_byte = limit(timeouts.first_byte_ms).unwrap_or(Duration::from_hours(1));
    while context.attempts < MOST_ATTEMPTS {
        context.attempt = None;
        let chosen = choose(context, &session.req_header().headers);
        let Some(chosen) = chosen else {
            break;
        };
        let (version, endpoint) = (chosen.version, chosen.endpoint.clone());
        context.begin(chosen);
        let trust = route
            .service
            .as_ref()
            .and_then(|service| service.versions[version].trust.as_ref());
        let connected = timeout(connect, upstream_tls::connect(&endpoint, trust, false));
        let Ok(Ok(stream)) = connected.await else {
            context.settle(Attempted::Unreachable);
            continue;
        };
        // Once sent, it is not repeated: a handshake may have an effect.
        let request = request_for(session, context)
            .map_err(|_| Own::new(400, "bad-request", "the request is malformed"))?;
        return match timeout(first_byte, answered(stream, request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => {
                context.settle(Attempted::Unreachable);
                Err(Own::new(
                    502,
                    "unreachable",
                    "the service did not answer properly",
                ))
            }
            Err(_) => {
                context.settle(Attempted::Unreachable);
                Err(Own::new(
                    504,
                    "timeout",
                    "the service did not answer in time",
                ))
            }
        };
    }
    Err(none_left_answer(context))
}

/// The answer of a service; interim ones (1xx) are none.
async fn answered(
    stream: Box<dyn Channel>,
    request: Request<Empty<Bytes>>,
) -> std::result::Result<Response<Incoming>, Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await?;
    // It ends with the answer's body, or gives the stream away.
    tokio::spawn(connection.with_upgrades());
    Ok(sender.send_request(request).await?)
}

/// The request that the service gets.
fn request_for(session: &Session, context: &RequestContext) -> Result<Request<Empty<Bytes>>> {
    let mut head: RequestHeader = session.req_header().clone();
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "content-length",
    ] {
        head.remove_header(name);
    }
    forward::request_from(&mut head, context)?;
    let mut request = Request::new(Empty::new());
    let target = head.uri.path_and_query();
    let target = target.map_or("/", |target| target.as_str());
    *request.uri_mut() = target.parse().map_err(|error| {
        Error::because(ErrorType::InvalidHTTPHeader, "a target of a request", error)
    })?;
    request.headers_mut().clone_from(&head.headers);
    let upgrade = HeaderValue::from_static("upgrade");
    request.headers_mut().insert(header::CONNECTION, upgrade);
    Ok(request)
}
