//! Headers on their way to a service and back.

use std::borrow::Cow;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Version};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use platform_gateway_api::{HeaderChange, PathMatch, Route};

use crate::cache;
use crate::client::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, REQUEST_ID};
use crate::compress;
use crate::connection::ConnectionState;
use crate::context::RequestContext;
use crate::forwarded;
use crate::mirror;
use crate::router::{as_written, values_of_fitting};
use crate::trace;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const TRACE_STATE: &str = "tracestate";
const SUBJECT: &str = "x-auth-subject";
const SCOPES: &str = "x-auth-scopes";
/// The name of the header that tells which version answered.
pub(crate) const VERSION: &str = "x-platform-version";

/// Prepares the head that a service gets, by what is known of the request.
pub(crate) fn request_from(head: &mut RequestHeader, context: &RequestContext) -> Result<()> {
    let (Some(route), Some(connection)) = (&context.route, &context.connection) else {
        return Ok(());
    };
    let snapshot = &context.snapshot;
    let internal = snapshot
        .listeners
        .get(&*connection.listener)
        .is_some_and(|listener| listener.internal.is_some());
    let peer = connection.peer.ip().to_canonical();
    let trusted = internal || snapshot.trusted_proxies.contains(peer);
    request(head, context, connection, &route.route, trusted, internal)
}

/// Prepares the head that a service gets. Hop-by-hop fields are gone already.
fn request(
    head: &mut RequestHeader,
    context: &RequestContext,
    connection: &ConnectionState,
    route: &Route,
    trusted: bool,
    internal: bool,
) -> Result<()> {
    let claims = |name: &&HeaderName| may_not_be_claimed(name.as_str(), trusted, internal);
    let claimed: Vec<HeaderName> = head.headers.keys().filter(claims).cloned().collect();
    for name in &claimed {
        head.remove_header(name);
    }
    let came_by = chain(head, context, &connection.peer_text);
    head.insert_header(FORWARDED_FOR, came_by)?;
    if head.headers.contains_key(header::FORWARDED) {
        let asked_for = host_with_port(head).unwrap_or_default();
        let peer = connection.peer.ip().to_canonical();
        let own = forwarded::element(peer, connection.tls, &asked_for);
        head.append_header(header::FORWARDED, own)?;
    }
    if !head.headers.contains_key(FORWARDED_PROTO) {
        let scheme = if context.secure { "https" } else { "http" };
        head.insert_header(FORWARDED_PROTO, HeaderValue::from_static(scheme))?;
    }
    if !head.headers.contains_key(FORWARDED_HOST) && !context.host.is_empty() {
        head.insert_header(FORWARDED_HOST, context.authority.as_str())?;
    }
    if context.authority.is_empty() {
        // HTTP/1.0 may leave it out, HTTP/1.1 may not.
        let name = route.service.as_deref().unwrap_or("localhost");
        head.insert_header(header::HOST, name)?;
    }
    if route.compress && compress::may_lose_trailers(&head.headers, &route.encodings) {
        head.remove_header(&header::TE);
    }
    join_cookies(head)?;
    identify(head, context)?;
    head.insert_header(REQUEST_ID, context.request_id.as_str())?;
    if head.headers.contains_key(TRACE_STATE) && !trace::trace_parent(&head.headers).1 {
        // It belongs to a trace that is not gone on with (W3C Trace Context, 3.3).
        head.remove_header(TRACE_STATE);
    }
    head.insert_header("traceparent", context.trace_parent.as_str())?;
    came_via(head, connection.is_http2())?;
    if let Some(left) = hops_left(head) {
        head.insert_header(header::MAX_FORWARDS, left.saturating_sub(1))?;
    }
    if let Some(path) = rewritten(route, head.uri.path()) {
        let target = match head.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let uri = target.parse::<http::Uri>().map_err(|error| {
            pingora_core::Error::because(
                pingora_core::ErrorType::InvalidHTTPHeader,
                "rewriting a path",
                error,
            )
        })?;
        head.set_uri(uri);
    }
    if let Some(host) = route
        .rewrite
        .as_ref()
        .and_then(|rewrite| rewrite.host.as_ref())
    {
        head.insert_header(header::HOST, host.as_str())?;
    }
    change_request(head, &route.request_headers)
}

