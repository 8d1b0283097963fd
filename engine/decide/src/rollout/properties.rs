//! What holds in every rollout, whatever happens in whatever order.

use std::collections::BTreeSet;

use platform_blueprint::{
    Amount, Gate, GateWhen, Percent, Period, Rollout, Strategy as Way, WhenQuiet,
};
use proptest::prelude::*;

use super::tests::{Health, World, member, policy};
use super::*;
use crate::group::GroupId;
use crate::observed::{GroupSeen, InstanceState, Observed};
use crate::traffic::Share;

/// Something that happens.
#[derive(Debug, Clone)]
enum Happening {
    /// So many seconds pass.
    Seconds(u8),
    Health(u8, u8),
    Bad(u8, u64),
    Load(u64),
    Says(Order),
    /// The gateway starts anew.
    GatewayAnew,
    GateAnswers(bool),
    /// The run is killed after so many moves; the next one takes the rollout up.
    Killed(u8),
    /// The run is told to stop, and the next one takes the rollout up.
    Stopped,
}

fn happening() -> impl Strategy<Value = Happening> {
    let orders = prop_oneof![
        Just(Order::Pause),
        Just(Order::Resume),
        Just(Order::Next),
        Just(Order::Promote),
        Just(Order::Abort),
    ];
    prop_oneof![
        6 => (1_u8..20).prop_map(Happening::Seconds),
        2 => (0_u8..6, 0_u8..7).prop_map(|(group, health)| Happening::Health(group, health)),
        2 => (0_u8..6, prop_oneof![Just(0_u64), Just(5), Just(50), Just(300)])
            .prop_map(|(group, bad)| Happening::Bad(group, bad)),
        1 => prop_oneof![Just(0_u64), Just(3), Just(400)].prop_map(Happening::Load),
        1 => orders.prop_map(Happening::Says),
        1 => Just(Happening::GatewayAnew),
        1 => any::<bool>().prop_map(Happening::GateAnswers),
        2 => (0_u8..4).prop_map(Happening::Killed),
        1 => Just(Happening::Stopped),
    ]
}

fn any_policy() -> impl Strategy<Value = Rollout> {
    let way = prop_oneof![Just(Way::Canary), Just(Way::BlueGreen), Just(Way::Rolling)];
    let quiet = prop_oneof![
        Just(WhenQuiet::Hold),
        Just(WhenQuiet::Advance),
        Just(WhenQuiet::RollBack)
    ];
    let mirror = prop_oneof![Just(0_u8), Just(20), Just(70)];
    (
        way,
        quiet,
        (any::<bool>(), mirror),
        any::<bool>(),
        0_u32..3,
        0_u32..3,
    )
        .prop_map(
            |(way, quiet, (baseline, mirror), gated, surge, unavailable)| {
                let mut policy = Rollout {
                    baseline,
                    mirror: Percent::whole(mirror),
                    at_most: Period::from_secs(120),
                    surge: Amount::Count(surge),
                    unavailable: Amount::Count(unavailable),
                    ..policy(way)
                };
                policy.analysis.as_mut().unwrap().when_quiet = quiet;
                if gated {
                    policy.gates = vec![Gate {
                        when: GateWhen::PerStep,
                        name: None,
                        command: Some(vec!["true".to_owned()]),
                        webhook: None,
                        headers: std::collections::BTreeMap::new(),
                        timeout: Period::from_secs(5),
                    }];
                }
                policy
            },
        )
}

fn any_members() -> impl Strategy<Value = Vec<MemberState>> {
    let one = |name: &'static str| {
        (1_u32..5, 1_u32..5, prop::bool::weighted(0.8)).prop_map(move |(from, to, routed)| {
            MemberState {
                routed,
                ..member(name, from, to)
            }
        })
    };
    prop_oneof![
        one("orders").prop_map(|member| vec![member]),
        (one("orders"), one("web")).prop_map(|(orders, web)| vec![orders, web]),
    ]
}

/// A world whose every look is checked.
struct Watched {
    world: World,
    ever_ready: BTreeSet<GroupId>,
    saved: State,
}

const GROUPS: [&str; 6] = [
    "orders@r1",
    "orders@r1-baseline",
    "orders@r2",
    "web@r1",
    "web@r1-baseline",
    "web@r2",
];

