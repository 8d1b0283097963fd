//! Gates and the preview.

use super::*;
use crate::observed::InstanceState;

fn gated(strategy: Strategy, when: GateWhen) -> World {
    let mut world = orders(strategy);
    world.state.policy.gates = vec![Gate {
        when,
        name: Some("nod".to_owned()),
        command: Some(vec!["true".to_owned()]),
        webhook: None,
        headers: BTreeMap::new(),
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
        (
            Strategy::BlueGreen,
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
fn a_gate_per_step_is_asked_before_the_last_step_too() {
    let mut world = gated(Strategy::Canary, GateWhen::PerStep);
    let mut asked = std::collections::BTreeSet::new();
    world.answers.insert(GateWhen::PerStep, GateAnswer::Agrees);
    while !world.state.phase.is_over() {
        asked.extend(due(&world.state).into_iter().map(|call| call.key.0));
        world.turn(None, false);
    }
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    assert_eq!(asked, ["per-step/0/0", "per-step/1/0", "per-step/2/0"]);
    promoted(&mut world);
}

#[test]
fn the_gates_of_the_last_step_are_asked_before_those_of_promotion() {
    let mut world = gated(Strategy::BlueGreen, GateWhen::PerStep);
    for when in [GateWhen::BeforePromote, GateWhen::PerStep] {
        let mut gate = world.state.policy.gates[0].clone();
        gate.when = when;
        world.state.policy.gates.push(gate);
    }
    let mut asked: Vec<Vec<&str>> = Vec::new();
    while !world.state.phase.is_over() {
        let due = due(&world.state).into_iter();
        let moments: Vec<&str> = due.map(|call| call.when.as_str()).collect();
        if !moments.is_empty() {
            asked.push(moments);
        }
        for when in [GateWhen::PerStep, GateWhen::BeforePromote] {
            world.answers.insert(when, GateAnswer::Agrees);
        }
        world.turn(None, false);
    }
    assert_eq!(
        asked,
        [vec!["per-step", "per-step"], vec!["before-promote"]]
    );
    promoted(&mut world);
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
fn before_the_start_nothing_is_touched_whatever_comes_of_it() {
    let refuses = |world: &mut World| {
        let no = GateAnswer::Refuses("no".to_owned());
        world.answers.insert(GateWhen::BeforeStart, no);
    };
    let aborted = |world: &mut World| world.say(Order::Abort);
    for happens in [&refuses as &dyn Fn(&mut World), &aborted] {
        for strategy in [Strategy::Canary, Strategy::BlueGreen, Strategy::Rolling] {
            let mut world = gated(strategy, GateWhen::BeforeStart);
            world.turn(None, false);
            happens(&mut world);
            while !world.state.phase.is_over() {
                assert_eq!(world.groups(), ["orders@r1×2"], "{strategy:?}");
                world.turn(None, false);
            }
            rolled_back(&mut world);
        }
    }
}

#[test]
fn who_asks_for_the_next_step_before_the_start_is_told_what_is_waited_for() {
    let answered = |mut world: World| {
        world.say(Order::Next);
        let note = world.notes.last().expect("an answer");
        note.to_string()
    };
    assert_eq!(
        answered(gated(Strategy::Canary, GateWhen::BeforeStart)),
        "`next` means nothing now: a gate is waited for before anything starts"
    );
    let mut up = orders(Strategy::Canary);
    up.set("orders@r2", Health::NeverReady);
    up.until(|phase| matches!(phase, Phase::Starting { .. }));
    assert_eq!(
        answered(up),
        "`next` means nothing now: instances are still coming up"
    );
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
    // What serves is judged on, whatever the next stage waits for.
    let mut world = gated(Strategy::Canary, GateWhen::BeforePromote);
    world.until(|phase| *phase == Phase::Starting { stage: 2 });
    world.bad("orders@r2", 300);
    assert!(matches!(rolled_back(&mut world), Why::Worse { .. }));
    let mut world = gated(Strategy::Canary, GateWhen::BeforePromote);
    world.until(|phase| *phase == Phase::Starting { stage: 2 });
    world.turn(None, false);
    world.turn(None, false);
    world.set("orders@r2", Health::Is(InstanceState::Unready));
    assert!(matches!(rolled_back(&mut world), Why::Guardrail { .. }));
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
fn a_gate_is_asked_once_the_preview_leads_to_what_is_up() {
    for strategy in [Strategy::Canary, Strategy::BlueGreen, Strategy::Rolling] {
        for when in [GateWhen::PerStep, GateWhen::BeforePromote] {
            let mut world = gated(strategy, when);
            world.answers.insert(when, GateAnswer::Agrees);
            let new: GroupId = "orders@r2".parse().unwrap();
            let mut asked = 0;
            while !world.state.phase.is_over() {
                // Asked before the moves of the look, so what counts is what the look saw.
                world.decide(None, false);
                if !due(&world.state).is_empty() {
                    asked += 1;
                    let wanted = arrangement(&world.state).groups[&new];
                    assert_eq!(world.observed.groups[&new].replicas, wanted, "{strategy:?}");
                    let preview = &world.splits()["orders"].preview;
                    assert_eq!(*preview, Some(new.clone()), "{strategy:?} {when:?}");
                }
                world.act();
            }
            assert!(asked > 0, "{strategy:?} {when:?}");
            promoted(&mut world);
        }
    }
}

#[test]
fn without_a_check_of_its_own_blue_green_smokes() {
    let mut world = orders(Strategy::BlueGreen);
    world.until(|phase| *phase == Phase::Starting { stage: 0 });
    world.turn(None, false);
    world.turn(None, false);
    let asks: Vec<Ask> = due(&world.state).into_iter().map(|call| call.ask).collect();
    assert_eq!(asks, [Ask::Smoke]);
    promoted(&mut world);
}

#[test]
fn what_comes_next_may_be_made_ready_unless_a_gate_comes_first() {
    let check = |mut world: World, phase: Phase, expected: Option<u32>| {
        world.state.phase = phase;
        let ahead = ahead(&world.state);
        assert_eq!(ahead.values().copied().next(), expected, "{ahead:?}");
    };
    let rolling = || orders(Strategy::Rolling);
    check(rolling(), Phase::BeforeStart, Some(1));
    check(rolling(), Phase::Starting { stage: 0 }, Some(2));
    check(rolling(), Phase::Starting { stage: 9 }, None);
    check(rolling(), Phase::Serving { stage: 0 }, None);
    let gate = gated(Strategy::Rolling, GateWhen::BeforeStart);
    check(gate, Phase::BeforeStart, None);
    let gate = gated(Strategy::Rolling, GateWhen::PerStep);
    check(gate, Phase::BeforeStart, Some(1));
    // A step of a canary may be long.
    check(orders(Strategy::Canary), Phase::BeforeStart, Some(1));
    check(orders(Strategy::Canary), Phase::Starting { stage: 0 }, None);
}
