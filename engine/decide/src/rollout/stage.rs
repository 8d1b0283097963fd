//! The stages of a strategy: how many instances of which side, with which share of the requests.

use std::cmp::{max, min};
use std::collections::BTreeMap;

use platform_blueprint::{Percent, Rollout, Strategy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gates;
use super::phase::Phase;
use super::state::{MemberState, State};
use crate::group::GroupId;
use crate::traffic::Share;

/// A stage of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stage {
    /// Its name for people: `5 %`, `batch 2 of 3`, `all traffic`.
    pub name: String,
    /// Each member's part, in their order.
    pub sides: Vec<Side>,
}

/// One service's part in a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// Instances of the new group.
    pub new: u32,
    /// Instances of the old group while the new ones come up, and, of a service that requests reach, while they are watched
    /// where that takes any time.
    pub old_before: u32,
    /// Instances of the old group after that.
    pub old: u32,
    /// Fresh instances of the old version.
    pub baseline: u32,
    /// Share of the requests that the new group gets.
    pub new_share: Share,
    /// Share that the fresh instances of the old version get.
    pub baseline_share: Share,
    /// Share of the requests that the new group gets copies of, answering nobody.
    #[serde(default)]
    pub copied_share: Share,
}

impl Side {
    /// The share that is left for the old group.
    pub fn old_share(&self) -> Share {
        Share::thousandths(1000 - self.new_share.get() - self.baseline_share.get())
    }
}

/// The stages of a rollout, first to last; in the last one the new release has all traffic.
pub fn stages(policy: &Rollout, members: &[MemberState]) -> Vec<Stage> {
    let mut stages = match policy.strategy {
        Strategy::Canary => canary(policy, members),
        Strategy::BlueGreen => vec![last(members)],
        Strategy::Rolling => rolling(policy, members),
    };
    if let Some(first) = copied(policy, members) {
        let later = stages.iter_mut().flat_map(|stage| {
            let sides = stage.sides.iter_mut();
            sides.zip(&first.sides)
        });
        // Who was there for the copies stays for the requests.
        for (side, before) in later {
            side.new = max(side.new, before.new);
            if side.baseline > 0 {
                side.baseline = max(side.baseline, before.baseline);
            }
        }
        stages.insert(0, first);
    }
    stages
}

/// The stage in which the new release gets copies of requests, where it does.
fn copied(policy: &Rollout, members: &[MemberState]) -> Option<Stage> {
    let share = Share::thousandths(policy.mirror.tenths());
    let all = match policy.strategy {
        Strategy::Canary => false,
        Strategy::BlueGreen => true,
        Strategy::Rolling => return None,
    };
    if share == Share::NONE || !members.iter().any(|member| member.routed) {
        return None;
    }
    let side = |member: &MemberState| {
        // Where running means working, there is nothing that only gets copies.
        if !member.routed {
            return untouched(member);
        }
        // What the fresh instances of the old version are asked is what is copied, so that the same requests are compared.
        let beside = !all && policy.baseline && share <= share.rest();
        Side {
            new: if all {
                member.to_replicas
            } else {
                instances(share, member.to_replicas)
            },
            baseline: if beside {
                instances(share, member.to_replicas)
            } else {
                0
            },
            baseline_share: if beside { share } else { Share::NONE },
            copied_share: share,
            ..untouched(member)
        }
    };
    Some(Stage {
        name: format!("copies of {}", name_of(policy.mirror)),
        sides: members.iter().map(side).collect(),
    })
}

/// The new groups that are asked for soon, with how many instances, so that a target may make them ready meanwhile.
///
/// These are the first stage's, unless a gate is asked before anything is touched, and those of each batch that follows.
pub fn ahead(state: &State) -> BTreeMap<GroupId, u32> {
    let next = match state.phase {
        Phase::BeforeStart if gates::all(state).is_empty() => 0,
        Phase::Starting { stage } if state.policy.strategy == Strategy::Rolling => stage + 1,
        _ => return BTreeMap::new(),
    };
    let stages = state.stages();
    let sides = stages.get(next).map_or(&[][..], |stage| &stage.sides);
    state
        .members
        .iter()
        .zip(sides)
        .filter(|(_, side)| side.new > 0)
        .map(|(member, side)| (member.to.clone(), side.new))
        .collect()
}