const HEALTHS: [Health; 7] = [
    Health::Ready,
    Health::NeverReady,
    Health::Is(InstanceState::Unready),
    Health::Is(InstanceState::CrashLooping),
    Health::Is(InstanceState::Restarting),
    Health::OutOfMemory,
    Health::Restarted(1),
];

fn ready(observed: &Observed, group: &GroupId) -> bool {
    observed
        .groups
        .get(group)
        .is_some_and(|seen| seen.count(InstanceState::Ready) > 0)
}

impl Watched {
    fn of(policy: &Rollout, members: Vec<MemberState>) -> Self {
        let world = World::of(policy, members);
        Self {
            ever_ready: world.observed.groups.keys().cloned().collect(),
            saved: world.state.clone(),
            world,
        }
    }

    /// One look, of which at most so many moves are carried out.
    fn look(&mut self, order: Option<Order>, stop: bool, moves_at_most: usize) {
        let before = self.world.observed.clone();
        let ready_now = before.groups.keys().filter(|group| ready(&before, group));
        self.ever_ready.extend(ready_now.cloned());
        self.world.decide(order, stop);
        // The state is saved before it is acted upon.
        self.saved = through_json(&self.world.state);
        self.check_arrangement();
        self.check_way_back(&before);
        for one in moves(&self.world.state, &before)
            .into_iter()
            .take(moves_at_most)
        {
            self.check_move(&one, &before);
            self.world.make(one);
        }
    }

    fn check_arrangement(&self) {
        let arranged = arrangement(&self.world.state);
        for (service, split) in &arranged.splits {
            let whole: u32 = split
                .shares
                .values()
                .map(|share| u32::from(share.get()))
                .sum();
            assert_eq!(whole, 1000, "{service}: {split:?}");
            for group in split.shares.keys() {
                assert!(
                    arranged.groups.contains_key(group),
                    "{group} has traffic and no instances"
                );
                assert_eq!(group.service, *service);
            }
            if let Some(copies) = &split.copies {
                assert_eq!(split.share(&copies.to), Share::NONE, "{split:?}");
                for group in copies.of.iter().chain([&copies.to]) {
                    assert!(arranged.groups.contains_key(group), "{group} is not there");
                }
            }
        }
        assert_eq!(arrangement(&self.saved), arranged);
    }

    /// Once the new release is found worse, the old one gets everything, if it can take it.
    fn check_way_back(&self, seen: &Observed) {
        let Phase::GoingBack {
            why: Why::Worse { .. } | Why::Guardrail { .. },
            ..
        } = self.world.state.phase
        else {
            return;
        };
        let arranged = arrangement(&self.world.state);
        for member in self
            .world
            .state
            .members
            .iter()
            .filter(|member| member.routed)
        {
            let whole = Seen::only(seen).ready(&member.from) >= member.from_replicas;
            let alone = !ready(seen, &member.to);
            let able = whole || alone || !member.old_is_short;
            if ready(seen, &member.from) && able {
                let split = &arranged.splits[member.service()];
                assert_eq!(split.share(&member.from), Share::FULL);
            }
        }
    }

    fn check_move(&self, one: &Move, before: &Observed) {
        match one {
            Move::Route { splits } => {
                for (service, split) in splits {
                    let now = &self.world.splits()[service];
                    if now == split {
                        continue;
                    }
                    let stands = |split: &crate::traffic::Split| {
                        split.shares.keys().all(|group| ready(before, group))
                    };
                    assert!(
                        stands(split) || !stands(now),
                        "traffic leaves what is ready: {split:?}"
                    );
                    for group in split.shares.keys() {
                        assert!(
                            self.ever_ready.contains(group),
                            "{group} was never seen ready"
                        );
                    }
                }
            }
            Move::Remove { group } => {
                let traffic = self
                    .world
                    .splits()
                    .get(&group.service)
                    .map(|split| split.share(group));
                assert!(
                    traffic.is_none_or(|share| share == Share::NONE),
                    "{group} goes with its traffic"
                );
            }
            Move::Ensure { replicas, .. } => assert!(*replicas > 0),
        }
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Seconds(seconds) => {
                for _ in 0..*seconds {
                    self.look(None, false, usize::MAX);
                }
            }
            Happening::Health(group, health) => self
                .world
                .set(GROUPS[usize::from(*group)], HEALTHS[usize::from(*health)]),
            Happening::Bad(group, bad) => self.world.bad(GROUPS[usize::from(*group)], *bad),
            Happening::Load(load) => self.world.load = *load,
            Happening::Says(order) => self.look(Some(*order), false, usize::MAX),
            Happening::GatewayAnew => {
                self.world.counts.epoch.push('+');
                self.world.counts.lanes.clear();
                self.world.counts.copies.clear();
                self.world.counts.copied.clear();
            }
            Happening::GateAnswers(agrees) => {
                let answer = if *agrees {
                    GateAnswer::Agrees
                } else {
                    GateAnswer::Refuses("no".to_owned())
                };
                self.world.answers.insert(GateWhen::PerStep, answer);
            }
            Happening::Killed(moves) => {
                self.look(None, false, usize::from(*moves));
                self.world.state = self.saved.clone().taken_up();
            }
            Happening::Stopped => {
                self.look(None, true, usize::MAX);
                self.world.state = self.saved.clone().taken_up();
            }
        }
    }
}

