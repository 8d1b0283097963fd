//! Decides whether a request may pass, and where to.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, header};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use platform_gateway_api::{Auth, EscapedSlashes, ListenerLimits, RateKey, RateLimit, Route};

use crate::auth::{self, Caller};
use crate::balance::{hash, hash_address};
use crate::clock::limit;
use crate::context::RequestContext;
use crate::cors;
use crate::form;
use crate::forward;
use crate::own::Own;
use crate::router::{Asked, Found, escapes_slashes, normalize, readings};
use crate::snapshot::{RouteState, Snapshot};
use crate::trace;

/// Notes what is known about a request from its head, and finds its route.
fn describe(session: &mut Session, context: &mut RequestContext) -> Result<Asker, Own> {
    let snapshot = context.snapshot.clone();
    let Some(connection) = context.connection.clone() else {
        return Err(nothing_here());
    };
    form::to_path(session.req_header_mut())?;
    let head = session.req_header();
    let listener = snapshot.listeners.get(&*connection.listener);
    let internal = listener.and_then(|listener| listener.internal.clone());
    let client = crate::client::client(
        &snapshot.trusted_proxies,
        connection.peer.ip(),
        internal.is_some(),
        &head.headers,
    );
    context.client = Some(client.address);
    context.request_id = crate::client::request_id(&head.headers, client.trusted);
    let (trace_parent, given) = trace::trace_parent(&head.headers);
    context.trace_parent = trace_parent;
    if let Some(traces) = &snapshot.traces {
        (context.trace_parent, context.parent_span, context.sampled) =
            trace::join_trace(&context.trace_parent, given, traces.sample, client.trusted);
    }
    let host = forward::host_with_port(head).unwrap_or_default();
    context.host = without_port(&host).to_ascii_lowercase();
    context.secure = client.secure.unwrap_or(connection.tls);
    context.authority = client.host.unwrap_or(host);
    context.forwarded = client.forwarded;
    context.target = head
        .uri
        .path_and_query()
        .map_or_else(String::new, |target| target.as_str().to_string());
    let formed = match session.as_http1() {
        Some(request) => form::check_lines(&request.get_headers_raw_bytes()),
        None => Ok(()),
    };
    let formed = formed.and_then(|()| form::check(head));
    let found = match (listener, &formed, internal) {
        (None, ..) => return Err(nothing_here()),
        (Some(_), Err(own), _) => Err(own.clone()),
        (Some(_), Ok(()), Some(route)) => Ok(route),
        (Some(_), Ok(()), None) => find(&snapshot, head, &context.host),
    };
    let declared = head
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if formed.is_err() {
        // Where the next request would begin is anybody's guess.
        session.set_keepalive(None);
    }
    if let Some(listener) = listener {
        let limits = &listener.limits;
        too_much(session.req_header(), limits)?;
        session.set_read_timeout(limit(limits.idle_ms));
        session.set_write_timeout(limit(limits.idle_ms));
        // Never turned on again: Pingora turned it off for a request after which
        // the connection must end.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some((limits.keep_alive_ms / 1000).max(1)));
        }
    }
    if context.gateway.is_draining() {
        session.set_keepalive(None);
    }
    if let Some(port) = listener.and_then(|listener| listener.https) {
        return Err(to_https(&context.host, &context.target, port));
    }
    let route = found?;
    context.route = Some(route.clone());
    Ok(Asker {
        route,
        address: client.address,
        declared,
    })
}

/// Who asks for what.
struct Asker {
    route: Arc<RouteState>,
    address: IpAddr,
    /// Length of the body, if it was declared.
    declared: Option<u64>,
}

