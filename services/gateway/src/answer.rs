//! Answers that the gateway gives itself, as problem documents (RFC 9457).

use bytes::Bytes;
use pingora_core::{OrErr, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use serde::Serialize;

use crate::context::RequestContext;
use crate::forward::VERSION;
use crate::own::Own;

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
}

/// The status of the answer that was begun; interim ones (1xx) are none.
pub(crate) fn final_status(session: &Session) -> Option<u16> {
    let status = session.response_written()?.status;
    let interim = status.is_informational() && status != http::StatusCode::SWITCHING_PROTOCOLS;
    (!interim).then(|| status.as_u16())
}

/// Sends the answer. A request body that was not read costs the connection.
pub(crate) async fn send(session: &mut Session, own: &Own, context: &RequestContext) -> Result<()> {
    let request_id = context.request_id.as_str();
    if final_status(session).is_some() {
        return Ok(());
    }
    let title = http::StatusCode::from_u16(own.status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error");
    let problem = Problem {
        r#type: "about:blank",
        title,
        status: own.status,
        detail: own.detail,
        code: own.code,
        request_id,
    };
    let body = if (300..400).contains(&own.status) || own.status == 204 {
        Bytes::new()
    } else {
        serde_json::to_vec(&problem)
            .or_err(pingora_core::InternalError, "writing a problem document")?
            .into()
    };
    let mut head = ResponseHeader::build(own.status, Some(8))?;
    if !body.is_empty() {
        head.insert_header("content-type", "application/problem+json")?;
    }
    if own.status != 204 {
        head.insert_header("content-length", body.len().to_string())?;
    }
    head.insert_header("cache-control", "no-store")?;
    if !request_id.is_empty() {
        head.insert_header("x-request-id", request_id)?;
    }
    if context.attempts > 0
        && let Some(version) = context.shown_version()
    {
        head.insert_header(VERSION, version)?;
    }
    if let Some(seconds) = own.retry_after {
        head.insert_header("retry-after", seconds.to_string())?;
    }
    let cors = context.cors.iter().filter(|_| own.code != "preflight");
    for (name, value) in own.headers.iter().chain(cors) {
        head.append_header(*name, value.as_str())?;
    }
    if !session.is_body_empty() && !session.is_body_done() {
        session.set_keepalive(None);
    }
    let empty = body.is_empty() || session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head), empty).await?;
    if empty {
        session.as_downstream_mut().finish_body().await
    } else {
        session.write_response_body(Some(body), true).await
    }
}
