//! Attempts that fail: whose fault it is, what is repeated, and what the client is told.

use std::time::Duration;

use pingora_core::prelude::HttpPeer;
use pingora_core::upstreams::peer::Peer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::clock::limit;
use crate::context::RequestContext;
use crate::endpoint::Attempted;
use crate::own::Own;

/// Most interim answers (1xx) of one attempt.
const MOST_INTERIM: u32 = 32;
/// Most attempts of one request, whatever the reason.
pub(crate) const MOST_ATTEMPTS: u32 = 12;

/// Stops the phases; `fail_to_proxy` sends the answer.
#[expect(
    clippy::unnecessary_box_returns,
    reason = "what Pingora's phases return"
)]
pub(crate) fn stop(context: &mut RequestContext, own: Own) -> Box<Error> {
    let status = own.status;
    let error = Error::explain(ErrorType::HTTPStatus(status), own.code);
    context.own = Some(own);
    error
}

/// Decides what becomes of an attempt that broke off: whose fault that is, and whether the request is repeated.
///
/// - `reused`: whether its connection had been kept from an earlier request
pub(crate) fn judge(
    session: &mut Session,
    error: &mut Error,
    context: &mut RequestContext,
    reused: bool,
) {
    if context.repeat {
        error.set_retry(true);
        return;
    }
    if context.own.is_some() || *error.esource() == ErrorSource::Downstream {
        error.set_retry(false);
        return;
    }
    // What was received is passed on before an answer is waited for, so that nothing came in
    // this time means that the client is late and not the service.
    if *error.etype() == ErrorType::ReadTimedout
        && context.head_after.is_none()
        && !session.as_mut().is_body_done()
    {
        context.own = Some(slow_request());
        error.as_down();
        error.set_retry(false);
        return;
    }
    if context.head_after.is_some() {
        error.set_retry(false);
        return;
    }
    // A kept connection that the service closed meanwhile says nothing about the service.
    let stale = reused
        && matches!(
            error.etype(),
            ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError
        );
    if stale && is_repeatable(session) && context.attempts < MOST_ATTEMPTS {
        context.tried.pop();
        error.set_retry(true);
        return;
    }
    context.settle(Attempted::Unreachable);
    let worth = context.route.as_ref().is_some_and(|route| {
        if timed_out(error) {
            route.route.retries.timeout
        } else {
            route.route.retries.reset
        }
    });
    let again = worth && may_repeat(session, context);
    context.repeat = again;
    error.set_retry(again);
}

/// Counts an interim answer. A service that goes on with them and never comes to its answer is
/// given up, as each of them would begin the time for it anew.
pub(crate) fn announced(context: &mut RequestContext) -> Result<()> {
    let Some(attempt) = &mut context.attempt else {
        return Ok(());
    };
    attempt.interim += 1;
    let timeouts = context.route.as_ref().map(|route| &route.route.timeouts);
    let over =
        |limited: Option<Duration>, since: Duration| limited.is_some_and(|most| most < since);
    let late = timeouts.is_some_and(|timeouts| {
        over(limit(timeouts.first_byte_ms), attempt.started.elapsed())
            || over(limit(timeouts.total_ms), context.started.elapsed())
    });
    if !late && attempt.interim <= MOST_INTERIM {
        return Ok(());
    }
    let kind = if late {
        ErrorType::ReadTimedout
    } else {
        ErrorType::InvalidHTTPHeader
    };
    let mut error = Error::explain(kind, "interim answers without end");
    error.as_up();
    Err(error)
}

/// Whether the endpoint that could not be connected to may be elsewhere by now.
pub(crate) fn has_moved(context: &RequestContext, peer: &HttpPeer) -> bool {
    let used = peer.address().as_inet();
    let tried = context.attempt.as_ref().map(|attempt| &attempt.endpoint);
    tried
        .zip(used)
        .is_some_and(|(endpoint, used)| endpoint.doubt(*used))
}

/// Bytes a second that a body has to come at, all in all, once the time of its route is over: what Apache asks for, too
/// (`mod_reqtimeout`, default of `MinRate`).
const LEAST_RATE: u128 = 500;

