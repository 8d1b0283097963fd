//! Kept answers: which are kept, how long, and for whom (RFC 9111, 9211, 5861).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, StatusCode, header};
use pingora_cache::cache_control::{CacheControl, InterpretCacheControl};
use pingora_cache::eviction::lru::Manager;
use pingora_cache::key::HashBinary;
use pingora_cache::lock::{CacheKeyLockImpl, CacheLock};
use pingora_cache::predictor::Predictor;
use pingora_cache::{
    CacheKey, CacheMeta, CacheOptionOverrides, CachePhase, NoCacheReason, RespCacheable,
    VarianceBuilder,
};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use platform_gateway_api::Cache as Settings;

use crate::answer::Own;
use crate::auth::Caller;
use crate::cache_store::{CacheStore, SHARDS};
use crate::choose;
use crate::context::RequestContext;

/// What `Cache-Status` says of an answer that was kept.
pub(crate) const HIT: &str = "gateway; hit";
/// Carries the version from a request to the one that renews its answer. No client and no
/// service ever gets to see it.
pub(crate) const VERSION: &str = "x-platform-cache-version";
/// How long others wait for who fetches, before they ask the service themselves.
const WAIT: Duration = Duration::from_secs(5);
/// Keys in a shard that are remembered for answers which may not be kept.
const REMEMBERED: usize = 1_024;

/// What everything kept of one process lies in. Pingora wants it for ever, and a process has one.
pub(crate) struct Parts {
    pub(crate) store: &'static CacheStore,
    eviction: &'static Manager<SHARDS>,
    lock: &'static CacheKeyLockImpl,
    predictor: &'static Predictor<SHARDS>,
}

/// The kept answers of a gateway; nothing is set up before a route asks for it.
#[derive(Default)]
pub(crate) struct Cache(OnceLock<Parts>);

impl Cache {
    fn parts(&self) -> &Parts {
        self.0.get_or_init(|| Parts {
            store: Box::leak(Box::default()),
            eviction: Box::leak(Box::new(Manager::with_capacity(usize::MAX, 64))),
            lock: Box::leak(CacheLock::new_boxed(WAIT)),
            predictor: Box::leak(Box::new(Predictor::new(REMEMBERED, None))),
        })
    }

    /// Bounds the memory.
    pub(crate) fn limit(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if self
            .0
            .get()
            .is_some_and(|parts| parts.eviction.weight_limit() != bytes)
        {
            self.parts().eviction.set_weight_limit(bytes);
        }
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&self) {
        if let Some(parts) = self.0.get() {
            parts.store.forget_all(parts.eviction);
        }
    }
}

/// Looks whether a request may be answered by what is kept, or its answer kept.
pub(crate) fn begin(session: &mut Session, context: &mut RequestContext) {
    let Some(route) = context.route.clone() else {
        return;
    };
    let memory = context.snapshot.config.cache_memory;
    let Some(settings) = route.route.cache.as_ref().filter(|_| memory > 0) else {
        return;
    };
    let head = session.req_header();
    if !matches!(head.method, Method::GET | Method::HEAD)
        || asks_for(&head.headers, "no-store")
        || head.headers.contains_key(header::UPGRADE)
    {
        return;
    }
    // A version has its own answers: nobody meets one release by what another one said.
    let told = context
        .background
        .then(|| head.headers.get(VERSION)?.to_str().ok()?.parse().ok())
        .flatten()
        .map(|version| (version, false));
    let Some((version, asked_for)) = told.or_else(|| choose::wanted(context, &head.headers)) else {
        return;
    };
    context.version = Some(version);
    context.asked_for = asked_for;
    let told = session
        .req_header_mut()
        .insert_header(VERSION, version.to_string());
    if told.is_err() {
        return;
    }
    let parts = context.gateway.cache.parts();
    context.gateway.cache.limit(memory);
    let mut options = CacheOptionOverrides::default();
    options.wait_timeout = Some(WAIT);
    session.cache.enable(
        parts.store,
        Some(parts.eviction),
        Some(parts.predictor),
        Some(parts.lock),
        Some(options),
    );
    let most = usize::try_from(settings.max_body.min(memory)).unwrap_or(usize::MAX);
    session.cache.set_max_file_size_bytes(most);
}

