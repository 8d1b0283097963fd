//! What operators say, and stops.

use super::*;

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
fn a_pause_is_no_part_of_the_time_that_it_may_take() {
    let mut world = orders(Strategy::Canary);
    world.until(serving(0));
    world.say(Order::Pause);
    for _ in 0..3_000 {
        world.turn(None, false);
    }
    assert_eq!(world.state.phase, Phase::Serving { stage: 0 });
    // What goes wrong meanwhile still goes back.
    let mut bad = world.clone();
    bad.set("orders@r2", Health::OutOfMemory);
    assert!(matches!(rolled_back(&mut bad), Why::Guardrail { .. }));
    world.say(Order::Resume);
    promoted(&mut world);
}

#[test]
fn what_is_sent_to_the_end_waits_for_no_verdict_and_goes_back_if_it_crashes() {
    let sent = || {
        let mut world = orders(Strategy::Canary);
        world.state.members = vec![member("orders", 2, 4)];
        world.until(serving(1));
        // Two more have to come up, and what serves is found worse meanwhile.
        world.set("orders@r2", Health::NeverReady);
        world.say(Order::Promote);
        world.set("orders@r2", Health::Ready);
        let group = world
            .observed
            .groups
            .get_mut(&"orders@r2".parse().unwrap())
            .unwrap();
        for coming in group.instances.iter_mut().skip(2) {
            coming.state = InstanceState::Starting;
        }
        world.bad("orders@r2", 500);
        for _ in 0..15 {
            world.turn(None, false);
        }
        assert_eq!(world.state.phase, Phase::Starting { stage: 2 });
        world
    };
    let mut world = sent();
    world.set("orders@r2", Health::Ready);
    assert_eq!(world.end(), Phase::Promoted, "{:?}", world.notes);
    let mut world = sent();
    world.set("orders@r2", Health::OutOfMemory);
    assert!(matches!(rolled_back(&mut world), Why::Guardrail { .. }));
}