fn last(members: &[MemberState]) -> Stage {
    let sides = members
        .iter()
        .map(|member| Side {
            new: member.to_replicas,
            old_before: member.from_replicas,
            // The old group stays warm for the way back, unless running means working.
            old: if member.routed {
                member.from_replicas
            } else {
                0
            },
            baseline: 0,
            new_share: Share::FULL,
            baseline_share: Share::NONE,
            copied_share: Share::NONE,
        })
        .collect();
    Stage {
        name: "all traffic".to_owned(),
        sides,
    }
}

fn canary(policy: &Rollout, members: &[MemberState]) -> Vec<Stage> {
    let mut steps: Vec<Percent> = policy
        .steps
        .iter()
        .copied()
        .filter(|step| *step > Percent::NONE && *step < Percent::FULL)
        .collect();
    steps.sort_unstable();
    steps.dedup();
    let stage = |step: &Percent| {
        let new_share = Share::thousandths(step.tenths());
        let sides = members
            .iter()
            .map(|member| {
                let beside = policy.baseline && member.routed;
                let baseline_share = if beside {
                    min(new_share, new_share.rest())
                } else {
                    Share::NONE
                };
                Side {
                    new: instances(new_share, member.to_replicas),
                    old_before: member.from_replicas,
                    old: member.from_replicas,
                    baseline: if beside {
                        instances(baseline_share, member.to_replicas)
                    } else {
                        0
                    },
                    new_share,
                    baseline_share,
                    copied_share: Share::NONE,
                }
            })
            .collect();
        Stage {
            name: name_of(*step),
            sides,
        }
    };
    steps.iter().map(stage).chain([last(members)]).collect()
}

fn name_of(step: Percent) -> String {
    match (step.tenths() / 10, step.tenths() % 10) {
        (whole, 0) => format!("{whole} %"),
        (whole, tenth) => format!("{whole}.{tenth} %"),
    }
}

/// As many of `replicas` as the share asks for, at least one.
fn instances(share: Share, replicas: u32) -> u32 {
    (u32::from(share.get()) * replicas)
        .div_ceil(1000)
        .clamp(1, replicas.max(1))
}

fn rolling(policy: &Rollout, members: &[MemberState]) -> Vec<Stage> {
    let batches: Vec<Vec<Side>> = members
        .iter()
        .map(|member| batches(policy, member))
        .collect();
    let count = batches.iter().map(Vec::len).max().unwrap_or(1);
    (0..count)
        .map(|batch| Stage {
            name: if count == 1 {
                "all instances".to_owned()
            } else {
                format!("batch {} of {count}", batch + 1)
            },
            // A service with fewer batches moves last, so that all end together.
            sides: batches
                .iter()
                .zip(members)
                .map(
                    |(own, member)| match (batch + own.len()).checked_sub(count) {
                        Some(index) => own[index],
                        None => untouched(member),
                    },
                )
                .collect(),
        })
        .collect()
}

/// A member before its first batch.
fn untouched(member: &MemberState) -> Side {
    Side {
        new: 0,
        old_before: member.from_replicas,
        old: member.from_replicas,
        baseline: 0,
        new_share: Share::NONE,
        baseline_share: Share::NONE,
        copied_share: Share::NONE,
    }
}