/// What tells one kept answer from another, before its `Vary`.
pub(crate) fn key(session: &Session, context: &RequestContext) -> CacheKey {
    let route = context.route.as_ref();
    let service = route.and_then(|route| route.service.as_ref());
    let version = service
        .zip(context.version)
        .map_or("", |(service, version)| &*service.versions[version].name);
    let tls = context.connection.as_ref().is_some_and(|one| one.tls);
    let mut primary = Vec::with_capacity(128 + context.target.len());
    for part in [
        service.map_or("", |service| &*service.name),
        version,
        route.map_or("", |route| &*route.route.name),
        if tls { "https" } else { "http" },
        &context.host,
        &context.target,
    ] {
        primary.extend_from_slice(&(part.len() as u64).to_be_bytes());
        primary.extend_from_slice(part.as_bytes());
    }
    let _ = session;
    CacheKey::new(primary, place(&context.host, &context.target))
}

/// All answers of one address lie in one place, whatever else tells them apart.
fn place(host: &str, target: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (host, target).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Decides whether an answer is kept, and until when it is fresh.
pub(crate) fn may_keep(
    session: &Session,
    answer: &ResponseHeader,
    context: &RequestContext,
) -> RespCacheable {
    let route = context.route.as_ref();
    let Some(settings) = route.and_then(|route| route.route.cache.as_ref()) else {
        return RespCacheable::Uncacheable(NoCacheReason::NeverEnabled);
    };
    let request = &session.req_header().headers;
    let named =
        request.contains_key(header::AUTHORIZATION) || !matches!(context.caller, Caller::Unknown);
    let mut renewed = None;
    if let Some(said) = &context.not_modified {
        let mut answer = answer.clone();
        renew(&mut answer, said);
        renewed = Some(answer);
    }
    let answer = renewed.as_ref().unwrap_or(answer);
    match lifetime(settings, answer, named, SystemTime::now()) {
        Some(meta) => RespCacheable::Cacheable(meta),
        None => RespCacheable::Uncacheable(NoCacheReason::OriginNotCache),
    }
}

/// Takes over what an answer without change says (RFC 9111, 3.2), but for what describes the body
/// that is kept, or told it apart.
fn renew(answer: &mut ResponseHeader, said: &HeaderMap) {
    for name in said.keys() {
        if matches!(
            *name,
            header::CONTENT_LENGTH
                | header::CONTENT_ENCODING
                | header::CONTENT_RANGE
                | header::TRANSFER_ENCODING
                | header::ETAG
                | header::VARY
                | header::SET_COOKIE
        ) || name == "content-md5"
        {
            continue;
        }
        answer.remove_header(name.as_str());
        for value in said.get_all(name) {
            // The name was a header's before.
            let _ = answer.append_header(name.clone(), value.clone());
        }
    }
}

/// How long an answer is fresh; `None` where it must not be kept.
///
/// - `named`: whether the request said who asks
///
/// Source: RFC 9111, 3 and 4.2.
fn lifetime(
    settings: &Settings,
    answer: &ResponseHeader,
    named: bool,
    now: SystemTime,
) -> Option<CacheMeta> {
    let status = answer.status;
    let headers = &answer.headers;
    if status.is_informational()
        || matches!(
            status,
            StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        )
        || headers.contains_key(header::SET_COOKIE)
        || list(headers, &header::VARY).any(|name| name == "*")
    {
        return None;
    }
    let says = CacheControl::from_resp_headers(answer);
    let says = says.as_ref();
    if says.is_some_and(|says| {
        says.is_cacheable() == pingora_cache::cache_control::Cacheable::No
            || (says.has_key("must-understand") && !is_understood(status))
    }) {
        return None;
    }
    if named && !says.is_some_and(InterpretCacheControl::allow_caching_authorized_req) {
        return None;
    }
    let stated = one(headers, &header::DATE).and_then(time);
    let date = stated.filter(|date| *date <= now);
    let given = says.and_then(InterpretCacheControl::fresh_duration);
    let given = given.or_else(|| {
        let expires = headers.get(header::EXPIRES)?;
        let until = expires.to_str().ok().and_then(time);
        let until = until.filter(|_| one(headers, &header::EXPIRES).is_some());
        // What cannot be read is a time in the past.
        let fresh = until.and_then(|until| until.duration_since(stated.unwrap_or(now)).ok());
        Some(fresh.unwrap_or_default())
    });
    let usual = settings
        .fresh_ms
        .filter(|_| is_understood(status))
        .map(Duration::from_millis);
    let fresh = given.or(usual)?;
    let told = if headers.contains_key(header::AGE) {
        // An age that cannot be read may be any.
        let age = one(headers, &header::AGE)?;
        let digits = age.bytes().all(|byte| byte.is_ascii_digit());
        Duration::from_secs(age.parse().ok().filter(|_| digits)?)
    } else {
        Duration::ZERO
    };
    let seen = date.and_then(|date| now.duration_since(date).ok());
    let born = now.checked_sub(told.max(seen.unwrap_or_default()))?;
    let fresh_until = if fresh.is_zero() {
        born.checked_sub(Duration::from_secs(1))?
    } else {
        born.checked_add(fresh)?
    };
    let (updating, failing) = stale(settings, says);
    let mut kept = answer.clone();
    // Told anew with each answer; once it was checked, the old age says nothing any more.
    kept.remove_header(&header::AGE);
    if let Some(says) = says {
        says.strip_private_headers(&mut kept);
    }
    let mut meta = CacheMeta::new(fresh_until, now, updating, failing, kept);
    meta.set_epoch_override(born);
    Some(meta)
}

/// How long a stale answer is given while a fresh one is fetched, and while that fails, in seconds.
fn stale(settings: &Settings, says: Option<&CacheControl>) -> (u32, u32) {
    if says.is_some_and(CacheControl::no_cache) {
        return (0, 0);
    }
    let seconds = |said: Option<Duration>, usual: u64| {
        let period = said.unwrap_or(Duration::from_millis(usual));
        u32::try_from(period.as_secs()).unwrap_or(u32::MAX)
    };
    (
        seconds(
            says.and_then(InterpretCacheControl::serve_stale_while_revalidate_duration),
            settings.stale_while_revalidate_ms,
        ),
        seconds(
            says.and_then(InterpretCacheControl::serve_stale_if_error_duration),
            settings.stale_if_error_ms,
        ),
    )
}

/// The statuses that may be kept without being told to.
///
/// Source: RFC 9110, 15.1.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

fn time(text: &str) -> Option<SystemTime> {
    text.parse::<httpdate::HttpDate>()
        .ok()
        .map(SystemTime::from)
}

/// The value of a field that is there once.
fn one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim();
    values.next().is_none().then_some(value)
}

