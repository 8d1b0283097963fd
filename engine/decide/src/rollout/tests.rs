//! Every transition as a table of values, in a world that does at once what it is told.

mod astray;
mod copied;
mod gated;
mod judged;
mod measured;
mod steered;

use std::collections::BTreeMap;

use platform_blueprint::{
    Analysis, Gate, GateWhen, Percent, Period, Rollout, ServiceName, Strategy, WhenQuiet,
};

use super::*;
use crate::analysis::Tally;
use crate::digest::Digest;
use crate::group::GroupId;
use crate::observed::{GatewaySeen, GroupSeen, InstanceSeen, InstanceState, Observed};
use crate::release::ReleaseNumber;
use crate::traffic::{Share, Split};

/// A service that goes from r1 to r2.
pub(super) fn member(service: &str, from: u32, to: u32) -> MemberState {
    MemberState {
        from: format!("{service}@r1").parse().unwrap(),
        from_replicas: from,
        to: format!("{service}@r2").parse().unwrap(),
        to_replicas: to,
        routed: true,
        start_within: 20_000,
        restarts_before: 0,
        old_serves: false,
        old_is_short: false,
        comparison: Comparison::default(),
    }
}

pub(super) fn policy(strategy: Strategy) -> Rollout {
    Rollout {
        strategy,
        steps: [10, 50].map(Percent::whole).to_vec(),
        hold: Period::from_secs(5),
        bake: Period::from_secs(10),
        analysis: Some(Analysis {
            at_least: Period::from_secs(3),
            at_most: Period::from_secs(60),
            ..Analysis::default()
        }),
        at_most: Period::from_secs(600),
        ..Rollout::default()
    }
}

/// What instances of a group do once they are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Ready,
    NeverReady,
    Is(InstanceState),
    OutOfMemory,
    Restarted(u32),
}

/// A target in memory. Requests come at an even rate and are shared out as the split says.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) state: State,
    pub(super) observed: Observed,
    pub(super) counts: Counts,
    pub(super) now: u64,
    /// Requests of each service in a second.
    pub(super) load: u64,
    /// Of a thousand requests, so many are bad.
    pub(super) bad: BTreeMap<GroupId, u64>,
    pub(super) health: BTreeMap<GroupId, Health>,
    pub(super) answers: std::collections::HashMap<GateWhen, GateAnswer>,
    /// Values of an extra metric named `heap`, of the old release and the new one, read in each look while they have requests.
    pub(super) heap: Option<(f64, f64)>,
    /// Why that metric cannot be read.
    pub(super) unread: Option<String>,
    /// The gateway's counts cannot be read.
    pub(super) uncounted: bool,
    /// How long the run was given, once that is over, in milliseconds.
    pub(super) out_of_time: Option<u64>,
    /// Groups of which instances are being taken down.
    pub(super) leaving: std::collections::BTreeSet<GroupId>,
    pub(super) notes: Vec<Note>,
    pub(super) words: u64,
}

impl World {
    pub(super) fn of(policy: &Rollout, members: Vec<MemberState>) -> Self {
        let mut observed = Observed {
            gateway: Some(GatewaySeen {
                url: "http://127.0.0.1:1".to_owned(),
                ready: true,
                revision: 1,
                ingress: Digest::of_value(&()),
                splits: BTreeMap::new(),
                amiss: None,
            }),
            ..Observed::default()
        };
        let gateway = observed.gateway.as_mut().unwrap();
        for member in members.iter().filter(|member| member.routed) {
            gateway
                .splits
                .insert(member.service().clone(), Split::all(member.from.clone()));
        }
        let mut world = Self {
            state: State::of(ReleaseNumber(2), Vec::new(), policy, "run", 1_000),
            observed,
            counts: Counts {
                epoch: "first".to_owned(),
                ..Counts::default()
            },
            now: 1_000,
            load: 400,
            bad: BTreeMap::new(),
            health: BTreeMap::new(),
            answers: std::collections::HashMap::new(),
            heap: None,
            unread: None,
            uncounted: false,
            out_of_time: None,
            leaving: std::collections::BTreeSet::new(),
            notes: Vec::new(),
            words: 0,
        };
        for member in &members {
            world.ensure(&member.from, member.from_replicas);
        }
        world.state.members = members;
        world
    }

    fn ensure(&mut self, group: &GroupId, replicas: u32) {
        let health = self.health.get(group).copied().unwrap_or(Health::Ready);
        let instance = |index: u32| InstanceSeen {
            id: format!("{group}.{index}"),
            state: match health {
                Health::Ready | Health::OutOfMemory | Health::Restarted(_) => InstanceState::Ready,
                Health::NeverReady => InstanceState::Starting,
                Health::Is(state) => state,
            },
            address: None,
            handle: None,
            restarts: match health {
                Health::Restarted(times) => times,
                _ => 0,
            },
            started_at: None,
            last_exit: None,
            out_of_memory: health == Health::OutOfMemory,
            reason: (health == Health::NeverReady).then(|| "503 from /health/ready".to_owned()),
            memory: None,
            zone: None,
        };
        let seen = GroupSeen {
            digest: Digest::of_value(&()),
            replicas,
            instances: (0..replicas).map(instance).collect(),
            changed: None,
        };
        self.observed.groups.insert(group.clone(), seen);
    }