fn batches(policy: &Rollout, member: &MemberState) -> Vec<Side> {
    let (from, to) = (member.from_replicas, member.to_replicas);
    let surge = policy.surge.rounded_up(to);
    // One old instance is left until a new one is ready, so that requests are answered throughout.
    let missing = min(
        policy.unavailable.rounded_down(from),
        from.saturating_sub(1),
    );
    let at_a_time = max(1, surge.saturating_add(missing));
    // Instances of the old group that still serve when `new` of the new one do.
    let left = |new: u32| {
        let share = (from * (to - new)).div_ceil(to.max(1));
        share.saturating_sub(missing).max(u32::from(new == 0))
    };
    let mut sides = Vec::new();
    let mut new = 0;
    while new < to {
        let old_before = left(new);
        new = min(to, new.saturating_add(at_a_time));
        let old = if new == to { 0 } else { left(new) };
        let new_share = new * 1000 / (new + old).max(1);
        sides.push(Side {
            new,
            old_before,
            old,
            baseline: 0,
            new_share: Share::thousandths(u16::try_from(new_share).unwrap_or(1000)),
            baseline_share: Share::NONE,
            copied_share: Share::NONE,
        });
    }
    sides
}

#[cfg(test)]
mod tests {
    use platform_blueprint::Amount;

    use super::super::tests::member;
    use super::*;

    fn policy(strategy: Strategy) -> Rollout {
        Rollout {
            strategy,
            ..Rollout::default()
        }
    }

    fn shown(stages: &[Stage]) -> Vec<String> {
        let side = |side: &Side| {
            format!(
                "new {} old {}→{} baseline {} shares {}/{}/{}",
                side.new,
                side.old_before,
                side.old,
                side.baseline,
                side.new_share.get(),
                side.old_share().get(),
                side.baseline_share.get()
            )
        };
        stages
            .iter()
            .flat_map(|stage| {
                stage
                    .sides
                    .iter()
                    .map(|s| format!("{}: {}", stage.name, side(s)))
            })
            .collect()
    }

    #[test]
    fn a_canary_brings_fresh_instances_of_the_old_release_along() {
        assert_eq!(
            shown(&stages(
                &policy(Strategy::Canary),
                &[member("orders", 4, 4)]
            )),
            [
                "1 %: new 1 old 4→4 baseline 1 shares 10/980/10",
                "5 %: new 1 old 4→4 baseline 1 shares 50/900/50",
                "25 %: new 1 old 4→4 baseline 1 shares 250/500/250",
                "50 %: new 2 old 4→4 baseline 2 shares 500/0/500",
                "all traffic: new 4 old 4→4 baseline 0 shares 1000/0/0",
            ]
        );
    }

    #[test]
    fn steps_are_put_in_order_and_the_whole_comes_by_itself() {
        let policy = Rollout {
            steps: [100, 60, 20, 20, 0].map(Percent::whole).to_vec(),
            ..policy(Strategy::Canary)
        };
        assert_eq!(
            shown(&stages(&policy, &[member("orders", 2, 2)])),
            [
                "20 %: new 1 old 2→2 baseline 1 shares 200/600/200",
                "60 %: new 2 old 2→2 baseline 1 shares 600/0/400",
                "all traffic: new 2 old 2→2 baseline 0 shares 1000/0/0",
            ]
        );
    }