/// The names in a list, in lower case.
fn list(headers: &HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = String> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
}

fn asks_for(headers: &HeaderMap, directive: &str) -> bool {
    list(headers, &header::CACHE_CONTROL).any(|found| found == directive)
}

/// What tells apart the answers of one address, by their `Vary` and what the route says.
pub(crate) fn variant(
    meta: &CacheMeta,
    context: &RequestContext,
    request: &RequestHeader,
) -> Option<HashBinary> {
    let settings = context.route.as_ref()?.route.cache.as_ref()?;
    let mut builder = VarianceBuilder::new();
    let own = settings.vary.iter().map(|name| name.to_ascii_lowercase());
    for name in list(meta.headers(), &header::VARY).chain(own) {
        // Fields that say the same in other words count as one: spaces around commas do not tell.
        let values: Vec<&[u8]> = request
            .headers
            .get_all(&name)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .collect();
        let there = [u8::from(request.headers.contains_key(&name))];
        builder.add_owned_name_value(name, [&there[..], &values.join(&b',')].concat());
    }
    builder.finalize()
}

/// The answer for who wants a kept one or none, and there is none.
pub(crate) fn only_if_kept(session: &Session, context: &RequestContext) -> Option<Own> {
    let asked = context.route.as_ref()?.route.cache.is_some()
        && asks_for(&session.req_header().headers, "only-if-cached");
    asked.then(|| Own::new(504, "not-cached", "no answer is kept that would do"))
}

/// Forgets the answers of an address that a request has changed.
///
/// Source: RFC 9111, 4.4.
pub(crate) fn forget_if_changed(
    session: &Session,
    answer: &ResponseHeader,
    context: &RequestContext,
) {
    let head = session.req_header();
    let done = answer.status.is_success() || answer.status.is_redirection();
    let Some(parts) = context.gateway.cache.0.get() else {
        return;
    };
    if head.method.is_safe() || !done {
        return;
    }
    parts
        .store
        .forget(&place(&context.host, &context.target), parts.eviction);
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let named = answer
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok());
        let Some(Ok(named)) = named.map(str::parse::<http::Uri>) else {
            continue;
        };
        let same = named
            .host()
            .is_none_or(|host| host.eq_ignore_ascii_case(&context.host));
        let target = named.path_and_query().filter(|_| same);
        if let Some(target) = target {
            let place = place(&context.host, target.as_str());
            parts.store.forget(&place, parts.eviction);
        }
    }
}

