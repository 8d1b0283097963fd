//! What the gateway does while a release comes up.

use platform_blueprint::{Route, ValueMatch};

use super::{Plan, is_lost, steps};
use crate::desired::Ingress;
use crate::digest::Digest;
use crate::observed::{GatewaySeen, Observed};
use crate::release::Release;
use crate::traffic::{Split, Traffic};

/// Traffic while instances start: what the gateway does now, and shares for services that nothing serves yet, or no more.
///
/// Routes stay as they are until what they lead to is up, except on a gateway that has none.
pub(super) fn early_traffic(
    observed: &Observed,
    current: Option<&Release>,
    plan: &Plan,
) -> Traffic {
    let release = &plan.release;
    let mut last = steps::final_traffic(release);
    for member in plan.members() {
        if let Some(split) = last.splits.get_mut(&member.to.service) {
            *split = Split::all(member.from.clone());
        }
    }
    let Some(seen) = &observed.gateway else {
        return last;
    };
    let ingress = current
        .filter(|_| !has_last(seen, &last.ingress))
        .map_or(last.ingress, |c| {
            let mut ingress = c.ingress.clone();
            let services = release.ingress.services.clone();
            ingress.services.extend(services);
            ingress.routes.extend(on_trial(&c.ingress, plan));
            ingress
        });
    let mut splits = last.splits;
    let serves = |split: &Split| split.shares.keys().any(|group| !is_lost(observed, group));
    for (service, split) in seen.splits.iter().filter(|(_, split)| serves(split)) {
        splits.insert(service.clone(), split.clone());
    }
    Traffic { ingress, splits }
}

/// Whether a gateway has the new routes already, or none that could stay.
///
/// What else it has is not asked: it was given the present routes with what the new release says of its services, or that of
/// another release whose run was stopped.
fn has_last(seen: &GatewaySeen, last: &Ingress) -> bool {
    seen.splits.is_empty() || seen.ingress == Digest::of_value(last)
}

/// New routes of services that a rollout moves, for who asks for the new release by its header, so that they can be checked
/// before anybody else meets them. A route to the release on trial is there as it is, unless it takes a present one's path.
///
/// Routes may name what only the new release's gateway has, so there are none where its settings change.
fn on_trial(present: &Ingress, plan: &Plan) -> Vec<Route> {
    let wanted = &plan.release.ingress;
    if present.gateway != wanted.gateway {
        return Vec::new();
    }
    let is_new = |route: &&Route| {
        let mut members = plan.members();
        !present.routes.contains(route)
            && members.any(|member| Some(&member.to.service) == route.service.as_ref())
    };
    let taken = |route: &Route| present.routes.iter().any(|other| other.path == route.path);
    let shown = |route: &Route| {
        if route.preview && !taken(route) {
            Some(route.clone())
        } else {
            by_header(route, wanted)
        }
    };
    let routes = wanted.routes.iter();
    routes.filter(is_new).filter_map(shown).collect()
}

/// The route for requests that ask for the new release by its header; `None` where the route itself looks at that.
fn by_header(route: &Route, ingress: &Ingress) -> Option<Route> {
    let service = ingress.services.get(route.service.as_ref()?)?;
    let header = &service.opt_in.header;
    let mut names = route.headers.keys();
    if header.is_empty() || names.any(|name| name.eq_ignore_ascii_case(header)) {
        return None;
    }
    let mut route = route.clone();
    let new = ValueMatch::Exact("new".to_owned());
    route.headers.insert(header.clone(), new);
    Some(route)
}

/// Whether a request that asks for the new release by its header finds this route of the plan's release on the gateway.
pub(super) fn leads(route: &Route, early: &Traffic, plan: &Plan) -> bool {
    let copy = by_header(route, &plan.release.ingress);
    let mut routes = early.ingress.routes.iter();
    routes.any(|other| other == route || Some(other) == copy.as_ref())
}