    #[test]
    fn copies_come_first_and_whoever_gets_them_stays() {
        let with = |strategy, percent, baseline, members: &[MemberState]| {
            let policy = Rollout {
                mirror: Percent::whole(percent),
                steps: vec![Percent::whole(10)],
                baseline,
                ..policy(strategy)
            };
            let stages = stages(&policy, members);
            let copied = |side: &Side| side.copied_share.get();
            let first: Vec<u16> = stages[0].sides.iter().map(copied).collect();
            let later = stages[1..].iter().flat_map(|stage| &stage.sides);
            assert!(later.map(copied).all(|share| share == 0));
            (shown(&stages), first)
        };
        let orders = [member("orders", 4, 4)];
        let (canary, copied) = with(Strategy::Canary, 30, true, &orders);
        assert_eq!(
            canary,
            [
                "copies of 30 %: new 2 old 4→4 baseline 2 shares 0/700/300",
                "10 %: new 2 old 4→4 baseline 2 shares 100/800/100",
                "all traffic: new 4 old 4→4 baseline 0 shares 1000/0/0",
            ]
        );
        assert_eq!(copied, [300]);
        // With most of the requests the fresh instances would be the old release.
        let (canary, copied) = with(Strategy::Canary, 60, true, &orders);
        let first = "copies of 60 %: new 3 old 4→4 baseline 0 shares 0/1000/0";
        assert_eq!((canary[0].as_str(), copied), (first, vec![600]));
        let worker = MemberState {
            routed: false,
            ..member("worker", 1, 1)
        };
        let (second, copied) = with(
            Strategy::BlueGreen,
            10,
            true,
            &[member("orders", 2, 3), worker.clone()],
        );
        assert_eq!(
            second,
            [
                "copies of 10 %: new 3 old 2→2 baseline 0 shares 0/1000/0",
                "copies of 10 %: new 0 old 1→1 baseline 0 shares 0/1000/0",
                "all traffic: new 3 old 2→2 baseline 0 shares 1000/0/0",
                "all traffic: new 1 old 1→0 baseline 0 shares 1000/0/0",
            ]
        );
        assert_eq!(copied, [100, 0]);
        let alone = stages(
            &Rollout {
                mirror: Percent::whole(10),
                ..policy(Strategy::BlueGreen)
            },
            &[worker],
        );
        assert_eq!(alone.len(), 1);
    }

    #[test]
    fn a_second_colour_is_one_switch() {
        assert_eq!(
            shown(&stages(
                &policy(Strategy::BlueGreen),
                &[member("orders", 2, 3)]
            )),
            ["all traffic: new 3 old 2→2 baseline 0 shares 1000/0/0"]
        );
    }

    #[test]
    fn a_rolling_update_keeps_to_surge_and_missing() {
        let with = |surge, unavailable, from, to| {
            let policy = Rollout {
                surge: Amount::Count(surge),
                unavailable: Amount::Count(unavailable),
                ..policy(Strategy::Rolling)
            };
            shown(&stages(&policy, &[member("orders", from, to)]))
        };
        assert_eq!(
            with(1, 0, 1, 1),
            ["all instances: new 1 old 1→0 baseline 0 shares 1000/0/0"]
        );
        assert_eq!(
            with(1, 0, 3, 3),
            [
                "batch 1 of 3: new 1 old 3→2 baseline 0 shares 333/667/0",
                "batch 2 of 3: new 2 old 2→1 baseline 0 shares 666/334/0",
                "batch 3 of 3: new 3 old 1→0 baseline 0 shares 1000/0/0",
            ]
        );
        assert_eq!(
            with(1, 1, 4, 4),
            [
                "batch 1 of 2: new 2 old 3→1 baseline 0 shares 666/334/0",
                "batch 2 of 2: new 4 old 1→0 baseline 0 shares 1000/0/0",
            ]
        );
        // Nothing may be missing of a single instance, and nothing extra means one extra.
        assert_eq!(
            with(0, 5, 1, 1),
            ["all instances: new 1 old 1→0 baseline 0 shares 1000/0/0"]
        );
        assert_eq!(
            with(2, 0, 2, 4),
            [
                "batch 1 of 2: new 2 old 2→1 baseline 0 shares 666/334/0",
                "batch 2 of 2: new 4 old 1→0 baseline 0 shares 1000/0/0",
            ]
        );
    }

    #[test]
    fn members_with_fewer_batches_move_last() {
        let members = [member("orders", 3, 3), member("web", 1, 1)];
        let shown = shown(&stages(&policy(Strategy::Rolling), &members));
        assert_eq!(
            shown[1],
            "batch 1 of 3: new 0 old 1→1 baseline 0 shares 0/1000/0"
        );
        assert_eq!(
            shown[5],
            "batch 3 of 3: new 1 old 1→0 baseline 0 shares 1000/0/0"
        );
    }
}