#[test]
fn sent_to_the_end_twice_is_once() {
    let mut world = orders(Strategy::Canary);
    world.until(serving(0));
    world.say(Order::Promote);
    assert_eq!(world.state.phase, Phase::Starting { stage: 2 });
    world.say(Order::Promote);
    let not_now = |note: &Note| matches!(note, Note::NotNow { .. });
    assert!(world.notes.iter().any(not_now), "{:?}", world.notes);
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
fn a_word_has_an_answer_of_its_own_whatever_happened_since() {
    let answered = |order: Order, answer: &str| {
        let mut world = orders(Strategy::Canary);
        world.until(serving(0));
        world.say(order);
        let asked = Word {
            number: world.words,
            order,
            release: ReleaseNumber(2),
            by: "ada".to_owned(),
            at: world.now,
        };
        assert!(world.state.has_heard(&asked));
        for _ in 0..5 {
            world.turn(None, false);
        }
        let said = world.state.answer_to(&asked).expect("an answer");
        assert!(said.to_string().contains(answer), "{order:?}: {said}");
        let later = Word {
            number: asked.number + 1,
            ..asked
        };
        assert_eq!(world.state.answer_to(&later), None);
    };
    answered(Order::Pause, "ada paused it");
    answered(Order::Resume, "it is not paused");
    answered(Order::Next, "ada");
    answered(Order::Promote, "ada");
    answered(Order::Abort, "ada asked for it");
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
fn what_went_back_says_how_far_it_had_come() {
    let mut world = orders(Strategy::Canary);
    world.until(serving(2));
    assert_eq!(world.state.stage(), 2);
    world.say(Order::Abort);
    let mut phases = Vec::new();
    while !world.state.phase.is_over() {
        world.turn(None, false);
        phases.push(world.state.phase.clone());
        assert_eq!(world.state.stage(), 2, "{:?}", world.state.phase);
    }
    assert!(
        phases
            .iter()
            .any(|phase| matches!(phase, Phase::Removing { .. }))
    );
    assert!(matches!(world.state.phase, Phase::RolledBack { .. }));
}

/// The instances that are told to come back have first to end, as one name stands for one instance.
#[test]
fn the_time_that_old_instances_take_to_end_does_not_count_on_the_way_back() {
    let mut world = orders(Strategy::Canary);
    world.until(|phase| *phase == Phase::Retiring);
    world.leaving.insert("orders@r1".parse().unwrap());
    world.decide(Some(Order::Abort), false);
    // Far longer than they may take to start; nothing is done about a group that is on its way out.
    for _ in 0..120 {
        world.decide(None, false);
    }
    assert!(
        matches!(world.state.phase, Phase::GoingBack { .. }),
        "{:?}",
        world.state.phase
    );
    let mut for_ever = world.clone();
    for _ in 0..400 {
        for_ever.decide(None, false);
    }
    assert!(matches!(for_ever.state.phase, Phase::Stuck { .. }));
    world.leaving.clear();
    rolled_back(&mut world);
}

/// Their end has begun, and whoever looked has not seen it yet.
#[test]
fn requests_do_not_go_back_to_old_instances_that_are_being_taken_down() {
    for strategy in [Strategy::Canary, Strategy::BlueGreen, Strategy::Rolling] {
        let mut world = orders(strategy);
        world.until(serving(world.state.stages().len() - 1));
        while world.state.phase != Phase::Retiring {
            world.decide(None, false);
        }
        let old: GroupId = "orders@r1".parse().unwrap();
        assert!(world.observed.groups.contains_key(&old));
        world.leaving.insert(old.clone());
        world.decide(Some(Order::Abort), false);
        let split = &arrangement(&world.state).splits[&old.service];
        assert_eq!(split.share(&old), Share::NONE, "{strategy:?}");
        world.observed.groups.remove(&old);
        world.leaving.clear();
        rolled_back(&mut world);
    }
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
    let from_ada = |number: u64, release: u32| Word {
        number,
        order: Order::Abort,
        release: ReleaseNumber(release),
        by: "ada".to_owned(),
        at: 0,
    };
    let hear = |state: &State, word: Word| {
        let seen = Seen {
            words: &[word],
            ..Seen::only(&observed)
        };
        advance(state, &seen, world.now).0
    };
    assert_eq!(
        hear(&world.state, from_ada(7, 3)).phase,
        Phase::Serving { stage: 0 }
    );
    let back = hear(&world.state, from_ada(7, 2));
    assert!(matches!(back.phase, Phase::GoingBack { .. }));
    assert!(back.has_heard(&from_ada(7, 2)));
    let heard = State {
        words_to: 8,
        ..world.state.clone()
    };
    assert_eq!(
        hear(&heard, from_ada(7, 2)).phase,
        Phase::Serving { stage: 0 }
    );
}

#[test]
fn words_said_between_two_looks_are_all_heard_in_their_order() {
    let mut world = orders(Strategy::Canary);
    world.until(serving(0));
    let words = [(4, Order::Pause), (5, Order::Promote)].map(|(number, order)| Word {
        number,
        order,
        release: ReleaseNumber(2),
        by: "ada".to_owned(),
        at: 0,
    });
    let observed = world.observed.clone();
    for _ in 0..3 {
        let seen = Seen {
            words: &words,
            ..Seen::only(&observed)
        };
        world.state = advance(&world.state, &seen, world.now).0;
    }
    assert!(world.state.forced, "the second was heard, too");
    let paused = |entry: &Entry| matches!(entry.note, Note::Paused { .. });
    assert!(world.state.log.iter().any(paused), "so was the first");
    assert!(words.iter().all(|word| world.state.has_heard(word)));
}

#[test]
fn what_was_said_of_an_earlier_rollout_is_not_heard_by_the_next() {
    let mut world = orders(Strategy::Canary);
    let said = Word {
        number: 3,
        order: Order::Abort,
        release: ReleaseNumber(2),
        by: "ada".to_owned(),
        at: 0,
    };
    let observed = world.observed.clone();
    for _ in 0..3 {
        let seen = Seen {
            words: std::slice::from_ref(&said),
            ..Seen::only(&observed)
        };
        world.state = advance(&world.state, &seen, world.now).0;
    }
    assert_eq!(world.state.phase, Phase::Starting { stage: 0 });
    assert!(!world.state.has_heard(&said));
}

#[test]
fn going_back_waits_for_instances_that_were_taken_down() {
    let mut world = World::of(&policy(Strategy::Rolling), vec![member("orders", 3, 3)]);
    world.until(serving(1));
    assert_eq!(world.groups(), ["orders@r1×2", "orders@r2×2"]);
    world.decide(Some(Order::Abort), false);
    let old: GroupId = "orders@r1".parse().unwrap();
    let all_old = Split::all(old.clone());
    let asked_for = |world: &World| arrangement(&world.state).splits["orders"] == all_old;
    assert_eq!(arrangement(&world.state).groups[&old], 3);
    assert!(
        !asked_for(&world),
        "two instances are not to carry the load of three"
    );
    // Unless nothing else serves.
    let mut alone = world.clone();
    alone.set("orders@r2", Health::Is(InstanceState::CrashLooping));
    alone.decide(None, false);
    assert!(asked_for(&alone));
    // Or those that are waited for do not come.
    let mut late = world.clone();
    for _ in 0..26 {
        late.decide(None, false);
    }
    assert!(asked_for(&late));
    world.ensure(&old, 3);
    world.decide(None, false);
    assert!(asked_for(&world));
    world.act();
    assert_eq!(why(world.end()).to_string(), "ada asked for it");
}

#[test]
fn a_service_that_is_back_stays_back_when_another_is_not() {
    let mut world = World::of(
        &policy(Strategy::Rolling),
        vec![member("orders", 2, 2), member("web", 2, 2)],
    );
    world.until(serving(1));
    world.set("web@r1", Health::NeverReady);
    world.say(Order::Abort);
    assert!(matches!(world.end(), Phase::Stuck { .. }));
    world.act();
    world.serves("orders", "orders@r1");
    world.serves("web", "web@r2");
}

#[test]
fn a_second_colour_is_held_before_its_switch_and_an_operator_ends_that() {
    let mut world = orders(Strategy::BlueGreen);
    while held_for(&world.state).is_none() {
        world.turn(None, false);
    }
    assert_eq!(held_for(&world.state), Some(5_000));
    world.turn(None, false);
    let told = |note: &&Note| matches!(note, Note::Held { millis: 5_000, .. });
    assert_eq!(world.notes.iter().filter(told).count(), 1);
    assert!(world.state.clock.up < 5_000);
    world.say(Order::Next);
    world.turn(None, false);
    assert_eq!(world.state.phase, Phase::Serving { stage: 0 });
    assert_eq!(held_for(&world.state), None);
    promoted(&mut world);
}

#[test]
fn next_while_a_second_colour_is_held_passes_no_gate() {
    let mut world = orders(Strategy::BlueGreen);
    world.state.policy.gates = vec![Gate {
        when: GateWhen::BeforePromote,
        name: Some("nod".to_owned()),
        command: Some(vec!["true".to_owned()]),
        webhook: None,
        headers: BTreeMap::new(),
        timeout: Period::from_secs(60),
    }];
    while held_for(&world.state).is_none() {
        world.turn(None, false);
    }
    world.say(Order::Next);
    for _ in 0..10 {
        world.turn(None, false);
        assert_eq!(world.state.phase, Phase::Starting { stage: 0 });
    }
    world
        .answers
        .insert(GateWhen::BeforePromote, GateAnswer::Agrees);
    promoted(&mut world);
}

#[test]
fn who_sends_a_last_stage_that_comes_up_to_the_end_begins_it_no_second_time() {
    let mut world = orders(Strategy::BlueGreen);
    while held_for(&world.state).is_none() {
        world.turn(None, false);
    }
    world.say(Order::Promote);
    promoted(&mut world);
    let began = |note: &&Note| matches!(note, Note::Starting { .. });
    assert_eq!(world.notes.iter().filter(began).count(), 1);
}
