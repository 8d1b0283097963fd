//! The way of one request through Pingora's phases.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheKey, CacheMeta, RespCacheable};
use pingora_core::modules::http::HttpModules;
use pingora_core::prelude::HttpPeer;
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::v1::server::HttpSession;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::access_log;
use crate::admit;
use crate::answer;
use crate::attempt::{self, expects_answer, streams};
use crate::cache::{self, HIT};
use crate::compress::{self, CompressionBuilder};
use crate::connection;
use crate::context::RequestContext;
use crate::endpoint::Attempted;
use crate::failure::{
    self, MOST_ATTEMPTS, announced, has_moved, has_no_time_left, may_repeat, own_for, slow_request,
    states_too_much, stop, too_large_answer,
};
use crate::forward;
use crate::gateway::Gateway;
use crate::grpc::Ending;
use crate::mirror;
use crate::tunnel;

/// How long an unread request body is read for the connection's sake.
const DRAIN_BODY: Duration = Duration::from_secs(2);

/// The phases, for all listeners.
pub(crate) struct Proxy {
    pub(crate) gateway: Arc<Gateway>,
}

/// Bytes of a request: its head's, and its body's where that states them.
fn length(request: &HttpSession) -> u64 {
    let head = request.get_headers_raw_bytes().len() as u64;
    let body = request
        .get_header(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    head.wrapping_add(body.unwrap_or(0))
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = RequestContext;

    fn new_ctx(&self) -> Self::CTX {
        RequestContext::new(self.gateway.clone())
    }

    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        modules.add_module(Box::new(CompressionBuilder));
    }

    async fn early_request_filter(
        &self,
        session: &mut Session,
        context: &mut Self::CTX,
    ) -> Result<()> {
        let http2 = session.is_http2();
        let connection = session.digest().and_then(connection::of_digest);
        if let Some(connection) = &connection {
            connection.begin(http2);
            if let Some(request) = session.as_http1() {
                connection.took(length(request));
            }
        }
        context.connection = connection;
        context.background = session.subrequest_ctx.is_some();
        session.set_pipelining_enabled(true);
        session.set_total_drain_timeout(Some(DRAIN_BODY));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, context: &mut Self::CTX) -> Result<bool> {
        match admit::admit(session, context).await {
            Ok(()) if tunnel::is_asked_for(session) => {
                if let Err(own) = tunnel::serve(session, context).await? {
                    answer::send(session, &own, context).await?;
                    context.own = Some(own);
                }
                Ok(true)
            }
            Ok(()) => Ok(false),
            Err(own) => {
                answer::send(session, &own, context).await?;
                context.own = Some(own);
                Ok(true)
            }
        }
    }

    fn request_cache_filter(&self, session: &mut Session, context: &mut Self::CTX) -> Result<()> {
        cache::begin(session, context);
        Ok(())
    }

    fn cache_key_callback(&self, _session: &Session, context: &mut Self::CTX) -> Result<CacheKey> {
        Ok(cache::key(context))
    }

    fn response_cache_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        context: &mut Self::CTX,
    ) -> Result<RespCacheable> {
        Ok(cache::may_keep(session, response, context))
    }

    fn cache_vary_filter(
        &self,
        meta: &CacheMeta,
        context: &mut Self::CTX,
        request: &RequestHeader,
    ) -> Option<HashBinary> {
        cache::variant(meta, context, request)
    }

    async fn proxy_upstream_filter(
        &self,
        session: &mut Session,
        context: &mut Self::CTX,
    ) -> Result<bool> {
        let Some(own) = cache::only_if_kept(session, context) else {
            return Ok(true);
        };
        answer::send(session, &own, context).await?;
        context.own = Some(own);
        Ok(false)
    }

    fn should_serve_stale(
        &self,
        _session: &mut Session,
        context: &mut Self::CTX,
        error: Option<&Error>,
    ) -> bool {
        let Some(error) = error else {
            return true; // A fresh one is being fetched.
        };
        let failed = match &context.own {
            Some(own) => own.status >= 500,
            None => *error.esource() == ErrorSource::Upstream,
        };
        if failed {
            let answered = matches!(error.etype(), ErrorType::HTTPStatus(_));
            context.settle(if answered {
                Attempted::Bad
            } else {
                Attempted::Unreachable
            });
            context.own = None;
            context.concealed = true;
        }
        failed
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        context: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        attempt::begin(session, context).await
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        _descriptor: std::os::fd::RawFd,
        _digest: Option<&Digest>,
        context: &mut Self::CTX,
    ) -> Result<()> {
        if let Some(attempt) = &mut context.attempt {
            attempt.started = Instant::now();
        }
        if session.is_body_empty() && expects_answer(session.req_header()) {
            context.await_answer();
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        context: &mut Self::CTX,
    ) -> Result<()> {
        forward::request_from(request, context)?;
        if context.attempts == 1 {
            context.copy = mirror::begin(context, request);
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        context: &mut Self::CTX,
    ) -> Result<()> {
        if !end && has_no_time_left(context) && !streams(session.req_header()) {
            context.copy = None;
            return Err(stop(context, slow_request()).into_down());
        }
        if let Some(body) = body {
            context.received += body.len() as u64;
            if let Some(copy) = &mut context.copy {
                copy.add(body);
            }
            let most = context
                .route
                .as_ref()
                .map_or(0, |route| route.route.max_body);
            if most > 0 && context.received > most {
                context.copy = None;
                return Err(stop(context, admit::too_large()).into_down());
            }
        }
        if let Some(copy) = context.copy.as_mut().filter(|_| end) {
            copy.end();
        }
        if end && expects_answer(session.req_header()) {
            context.await_answer();
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Self::CTX,
    ) -> Result<()> {
        let status = response.status;
        if status.is_informational() && status != http::StatusCode::SWITCHING_PROTOCOLS {
            return announced(context);
        }
        let outcome = if status.is_server_error() {
            Attempted::Bad
        } else {
            Attempted::Good
        };
        let repeatable = context
            .route
            .as_ref()
            .is_some_and(|route| route.route.retries.statuses.contains(&status.as_u16()));
        if repeatable && may_repeat(session, context) {
            context.settle(outcome);
            context.repeat = true;
            return Err(Error::explain(
                ErrorType::HTTPStatus(status.as_u16()),
                "repeating an attempt for its status",
            ));
        }
        match Ending::of_head(&response.headers).filter(|_| outcome == Attempted::Good) {
            Some(ending) => context.end_call(ending),
            None => context.settle(outcome),
        }
        context.attempt_took = context
            .attempt
            .as_ref()
            .map(|attempt| attempt.started.elapsed());
        if states_too_much(session, response, context) {
            return Err(stop(context, too_large_answer()).into_up());
        }
        context.head_after = Some(context.started.elapsed());
        forward::remove_hop_by_hop(response);
        forward::date(response)?;
        if status == http::StatusCode::NOT_MODIFIED && session.cache.enabled() {
            context.not_modified = Some(response.headers.clone());
        }
        cache::forget_if_changed(session, response, context);
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        context: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        let Some(body) = body else {
            return Ok(None);
        };
        context.answered += body.len() as u64;
        let route = context.route.as_ref();
        let most = route.map_or(0, |route| route.route.max_answer);
        if most > 0 && context.answered > most {
            return Err(stop(context, too_large_answer()).into_up());
        }
        Ok(None)
    }

    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut http::HeaderMap,
        context: &mut Self::CTX,
    ) -> Result<()> {
        if context.grpc == Some(Ending::Awaited) {
            context.end_call(Ending::of_trailers(trailers));
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Self::CTX,
    ) -> Result<()> {
        if context.gateway.is_draining() {
            session.set_keepalive(None);
        }
        if session.req_header().version == http::Version::HTTP_10 {
            // It knows no chunks: without a length, the connection's end is the body's.
            response.remove_header(&header::TRANSFER_ENCODING);
        }
        context.cached = cache::outcome(session, context);
        forward::response(response, context)?;
        match &context.route {
            Some(route) if route.route.compress => {
                let whole = context.cached == Some(HIT);
                compress::turn_on(session, response, &route.route.encodings, whole)
            }
            _ => Ok(()),
        }
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        peer: &HttpPeer,
        context: &mut Self::CTX,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // Nothing was sent, so any request may go to another endpoint, or to the same
        // where its name leads by now.
        if has_moved(context, peer) {
            context.tried.pop();
        } else {
            context.settle(Attempted::Unreachable);
        }
        error.set_retry(context.attempts < MOST_ATTEMPTS);
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        context: &mut Self::CTX,
        reused: bool,
    ) -> Box<Error> {
        failure::judge(session, &mut error, context, reused);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut Self::CTX,
    ) -> FailToProxy {
        let own = match context.own.take() {
            Some(own) => Some(own),
            None => own_for(error, context),
        };
        let Some(own) = own else {
            return FailToProxy {
                error_code: 0,
                can_reuse_downstream: false,
            };
        };
        session.set_keepalive(None);
        if let Err(error) = answer::send(session, &own, context).await {
            tracing::debug!(%error, "cannot send an answer");
        }
        let status = own.status;
        context.own = Some(own);
        FailToProxy {
            error_code: status,
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut Self::CTX) {
        let client_left = error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
        let status = answer::final_status(session);
        // An answer that broke off half way was not a good one.
        let broken = error.is_some() && !client_left && context.head_after.is_some();
        let ending = context.grpc.map(Ending::concluded);
        match ending {
            // It answered, whatever that would have come to.
            Some(_) if client_left => context.settle(Attempted::Good),
            Some(ending) => context.end_call(ending),
            None => (),
        }
        let failed_call = ending.is_some_and(|ending| ending.is_bad() == Some(true));
        let failed = broken || (failed_call && !client_left);
        let judged = if failed { Some(502) } else { status };
        // Pingora shows no body where there is none, nor its end.
        if let Some(copy) = context.copy.as_mut().filter(|_| session.is_body_empty()) {
            copy.end();
        }
        mirror::send(context);
        context.count(judged, client_left);
        let method = session.req_header().method.as_str();
        context.gateway.traces.send(context, method, status);
        access_log::write(session, context, status, error);
    }

    fn suppress_error_log(&self, _: &Session, _: &Self::CTX, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Self::CTX,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
