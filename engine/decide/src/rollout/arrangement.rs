//! What should be so in a state, and the moves that make it so.

use std::collections::{BTreeMap, BTreeSet};

use platform_blueprint::ServiceName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::phase::Phase;
use super::seen::Seen;
use super::stage::{Side, Stage};
use super::state::{MemberState, State};
use crate::group::GroupId;
use crate::observed::Observed;
use crate::traffic::{Copies, Share, Split};

/// What should be so: groups with their numbers of instances, and how requests are shared out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Arrangement {
    /// Instances by group. Groups of the rollout that are not named should not be there.
    pub groups: BTreeMap<GroupId, u32>,
    /// Split of each service that requests reach.
    pub splits: BTreeMap<ServiceName, Split>,
}

/// What the state asks for.
pub fn arrangement(state: &State) -> Arrangement {
    let stages = state.stages();
    let mut arranged = Arrangement::default();
    for (index, member) in state.members.iter().enumerate() {
        let one = of_member(state, member, &stages, index);
        for (group, replicas) in one.groups {
            if replicas > 0 {
                arranged.groups.insert(group, replicas);
            }
        }
        if member.routed {
            arranged.splits.insert(member.service().clone(), one.split);
        }
    }
    arranged
}

/// One member's part.
struct Part {
    groups: [(GroupId, u32); 3],
    split: Split,
}

fn of_member(state: &State, member: &MemberState, stages: &[Stage], index: usize) -> Part {
    let side = |stage: usize| stages[stage.min(stages.len() - 1)].sides[index];
    let part = |new: u32, old: u32, baseline: u32, split: Split| Part {
        groups: [
            (member.to.clone(), new),
            (member.from.clone(), old),
            (member.baseline(), baseline),
        ],
        split,
    };
    let all_old = || Split::all(member.from.clone());
    let in_force = state.in_force.map(side);
    let shares = || match state.in_force {
        Some(at) => split(member, &side(at), at + 1 >= stages.len()),
        None => all_old(),
    };
    let here = side(state.phase.stage());
    // Until the next shares are in force, whoever has requests by the last ones keeps its instances.
    let new = here.new.max(in_force.map_or(0, |side| side.new));
    let baseline = here.baseline.max(in_force.map_or(0, |side| side.baseline));
    let old = match (state.in_force, in_force) {
        (Some(at), Some(side)) if at == state.phase.stage() => watched(state, member, &side),
        (_, Some(side)) => side.old,
        (_, None) if state.phase.stage() == 0 => here.old_before,
        (_, None) => member.from_replicas,
    };
    // On the way back nothing is started that no request reaches yet.
    let (new_back, baseline_back) = in_force.map_or((0, 0), |side| (side.new, side.baseline));
    match &state.phase {
        Phase::BeforeStart
        | Phase::Removing { .. }
        | Phase::AfterBack { .. }
        | Phase::RolledBack { .. } => part(0, member.from_replicas, 0, all_old()),
        Phase::Starting { .. } => {
            let mut split = shares();
            if state.up {
                split.preview = Some(member.to.clone());
            }
            part(new, old, baseline, split)
        }
        Phase::Serving { .. } => part(
            here.new,
            watched(state, member, &here),
            here.baseline,
            shares(),
        ),
        Phase::Retiring | Phase::Promoted => {
            part(member.to_replicas, 0, 0, Split::all(member.to.clone()))
        }
        // Of several services some may be back already, and stay there if another does not come back.
        Phase::GoingBack { .. } | Phase::Stuck { .. } if member.old_serves => {
            part(new_back, member.from_replicas, baseline_back, all_old())
        }
        Phase::GoingBack { .. } | Phase::Stuck { .. } => {
            part(new_back, member.from_replicas, baseline_back, shares())
        }
        // With all its instances the old release is the safe side; with some of them missing, both serve on.
        Phase::Interrupted { .. } if old == member.from_replicas => {
            part(new, old, baseline, all_old())
        }
        Phase::Interrupted { .. } => part(new, old, baseline, shares()),
    }
}

/// Instances of the old group while a stage is watched: none has gone yet, so that requests have somewhere to go should the
/// new ones fail, unless running means working, or nobody is to watch.
fn watched(state: &State, member: &MemberState, side: &Side) -> u32 {
    if member.routed && !state.policy.hold.is_zero() {
        side.old_before
    } else {
        side.old
    }
}