/// The addresses that a request came by, the peer's last.
fn chain(head: &RequestHeader, context: &RequestContext, peer: &HeaderValue) -> HeaderValue {
    let told = head.headers.get_all(FORWARDED_FOR).iter();
    let mut came_by: Vec<Cow<'_, str>> = told
        .filter_map(|value| value.to_str().ok())
        .map(Cow::Borrowed)
        .collect();
    came_by.extend(context.forwarded.iter().map(|it| it.to_string().into()));
    if came_by.is_empty() {
        return peer.clone(); // As it is with nearly every request.
    }
    came_by.push(peer.to_str().unwrap_or_default().into());
    HeaderValue::from_str(&came_by.join(", ")).unwrap_or_else(|_| peer.clone())
}

/// Whether a header says what the gateway alone tells services, or proxies that it trusts.
fn may_not_be_claimed(name: &str, trusted: bool, internal: bool) -> bool {
    if name.contains('_') {
        // Services that read headers as variables (RFC 3875, 4.1.18) take both spellings for one,
        // and who may claim one writes it as it is written.
        let dashed = name.replace('_', "-");
        return dashed == REQUEST_ID || may_not_be_claimed(&dashed, false, false);
    }
    match name {
        cache::VERSION | mirror::MARK => true,
        SUBJECT | SCOPES => !internal,
        "forwarded" | "x-real-ip" => !trusted,
        _ => !trusted && name.starts_with("x-forwarded-"),
    }
}

/// Whether services that read headers as variables take two names for one.
fn are_twins(one: &str, other: &str) -> bool {
    let plain = |byte: u8| {
        if byte == b'_' {
            b'-'
        } else {
            byte.to_ascii_lowercase()
        }
    };
    one.bytes().map(plain).eq(other.bytes().map(plain))
}

/// HTTP/2 lets cookies come in several fields, HTTP/1.1 in one (RFC 9113, 8.2.3).
fn join_cookies(head: &mut RequestHeader) -> Result<()> {
    let all = head.headers.get_all(header::COOKIE);
    if all.iter().nth(1).is_some() {
        let values: Vec<&[u8]> = all.iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&values.join(&b"; "[..])) {
            head.insert_header(header::COOKIE, joined)?;
        }
    }
    Ok(())
}

/// Tells the service who asks.
fn identify(head: &mut RequestHeader, context: &RequestContext) -> Result<()> {
    if let Some(subject) = context.caller.subject() {
        head.insert_header(SUBJECT, subject)?;
        head.insert_header(SCOPES, context.caller.scopes().join(" "))?;
    }
    Ok(())
}

/// The host as the client wrote it, with a port if it did.
pub(crate) fn host_with_port(head: &RequestHeader) -> Option<String> {
    head.headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .map(String::from)
        .or_else(|| head.uri.authority().map(ToString::to_string))
}

/// The path that a route turns the request's into, if it does.
pub(crate) fn rewritten(route: &Route, path: &str) -> Option<String> {
    let rewrite = route.rewrite.as_ref()?;
    let path = as_written(path);
    if let (Some(replacement), PathMatch::Prefix(prefix)) = (&rewrite.prefix, &route.matches.path) {
        // By segments, as their spellings may differ.
        let segments = prefix.trim_end_matches('/').matches('/').count();
        let mut slashes = path.match_indices('/').map(|(at, _)| at);
        let rest = slashes.nth(segments).map_or("", |at| &path[at..]);
        let joined = format!("{}{rest}", replacement.trim_end_matches('/'));
        return Some(if joined.is_empty() {
            "/".into()
        } else {
            joined
        });
    }
    filled(&route.matches.path, rewrite.path.as_ref()?, &path)
}

/// The path that a route sends the client to, if that is another one.
pub(crate) fn redirected(route: &Route, path: &str) -> Option<String> {
    let wanted = route.redirect.as_ref()?.path.as_ref()?;
    filled(&route.matches.path, wanted, &as_written(path))
}