/// Decides whether a request may pass, and finds its route.
pub(crate) async fn admit(session: &mut Session, context: &mut RequestContext) -> Result<(), Own> {
    let Asker {
        route,
        address,
        declared,
    } = describe(session, context)?;
    if context.background {
        return Ok(()); // Who it is for was let in.
    }
    let snapshot = context.snapshot.clone();
    if !route.allow.is_empty() && !route.allow.contains(address) || route.deny.contains(address) {
        return Err(Own::new(
            403,
            "address-denied",
            "this address may not ask here",
        ));
    }
    if snapshot.max_requests > 0 && context.gateway.requests.get() > snapshot.max_requests {
        if let Some(service) = &route.service {
            let shed = &service.runtime.shed;
            context.gateway.ledger.enter(|| shed.increment());
        }
        let own = Own::new(503, "overloaded", "the gateway is at its limit");
        return Err(own.retry_after(1));
    }
    if let Some(redirect) = redirect(session, context, &route.route) {
        return Err(redirect);
    }
    let head = session.req_header();
    if let Some(cors) = &route.route.cors {
        let methods = &route.route.matches.methods;
        if let Some(own) = cors::preflight(cors, methods, &head.method, &head.headers) {
            return Err(own);
        }
        let origin = head
            .headers
            .get("origin")
            .and_then(|value| value.to_str().ok());
        context.cors = cors::headers(cors, origin);
    }
    if route.route.csrf {
        let cors = route.route.cors.as_ref();
        if cors::is_forged(&head.method, &context.authority, &head.headers, cors) {
            let detail = "the request comes from another site";
            return Err(Own::new(403, "cross-site", detail));
        }
    }
    let limit = route.route.rate_limit.as_ref();
    let by_address = limit.is_some_and(|limit| matches!(limit.per, RateKey::Client));
    if by_address {
        limit_rate(&route, context, address).await?;
    }
    if let Some(auth) = &route.route.auth {
        context.caller = identify(auth, &route, &snapshot, &head.headers, address).await?;
    }
    if !by_address {
        limit_rate(&route, context, address).await?;
    }
    if let Some(own) = last_hop(session.req_header(), &route.route) {
        return Err(own);
    }
    let most = route.route.max_body;
    if most > 0 && declared.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    Ok(())
}

/// The answer to who wants to know how far a request gets, and has it end here (RFC 9110, 7.6.2).
fn last_hop(head: &RequestHeader, route: &Route) -> Option<Own> {
    if forward::hops_left(head)? > 0 {
        return None;
    }
    let methods = &route.matches.methods;
    let any = || "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned();
    let allow = if methods.is_empty() {
        any()
    } else {
        methods.join(", ")
    };
    let own = if head.method == Method::OPTIONS {
        Own::new(204, "options", "")
    } else {
        // What came may hold what the client's scripts are not to see.
        Own::new(
            405,
            "method-not-allowed",
            "the gateway sends no request back",
        )
    };
    Some(own.header("allow", allow))
}

/// Finds out who asks. An address that showed too many wrong keys and tokens is not listened to
/// for a while, or guessing would only cost time.
async fn identify(
    auth: &Auth,
    route: &RouteState,
    snapshot: &Snapshot,
    headers: &HeaderMap,
    client: IpAddr,
) -> Result<Caller, Own> {
    let limit = RateLimit {
        requests: auth.failures.into(),
        every_ms: 60_000,
        ..RateLimit::default()
    };
    let key = hash_address(network_of(client));
    let limited = auth.failures > 0 && auth::shows_proof(auth, headers);
    if limited && let Err(micros) = route.runtime.guesses.look(key, &limit) {
        let detail = "too many keys or tokens of this address were not valid";
        let own = Own::new(429, "too-many-failures", detail);
        return Err(own.retry_after(micros.div_ceil(1_000_000)));
    }
    let checked = auth::check(auth, snapshot.verifier.as_ref(), headers).await;
    checked.map_err(|refused| {
        if limited && refused.guessed {
            // Several at once may go below nothing.
            let _ = route.runtime.guesses.take(key, &limit);
        }
        refused.own
    })
}

/// Takes a token from the bucket that the request belongs to.
async fn limit_rate(
    route: &RouteState,
    context: &RequestContext,
    client: IpAddr,
) -> Result<(), Own> {
    let Some(limit) = &route.route.rate_limit else {
        return Ok(());
    };
    let named = match (&limit.per, &context.caller) {
        (RateKey::Subject, Caller::Token(claims)) => Some(&claims.subject),
        (RateKey::ApiKey, Caller::Key { name, .. }) => Some(name),
        _ => None,
    };
    let key = match (&limit.per, named) {
        (RateKey::Route, _) => 0,
        (_, Some(name)) => hash(name.as_bytes()),
        (_, None) => hash_address(network_of(client)),
    };
    let taken = match context.snapshot.shared.as_ref().filter(|_| limit.shared) {
        Some(shared) => match shared.take(&route.route.name, key, limit).await {
            Some(taken) => taken,
            // Nobody to count with: each gateway counts for itself meanwhile.
            None => route.runtime.limiter.take(key, limit),
        },
        None => route.runtime.limiter.take(key, limit),
    };
    taken.map_err(|micros| {
        let seconds = micros.div_ceil(1_000_000);
        Own::new(
            429,
            "too-many-requests",
            "the rate limit of this route is reached",
        )
        .retry_after(seconds)
        .header("ratelimit-limit", limit.requests.to_string())
        .header("ratelimit-remaining", "0")
        .header("ratelimit-reset", seconds.to_string())
    })
}

