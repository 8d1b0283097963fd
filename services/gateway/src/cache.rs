//! Kept answers: which are kept, and for whom (RFC 9111, 9211).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use http::{Method, header};
use pingora_cache::key::HashBinary;
use pingora_cache::lock::{CacheKeyLockImpl, CacheLock};
use pingora_cache::predictor::Predictor;
use pingora_cache::{
    CacheKey, CacheMeta, CacheOptionOverrides, CachePhase, NoCacheReason, RespCacheable,
    VarianceBuilder,
};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use crate::auth::Caller;
use crate::cache_store::{CacheStore, Eviction, SHARDS};
use crate::choose::{self, Wanted};
use crate::context::RequestContext;
use crate::freshness::{asks_for, lifetime, list, renew};
use crate::own::Own;

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
    eviction: &'static Eviction,
    lock: &'static CacheKeyLockImpl,
    predictor: &'static Predictor<SHARDS>,
}

/// The kept answers of a gateway; nothing is set up before a route asks for it.
#[derive(Default)]
pub(crate) struct Cache(OnceLock<Parts>);

impl Cache {
    fn parts(&self) -> &Parts {
        self.0.get_or_init(|| {
            let eviction = Box::leak(Box::new(Eviction::with_capacity(usize::MAX, 64)));
            Parts {
                store: Box::leak(Box::new(CacheStore::new(eviction))),
                eviction,
                lock: Box::leak(CacheLock::new_boxed(WAIT)),
                predictor: Box::leak(Box::new(Predictor::new(REMEMBERED, None))),
            }
        })
    }

    /// Bounds the memory.
    pub(crate) fn limit(&self, bytes: u64) {
        if let Some(parts) = self.0.get() {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            parts.store.limit(bytes);
        }
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&self) {
        if let Some(parts) = self.0.get() {
            parts.store.forget_all();
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
    // Services may answer by what a request carries, which no key tells apart (RFC 9110, 9.3.1).
    let carries = !session.is_body_empty();
    let head = session.req_header();
    if carries
        || !matches!(head.method, Method::GET | Method::HEAD)
        || asks_for(&head.headers, "no-store")
        || head.headers.contains_key(header::UPGRADE)
    {
        return;
    }
    // A version has its own answers: nobody meets one release by what another one said.
    let told = context
        .background
        .then(|| {
            let service = context.route.as_ref()?.service.as_ref()?;
            service.position(head.headers.get(VERSION)?.to_str().ok()?)
        })
        .flatten()
        .map(|version| Wanted {
            version,
            asked_for: false,
            sticks: None,
        });
    let Some(wanted) = told.or_else(|| choose::wanted(context, &head.headers)) else {
        return;
    };
    let version = wanted.version;
    context.version = Some(version);
    context.asked_for = wanted.asked_for;
    context.sticks = wanted.sticks;
    // By name, as the configuration may be another when a background request reads it.
    let service = context
        .route
        .as_ref()
        .and_then(|route| route.service.as_ref());
    let Some(name) = service.map(|service| service.versions[version].name.to_string()) else {
        return;
    };
    let told = session.req_header_mut().insert_header(VERSION, name);
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
    let most = usize::try_from(settings.max_body.min(memory / 2)).unwrap_or(usize::MAX);
    session.cache.set_max_file_size_bytes(most);
}

/// What tells one kept answer from another, before its `Vary`.
pub(crate) fn key(context: &RequestContext) -> CacheKey {
    let route = context.route.as_ref();
    let service = route.and_then(|route| route.service.as_ref());
    let version = service
        .zip(context.version)
        .map_or("", |(service, version)| &*service.versions[version].name);
    // With its port: services see it, and may write it into what they answer.
    let authority = context.authority.to_ascii_lowercase();
    let mut primary = Vec::with_capacity(128 + context.target.len());
    for part in [
        service.map_or("", |service| &*service.name),
        version,
        route.map_or("", |route| &*route.route.name),
        if context.secure { "https" } else { "http" },
        &authority,
        &context.target,
    ] {
        primary.extend_from_slice(&(part.len() as u64).to_be_bytes());
        primary.extend_from_slice(part.as_bytes());
    }
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
    parts.store.forget(&place(&context.host, &context.target));
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
            parts.store.forget(&place);
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