/// Replaces `{name}` and `{name...}` by what stands in their place in a path that matches. Values are not looked through again.
fn filled(matched: &PathMatch, wanted: &str, path: &str) -> Option<String> {
    let values = match matched {
        PathMatch::Template(template) => values_of_fitting(template, path)?,
        _ => Vec::new(),
    };
    let mut filled = String::with_capacity(wanted.len());
    let mut rest = wanted;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        let end = from.find('}').map_or(from.len(), |end| end + 1);
        let (reference, after) = from.split_at(end);
        let name = reference
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'));
        let name = name.map(|name| name.strip_suffix("...").unwrap_or(name));
        let value = values.iter().find(|(known, _)| Some(*known) == name);
        filled.push_str(before);
        filled.push_str(value.map_or(reference, |(_, value)| value));
        rest = after;
    }
    filled.push_str(rest);
    Some(filled)
}

/// Adds by which protocol a request came, and to whom (RFC 9110, 7.6.3).
fn came_via(head: &mut RequestHeader, http2: bool) -> Result<()> {
    let own = match head.version {
        _ if http2 => "2 platform", // The head's version is that of the service already.
        Version::HTTP_10 => "1.0 platform",
        _ => "1.1 platform",
    };
    let before = head.headers.get_all(header::VIA).iter();
    let mut all: Vec<&[u8]> = before.map(HeaderValue::as_bytes).collect();
    all.push(own.as_bytes());
    let joined = all.join(&b", "[..]);
    let value = HeaderValue::from_bytes(&joined).unwrap_or(HeaderValue::from_static(own));
    head.insert_header(header::VIA, value)
}

/// How often a request that looks for its way may still be forwarded, if it says so (RFC 9110, 7.6.2).
pub(crate) fn hops_left(head: &RequestHeader) -> Option<u64> {
    if !matches!(head.method, Method::TRACE | Method::OPTIONS) {
        return None;
    }
    let stated = head.headers.get(header::MAX_FORWARDS)?;
    stated.to_str().ok()?.parse().ok()
}

fn change_request(head: &mut RequestHeader, change: &HeaderChange) -> Result<()> {
    let changed = || change.remove.iter().chain(change.set.keys());
    let twins = |name: &&HeaderName| {
        let given = name.as_str();
        given.contains('_') && changed().any(|name| are_twins(given, name))
    };
    let twins: Vec<HeaderName> = head.headers.keys().filter(twins).cloned().collect();
    for name in &twins {
        head.remove_header(name);
    }
    for name in &change.remove {
        head.remove_header(name.as_str());
    }
    for (name, value) in &change.set {
        head.insert_header(name.clone(), value.as_str())?;
    }
    for (name, value) in &change.add {
        head.append_header(name.clone(), value.as_str())?;
    }
    Ok(())
}

/// Prepares the head that the client gets.
pub(crate) fn response(head: &mut ResponseHeader, context: &RequestContext) -> Result<()> {
    head.insert_header(REQUEST_ID, context.request_id.as_str())?;
    let Some(route) = &context.route else {
        return Ok(());
    };
    if let Some(outcome) = context.cached {
        head.insert_header("cache-status", outcome)?;
    }
    if let Some(version) = context.shown_version() {
        head.insert_header(VERSION, version)?;
    }
    if route.route.security_headers {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "strict-origin-when-cross-origin"),
        ] {
            if !head.headers.contains_key(name) {
                head.insert_header(name, value)?;
            }
        }
        if context.secure && !head.headers.contains_key("strict-transport-security") {
            head.insert_header("strict-transport-security", "max-age=31536000")?;
        }
    }
    if route.route.cors.is_some() {
        // Who may read the answer is for the route to say, whatever the service allows.
        let allows = |name: &&HeaderName| name.as_str().starts_with("access-control-");
        let allowed: Vec<HeaderName> = head.headers.keys().filter(allows).cloned().collect();
        for name in &allowed {
            head.remove_header(name);
        }
    }
    for (name, value) in &context.cors {
        head.append_header(*name, value.as_str())?;
    }
    let change = &route.route.response_headers;
    for name in &change.remove {
        head.remove_header(name.as_str());
    }
    for (name, value) in &change.set {
        head.insert_header(name.clone(), value.as_str())?;
    }
    for (name, value) in &change.add {
        head.append_header(name.clone(), value.as_str())?;
    }
    Ok(())
}