/// One household has a whole /64 of IPv6 addresses to ask from.
fn network_of(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(network.into())
        }
    }
}

fn find(snapshot: &Snapshot, head: &RequestHeader, host: &str) -> Result<Arc<RouteState>, Own> {
    let Some(path) = normalize(head.uri.path()) else {
        let detail = "the path has dot segments, a backslash, NUL or a broken escape";
        return Err(Own::new(400, "ambiguous-path", detail));
    };
    let route = match find_at(snapshot, head, host, &path) {
        Found::Route(route) => route.clone(),
        Found::OtherMethods(methods) => {
            let own = Own::new(405, "method-not-allowed", "no route takes this method here");
            return Err(own.header("allow", methods.join(", ")));
        }
        Found::Nothing => return Err(nothing_here()),
    };
    if escapes_slashes(&path) && route.route.escaped_slashes != EscapedSlashes::Keep {
        let detail = "the path has an escaped slash or backslash, which this route does not take";
        return Err(Own::new(400, "escaped-slash", detail));
    }
    // However the service reads the path, the rules it passes are those of what it reads.
    for reading in readings(&path) {
        let same = match find_at(snapshot, head, host, &reading) {
            Found::Route(other) => Arc::ptr_eq(other, &route),
            Found::OtherMethods(_) => false,
            Found::Nothing => true,
        };
        if !same {
            let detail = "the path can be read in two ways, which are for different routes";
            return Err(Own::new(400, "ambiguous-path", detail));
        }
    }
    Ok(route)
}

fn find_at<'a>(
    snapshot: &'a Snapshot,
    head: &RequestHeader,
    host: &str,
    path: &str,
) -> Found<'a, RouteState> {
    let find = |method| {
        snapshot.router.find(&Asked {
            host,
            path,
            query: head.uri.query(),
            method,
            headers: &head.headers,
        })
    };
    // A preflight is for the route of the request that is to follow.
    if let Some(method) = cors::method_to_come(&head.method, &head.headers) {
        let found = find(method);
        if matches!(&found, Found::Route(route) if route.route.cors.is_some()) {
            return found;
        }
    }
    find(head.method.as_str())
}

/// Sends the client to the same place over TLS.
fn to_https(host: &str, target: &str, port: u16) -> Own {
    let location = match port {
        443 => format!("https://{host}{target}"),
        port => format!("https://{host}:{port}{target}"),
    };
    Own::new(308, "https", "").header("location", location)
}

fn redirect(session: &Session, context: &RequestContext, route: &Route) -> Option<Own> {
    let redirect = route.redirect.as_ref()?;
    let head = session.req_header();
    let origin = redirect.origin.clone().unwrap_or_else(|| {
        let scheme = if context.secure { "https" } else { "http" };
        format!("{scheme}://{}", context.authority)
    });
    let own = head.uri.path();
    let path = forward::redirected(route, own).unwrap_or_else(|| own.to_owned());
    let joint = if path.contains('?') { '&' } else { '?' };
    let query = head.uri.query().map(|query| format!("{joint}{query}"));
    let location = format!("{origin}{path}{}", query.unwrap_or_default());
    Some(Own::new(redirect.status, "redirect", "").header("location", location))
}

/// Refuses heads that are larger than any that is meant well.
fn too_much(head: &RequestHeader, limits: &ListenerLimits) -> Result<(), Own> {
    let target = head.raw_path().len() as u64;
    if limits.target_bytes > 0 && target > limits.target_bytes {
        let detail = "the request's target is longer than is taken here";
        return Err(Own::new(414, "target-too-long", detail));
    }
    // As they stand in HTTP/1: `name: value` and the line's end.
    let lines = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64);
    let bytes = target + lines.sum::<u64>();
    let many = limits.head_fields > 0 && head.headers.len() > limits.head_fields as usize;
    if many || (limits.head_bytes > 0 && bytes > limits.head_bytes) {
        let detail = "the request's head is larger than is taken here";
        return Err(Own::new(431, "head-too-large", detail));
    }
    Ok(())
}

fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.split_inclusive(']').next().unwrap_or(host);
    }
    host.split(':').next().unwrap_or(host)
}

pub(crate) fn nothing_here() -> Own {
    Own::new(404, "no-route", "no route leads here")
}

pub(crate) fn too_large() -> Own {
    Own::new(
        413,
        "body-too-large",
        "the body is larger than this route takes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_port() {
        for (host, expected) in [
            ("example.org", "example.org"),
            ("example.org:80", "example.org"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(without_port(host), expected);
        }
    }
}
