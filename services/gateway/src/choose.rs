//! Chooses the version and the endpoint for an attempt.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use platform_gateway_api::{Balance, Override, Sticky};

use crate::balance::{
    by_client, by_key, by_weight, hash, hash_address, in_turn, less_busy, spread,
};
use crate::breaker::Leave;
use crate::clock::now_ms;
use crate::context::RequestContext;
use crate::cookie::cookie;
use crate::endpoint::EndpointState;
use crate::snapshot::{ServiceState, VersionState};
use crate::tally::Held;

/// Where the next attempt goes.
pub(crate) struct Chosen {
    /// By position.
    pub(crate) version: usize,
    pub(crate) endpoint: Arc<EndpointState>,
    /// Its place among the requests to that.
    pub(crate) place: Held,
    /// Whether the request shows if the endpoint, which was set aside, is well again.
    pub(crate) on_trial: bool,
    /// What the version's breaker gave, where there is one.
    pub(crate) leave: Option<Leave>,
}

/// Returns the version and its endpoint for the next attempt.
///
/// The version of the first attempt stays while it has an endpoint that was
/// not tried. Endpoints set aside come last, and another version only takes
/// the request when the one it belongs to has none left.
pub(crate) fn choose(context: &mut RequestContext, headers: &HeaderMap) -> Option<Chosen> {
    let route = context.route.clone()?;
    let service = route.service.as_ref()?;
    let pinned = route.route.version.as_deref();
    let wanted = wanted(context, headers)?;
    context.asked_for = wanted.asked_for;
    context.sticks = wanted.sticks;
    let wanted = wanted.version;
    let others = (0..service.versions.len())
        .filter(|version| *version != wanted && pinned.is_none())
        .filter(|version| service.versions[*version].role.takes_traffic());
    let mut others: Vec<usize> = others.collect();
    others.sort_by_key(|version| std::cmp::Reverse(service.versions[*version].weight));
    let mut order: Vec<usize> = std::iter::once(wanted).chain(others).collect();
    context.resting = false;
    for fit in [true, false] {
        let mut turn = 0;
        while let Some(version) = order.get(turn).copied() {
            let found = endpoint(service, &service.versions[version], context, headers, fit);
            let Some(endpoint) = found else {
                turn += 1;
                continue;
            };
            // Asked of no version but the one that is to get the request, as the answer may be its
            // one chance to show that it is well.
            let Ok(leave) = leave(service, version, context) else {
                context.resting = true;
                order.remove(turn);
                continue;
            };
            let Some((place, on_trial)) = enter(service, &endpoint, fit) else {
                // Another request was faster; there may be one more endpoint.
                if let (Some(leave), true) = (leave, context.leave != leave) {
                    let breaker = &service.versions[version].runtime.breaker;
                    breaker.give_back(leave, now_ms());
                }
                continue;
            };
            return Some(Chosen {
                version,
                endpoint,
                place,
                on_trial,
                leave,
            });
        }
    }
    None
}

/// A version rests, as it failed too often.
struct Resting;

/// What the breaker of a version gives for a request, where it has one; a repeat inside the version goes on with what it has.
fn leave(
    service: &ServiceState,
    version: usize,
    context: &RequestContext,
) -> Result<Option<Leave>, Resting> {
    let same = context.attempts > 0 && context.version == Some(version);
    match &service.settings.breaker {
        Some(rules) if !same => {
            let breaker = &service.versions[version].runtime.breaker;
            let leave = breaker.admits(rules, now_ms());
            leave.map(Some).ok_or(Resting)
        }
        _ => Ok(context.leave),
    }
}

/// Takes a place at an endpoint, if there still is one; and whether the request is to show that it is well again.
fn enter(
    service: &ServiceState,
    endpoint: &Arc<EndpointState>,
    must_be_fit: bool,
) -> Option<(Held, bool)> {
    let most = u64::from(service.settings.limits.concurrent_per_endpoint);
    let place = endpoint.in_flight.hold(most)?;
    let outliers = &service.settings.outliers;
    let on_trial = must_be_fit && endpoint.admit(outliers, now_ms())?;
    Some((place, on_trial))
}

/// The version that a request belongs to, and why.
pub(crate) struct Wanted {
    /// By position.
    pub(crate) version: usize,
    /// Whether the request or its route named it.
    pub(crate) asked_for: bool,
    /// What tells its client from others, where that decides.
    pub(crate) sticks: Option<u64>,
}

impl Wanted {
    /// One that a request or its route named.
    fn named(version: usize) -> Self {
        Self {
            version,
            asked_for: true,
            sticks: None,
        }
    }
}

/// The version that a request belongs to.
pub(crate) fn wanted(context: &RequestContext, headers: &HeaderMap) -> Option<Wanted> {
    let route = context.route.as_ref()?;
    let service = route.service.as_ref()?;
    match (context.version, route.route.version.as_deref()) {
        (Some(version), _) => Some(Wanted {
            version,
            asked_for: context.asked_for,
            sticks: context.sticks,
        }),
        (None, Some(version)) => Some(Wanted::named(service.position(version)?)),
        (None, None) => version_for(service, context, headers),
    }
}