fn through_json(state: &State) -> State {
    serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_ends_and_is_safe_on_the_way(
        policy in any_policy(),
        members in any_members(),
        happenings in prop::collection::vec(happening(), 0..30),
    ) {
        let mut watched = Watched::of(&policy, members);
        for happening in &happenings {
            watched.happen(happening);
        }
        watched.world.answers.entry(GateWhen::PerStep).or_insert(GateAnswer::Agrees);
        let mut looks = 0;
        while !watched.world.state.phase.is_over() {
            // What waits for somebody to decide has somebody.
            let state = &watched.world.state;
            let order = match (&state.paused, state.holds) {
                (Some(_), _) => Some(Order::Resume),
                (None, true) => Some(Order::Next),
                (None, false) => None,
            };
            watched.look(order, false, usize::MAX);
            looks += 1;
            prop_assert!(looks < 1_500, "no end: {:?}", watched.world.state.phase);
        }
        // Everything that the end asks for is so after one more round.
        watched.look(None, false, usize::MAX);
        let left = moves(&watched.world.state, &watched.world.observed);
        let stuck = matches!(watched.world.state.phase, Phase::Stuck { .. });
        prop_assert!(left.is_empty() || stuck, "{:?}: {left:?}", watched.world.state.phase);
    }

    #[test]
    fn a_rolling_update_keeps_to_surge_and_missing_at_every_move(
        (from, to) in (1_u32..9, 1_u32..9),
        (surge, unavailable) in (0_u32..4, 0_u32..4),
        hold in prop_oneof![Just(0_u64), Just(5)],
    ) {
        let policy = Rollout {
            surge: Amount::Count(surge),
            unavailable: Amount::Count(unavailable),
            hold: Period::from_secs(hold),
            ..policy(Way::Rolling)
        };
        let mut world = World::of(&policy, vec![member("orders", from, to)]);
        // One old instance stays until a new one is ready, and something has to move.
        let missing = unavailable.min(from - 1);
        let surge = if surge + missing == 0 { 1 } else { surge };
        while !world.state.phase.is_over() {
            world.decide(None, false);
            // What starts now is not ready before the next look.
            let ready = world.observed.groups.clone();
            for one in moves(&world.state, &world.observed) {
                let said = format!("{one:?} {:?}", world.state.phase);
                world.make(one);
                let groups = &world.observed.groups;
                let told: u32 = groups.values().map(|seen| seen.replicas).sum();
                prop_assert!(told <= from.max(to) + surge, "{told}: {said}");
                let serves = |(group, seen): (&GroupId, &GroupSeen)| {
                    ready.get(group).map_or(0, |before| before.replicas.min(seen.replicas))
                };
                let available: u32 = groups.iter().map(serves).sum();
                prop_assert!(available + missing >= from.min(to), "{available}: {said}");
            }
        }
        prop_assert_eq!(&world.state.phase, &Phase::Promoted);
    }

    #[test]
    fn a_rollout_read_back_from_its_document_goes_on_the_same_way(
        policy in any_policy(),
        members in any_members(),
        happenings in prop::collection::vec(happening(), 0..20),
    ) {
        let mut kept = Watched::of(&policy, members.clone());
        let mut reread = Watched::of(&policy, members);
        for happening in &happenings {
            kept.happen(happening);
            reread.happen(happening);
            reread.world.state = through_json(&reread.world.state);
            prop_assert_eq!(&kept.world.state.phase, &reread.world.state.phase);
            prop_assert_eq!(&kept.world.observed, &reread.world.observed);
        }
    }
}
