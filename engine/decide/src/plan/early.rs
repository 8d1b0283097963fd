//! What the gateway does while a release comes up.

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
