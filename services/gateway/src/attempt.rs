//! Attempts at an answer: where one goes, and how long what may take there.

use std::time::Duration;

use http::header;
use pingora_core::prelude::HttpPeer;
use pingora_core::upstreams::peer::PeerOptions;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use platform_gateway_api::Timeouts;

use crate::admit;
use crate::choose::choose;
use crate::clock::limit;
use crate::context::RequestContext;
use crate::endpoint::Attempted;
use crate::failure::{MOST_ATTEMPTS, none_left_answer, stop, too_late};
use crate::grpc;
use crate::workers;

/// Begins one: chooses an endpoint, and says how it is reached.
///
/// # Errors
///
/// Where there is none, or no time or room for it is left; then the context has the answer.
pub(crate) async fn begin(
    session: &mut Session,
    context: &mut RequestContext,
) -> Result<Box<HttpPeer>> {
    let again = std::mem::take(&mut context.repeat);
    context.attempt = None;
    context.seat = None;
    // What is sent once more passes the filters once more.
    context.received = 0;
    context.answered = 0;
    if let Some(copy) = &mut context.copy {
        copy.begin_again();
    }
    let Some(route) = context.route.clone() else {
        return Err(stop(context, admit::nothing_here()));
    };
    if let Err(own) = context.enter_service() {
        return Err(stop(context, own));
    }
    let backoff = route.route.retries.backoff_ms;
    if context.repeats > 0 && backoff > 0 {
        let most = backoff.saturating_mul(1 << (context.repeats - 1).min(6));
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..=most))).await;
    }
    let timeouts = &route.route.timeouts;
    let left = match limit(timeouts.total_ms) {
        None => None,
        Some(total) => match total.checked_sub(context.started.elapsed()) {
            Some(left) if !left.is_zero() => Some(left),
            _ => return Err(stop(context, too_late())),
        },
    };
    let headers = &session.req_header().headers;
    let chosen = choose(context, headers).or_else(|| {
        // What may be repeated may be so where it was, if there is nowhere else.
        let tried = std::mem::take(&mut context.tried);
        let chosen = again.then(|| choose(context, headers)).flatten();
        context.tried = tried;
        chosen
    });
    let Some(chosen) = chosen else {
        let own = none_left_answer(context);
        return Err(stop(context, own));
    };
    let (version, endpoint) = (chosen.version, chosen.endpoint.clone());
    context.begin(chosen);
    let address = match endpoint.resolve().await {
        Ok(address) => address,
        Err(error) => {
            context.settle(Attempted::Unreachable);
            let mut error =
                Error::because(ErrorType::ConnectNoRoute, "looking up an endpoint", error);
            error.as_up();
            error.set_retry(context.attempts < MOST_ATTEMPTS);
            return Err(error);
        }
    };
    let mut peer = Box::new(HttpPeer::new(address, false, String::new()));
    // What is kept for the next request is used by the thread that hears of it.
    peer.group_key = workers::current();
    let options = &mut peer.options;
    allow(options, session.req_header(), timeouts, left);
    let service = route.service.as_ref();
    let chosen = service.map(|service| &service.versions[version]);
    let speaks_http2 = chosen.is_some_and(|version| version.http2);
    if speaks_http2 {
        options.set_http_version(2, 2);
        options.max_h2_streams = 100;
    }
    if let Some(service) = service {
        let pool = &service.settings.pool;
        // Over HTTP/2 many share one, so there are hardly ever several.
        let most = pool.per_endpoint.filter(|_| !speaks_http2);
        context.seat = most.and_then(|most| endpoint.seat(most));
        let stays = most.is_none() || context.seat.is_some();
        let idle = if stays { pool.idle_ms } else { 0 };
        options.idle_timeout = Some(Duration::from_millis(idle));
    }
    if let Some(trust) = chosen.and_then(|version| version.trust.as_ref()) {
        trust.secure(&mut peer, &endpoint.address);
    }
    Ok(peer)
}

/// Sets how long connecting and each pause may take.
///
/// - `left`: of the time for all attempts
fn allow(
    options: &mut PeerOptions,
    head: &RequestHeader,
    timeouts: &Timeouts,
    left: Option<Duration>,
) {
    options.connection_timeout = smaller(limit(timeouts.connect_ms), left);
    options.total_connection_timeout = options.connection_timeout;
    let idle = limit(timeouts.idle_ms);
    if streams(head) {
        options.read_timeout = idle;
        options.write_timeout = idle;
    } else {
        options.read_timeout = smaller(limit(timeouts.first_byte_ms), left);
        options.write_timeout = smaller(idle, left);
    }
}

/// Whether the answer may come in parts with long pauses between them.
pub(crate) fn streams(head: &RequestHeader) -> bool {
    let value = |name| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    };
    head.headers.contains_key(header::UPGRADE)
        || value(header::ACCEPT).contains("text/event-stream")
        || value(header::CONTENT_TYPE).starts_with("application/grpc")
}

/// Whether a client expects the head of its answer as soon as the service has its request. Who listens for what comes may
/// wait for that for long, and leave at any time.
pub(crate) fn expects_answer(head: &RequestHeader) -> bool {
    !streams(head) || grpc::has_deadline(&head.headers)
}

fn smaller(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
