//! Routes, as the gateway takes them.

use std::collections::BTreeMap;

use platform_blueprint as blueprint;
use platform_decide::group::GroupId;
use platform_decide::traffic::Traffic;
use platform_gateway_api as api;

use super::{balance, millis};

fn value_match(wanted: &blueprint::ValueMatch) -> api::ValueMatch {
    match wanted {
        blueprint::ValueMatch::Exact(text) => api::ValueMatch::Exact(text.clone()),
        blueprint::ValueMatch::Prefix { prefix } => api::ValueMatch::Prefix(prefix.clone()),
        blueprint::ValueMatch::Present { present } => api::ValueMatch::Present(*present),
    }
}

pub(super) fn route(
    index: usize,
    written: &blueprint::Route,
    traffic: &Traffic,
    keys: &[api::ApiKey],
) -> api::Route {
    let ingress = &traffic.ingress;
    let gateway = &ingress.gateway;
    let values = |written: &BTreeMap<String, blueprint::ValueMatch>| {
        written
            .iter()
            .map(|(name, wanted)| (name.clone(), value_match(wanted)))
            .collect()
    };
    // Two routes may share a path and differ in hosts or methods; names must not be shared.
    let title = written.title();
    let twin = ingress.routes[..index]
        .iter()
        .filter(|other| other.title() == title)
        .count();
    let name = if twin == 0 {
        title.to_owned()
    } else {
        format!("{title}-{}", twin + 1)
    };
    let timeout = &written.timeout;
    let total = millis(timeout.total);
    // An attempt's time, by whichever of its two names is the shorter; none is no limit of its own.
    let first_byte = timeout
        .first_byte
        .into_iter()
        .chain(written.retries.each)
        .filter(|time| !time.is_zero())
        .min();
    api::Route {
        name,
        matches: api::Match {
            hosts: written.host.clone(),
            path: match &written.path {
                blueprint::PathMatch::Prefix(path) => api::PathMatch::Prefix(path.clone()),
                blueprint::PathMatch::Exact(path) => api::PathMatch::Exact(path.clone()),
                blueprint::PathMatch::Template(path) => api::PathMatch::Template(path.clone()),
            },
            methods: written
                .methods
                .iter()
                .map(|method| method.as_str().to_owned())
                .collect(),
            headers: values(&written.headers),
            query: values(&written.query),
        },
        service: written.service.as_ref().map(ToString::to_string),
        version: previewed(written, traffic),
        redirect: written.redirect.as_ref().map(redirect),
        rewrite: written.rewrite.as_ref().map(|to| rewrite(written, to)),
        timeouts: api::Timeouts {
            connect_ms: millis(timeout.connect),
            first_byte_ms: first_byte.map_or(total, millis),
            idle_ms: millis(timeout.idle),
            total_ms: total,
        },
        retries: retries(&written.retries, gateway),
        rate_limit: written.rate_limit.as_ref().map(rate_limit),
        auth: written
            .auth
            .as_ref()
            .map(|wanted| auth(wanted, gateway, keys)),
        cors: written.cors.as_ref().map(cors),
        request_headers: header_changes(&written.request_headers),
        response_headers: answer_headers(written),
        security_headers: gateway.security_headers,
        csrf: written.csrf,
        escaped_slashes: match written.escaped_slashes {
            blueprint::EscapedSlashes::Refuse => api::EscapedSlashes::Refuse,
            blueprint::EscapedSlashes::Keep => api::EscapedSlashes::Keep,
        },
        mirror: mirrored(written).map(|mirror| shadow(&mirror.service)),
        mirror_share: mirrored(written).map_or(0, |mirror| u32::from(mirror.share.tenths())),
        mirror_methods: mirrored(written).map_or_else(Vec::new, |mirror| {
            let methods = mirror.methods.iter();
            methods.map(|method| method.as_str().to_owned()).collect()
        }),
        by_weight: !written.sticky,
        max_body: written.max_body.unwrap_or(gateway.limits.body).bytes(),
        max_answer: written.max_answer.map_or(0, blueprint::ByteSize::bytes),
        allow: written.allow.clone(),
        deny: written.deny.clone(),
        compress: !written.compression.0.is_empty(),
        encodings: encodings(&written.compression),
        balance: written.balance.as_ref().map(balance),
        cache: written.cache.as_ref().map(cache),
    }
}

/// The version that a preview route leads to, while one is on trial.
fn previewed(written: &blueprint::Route, traffic: &Traffic) -> Option<String> {
    let service = written.service.as_ref().filter(|_| written.preview)?;
    let split = traffic.splits.get(service)?;
    split.preview.as_ref().map(GroupId::lane)
}

/// The mirror of a route, unless its share is none at all.
pub(super) fn mirrored(written: &blueprint::Route) -> Option<&blueprint::Mirror> {
    let mirror = written.mirror.as_ref();
    mirror.filter(|mirror| written.service.is_some() && mirror.share.tenths() > 0)
}

/// What a service that gets copies is called among the versions of the one that answers.
pub(super) fn shadow(service: &blueprint::ServiceName) -> String {
    format!("mirror:{service}")
}

