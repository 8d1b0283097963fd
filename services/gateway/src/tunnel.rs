//! Upgraded connections, such as web sockets: bytes both ways until one side ends.
//!
//! Pingora could do this itself, but loses a tunnel whose service answers
//! before Pingora has told it that the request has no body. Here nothing is
//! read from the client before the answer is known.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header;
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::answer::Own;
use crate::choose::choose;
use crate::clock::limit;
use crate::context::RequestContext;
use crate::endpoint::Attempted;
use crate::failure::{MOST_ATTEMPTS, none_left_answer};
use crate::forward;
use crate::upstream_tls::{self, Channel};

/// Largest head of an answer.
const LARGEST_HEAD: usize = 64 * 1024;
/// Most headers of an answer.
const MOST_HEADERS: usize = 128;
/// Bytes moved at a time.
const PORTION: usize = 16 * 1024;

/// Whether a request asks for a web socket (RFC 6455, 4.2.1).
pub(crate) fn is_asked_for(session: &Session) -> bool {
    let head = session.req_header();
    let upgrade = head.headers.get(header::UPGRADE);
    !session.is_http2()
        && head.method == http::Method::GET
        && session.is_upgrade_req()
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// What came back from a service.
struct Opened {
    stream: Box<dyn Channel>,
    head: ResponseHeader,
    /// What followed the head already.
    rest: BytesMut,
}

/// Answers an upgrade request.
///
/// - returns: as error, what the client is told instead
pub(crate) async fn serve(
    session: &mut Session,
    context: &mut RequestContext,
) -> Result<Result<(), Own>> {
    let opened = match open(session, context).await {
        Ok(opened) => opened,
        Err(own) => return Ok(Err(own)),
    };
    let Opened {
        mut stream,
        mut head,
        rest,
    } = opened;
    context.head_after = Some(context.started.elapsed());
    context.attempt_took = context
        .attempt
        .as_ref()
        .map(|attempt| attempt.started.elapsed());
    context.settle(if head.status.is_server_error() {
        Attempted::Bad
    } else {
        Attempted::Good
    });
    let upgraded = head.status == http::StatusCode::SWITCHING_PROTOCOLS;
    forward::remove_hop_by_hop(&mut head);
    forward::response(&mut head, context)?;
    if !upgraded {
        // Refused: its body ends with the connection, and so does the client's.
        head.remove_header(&header::TRANSFER_ENCODING);
        head.remove_header(&header::CONTENT_LENGTH);
    }
    session.set_keepalive(None);
    session.set_read_timeout(None);
    session
        .as_downstream_mut()
        .write_response_header(Box::new(head))
        .await?;
    let idle = context
        .route
        .as_ref()
        .and_then(|route| limit(route.route.timeouts.idle_ms));
    if !rest.is_empty() {
        let rest = rest.freeze();
        session
            .as_downstream_mut()
            .write_response_body(rest, false)
            .await?;
    }
    pump(session, &mut stream, upgraded, idle).await?;
    Ok(Ok(()))
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
async fn pump(
    session: &mut Session,
    stream: &mut Box<dyn Channel>,
    both_ways: bool,
    idle: Option<Duration>,
) -> Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    let idle = idle.unwrap_or(Duration::from_secs(u64::from(u32::MAX)));
    let client = session.as_downstream_mut();
    let mut portion = BytesMut::with_capacity(PORTION);
    // What the service has yet to take. It is read on meanwhile, or two that both wait to be read
    // would wait for ever.
    let mut pending = Bytes::new();
    let mut flushed = true;
    loop {
        portion.reserve(PORTION);
        tokio::select! {
            sent = client.read_request_body(), if both_ways && pending.is_empty() => match sent {
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
async fn open(session: &mut Session, context: &mut RequestContext) -> Result<Opened, Own> {
    let Some(route) = context.route.clone() else {
        return Err(crate::admit::nothing_here());
    };
    let timeouts = &route.route.timeouts;
    let connect = limit(timeouts.connect_ms).unwrap_or(Duration::from_mins(1));
    let first_byte = limit(timeouts.first_byte_ms).unwrap_or(Duration::from_hours(1));
    while context.attempts < MOST_ATTEMPTS {
        context.attempt = None;
        let chosen = choose(context, &session.req_header().headers);
        let Some((version, endpoint)) = chosen else {
            break;
        };
        context.begin(version, endpoint.clone());
        let trust = route
            .service
            .as_ref()
            .and_then(|service| service.trust.as_ref());
        let connected = timeout(connect, upstream_tls::connect(&endpoint, trust, false));
        let Ok(Ok(mut stream)) = connected.await else {
            context.settle(Attempted::Unreachable);
            continue;
        };
        // Once sent, it is not repeated: a handshake may have an effect.
        let text = head_for(session, context)
            .map_err(|_| Own::new(400, "bad-request", "the request is malformed"))?;
        let answered = timeout(first_byte, async {
            stream.write_all(&text).await?;
            read_head(&mut stream).await
        });
        return match answered.await {
            Ok(Ok((head, rest))) => Ok(Opened { stream, head, rest }),
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

/// The head that the service gets, as text.
fn head_for(session: &Session, context: &RequestContext) -> Result<Vec<u8>> {
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
    head.insert_header(header::CONNECTION, "upgrade")?;
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let mut text = format!("{} {target} HTTP/1.1\r\n", head.method).into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    Ok(text)
}

async fn read_head(stream: &mut Box<dyn Channel>) -> std::io::Result<(ResponseHeader, BytesMut)> {
    let broken =
        |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_string());
    let mut buffer = BytesMut::with_capacity(4 * 1024);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let mut fields = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Response::new(&mut fields);
        let length = match parsed.parse(&buffer) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if buffer.len() < LARGEST_HEAD => continue,
            _ => return Err(broken("the answer is malformed")),
        };
        let mut head = ResponseHeader::build(parsed.code.unwrap_or(0), Some(parsed.headers.len()))
            .map_err(|error| broken(error.etype().as_str()))?;
        for field in parsed.headers.iter() {
            head.append_header(field.name.to_string(), field.value)
                .map_err(|error| broken(error.etype().as_str()))?;
        }
        let rest = buffer.split_off(length);
        return Ok((head, rest));
    }
}