fn split(member: &MemberState, side: &Side, last: bool) -> Split {
    let shares = [
        (member.to.clone(), side.new_share),
        (member.from.clone(), side.old_share()),
        (member.baseline(), side.baseline_share),
    ];
    let fresh = side.baseline_share > Share::NONE;
    let copies = || Copies {
        to: member.to.clone(),
        of: fresh.then(|| member.baseline()),
        share: if fresh {
            Share::FULL
        } else {
            side.copied_share
        },
    };
    Split {
        shares: shares
            .into_iter()
            .filter(|(_, share)| *share > Share::NONE)
            .collect(),
        preview: (!last && side.new > 0).then(|| member.to.clone()),
        copies: (side.copied_share > Share::NONE).then(copies),
    }
}

/// Something to do on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Bring a group to so many instances.
    Ensure {
        /// The group.
        group: GroupId,
        /// How many.
        replicas: u32,
    },
    /// Share requests out.
    Route {
        /// Split of each service of the rollout.
        splits: BTreeMap<ServiceName, Split>,
    },
    /// Drain and remove a group.
    Remove {
        /// The group.
        group: GroupId,
    },
}

/// The moves from what is observed to what should be so, in their order; each holds however the one before went.
///
/// - instances come before traffic, and traffic goes before instances
/// - where traffic is as it should be, instances go before others come in their place, so that there are no more than wanted
/// - traffic never moves to a group that has no instance ready while the one it is with has
/// - what has to wait for an earlier move is left for the next look
/// - a run that was told to stop brings nothing up any more
pub fn moves(state: &State, observed: &Observed) -> Vec<Move> {
    let wanted = arrangement(state);
    let seen = Seen::only(observed);
    let told = |group: &GroupId| observed.groups.get(group).map_or(0, |seen| seen.replicas);
    let ensure = |differs: fn(u32, u32) -> bool| {
        let groups = wanted.groups.iter();
        let differing = groups.filter(move |(group, replicas)| differs(told(group), **replicas));
        differing.map(|(group, replicas)| Move::Ensure {
            group: group.clone(),
            replicas: *replicas,
        })
    };
    let interrupted = matches!(state.phase, Phase::Interrupted { .. });
    let grow = ensure(|told, wanted| told < wanted).filter(move |_| !interrupted);
    let shrink = ensure(|told, wanted| told > wanted);
    let ours: BTreeSet<GroupId> = state
        .members
        .iter()
        .flat_map(|member| [member.from.clone(), member.baseline(), member.to.clone()])
        .collect();
    let gone = ours
        .into_iter()
        .filter(|group| seen.has(group) && !wanted.groups.contains_key(group))
        .map(|group| Move::Remove { group });
    match reroute(&wanted, &seen) {
        // Traffic cannot move yet, so nothing that it reaches may go.
        Some(None) => grow.collect(),
        Some(Some(splits)) => grow
            .chain([Move::Route { splits }])
            .chain(shrink)
            .chain(gone)
            .collect(),
        None => shrink.chain(gone).chain(grow).collect(),
    }
}

/// Splits to give the gateway: `None` where it has them, `Some(None)` where it cannot have them yet.
#[expect(
    clippy::option_option,
    reason = "nothing to do and nothing possible are different things"
)]
fn reroute(wanted: &Arrangement, seen: &Seen<'_>) -> Option<Option<BTreeMap<ServiceName, Split>>> {
    let mut differs = false;
    for (service, split) in &wanted.splits {
        let now = seen.split(service);
        if now == Some(split) {
            continue;
        }
        differs = true;
        let stands = |split: &Split| {
            split
                .shares
                .iter()
                .filter(|(_, share)| **share > Share::NONE)
                .all(|(group, _)| seen.ready(group) > 0)
        };
        if !stands(split) && now.is_some_and(stands) {
            return Some(None);
        }
    }
    differs.then(|| Some(wanted.splits.clone()))
}

/// Whether the gateway shares requests out as the state has it.
pub(super) fn in_place(state: &State, seen: &Seen<'_>) -> bool {
    arrangement(state)
        .splits
        .iter()
        .all(|(service, split)| seen.split(service) == Some(split))
}
