//! Guardrails: what goes wrong with instances needs no statistics.

use super::phase::Phase;
use super::seen::Seen;
use super::state::{MemberState, State};
use super::words::Why;
use crate::group::GroupId;
use crate::observed::{InstanceSeen, InstanceState};

/// What is wrong with the new release's instances, if anything.
pub(super) fn tripped(state: &State, seen: &Seen<'_>) -> Option<Why> {
    state
        .members
        .iter()
        .enumerate()
        .find_map(|(index, member)| member_tripped(state, index, member, seen))
}

fn member_tripped(
    state: &State,
    index: usize,
    member: &MemberState,
    seen: &Seen<'_>,
) -> Option<Why> {
    let group = seen.observed.groups.get(&member.to)?;
    let restarts = state
        .policy
        .analysis
        .as_ref()
        .map_or(0, |analysis| analysis.restarts);
    let allowed = restarts + member.restarts_before;
    let was_ready = match state.phase {
        Phase::Serving { .. } => true,
        // While more instances come up, those that have requests already have to stay ready.
        Phase::Starting { .. } => state.in_force.is_some_and(|at| {
            state.up || seen.ready(&member.to) < state.stages()[at].sides[index].new
        }),
        _ => false,
    };
    group.instances.iter().find_map(|instance| {
        let what = what_is_wrong(instance, allowed).or_else(|| {
            (was_ready && !old_is_unready(member, seen)).then(|| lost_readiness(instance))?
        })?;
        Some(Why::Guardrail {
            instance: instance.id.clone(),
            what,
        })
    })
}

fn what_is_wrong(instance: &InstanceSeen, restarts_allowed: u32) -> Option<String> {
    // What the target says of an instance that is down explains more than the exit that followed from it.
    let down = matches!(
        instance.state,
        InstanceState::CrashLooping | InstanceState::Failed | InstanceState::Restarting
    );
    let how = || {
        let said = instance.reason.as_ref().filter(|_| down);
        let how = said.or(instance.last_exit.as_ref());
        how.map(|how| format!(": {how}")).unwrap_or_default()
    };
    if instance.out_of_memory {
        return Some("used more memory than its limit".to_owned());
    }
    match instance.state {
        InstanceState::CrashLooping => return Some(format!("ends again and again{}", how())),
        InstanceState::Failed => return Some(format!("was given up{}", how())),
        _ => {}
    }
    (instance.restarts > restarts_allowed).then(|| match instance.restarts {
        1 => format!("ended and was started again{}", how()),
        many => format!("ended {many} times{}", how()),
    })
}

fn lost_readiness(instance: &InstanceSeen) -> Option<String> {
    (instance.state == InstanceState::Unready).then(|| {
        let reason = instance.reason.as_ref().map(|reason| format!(": {reason}"));
        format!("is ready no more{}", reason.unwrap_or_default())
    })
}

/// Whether the old release lost readiness too, so that the cause is one that both share.
fn old_is_unready(member: &MemberState, seen: &Seen<'_>) -> bool {
    let unready = |group: &GroupId| {
        seen.observed
            .groups
            .get(group)
            .is_some_and(|seen| seen.count(InstanceState::Unready) > 0)
    };
    unready(&member.from) || unready(&member.baseline())
}