/// Changes to the answer's headers, the content security policy among them.
fn answer_headers(written: &blueprint::Route) -> api::HeaderChange {
    const POLICY: &str = "content-security-policy";
    let mut changes = header_changes(&written.response_headers);
    let stated = changes
        .set
        .keys()
        .any(|name| name.eq_ignore_ascii_case(POLICY));
    if let Some(policy) = written.csp.as_ref().filter(|_| !stated) {
        changes.set.insert(POLICY.to_owned(), policy.clone());
    }
    changes
}

fn retries(written: &blueprint::Retries, gateway: &blueprint::Gateway) -> api::Retries {
    let on = |what| written.on.contains(&what);
    // Those of the 5xx that are in use (IANA's registry, November 2026), but 501 and 505, which no repeating changes.
    let statuses: &[u16] = if on(blueprint::RetryOn::Error) {
        &[500, 502, 503, 504, 506, 507, 508, 511]
    } else if on(blueprint::RetryOn::Unavailable) {
        &[502, 503, 504]
    } else {
        &[]
    };
    api::Retries {
        attempts: written.attempts,
        reset: on(blueprint::RetryOn::Reset),
        timeout: on(blueprint::RetryOn::Timeout),
        statuses: statuses.to_vec(),
        budget: u32::from(gateway.retry_budget.tenths()),
        backoff_ms: millis(written.backoff),
    }
}

fn rate_limit(written: &blueprint::RateLimit) -> api::RateLimit {
    api::RateLimit {
        requests: u64::from(written.requests),
        every_ms: millis(written.every),
        burst: written.burst.map_or(0, u64::from),
        per: match written.per {
            blueprint::RatePer::Client => api::RateKey::Client,
            blueprint::RatePer::Subject => api::RateKey::Subject,
            blueprint::RatePer::ApiKey => api::RateKey::ApiKey,
            blueprint::RatePer::Route => api::RateKey::Route,
        },
        shared: written.shared,
    }
}

/// The encodings, where they are not simply all.
fn encodings(written: &blueprint::Compression) -> Vec<String> {
    if *written == blueprint::Compression::default() {
        return Vec::new();
    }
    let name = |encoding: &blueprint::Encoding| match encoding {
        blueprint::Encoding::Zstd => "zstd".to_owned(),
        blueprint::Encoding::Br => "br".to_owned(),
        blueprint::Encoding::Gzip => "gzip".to_owned(),
    };
    written.0.iter().map(name).collect()
}

fn cache(written: &blueprint::Cache) -> api::Cache {
    let usual = api::Cache::default();
    api::Cache {
        fresh_ms: written.fresh_for.map(millis),
        stale_while_revalidate_ms: millis(written.stale_while_revalidate),
        stale_if_error_ms: millis(written.stale_if_error),
        vary: written.vary.clone(),
        max_body: written
            .max_body
            .map_or(usual.max_body, blueprint::ByteSize::bytes),
    }
}

fn cors(written: &blueprint::Cors) -> api::Cors {
    api::Cors {
        origins: written.origins.clone(),
        methods: written
            .methods
            .iter()
            .map(|method| method.as_str().to_owned())
            .collect(),
        headers: written.headers.clone(),
        expose: written.expose.clone(),
        credentials: written.credentials,
        max_age_seconds: written.max_age.duration().as_secs(),
    }
}

fn auth(
    written: &blueprint::Auth,
    gateway: &blueprint::Gateway,
    keys: &[api::ApiKey],
) -> api::Auth {
    let by = |proof| written.by.contains(&proof);
    api::Auth {
        scopes: written.scopes.clone(),
        roles: written.roles.clone(),
        audiences: written.audience.iter().cloned().collect(),
        tokens: by(blueprint::AuthBy::Jwt),
        api_keys: if by(blueprint::AuthBy::ApiKey) {
            keys.to_vec()
        } else {
            Vec::new()
        },
        key_header: gateway.api_keys.as_ref().map_or_else(
            || api::Auth::default().key_header,
            |list| list.header.clone(),
        ),
        optional: written.optional,
        failures: written.failures,
    }
}

/// An absolute URL is split into origin and path.
pub(super) fn redirect(written: &blueprint::Redirect) -> api::Redirect {
    let (origin, path) = match written.to.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let path = (end < rest.len()).then(|| rest[end..].to_owned());
            (Some(format!("{scheme}://{}", &rest[..end])), path)
        }
        None => (None, Some(written.to.clone())),
    };
    api::Redirect {
        origin,
        path,
        status: written.status,
    }
}

fn rewrite(route: &blueprint::Route, written: &blueprint::Rewrite) -> api::Rewrite {
    let is_prefix = matches!(route.path, blueprint::PathMatch::Prefix(_));
    api::Rewrite {
        prefix: written.path.clone().filter(|_| is_prefix),
        path: written.path.clone().filter(|_| !is_prefix),
        host: written.host.clone(),
    }
}

fn header_changes(written: &blueprint::HeaderChanges) -> api::HeaderChange {
    api::HeaderChange {
        remove: written.remove.clone(),
        set: written.set.clone(),
        add: written.add.clone(),
    }
}
