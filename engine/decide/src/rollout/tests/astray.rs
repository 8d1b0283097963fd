//! Requests that do not go where they should.

use super::*;

#[test]
fn an_old_release_that_goes_down_is_told_once_with_the_way_out() {
    let mut world = orders(Strategy::Canary);
    world.until(serving(1));
    for group in ["orders@r1", "orders@r1-baseline"] {
        world.set(group, Health::Is(InstanceState::Unready));
    }
    let said = [
        "orders@r1: no instance is ready",
        "orders@r2 gets its requests",
        "`platform rollout promote`",
    ];
    tells_once(&mut world, &said);
    // One that stays up is not told of.
    let mut world = orders(Strategy::Canary);
    promoted(&mut world);
    assert_eq!(told_astray(&world), [""; 0]);
}

#[test]
fn an_old_colour_that_goes_down_in_the_bake_time_is_told_once() {
    let mut world = orders(Strategy::BlueGreen);
    world.until(serving(0));
    world.turn(None, false);
    world.set("orders@r1", Health::Is(InstanceState::CrashLooping));
    let said = [
        "orders@r1: no instance is ready",
        "going back would have to wait",
    ];
    tells_once(&mut world, &said);
    // Old instances that go are none that are down.
    for strategy in [Strategy::BlueGreen, Strategy::Rolling] {
        let mut world = orders(strategy);
        promoted(&mut world);
        assert_eq!(told_astray(&world), [""; 0]);
    }
}

#[test]
fn a_canary_that_the_gateway_sets_aside_is_told_once_with_the_reason() {
    for (bad, reason) in [
        (0, "few clients stay"),
        (30, "it answered 30 requests by a header"),
    ] {
        let mut world = orders(Strategy::Canary);
        world.until(serving(1));
        world.load = 0;
        let besides = Besides {
            asked_for: Tally {
                requests: bad,
                bad,
                ..Tally::default()
            },
            ..Besides::default()
        };
        let (old, new): (GroupId, GroupId) =
            ("orders@r1".parse().unwrap(), "orders@r2".parse().unwrap());
        world.counts.besides.insert(new, besides);
        for _ in 0..4 {
            let lane = world.counts.lanes.entry(old.clone()).or_default();
            lane.requests += 200;
            world.turn(None, false);
        }
        let told = told_astray(&world);
        assert_eq!(told.len(), 1, "{told:?}");
        for said in [
            "orders@r2 got 0 of 200 requests",
            reason,
            "`platform rollout abort`",
        ] {
            assert!(told[0].contains(said), "`{said}` in {told:?}");
        }
    }
}

/// Of all that is told in the next looks one line has these words.
#[track_caller]
fn tells_once(world: &mut World, said: &[&str]) {
    for _ in 0..3 {
        world.turn(None, false);
    }
    let told = told_astray(world);
    assert_eq!(told.len(), 1, "{told:?}");
    for said in said {
        assert!(told[0].contains(said), "`{said}` in {told:?}");
    }
}

fn told_astray(world: &World) -> Vec<String> {
    let told = world.notes.iter();
    let told = told.filter(|note| {
        matches!(
            note,
            Note::OldIsDown { .. } | Note::WayBackIsDown { .. } | Note::Starved { .. }
        )
    });
    told.map(ToString::to_string).collect()
}
