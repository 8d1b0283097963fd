//! Every transition as a table of values, in a world that does at once what it is told.

use std::collections::BTreeMap;

use platform_blueprint::{Analysis, Gate, GateWhen, Percent, Period, Rollout, Strategy, WhenQuiet};

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
    pub(super) notes: Vec<Note>,
    pub(super) words: u32,
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
                lanes: BTreeMap::new(),
            },
            now: 1_000,
            load: 400,
            bad: BTreeMap::new(),
            health: BTreeMap::new(),
            answers: std::collections::HashMap::new(),
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
        };
        let seen = GroupSeen {
            digest: Digest::of_value(&()),
            replicas,
            instances: (0..replicas).map(instance).collect(),
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
        for (group, share) in splits.values().flat_map(|split| &split.shares) {
            let requests = self.load * u64::from(share.get()) / 1000;
            let lane = self.counts.lanes.entry(group.clone()).or_default();
            let before = lane.requests * self.bad.get(group).copied().unwrap_or(0) / 1000;
            lane.requests += requests;
            let after = lane.requests * self.bad.get(group).copied().unwrap_or(0) / 1000;
            *lane = lane.plus(Tally {
                requests: 0,
                bad: after - before,
                slow: 0,
            });
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

    /// Looks, decides and acts once, hearing a word.
    pub(super) fn turn(&mut self, order: Option<Order>, stop: bool) {
        self.decide(order, stop);
        self.act();
    }

    /// Looks and decides once, hearing a word.
    pub(super) fn decide(&mut self, order: Option<Order>, stop: bool) {
        self.second();
        let word = order.map(|order| {
            self.words += 1;
            Word {
                id: self.words.to_string(),
                order,
                release: ReleaseNumber(2),
                by: "ada".to_owned(),
                at: self.now,
            }
        });
        let observed = self.observed.clone();
        let counts = self.counts.clone();
        let seen = Seen {
            counts: Some(&counts),
            gates: self.answered(),
            word,
            stop,
            ..Seen::only(&observed)
        };
        let (state, notes) = advance(&self.state, &seen, self.now);
        self.state = state;
        self.notes.extend(notes);
    }

    pub(super) fn say(&mut self, order: Order) {
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
fn nothing_to_count_holds_a_canary_and_nothing_else() {
    for strategy in [Strategy::BlueGreen, Strategy::Rolling] {
        let mut world = orders(strategy);
        world.load = 0;
        promoted(&mut world);
    }
    let mut world = orders(Strategy::Canary);
    world.load = 0;
    let why = rolled_back(&mut world);
    assert!(matches!(why, Why::TookTooLong { .. }), "{why}");
    let holds = |note: &Note| matches!(note, Note::Holding { verdict, .. } if verdict.starts_with("too quiet"));
    assert_eq!(world.notes.iter().filter(|note| holds(note)).count(), 1);
}

#[test]
fn a_quiet_step_goes_where_the_policy_says() {
    for (when_quiet, back) in [(WhenQuiet::Advance, false), (WhenQuiet::RollBack, true)] {
        let mut world = orders(Strategy::Canary);
        world.load = 0;
        world.state.policy.analysis.as_mut().unwrap().when_quiet = when_quiet;
        if back {
            let why = rolled_back(&mut world);
            assert!(matches!(why, Why::Undecided { .. }), "{why}");
        } else {
            promoted(&mut world);
        }
    }
}

#[test]
fn a_bad_release_goes_back_by_every_strategy() {
    for strategy in [Strategy::Canary, Strategy::BlueGreen, Strategy::Rolling] {
        let mut world = orders(strategy);
        world.bad("orders@r2", 200);
        let why = rolled_back(&mut world);
        assert!(matches!(why, Why::Worse { .. }), "{strategy:?}: {why}");
    }
}

#[test]
fn what_turns_bad_with_all_traffic_goes_back_too() {
    let mut world = orders(Strategy::Canary);
    world.until(serving(2));
    world.bad("orders@r2", 100);
    let why = rolled_back(&mut world);
    assert!(matches!(why, Why::Worse { .. }), "{why}");
}

#[test]
fn a_bake_goes_on_while_evidence_leans_towards_worse() {
    let mut world = orders(Strategy::BlueGreen);
    world.state.policy.bake = Period::from_secs(3);
    world.load = 20;
    world.bad("orders@r2", 100);
    let why = rolled_back(&mut world);
    assert!(matches!(why, Why::Worse { .. }), "{why}");
    assert!(world.state.members[0].comparison.verdict.is_some());
}

#[test]
fn what_is_bad_on_both_sides_is_not_the_releases_fault() {
    let mut world = orders(Strategy::Canary);
    for group in ["orders@r1", "orders@r1-baseline", "orders@r2"] {
        world.bad(group, 30);
    }
    promoted(&mut world);
}

#[test]
fn a_dry_run_only_reports() {
    let mut world = orders(Strategy::Canary);
    world.state.policy.analysis.as_mut().unwrap().dry_run = true;
    world.bad("orders@r2", 200);
    promoted(&mut world);
    assert!(
        world
            .notes
            .iter()
            .any(|note| matches!(note, Note::WouldGoBack { .. }))
    );
}

#[test]
fn without_analysis_only_time_and_guardrails_count() {
    let mut world = orders(Strategy::Canary);
    world.state.policy.analysis = None;
    world.bad("orders@r2", 200);
    promoted(&mut world);
}

#[test]
fn guardrails_go_back_at_once() {
    let table = [
        (
            Health::Is(InstanceState::CrashLooping),
            "ends again and again",
        ),
        (Health::Is(InstanceState::Failed), "was given up"),
        (Health::Is(InstanceState::Unready), "is ready no more"),
        (Health::OutOfMemory, "used more memory than its limit"),
        (Health::Restarted(1), "ended and was started again"),
        (Health::Restarted(3), "ended 3 times"),
    ];
    for (health, expected) in table {
        let mut world = orders(Strategy::Canary);
        world.until(serving(1));
        world.set("orders@r2", health);
        world.turn(None, false);
        let Phase::GoingBack {
            why: Why::Guardrail { what, .. },
            ..
        } = &world.state.phase
        else {
            panic!("{health:?}: {:?}", world.state.phase);
        };
        assert_eq!(what, expected);
        world.serves("orders", "orders@r1");
        rolled_back(&mut world);
    }
}

#[test]
fn restarts_that_are_allowed_or_were_there_before_do_not_count() {
    let mut world = orders(Strategy::Canary);
    world.state.policy.analysis.as_mut().unwrap().restarts = 2;
    world.until(serving(1));
    world.set("orders@r2", Health::Restarted(2));
    promoted(&mut world);

    let mut world = orders(Strategy::Canary);
    world.ensure(&"orders@r2".parse().unwrap(), 1);
    world.set("orders@r2", Health::Restarted(5));
    promoted(&mut world);
}

#[test]
fn readiness_that_both_sides_lose_is_not_the_releases_fault() {
    let mut world = orders(Strategy::Canary);
    world.until(serving(1));
    for group in ["orders@r1", "orders@r2"] {
        world.set(group, Health::Is(InstanceState::Unready));
    }
    world.turn(None, false);
    assert_eq!(world.state.phase, Phase::Serving { stage: 1 });
    for group in ["orders@r1", "orders@r2"] {
        world.set(group, Health::Ready);
    }
    promoted(&mut world);
}

#[test]
fn what_does_not_become_ready_goes_back_after_its_time() {
    let mut world = orders(Strategy::Rolling);
    world.set("orders@r2", Health::NeverReady);
    let why = rolled_back(&mut world);
    assert_eq!(
        why.to_string(),
        "0 of 1 instances of orders@r2 were ready within 26 s: 503 from /health/ready"
    );
}

fn gated(strategy: Strategy, when: GateWhen) -> World {
    let mut world = orders(strategy);
    world.state.policy.gates = vec![Gate {
        when,
        name: Some("nod".to_owned()),
        command: Some(vec!["true".to_owned()]),
        webhook: None,
        timeout: Period::from_secs(5),
    }];
    world
}

#[test]
fn each_gate_holds_until_it_agrees() {
    let table = [
        (Strategy::Canary, GateWhen::BeforeStart, Phase::BeforeStart),
        (
            Strategy::Canary,
            GateWhen::PerStep,
            Phase::Starting { stage: 0 },
        ),
        (
            Strategy::Canary,
            GateWhen::BeforePromote,
            Phase::Starting { stage: 2 },
        ),
        (
            Strategy::BlueGreen,
            GateWhen::BeforePromote,
            Phase::Starting { stage: 0 },
        ),
        (
            Strategy::Rolling,
            GateWhen::PerStep,
            Phase::Starting { stage: 0 },
        ),
    ];
    for (strategy, when, held) in table {
        let mut world = gated(strategy, when);
        for _ in 0..120 {
            world.turn(None, false);
        }
        assert_eq!(world.state.phase, held, "{when:?}");
        world.answers.insert(when, GateAnswer::Agrees);
        promoted(&mut world);
    }
}

#[test]
fn a_gate_that_refuses_goes_back() {
    for when in [
        GateWhen::BeforeStart,
        GateWhen::PerStep,
        GateWhen::BeforePromote,
    ] {
        let mut world = gated(Strategy::Canary, when);
        world
            .answers
            .insert(when, GateAnswer::Refuses("no".to_owned()));
        let why = rolled_back(&mut world);
        assert_eq!(why.to_string(), "gate `nod` does not agree: no", "{when:?}");
    }
}

#[test]
fn a_gate_after_the_way_back_is_told_and_changes_nothing() {
    let mut world = gated(Strategy::Canary, GateWhen::AfterRollback);
    world.bad("orders@r2", 500);
    world.until(|phase| matches!(phase, Phase::AfterBack { .. }));
    world.answers.insert(
        GateWhen::AfterRollback,
        GateAnswer::Refuses("no".to_owned()),
    );
    assert!(matches!(rolled_back(&mut world), Why::Worse { .. }));
}

#[test]
fn going_back_works_while_a_gate_or_a_pause_waits() {
    for (when, stage) in [(GateWhen::PerStep, 0), (GateWhen::BeforePromote, 2)] {
        let mut world = gated(Strategy::Canary, when);
        world.until(|phase| *phase == Phase::Starting { stage });
        world.turn(None, false);
        world.turn(None, false);
        world.set("orders@r2", Health::OutOfMemory);
        assert!(matches!(rolled_back(&mut world), Why::Guardrail { .. }));
    }
    let mut world = orders(Strategy::Canary);
    world.until(serving(0));
    world.say(Order::Pause);
    world.bad("orders@r2", 300);
    assert!(matches!(rolled_back(&mut world), Why::Worse { .. }));
}

#[test]
fn the_preview_reaches_the_new_release_before_traffic_does() {
    let mut world = gated(Strategy::BlueGreen, GateWhen::BeforePromote);
    for _ in 0..5 {
        world.turn(None, false);
    }
    let split = &world.splits()["orders"];
    assert_eq!(split.preview, Some("orders@r2".parse().unwrap()));
    assert_eq!(split.share(&"orders@r1".parse().unwrap()), Share::FULL);
}

#[test]
fn without_a_check_of_its_own_blue_green_smokes() {
    let mut world = orders(Strategy::BlueGreen);
    world.until(|phase| *phase == Phase::Starting { stage: 0 });
    world.turn(None, false);
    let asks: Vec<Ask> = due(&world.state).into_iter().map(|call| call.ask).collect();
    assert_eq!(asks, [Ask::Smoke]);
    promoted(&mut world);
}

#[test]
fn a_pause_stops_the_way_forward_until_it_is_lifted() {
    let mut world = orders(Strategy::Canary);
    world.until(serving(0));
    world.say(Order::Pause);
    for _ in 0..100 {
        world.turn(None, false);
    }
    assert_eq!(world.state.phase, Phase::Serving { stage: 0 });
    world.say(Order::Resume);
    promoted(&mut world);
}

#[test]
fn an_operator_promotes_without_waiting() {
    for strategy in [Strategy::Canary, Strategy::BlueGreen, Strategy::Rolling] {
        let mut world = orders(strategy);
        world.load = 0;
        world.until(|phase| matches!(phase, Phase::Serving { .. }));
        world.say(Order::Promote);
        let began = world.now;
        promoted(&mut world);
        assert!(world.now - began < 10_000, "{strategy:?}");
    }
}

#[test]
fn promoted_before_anything_is_up_traffic_waits_for_what_has_been_seen_ready() {
    for strategy in [Strategy::Canary, Strategy::BlueGreen, Strategy::Rolling] {
        let mut world = orders(strategy);
        for group in ["orders@r1", "orders@r2"] {
            world.set(group, Health::NeverReady);
        }
        world.say(Order::Promote);
        for _ in 0..10 {
            world.turn(None, false);
            world.serves("orders", "orders@r1");
        }
        world.set("orders@r2", Health::Ready);
        promoted(&mut world);
    }
}

#[test]
fn an_operator_sends_it_to_the_next_step() {
    let mut world = orders(Strategy::Canary);
    world.load = 0;
    world.until(serving(0));
    world.say(Order::Next);
    assert_eq!(world.state.phase, Phase::Starting { stage: 1 });
}

#[test]
fn an_operator_goes_back_from_every_phase() {
    let everywhere: [fn(&Phase) -> bool; 7] = [
        |phase| *phase == Phase::BeforeStart,
        |phase| *phase == Phase::Starting { stage: 0 },
        |phase| *phase == Phase::Serving { stage: 0 },
        |phase| *phase == Phase::Starting { stage: 1 },
        |phase| *phase == Phase::Serving { stage: 1 },
        |phase| matches!(phase, Phase::Serving { stage } if *stage > 1),
        |phase| *phase == Phase::Retiring,
    ];
    for (index, there) in everywhere.into_iter().enumerate() {
        let mut world = orders(Strategy::Canary);
        world.until(there);
        world.say(Order::Abort);
        let why = rolled_back(&mut world);
        assert_eq!(
            why,
            Why::Operator {
                by: "ada".to_owned()
            },
            "{index}"
        );
    }
}

#[test]
fn trouble_while_the_old_release_is_retired_goes_forward() {
    let mut world = orders(Strategy::Rolling);
    world.until(|phase| *phase == Phase::Retiring);
    world.set("orders@r2", Health::Restarted(1));
    promoted(&mut world);
}

#[test]
fn told_to_go_back_while_retiring_it_starts_the_old_release_first() {
    let mut world = orders(Strategy::Canary);
    world.until(|phase| *phase == Phase::Retiring);
    assert_eq!(world.groups(), ["orders@r2×2"]);
    world.set("orders@r1", Health::NeverReady);
    world.say(Order::Abort);
    world.turn(None, false);
    world.serves("orders", "orders@r2");
    world.set("orders@r1", Health::Ready);
    rolled_back(&mut world);
}

#[test]
fn an_old_release_that_does_not_come_back_leaves_traffic_where_it_is() {
    let mut world = orders(Strategy::Canary);
    world.until(|phase| *phase == Phase::Retiring);
    world.set("orders@r1", Health::NeverReady);
    world.say(Order::Abort);
    assert!(matches!(world.end(), Phase::Stuck { .. }));
    world.serves("orders", "orders@r2");
    world.state = world.state.clone().taken_up();
    world.set("orders@r1", Health::Ready);
    rolled_back(&mut world);
}

#[test]
fn a_stop_puts_traffic_back_and_the_next_run_goes_on() {
    let mut world = orders(Strategy::Canary);
    world.until(serving(1));
    world.turn(None, true);
    assert!(matches!(
        world.state.phase,
        Phase::Interrupted { stage: 1, .. }
    ));
    world.serves("orders", "orders@r1");
    world.state = world.state.clone().taken_up();
    assert_eq!(world.state.phase, Phase::Starting { stage: 1 });
    promoted(&mut world);
}

#[test]
fn a_word_is_heard_once_and_only_for_its_release() {
    let mut world = orders(Strategy::Canary);
    world.until(serving(0));
    let observed = world.observed.clone();
    let from_ada = |id: &str, release: u32| Word {
        id: id.to_owned(),
        order: Order::Abort,
        release: ReleaseNumber(release),
        by: "ada".to_owned(),
        at: 0,
    };
    let hear = |state: &State, word: Word| {
        let seen = Seen {
            word: Some(word),
            ..Seen::only(&observed)
        };
        advance(state, &seen, world.now).0
    };
    assert_eq!(
        hear(&world.state, from_ada("a", 3)).phase,
        Phase::Serving { stage: 0 }
    );
    let back = hear(&world.state, from_ada("a", 2));
    assert!(matches!(back.phase, Phase::GoingBack { .. }));
    let heard = State {
        heard: Some("a".to_owned()),
        ..world.state.clone()
    };
    assert_eq!(
        hear(&heard, from_ada("a", 2)).phase,
        Phase::Serving { stage: 0 }
    );
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
fn time_in_which_nobody_watched_is_no_time() {
    let mut world = orders(Strategy::Canary);
    world.until(serving(0));
    world.now += 3_600_000;
    world.turn(None, false);
    assert_eq!(world.state.phase, Phase::Serving { stage: 0 });
    assert!(world.state.clock.phase < 10_000);
}
