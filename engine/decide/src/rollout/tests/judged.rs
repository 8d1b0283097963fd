//! What is seen of a new release, and what becomes of it.

use super::*;

#[test]
fn nothing_to_count_holds_a_canary_and_nothing_else() {
    for strategy in [Strategy::BlueGreen, Strategy::Rolling] {
        let mut world = orders(strategy);
        world.load = 0;
        promoted(&mut world);
    }
    let mut world = orders(Strategy::Canary);
    world.load = 0;
    // For far longer than the whole may take: it stays until somebody decides.
    for _ in 0..3_000 {
        world.turn(None, false);
    }
    assert_eq!(world.state.phase, Phase::Serving { stage: 0 });
    let holds = |note: &Note| matches!(note, Note::Holding { verdict, .. } if verdict.starts_with("too quiet"));
    assert_eq!(world.notes.iter().filter(|note| holds(note)).count(), 1);
    world.load = 400;
    promoted(&mut world);
}

#[test]
fn counts_that_cannot_be_read_hold_what_is_to_be_judged_and_not_for_ever() {
    for strategy in [Strategy::Canary, Strategy::BlueGreen, Strategy::Rolling] {
        let mut world = orders(strategy);
        world.uncounted = true;
        world.until(serving(0));
        for _ in 0..60 {
            world.turn(None, false);
        }
        assert_eq!(
            world.state.phase,
            Phase::Serving { stage: 0 },
            "{strategy:?}"
        );
        let mut seen = world.clone();
        seen.uncounted = false;
        promoted(&mut seen);
        let why = rolled_back(&mut world);
        assert_eq!(
            why.to_string(),
            "it took longer than 10m: the gateway's counts could not be read"
        );
    }
}

#[test]
fn counts_that_cannot_be_read_hold_nothing_that_is_not_judged() {
    for strategy in [Strategy::Canary, Strategy::BlueGreen, Strategy::Rolling] {
        let mut world = orders(strategy);
        world.uncounted = true;
        world.state.policy.analysis = None;
        promoted(&mut world);
    }
    let mut world = orders(Strategy::Rolling);
    world.uncounted = true;
    world.state.policy.hold = Period::from_secs(0);
    promoted(&mut world);
}

#[test]
fn what_turns_bad_before_counts_are_lost_goes_back_when_they_are_found() {
    let mut world = orders(Strategy::Canary);
    world.until(serving(0));
    world.uncounted = true;
    world.bad("orders@r2", 300);
    for _ in 0..30 {
        world.turn(None, false);
    }
    assert_eq!(world.state.phase, Phase::Serving { stage: 0 });
    world.uncounted = false;
    let why = rolled_back(&mut world);
    assert!(matches!(why, Why::Worse { .. }), "{why}");
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
fn a_step_without_any_traffic_says_so_early_and_once() {
    let quiet = |world: &World| {
        let told = world.notes.iter();
        let told = told.filter(|note| matches!(note, Note::Quiet { .. }));
        told.map(ToString::to_string).collect::<Vec<_>>()
    };
    for (when_quiet, next) in [
        (WhenQuiet::Hold, "it stays"),
        (WhenQuiet::Advance, "it goes on"),
        (WhenQuiet::RollBack, "it goes back"),
    ] {
        let mut world = orders(Strategy::Canary);
        world.load = 0;
        world.state.policy.analysis.as_mut().unwrap().when_quiet = when_quiet;
        world.until(serving(0));
        for _ in 0..15 {
            world.turn(None, false);
        }
        assert_eq!(world.state.phase, Phase::Serving { stage: 0 });
        assert_eq!(quiet(&world).len(), 1, "{:?}", world.notes);
        for _ in 0..2_000 {
            world.turn(None, false);
        }
        let told = quiet(&world);
        assert_eq!(told.len(), 1, "{told:?}");
        for said in ["no request in 10 s", next, "`platform rollout next`"] {
            assert!(told[0].contains(said), "`{said}` in {told:?}");
        }
    }
    let mut world = orders(Strategy::Canary);
    promoted(&mut world);
    assert_eq!(quiet(&world), [""; 0]);
}

#[test]
fn what_has_not_ended_in_the_time_of_its_run_goes_back_paused_or_not() {
    for pause in [None, Some(Order::Pause)] {
        let mut world = orders(Strategy::Canary);
        world.load = 0;
        world.until(serving(0));
        world.turn(pause, false);
        assert_eq!(world.state.paused.is_some(), pause.is_some());
        world.out_of_time = Some(30_000);
        let why = rolled_back(&mut world);
        assert!(
            matches!(why, Why::OutOfTime { within: 30_000, .. }),
            "{why}"
        );
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
    world.load = 60;
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
fn while_a_batch_is_watched_the_old_instances_are_there_to_take_over() {
    let mut world = World::of(&policy(Strategy::Rolling), vec![member("orders", 1, 1)]);
    world.until(serving(0));
    world.turn(None, false);
    world.serves("orders", "orders@r2");
    assert_eq!(world.groups(), ["orders@r1×1", "orders@r2×1"]);
    world.set("orders@r2", Health::Is(InstanceState::CrashLooping));
    world.turn(None, false);
    world.serves("orders", "orders@r1");
    assert!(matches!(why(world.end()), Why::Guardrail { .. }));
    world.act();
    assert_eq!(world.groups(), ["orders@r1×1"]);
}

#[test]
fn where_nobody_is_to_watch_the_old_instances_go_with_the_requests() {
    let mut world = World::of(&policy(Strategy::Rolling), vec![member("orders", 1, 1)]);
    world.state.policy.hold = Period::from_secs(0);
    world.until(serving(0));
    world.turn(None, false);
    assert_eq!(world.groups(), ["orders@r2×1"]);
    assert_eq!(world.end(), Phase::Promoted);
}

#[test]
fn of_what_no_request_reaches_the_old_instances_end_when_new_ones_run() {
    let worker = MemberState {
        routed: false,
        ..member("orders", 1, 1)
    };
    let mut world = World::of(&policy(Strategy::Rolling), vec![worker]);
    world.until(serving(0));
    world.turn(None, false);
    assert_eq!(world.groups(), ["orders@r2×1"]);
    assert_eq!(world.end(), Phase::Promoted);
}

#[test]
fn what_does_not_become_ready_goes_back_after_its_time() {
    let mut world = orders(Strategy::Rolling);
    world.set("orders@r2", Health::NeverReady);
    let why = rolled_back(&mut world);
    assert_eq!(
        why.to_string(),
        "0 of 1 instances of orders@r2 were ready within 20s and 6s more that the target had to notice: 503 from /health/ready"
    );
}