/// Whether the time for the answer's head is over while the request's body only drips in: each part that comes begins every
/// other time anew. A large body takes as long as it takes.
pub(crate) fn has_no_time_left(context: &RequestContext) -> bool {
    let route = context.route.as_ref();
    let total = route.and_then(|route| limit(route.route.timeouts.total_ms));
    let passed = context.started.elapsed();
    let drips = || u128::from(context.received) * 1000 < passed.as_millis() * LEAST_RATE;
    context.head_after.is_none() && total.is_some_and(|total| total < passed) && drips()
}

/// Whether an answer says that its body is larger than its route lets through.
pub(crate) fn states_too_much(
    session: &Session,
    answer: &ResponseHeader,
    context: &RequestContext,
) -> bool {
    let stated = || {
        let length = answer.headers.get(http::header::CONTENT_LENGTH)?;
        length.to_str().ok()?.parse::<u64>().ok()
    };
    let bodiless = session.req_header().method == http::Method::HEAD
        || answer.status == http::StatusCode::NOT_MODIFIED;
    match &context.route {
        Some(route) if route.route.max_answer > 0 && !bodiless => {
            stated().is_some_and(|length| length > route.route.max_answer)
        }
        _ => false,
    }
}

/// Whether the same request may be sent twice without harm.
pub(crate) fn is_repeatable(session: &Session) -> bool {
    session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated()
}

/// Whether the request may be repeated now; takes from the budget if so.
pub(crate) fn may_repeat(session: &Session, context: &mut RequestContext) -> bool {
    let Some(route) = context.route.clone() else {
        return false;
    };
    let Some(service) = &route.service else {
        return false;
    };
    let again = is_repeatable(session)
        && context.repeats < route.route.retries.attempts
        && context.attempts < MOST_ATTEMPTS
        && service.runtime.take_retry();
    if again {
        context.repeats += 1;
    }
    again
}

/// The answer when no endpoint is left to try.
pub(crate) fn none_left_answer(context: &RequestContext) -> Own {
    if context.attempts > 0 {
        return Own::new(
            502,
            "unreachable",
            "no endpoint of the service could be reached",
        );
    }
    if let Some(service) = context.service() {
        if context.resting {
            let shed = &service.runtime.shed;
            context.gateway.ledger.enter(|| shed.increment());
            let own = Own::new(503, "resting", "the service failed too often and rests");
            return own.retry_after(1);
        }
        let unserved = &service.runtime.unserved;
        context.gateway.ledger.enter(|| unserved.increment());
    }
    let own = Own::new(
        503,
        "no-endpoint",
        "the service has no endpoint that is ready",
    );
    own.retry_after(1)
}

pub(crate) fn too_late() -> Own {
    Own::new(504, "timeout", "the service did not answer in time")
}

pub(crate) fn too_large_answer() -> Own {
    let detail = "the service's answer is larger than this route lets through";
    Own::new(502, "answer-too-large", detail)
}

pub(crate) fn slow_request() -> Own {
    Own::new(408, "slow-request", "the request's body came too slowly")
}

pub(crate) fn timed_out(error: &Error) -> bool {
    matches!(
        error.etype(),
        ErrorType::ReadTimedout | ErrorType::ConnectTimedout | ErrorType::WriteTimedout
    )
}

/// The answer for an error of Pingora's, if the client is still there.
pub(crate) fn own_for(error: &Error, context: &RequestContext) -> Option<Own> {
    match error.esource() {
        ErrorSource::Downstream => match error.etype() {
            ErrorType::ReadTimedout => Some(slow_request()),
            ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::ConnectionClosed
            | ErrorType::H2Error => None,
            _ => Some(Own::new(400, "bad-request", "the request is malformed")),
        },
        _ if timed_out(error) && context.attempts > 0 => Some(too_late()),
        ErrorSource::Upstream => Some(Own::new(
            502,
            "unreachable",
            "the service did not answer properly",
        )),
        _ => Some(Own::new(500, "internal", "the gateway failed")),
    }
}