    /// What instances do from now on.
    pub(super) fn set(&mut self, group: &str, health: Health) {
        let group: GroupId = group.parse().unwrap();
        self.health.insert(group.clone(), health);
        if let Some(replicas) = self.observed.groups.get(&group).map(|seen| seen.replicas) {
            self.ensure(&group, replicas);
        }
    }

    pub(super) fn bad(&mut self, group: &str, of_a_thousand: u64) {
        self.bad.insert(group.parse().unwrap(), of_a_thousand);
    }

    pub(super) fn splits(&self) -> &BTreeMap<platform_blueprint::ServiceName, Split> {
        &self.observed.gateway.as_ref().unwrap().splits
    }

    /// Carries the moves out.
    pub(super) fn act(&mut self) {
        for one in moves(&self.state, &self.observed) {
            self.make(one);
        }
    }

    /// Carries one move out.
    pub(super) fn make(&mut self, one: Move) {
        match one {
            Move::Ensure { group, replicas } => self.ensure(&group, replicas),
            Move::Route { splits } => {
                let gateway = self.observed.gateway.as_mut().unwrap();
                gateway.splits.extend(splits);
            }
            Move::Remove { group } => {
                self.observed.groups.remove(&group);
            }
        }
    }

    /// Lets a second pass with its requests.
    pub(super) fn second(&mut self) {
        self.now += 1_000;
        let splits = self.splits().clone();
        let of = |share: Share| self.load * u64::from(share.get()) / 1000;
        for (group, share) in splits.values().flat_map(|split| &split.shares) {
            let bad = self.bad.get(group).copied().unwrap_or(0);
            let lane = self.counts.lanes.entry(group.clone()).or_default();
            answer(lane, of(*share), bad);
        }
        for split in splits.values() {
            let Some(copies) = &split.copies else {
                continue;
            };
            let bad = self.bad.get(&copies.to).copied().unwrap_or(0);
            let lane = self.counts.copies.entry(copies.to.clone()).or_default();
            answer(lane, of(split.copied(&copies.to)), bad);
            let by = copies.of.as_ref().or(split.shares.keys().next());
            let by = by.expect("somebody answers");
            let bad = self.bad.get(by).copied().unwrap_or(0);
            let lane = self.counts.copied.entry(by.clone()).or_default();
            answer(lane, of(split.copied(&copies.to)), bad);
        }
    }

    fn answered(&self) -> BTreeMap<GateKey, GateAnswer> {
        due(&self.state)
            .into_iter()
            .filter_map(|call| {
                let answer = self.answers.get(&call.when).cloned();
                answer
                    .or(matches!(call.ask, Ask::Smoke).then_some(GateAnswer::Agrees))
                    .map(|answer| (call.key, answer))
            })
            .collect()
    }

    fn readings(&self) -> Vec<Reading> {
        let Some((old, new)) = self.heap else {
            return Vec::new();
        };
        let reading = |(service, split): (&ServiceName, &Split)| {
            let has = |lane: &str| {
                let group = format!("{service}@{lane}").parse().unwrap();
                split.share(&group) > Share::NONE
            };
            Reading {
                service: service.clone(),
                metric: "heap".to_owned(),
                old: (has("r1") || has("r1-baseline")).then_some(old),
                new: has("r2").then_some(new),
            }
        };
        self.splits().iter().map(reading).collect()
    }

    /// Looks, decides and acts once, hearing a word.
    pub(super) fn turn(&mut self, order: Option<Order>, stop: bool) {
        self.decide(order, stop);
        self.act();
    }

    /// Looks and decides once, hearing a word.
    pub(super) fn decide(&mut self, order: Option<Order>, stop: bool) {
        self.second();
        let words = order.map(|order| {
            self.words += 1;
            Word {
                number: self.words,
                order,
                release: ReleaseNumber(2),
                by: "ada".to_owned(),
                at: self.now,
            }
        });
        let observed = self.observed.clone();
        let counts = self.counts.clone();
        let unread = |why: &String| Unread {
            service: self.state.members[0].service().clone(),
            metric: "heap".to_owned(),
            why: why.clone(),
        };
        let seen = Seen {
            counts: (!self.uncounted).then_some(&counts),
            gates: self.answered(),
            readings: self.readings(),
            unread: self.unread.iter().map(unread).collect(),
            leaving: self.leaving.clone(),
            words: words.as_slice(),
            stop,
            out_of_time: self.out_of_time,
            ..Seen::only(&observed)
        };
        let (state, notes) = advance(&self.state, &seen, self.now);
        self.state = state;
        self.notes.extend(notes);
    }

    /// Says something to a rollout that has begun.
    pub(super) fn say(&mut self, order: Order) {
        if self.state.clock.looked.is_none() {
            self.turn(None, false);
        }
        self.turn(Some(order), false);
    }