/// Notes when an answer came that does not say (RFC 9110, 6.6.1).
pub(crate) fn date(head: &mut ResponseHeader) -> Result<()> {
    if !head.headers.contains_key(header::DATE) {
        let now = httpdate::fmt_http_date(std::time::SystemTime::now());
        head.insert_header(header::DATE, now)?;
    }
    Ok(())
}

/// Removes what only concerned the connection to the service (RFC 9110, 7.6.1).
/// `Transfer-Encoding` stays: Pingora frames the body by it.
pub(crate) fn remove_hop_by_hop(head: &mut ResponseHeader) {
    if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let named: Vec<HeaderName> = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| {
            // Never what frames or describes the message itself.
            !matches!(
                *name,
                header::TRANSFER_ENCODING
                    | header::CONTENT_LENGTH
                    | header::CONTENT_TYPE
                    | header::CONTENT_ENCODING
                    | header::SET_COOKIE
            )
        })
        .collect();
    for name in named {
        head.remove_header(&name);
    }
    for name in [
        &header::CONNECTION,
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &header::UPGRADE,
    ] {
        head.remove_header(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_claims_what_the_gateway_tells() {
        for (name, untrusted, trusted, internal) in [
            ("x-forwarded-for", true, false, false),
            ("x-forwarded-client-cert", true, false, false),
            ("forwarded", true, false, false),
            ("x-auth-subject", true, true, false),
            ("x_auth_subject", true, true, true),
            ("x-forwarded_for", true, true, true),
            ("x_request_id", true, true, true),
            ("x-request-id", false, false, false),
            ("my_own", false, false, false),
            ("x-platform-cache-version", true, true, true),
            ("x-platform-mirror", true, true, true),
            ("x-forward", false, false, false),
            ("accept", false, false, false),
        ] {
            assert_eq!(may_not_be_claimed(name, false, false), untrusted, "{name}");
            assert_eq!(may_not_be_claimed(name, true, false), trusted, "{name}");
            assert_eq!(may_not_be_claimed(name, true, true), internal, "{name}");
        }
    }

    #[test]
    fn paths_are_rewritten() {
        let check = |route: serde_json::Value, path: &str, expected: Option<&str>| {
            let route: Route = serde_json::from_value(route).unwrap();
            assert_eq!(rewritten(&route, path).as_deref(), expected, "{path}");
        };
        let strip = serde_json::json!({
            "match": { "path": { "prefix": "/api/" } }, "rewrite": { "prefix": "/" } });
        check(strip.clone(), "/api/orders", Some("/orders"));
        check(strip.clone(), "/api", Some("/"));
        // What stays is as its client wrote it.
        check(strip.clone(), "/%61pi//a%3Ab%2fc/", Some("/a%3Ab%2fc/"));
        check(strip, "/api/", Some("/"));
        let template = serde_json::json!({
            "match": { "path": { "template": "/o/{id}/items" } }, "rewrite": { "path": "/items/{id}" } });
        check(template.clone(), "/o/7/items", Some("/items/7"));
        check(template, "/o/7%40x/%69tems", Some("/items/7%40x"));
        check(serde_json::json!({}), "/x", None);
    }

    #[test]
    fn redirects_carry_what_the_template_found() {
        let check = |template: &str, to: &str, path: &str, expected: Option<&str>| {
            let route: Route = serde_json::from_value(serde_json::json!({
                "match": { "path": { "template": template } }, "redirect": { "path": to } }))
            .unwrap();
            assert_eq!(redirected(&route, path).as_deref(), expected, "{path}");
        };
        check("/o/{id}", "/orders/{id}", "/o/7", Some("/orders/7"));
        check("/o/{id}", "/{id}/{id}?a={id}", "/o/7", Some("/7/7?a=7"));
        // What a client writes is no reference.
        let both = "/{a}/{b}";
        check(both, "/{a}-{b}", "/{b}/x", Some("/{b}-x"));
        check("/o/{rest...}", "/{rest}", "/o/a/b", Some("/a/b"));
        check("/o/{rest...}", "/x/{rest...}/y", "/o/a/b", Some("/x/a/b/y"));
        check("/o/{id}", "/{other}/{", "/o/7", Some("/{other}/{"));
    }
}