fn version_for(
    service: &ServiceState,
    context: &RequestContext,
    headers: &HeaderMap,
) -> Option<Wanted> {
    let asked_for = service
        .settings
        .overrides
        .iter()
        .filter(|wanted| asks(wanted, headers))
        .filter_map(|wanted| service.position(&wanted.version))
        .find(|version| !service.versions[*version].endpoints.is_empty());
    if let Some(version) = asked_for {
        return Some(Wanted::named(version));
    }
    let weight = |version: &VersionState| {
        if version.role.takes_traffic() && !version.endpoints.is_empty() {
            version.weight
        } else {
            0
        }
    };
    let by_weight_alone = context
        .route
        .as_ref()
        .is_some_and(|route| route.route.by_weight);
    let sticky = service.settings.sticky.as_ref();
    let client = sticky.filter(|_| !by_weight_alone).and_then(|sticky| {
        let shared = &context.snapshot.shared_addresses;
        let own = context.client.filter(|address| !shared.contains(*address));
        client_key(sticky, own, headers)
    });
    let chosen = match client {
        None => by_weight(
            spread(service.runtime.turn()),
            service.versions.iter().map(weight),
        ),
        Some(client) => by_client(
            client,
            service
                .versions
                .iter()
                .map(|version| (&*version.name, weight(version))),
        ),
    };
    // Without any weight, whatever has an endpoint is better than no answer.
    let chosen = chosen.or_else(|| {
        service
            .versions
            .iter()
            .position(|version| version.role.takes_traffic() && !version.endpoints.is_empty())
    })?;
    Some(Wanted {
        version: chosen,
        asked_for: false,
        sticks: client,
    })
}

fn asks(wanted: &Override, headers: &HeaderMap) -> bool {
    let value = match (&wanted.header, &wanted.cookie) {
        (Some(name), _) => headers.get(name).and_then(|value| value.to_str().ok()),
        (None, Some(name)) => cookie(headers, name),
        (None, None) => None,
    };
    value.is_some_and(|value| wanted.value.is_empty() || value == wanted.value)
}

/// What tells one client from another; `None` where nothing does.
fn client_key(sticky: &Sticky, client: Option<IpAddr>, headers: &HeaderMap) -> Option<u64> {
    let value = match sticky {
        Sticky::Client => None,
        Sticky::Header(name) => headers.get(name).map(http::HeaderValue::as_bytes),
        Sticky::Cookie(name) => cookie(headers, name).map(str::as_bytes),
    };
    match value {
        Some(value) => Some(hash(value)),
        None => client
            .filter(|address| !address.is_loopback())
            .map(hash_address),
    }
}

fn endpoint(
    service: &ServiceState,
    version: &VersionState,
    context: &RequestContext,
    headers: &HeaderMap,
    must_be_fit: bool,
) -> Option<Arc<EndpointState>> {
    let now = now_ms();
    let most = u64::from(service.settings.limits.concurrent_per_endpoint);
    let slow_start = service.settings.slow_start_ms;
    let usable = |endpoint: &EndpointState| {
        let tried = context
            .tried
            .iter()
            .any(|tried| std::ptr::eq(Arc::as_ptr(tried), endpoint));
        !tried
            && endpoint.is_proven()
            && (!must_be_fit || endpoint.is_fit(now))
            && (most == 0 || endpoint.in_flight.get() < most)
    };
    // A repeat must not take the next request's turn, or the two would march in step.
    let turn = if context.attempts == 0 {
        version.runtime.turn()
    } else {
        rand::random()
    };
    // A warming endpoint is passed over by a share of the turns that shrinks with its age.
    let warm = |endpoint: &EndpointState| {
        let age = now.saturating_sub(endpoint.since_ms);
        slow_start == 0
            || age >= slow_start
            || (spread(turn) >> 32) * slow_start < (age.max(slow_start / 10)) << 32
    };
    let near = |endpoint: &EndpointState| {
        service.settings.zone.is_none() || endpoint.zone == service.settings.zone
    };
    let pick = |accept: &dyn Fn(&EndpointState) -> bool| {
        let endpoints = &version.endpoints;
        let own = context
            .route
            .as_ref()
            .and_then(|route| route.route.balance.as_ref());
        match own.unwrap_or(&service.settings.balance) {
            Balance::RoundRobin => in_turn(endpoints, turn, accept),
            Balance::LeastRequests => less_busy(endpoints, spread(turn), accept),
            Balance::ClientHash => {
                let key = context.client.map_or(turn, hash_address);
                by_key(endpoints, key, accept)
            }
            Balance::HeaderHash(name) => match headers.get(name) {
                Some(value) => by_key(endpoints, hash(value.as_bytes()), accept),
                None => in_turn(endpoints, turn, accept),
            },
            Balance::CookieHash(name) => match cookie(headers, name) {
                Some(value) => by_key(endpoints, hash(value.as_bytes()), accept),
                None => in_turn(endpoints, turn, accept),
            },
        }
    };
    let index = pick(&|endpoint| usable(endpoint) && warm(endpoint) && near(endpoint))
        .or_else(|| pick(&|endpoint| usable(endpoint) && near(endpoint)))
        .or_else(|| pick(&usable))?;
    Some(version.endpoints[index].clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_by_what_is_its_own() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", "ada".parse().unwrap());
        let key = |sticky: &Sticky, address: &str| {
            client_key(sticky, address.parse().ok(), &headers).is_some()
        };
        assert!(key(&Sticky::Client, "192.0.2.1"));
        assert!(!key(&Sticky::Client, "127.0.0.1"));
        assert!(key(&Sticky::Header("x-user".to_owned()), "::1"));
        assert!(!key(&Sticky::Cookie("user".to_owned()), "::1"));
    }
}