    /// Goes on until the phase is as asked.
    pub(super) fn until(&mut self, mut there: impl FnMut(&Phase) -> bool) {
        for _ in 0..1_000 {
            if there(&self.state.phase) {
                return;
            }
            self.turn(None, false);
        }
        panic!("never there: {:?}\n{:?}", self.state.phase, self.notes);
    }

    pub(super) fn end(&mut self) -> Phase {
        self.until(Phase::is_over);
        self.state.phase.clone()
    }

    fn serves(&self, service: &str, group: &str) {
        let split = &self.splits()[service];
        assert_eq!(*split, Split::all(group.parse().unwrap()));
    }

    fn groups(&self) -> Vec<String> {
        let shown = |(group, seen): (&GroupId, &GroupSeen)| format!("{group}×{}", seen.replicas);
        self.observed.groups.iter().map(shown).collect()
    }
}

/// Counts so many more requests, of a thousand so many bad.
fn answer(lane: &mut Tally, requests: u64, bad: u64) {
    let before = lane.requests * bad / 1000;
    lane.requests += requests;
    lane.bad += lane.requests * bad / 1000 - before;
}

fn orders(strategy: Strategy) -> World {
    World::of(&policy(strategy), vec![member("orders", 2, 2)])
}

fn serving(stage: usize) -> impl FnMut(&Phase) -> bool {
    move |phase| *phase == Phase::Serving { stage }
}

fn why(phase: Phase) -> Why {
    match phase {
        Phase::RolledBack { why } => why,
        phase => panic!("not rolled back: {phase:?}"),
    }
}

#[track_caller]
fn promoted(world: &mut World) {
    assert_eq!(world.end(), Phase::Promoted, "{:?}", world.notes);
    assert_eq!(world.groups(), ["orders@r2×2"]);
    world.serves("orders", "orders@r2");
}

#[track_caller]
fn rolled_back(world: &mut World) -> Why {
    let why = why(world.end());
    assert_eq!(world.groups(), ["orders@r1×2"], "{why}");
    world.serves("orders", "orders@r1");
    why
}

#[test]
fn a_healthy_release_is_promoted_by_every_strategy() {
    for strategy in [Strategy::Canary, Strategy::BlueGreen, Strategy::Rolling] {
        promoted(&mut orders(strategy));
    }
}

#[test]
fn several_services_move_together() {
    let mut world = World::of(
        &policy(Strategy::Canary),
        vec![member("orders", 2, 2), member("web", 1, 1)],
    );
    world.until(serving(1));
    world.bad("web@r2", 300);
    let why = why(world.end());
    assert!(
        matches!(why, Why::Worse { ref group, .. } if group.to_string() == "web@r2"),
        "{why}"
    );
    assert_eq!(world.groups(), ["orders@r1×2", "web@r1×1"]);
}

#[test]
fn a_service_without_requests_is_judged_by_its_health_alone() {
    let worker = || MemberState {
        routed: false,
        ..member("worker", 2, 2)
    };
    for strategy in [Strategy::Canary, Strategy::BlueGreen, Strategy::Rolling] {
        let mut world = World::of(&policy(strategy), vec![worker()]);
        assert_eq!(world.end(), Phase::Promoted, "{strategy:?}");
        let mut world = World::of(&policy(strategy), vec![worker()]);
        world.until(|phase| matches!(phase, Phase::Serving { .. }));
        world.set("worker@r2", Health::Is(InstanceState::CrashLooping));
        why(world.end());
        assert_eq!(world.groups(), ["worker@r1×2"], "{strategy:?}");
    }
}

#[test]
fn what_the_target_refuses_goes_back() {
    let mut world = orders(Strategy::Canary);
    world.until(serving(0));
    let observed = world.observed.clone();
    let seen = Seen {
        refused: Some("cannot start orders@r2 on process".to_owned()),
        ..Seen::only(&observed)
    };
    let (state, _) = advance(&world.state, &seen, world.now);
    assert!(matches!(
        state.phase,
        Phase::GoingBack {
            why: Why::Refused { .. },
            ..
        }
    ));
}

#[test]
fn what_hinders_the_target_is_the_reason_where_nothing_came_to_be() {
    let mut world = orders(Strategy::Canary);
    world.until(|phase| matches!(phase, Phase::Starting { .. }));
    let mut observed = world.observed.clone();
    observed
        .groups
        .retain(|group, _| group.to_string() == "orders@r1");
    let said = "cannot pull image `orders:2`: connection refused";
    let mut state = world.state.clone();
    while matches!(state.phase, Phase::Starting { .. }) {
        world.now += 1000;
        let seen = Seen {
            hindered: Some(said.to_owned()),
            ..Seen::only(&observed)
        };
        state = advance(&state, &seen, world.now).0;
    }
    let Phase::GoingBack { why, .. } = state.phase else {
        panic!("{:?}", state.phase);
    };
    assert!(why.to_string().contains(said), "{why}");
}

#[test]
fn time_in_which_nobody_watched_is_no_time() {
    let mut world = orders(Strategy::Canary);
    world.until(serving(0));
    world.now += 3_600_000;
    world.turn(None, false);
    assert_eq!(world.state.phase, Phase::Serving { stage: 0 });
    assert!(world.state.clock.phase < 10_000);
}
