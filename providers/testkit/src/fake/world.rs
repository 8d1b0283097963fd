//! What the fake target holds: how instances behave, what is seen of them and what they answer.

use std::collections::{BTreeMap, BTreeSet};

use platform_blueprint::ResourceName;
use platform_decide::desired::DesiredResource;
use platform_decide::group::{GroupId, GroupSpec};
use platform_decide::observed::{GroupSeen, InstanceSeen, InstanceState};
use platform_decide::traffic::Traffic;
use platform_port::{LaneTally, Part};

use super::Act;

/// How the instances of a group behave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Behaviour {
    /// Ready once it has been looked at so many times; a share of its answers is bad, another slow.
    Serves {
        /// Looks until it is ready.
        after_looks: u32,
        /// Share of bad answers, 0.0 to 1.0.
        bad: f64,
        /// Share of slow answers, 0.0 to 1.0.
        slow: f64,
    },
    /// Never becomes ready.
    NeverReady,
    /// Ends as soon as it is started, again and again.
    Crashes,
    /// Serves, and crashes after so many requests.
    CrashesAfter {
        /// Requests until it ends.
        requests: u64,
    },
    /// Runs to its end.
    Completes,
}

impl Behaviour {
    /// Ready at once and never at fault.
    pub const HEALTHY: Self = Self::Serves {
        after_looks: 0,
        bad: 0.0,
        slow: 0.0,
    };
}

/// What was asked of the fake, and what came of it.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) groups: BTreeMap<GroupId, (GroupSpec, u32)>,
    pub(super) resources: BTreeMap<ResourceName, DesiredResource>,
    pub(super) crashing: BTreeSet<ResourceName>,
    pub(super) gateway: bool,
    pub(super) traffic: Option<Traffic>,
    pub(super) revision: u64,
    pub(super) behaviours: BTreeMap<GroupId, Behaviour>,
    pub(super) tallies: BTreeMap<GroupId, LaneTally>,
    pub(super) heavy: BTreeMap<GroupId, u64>,
    pub(super) carried: BTreeMap<GroupId, u64>,
    pub(super) acts: Vec<Act>,
    pub(super) tidied: String,
    pub(super) prepared: Vec<String>,
    pub(super) requests_per_look: u64,
    pub(super) seed: u64,
}

impl World {
    pub(super) fn behaviour(&self, group: &GroupId) -> Behaviour {
        self.behaviours
            .get(group)
            .copied()
            .unwrap_or(Behaviour::HEALTHY)
    }

    pub(super) fn seen(&self, id: &GroupId, spec: &GroupSpec, looks: u32) -> GroupSeen {
        let answered = self.tallies.get(id).map_or(0, |tally| tally.requests);
        let (state, restarts, exit) = match self.behaviour(id) {
            Behaviour::Serves { after_looks, .. } if looks < after_looks => {
                (InstanceState::Starting, 0, None)
            }
            Behaviour::NeverReady => (InstanceState::Starting, 0, None),
            Behaviour::Crashes => (InstanceState::CrashLooping, 3, Some("exit code 1")),
            Behaviour::CrashesAfter { requests } if answered >= requests => {
                (InstanceState::Restarting, 1, Some("exit code 101"))
            }
            Behaviour::Serves { .. } | Behaviour::CrashesAfter { .. } => {
                (InstanceState::Ready, 0, None)
            }
            Behaviour::Completes => (InstanceState::Completed, 0, None),
        };
        let instances = (1..=spec.replicas)
            .map(|number| InstanceSeen {
                id: format!("{id}.{number}"),
                state,
                address: spec
                    .spec
                    .service
                    .port
                    .map(|_| format!("127.0.0.1:{}", 20000 + number)),
                handle: Some(number.to_string()),
                restarts,
                started_at: Some(0),
                last_exit: exit.map(str::to_owned),
                out_of_memory: false,
                reason: exit.map(str::to_owned),
                memory: Some(1 << 20),
                zone: spec.zone(number).cloned(),
            })
            .collect();
        GroupSeen {
            digest: spec.digest.clone(),
            replicas: spec.replicas,
            instances,
            changed: None,
        }
    }

    /// Shares one look's requests out and counts their answers; fractions are carried to the next look.
    pub(super) fn answer(&mut self) {
        let Some(traffic) = self.traffic.clone() else {
            return;
        };
        for split in traffic.splits.values() {
            for (group, share) in &split.shares {
                let carried = self.carried.entry(group.clone()).or_default();
                *carried += self.requests_per_look * u64::from(share.get());
                let requests = *carried / 1000;
                *carried %= 1000;
                let (bad, slow) = match self.behaviour(group) {
                    Behaviour::Serves { bad, slow, .. } => (bad, slow),
                    _ => (0.0, 0.0),
                };
                for _ in 0..requests {
                    let (luck_bad, luck_slow) = (self.luck(), self.luck());
                    let tally = self.tallies.entry(group.clone()).or_default();
                    tally.requests += 1;
                    if luck_bad < bad {
                        tally.bad += 1;
                    } else if luck_slow < slow {
                        tally.slow += 1;
                    }
                    tally.time_micros += 1000;
                }
                let heavy = self.heavy.get(group).copied().unwrap_or(0);
                let tally = self.tallies.entry(group.clone()).or_default();
                tally.requests += heavy;
                tally.bad += heavy;
                tally.heavy.requests += heavy;
                tally.heavy.bad += heavy;
            }
            if let Some(copies) = &split.copies {
                let by = copies.of.as_ref().or(split.shares.keys().next());
                let share = u64::from(split.copied(&copies.to).get());
                let requests = self.requests_per_look * share / 1000;
                let answered = self.answers_of(&copies.to, requests);
                add(
                    &mut self.tallies.entry(copies.to.clone()).or_default().copies,
                    answered,
                );
                if let Some(by) = by {
                    let answered = self.answers_of(by, requests);
                    add(
                        &mut self.tallies.entry(by.clone()).or_default().copied,
                        answered,
                    );
                }
            }
        }
    }

    /// What a group answers to so many requests.
    fn answers_of(&mut self, group: &GroupId, requests: u64) -> Part {
        let (bad, slow) = match self.behaviour(group) {
            Behaviour::Serves { bad, slow, .. } => (bad, slow),
            _ => (0.0, 0.0),
        };
        let mut answered = Part {
            requests,
            ..Part::default()
        };
        for _ in 0..requests {
            let (luck_bad, luck_slow) = (self.luck(), self.luck());
            answered.bad += u64::from(luck_bad < bad);
            answered.slow += u64::from(luck_bad >= bad && luck_slow < slow);
        }
        answered
    }

    /// The next number of a fixed sequence, 0.0 to 1.0 (`SplitMix64`; Steele, Lea and Flood, 2014).
    fn luck(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or_default();
        f64::from(high) / f64::from(u32::MAX)
    }
}

fn add(sum: &mut Part, more: Part) {
    sum.requests += more.requests;
    sum.bad += more.bad;
    sum.slow += more.slow;
}
