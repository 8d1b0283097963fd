//! A new release that gets copies of requests before it answers anybody.

use super::*;

fn copied(strategy: Strategy) -> World {
    let policy = Rollout {
        mirror: Percent::whole(20),
        ..policy(strategy)
    };
    World::of(&policy, vec![member("orders", 2, 2)])
}

const STRATEGIES: [Strategy; 2] = [Strategy::Canary, Strategy::BlueGreen];

fn new() -> GroupId {
    "orders@r2".parse().unwrap()
}

#[test]
fn copies_come_before_the_first_request() {
    for strategy in STRATEGIES {
        let mut world = copied(strategy);
        world.until(serving(0));
        world.turn(None, false);
        let split = &world.splits()["orders"];
        assert_eq!(
            split.copied(&new()),
            Share::thousandths(200),
            "{strategy:?}"
        );
        assert_eq!(split.share(&new()), Share::NONE, "{strategy:?}");
        world.until(serving(1));
        world.turn(None, false);
        let split = &world.splits()["orders"];
        assert_eq!(split.copies, None, "{strategy:?}");
        assert!(split.share(&new()) > Share::NONE, "{strategy:?}");
        let result = &world.state.results[0];
        assert_eq!(result.stage, "copies of 20 %");
        assert!(result.sides[0].new.requests > 0, "{result}");
        let verdict = result.sides[0].verdict.as_deref().unwrap();
        assert!(verdict.contains("better or equal"), "{verdict}");
        promoted(&mut world);
    }
}

#[test]
fn a_release_that_answers_copies_badly_never_answers_anybody() {
    for strategy in STRATEGIES {
        let mut world = copied(strategy);
        world.bad("orders@r2", 200);
        let why = rolled_back(&mut world);
        assert!(matches!(why, Why::Worse { .. }), "{why}");
        let comparison = &world.state.members[0].comparison;
        assert_eq!(comparison.new, Tally::default(), "{strategy:?}");
        assert!(comparison.copies.bad > 0, "{strategy:?}");
        assert!(!world.counts.lanes.contains_key(&new()), "{strategy:?}");
    }
}

#[test]
fn what_both_answer_badly_is_no_fault_of_the_new_release() {
    for strategy in STRATEGIES {
        let mut world = copied(strategy);
        for group in ["orders@r1", "orders@r1-baseline", "orders@r2"] {
            world.bad(group, 50);
        }
        promoted(&mut world);
    }
}

#[test]
fn without_anything_to_copy_it_does_as_with_any_quiet_step() {
    let mut world = copied(Strategy::BlueGreen);
    world.load = 0;
    world.until(serving(0));
    for _ in 0..70 {
        world.turn(None, false);
    }
    assert_eq!(world.state.phase, Phase::Serving { stage: 0 });
    assert!(world.state.holds);
    world.say(Order::Next);
    promoted(&mut world);
}

#[test]
fn copies_end_with_every_way_out() {
    for stop in [false, true] {
        let mut world = copied(Strategy::Canary);
        world.until(serving(0));
        world.turn((!stop).then_some(Order::Abort), stop);
        world.turn(None, false);
        assert_eq!(world.splits()["orders"].copies, None);
        if stop {
            // The next run begins with the copies again.
            world.state = world.state.clone().taken_up();
            world.until(serving(0));
            promoted(&mut world);
        } else {
            rolled_back(&mut world);
        }
    }
}