/// What `Cache-Status` says of an answer, on routes that keep any.
pub(crate) fn outcome(session: &Session, context: &RequestContext) -> Option<&'static str> {
    context.route.as_ref()?.route.cache.as_ref()?;
    Some(match session.cache.phase() {
        CachePhase::Hit => HIT,
        CachePhase::Stale | CachePhase::StaleUpdating => "gateway; hit; detail=stale",
        CachePhase::Miss => "gateway; fwd=miss; stored",
        CachePhase::Expired => "gateway; fwd=stale; stored",
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => {
            "gateway; hit; fwd=stale; fwd-status=304"
        }
        _ => "gateway; fwd=bypass",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut answer = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            answer.append_header(*name, *value).unwrap();
        }
        answer
    }

    /// Seconds from now until it is stale.
    fn fresh(settings: &Settings, answer: &ResponseHeader, named: bool) -> Option<i64> {
        let now = time("Mon, 23 Nov 2026 12:00:00 GMT").unwrap();
        let until = lifetime(settings, answer, named, now)?.fresh_until();
        Some(match until.duration_since(now) {
            Ok(left) => i64::try_from(left.as_secs()).unwrap(),
            Err(_) => -1,
        })
    }

    #[test]
    fn an_answer_is_kept_as_long_as_it_says() {
        let plain = Settings::default();
        for (fields, expected) in [
            (&[("cache-control", "max-age=60")][..], Some(60)),
            (&[("cache-control", "max-age=60, s-maxage=5")], Some(5)),
            (&[("cache-control", "max-age=60"), ("age", "20")], Some(40)),
            (
                &[
                    ("cache-control", "max-age=60"),
                    ("date", "Mon, 23 Nov 2026 11:59:30 GMT"),
                ],
                Some(30),
            ),
            (&[("expires", "Mon, 23 Nov 2026 12:01:00 GMT")], Some(60)),
            (&[("expires", "soon")], Some(-1)),
            // By the service's own clock, however wrong it is.
            (
                &[
                    ("expires", "Mon, 23 Nov 2026 12:05:00 GMT"),
                    ("date", "Mon, 23 Nov 2026 12:10:00 GMT"),
                ],
                Some(-1),
            ),
            (&[("cache-control", "max-age=60"), ("age", "1.5")], None),
            (
                &[("cache-control", "max-age=60"), ("age", "0"), ("age", "0")],
                None,
            ),
            (&[("cache-control", "no-cache")], Some(-1)),
            (&[("cache-control", "no-store, max-age=60")], None),
            (&[("cache-control", "private, max-age=60")], None),
            (&[("cache-control", "max-age=60"), ("vary", "*")], None),
            (
                &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
                None,
            ),
            (&[], None),
        ] {
            let found = fresh(&plain, &answer(200, fields), false);
            assert_eq!(found, expected, "{fields:?}");
        }
        assert_eq!(
            fresh(
                &plain,
                &answer(206, &[("cache-control", "max-age=60")]),
                false
            ),
            None
        );
    }

    #[test]
    fn what_does_not_say_is_kept_as_the_route_says() {
        let settings = Settings {
            fresh_ms: Some(7_000),
            ..Settings::default()
        };
        for (status, expected) in [(200, Some(7)), (404, Some(7)), (302, None), (500, None)] {
            assert_eq!(
                fresh(&settings, &answer(status, &[]), false),
                expected,
                "{status}"
            );
        }
    }

    #[test]
    fn answers_to_somebody_in_particular_are_kept_only_if_they_allow_it() {
        let plain = Settings::default();
        for (says, expected) in [
            ("max-age=60", None),
            ("max-age=60, public", Some(60)),
            ("s-maxage=60", Some(60)),
        ] {
            let answer = answer(200, &[("cache-control", says)]);
            assert_eq!(fresh(&plain, &answer, true), expected, "{says}");
        }
    }
}
