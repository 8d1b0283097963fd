//! Extra metrics, and what they do and tell.

use super::*;

/// A rollout whose analysis compares a metric of the user's, too.
fn with_heap(strategy: Strategy, heap: (f64, f64), more: &str) -> World {
    let mut world = orders(strategy);
    let metric = format!(r#"{{ "name": "heap", "command": ["heap"] {more} }}"#);
    let analysis = world.state.policy.analysis.as_mut().unwrap();
    analysis.metrics = vec![serde_json::from_str(&metric).unwrap()];
    world.state.policy.hold = Period::from_secs(20);
    world.state.policy.bake = Period::from_secs(20);
    world.heap = Some(heap);
    world
}

#[test]
fn a_metric_that_is_worse_goes_back_by_every_strategy() {
    for strategy in [Strategy::Canary, Strategy::BlueGreen] {
        promoted(&mut with_heap(strategy, (100.0, 105.0), ""));
        let mut world = with_heap(strategy, (100.0, 200.0), "");
        let why = rolled_back(&mut world);
        assert!(
            matches!(why, Why::Metric { ref metric, .. } if metric == "heap"),
            "{strategy:?}: {why}"
        );
    }
}

#[test]
fn a_metric_that_gets_worse_with_all_requests_is_compared_with_what_the_old_release_had() {
    let mut world = with_heap(Strategy::Canary, (100.0, 100.0), "");
    world.until(serving(2));
    world.heap = Some((100.0, 300.0));
    let why = rolled_back(&mut world);
    assert!(matches!(why, Why::Metric { .. }), "{why}");
}

#[test]
fn a_metric_on_a_dry_run_reports_and_does_not_judge() {
    let mut world = with_heap(Strategy::Canary, (100.0, 200.0), r#", "dry_run": true"#);
    promoted(&mut world);
    let told = |note: &Note| {
        matches!(
            note,
            Note::WouldGoBack {
                why: Why::Metric { .. }
            }
        )
    };
    assert!(world.notes.iter().any(told), "{:?}", world.notes);
}

#[test]
fn a_metric_nobody_can_read_holds_a_canary_until_its_time_is_over() {
    let mut world = with_heap(Strategy::Canary, (1.0, 1.0), "");
    world.heap = None;
    world.state.policy.analysis.as_mut().unwrap().when_quiet = WhenQuiet::RollBack;
    let why = rolled_back(&mut world);
    assert!(
        why.to_string().contains("`heap` is without any reading"),
        "{why}"
    );
}

#[test]
fn why_a_metric_cannot_be_read_is_told() {
    let unread = |when_quiet: WhenQuiet| {
        let mut world = with_heap(Strategy::Canary, (1.0, 1.0), "");
        world.heap = None;
        world.unread = Some("parse error".to_owned());
        world.state.policy.analysis.as_mut().unwrap().when_quiet = when_quiet;
        world
    };
    let why = rolled_back(&mut unread(WhenQuiet::RollBack));
    assert_eq!(
        why.to_string(),
        "orders@r2: metric `heap` is without any reading; it could not be read: parse error"
    );

    let mut world = unread(WhenQuiet::Hold);
    for _ in 0..3_000 {
        world.turn(None, false);
    }
    assert_eq!(world.state.phase, Phase::Serving { stage: 0 });
    let told = |note: &&Note| {
        matches!(note, Note::Holding { verdict, .. }
            if verdict == "metric `heap` is without any reading; it could not be read: parse error")
    };
    assert_eq!(world.notes.iter().filter(told).count(), 1);
    // The query is mended.
    world.heap = Some((1.0, 1.0));
    world.unread = None;
    promoted(&mut world);

    let mut world = unread(WhenQuiet::Hold);
    world.state.policy.at_most = Period::from_secs(30);
    let why = rolled_back(&mut world);
    assert_eq!(
        why.to_string(),
        "it took longer than 30s: metric `heap` of orders@r2 could not be read: parse error"
    );
}

#[test]
fn a_metric_that_is_nothing_on_both_sides_is_as_good() {
    for more in [
        "",
        r#", "margin": "0%""#,
        r#", "margin": 2"#,
        r#", "better": "higher""#,
    ] {
        promoted(&mut with_heap(Strategy::Canary, (0.0, 0.0), more));
    }
    // So many more are within what is stated, and of nothing any share is none.
    promoted(&mut with_heap(
        Strategy::Canary,
        (0.0, 2.0),
        r#", "margin": 2"#,
    ));
    let why = rolled_back(&mut with_heap(Strategy::Canary, (0.0, 2.0), ""));
    assert!(matches!(why, Why::Metric { .. }), "{why}");
}

#[test]
fn what_serves_and_loses_its_readiness_while_more_comes_up_goes_back_at_once() {
    let mut world = World::of(&policy(Strategy::Canary), vec![member("orders", 4, 4)]);
    world.until(serving(0));
    world.until(|phase| *phase == Phase::Starting { stage: 1 });
    // The instance that has requests loses its readiness before the next one is ready.
    world.set("orders@r2", Health::Is(InstanceState::Unready));
    world.turn(None, false);
    let Phase::GoingBack { why, .. } = &world.state.phase else {
        panic!("{:?}", world.state.phase);
    };
    assert!(matches!(why, Why::Guardrail { .. }), "{why}");
}

#[test]
fn a_metric_is_told_of_whether_or_not_it_is_worse_or_judges() {
    for (more, beginning) in [
        ("", "metric `heap` is "),
        (
            r#", "dry_run": true"#,
            "metric `heap`, which only reports, is ",
        ),
    ] {
        let mut world = with_heap(Strategy::Canary, (100.0, 101.0), more);
        world.until(serving(1));
        let side = &world.state.results[0].sides[0].metrics[0];
        assert!(side.pairs > 0, "{side:?}");
        assert_eq!(
            (side.old, side.new, side.worse_pairs),
            (Some(100.0), Some(101.0), 0)
        );
        let said = world.state.results[0].to_string();
        let pairs = format!(
            "worse than tolerated in 0 of {} pairs, last 101 against 100",
            side.pairs
        );
        assert!(said.contains(beginning) && said.contains(&pairs), "{said}");
    }
}

#[test]
fn a_run_out_of_time_quotes_the_metric_that_is_open() {
    // It is worse in every other pair.
    let mut world = with_heap(Strategy::Canary, (100.0, 100.0), "");
    world.until(serving(0));
    for look in 0..60 {
        world.heap = Some((100.0, if look % 2 == 0 { 100.0 } else { 300.0 }));
        world.turn(None, false);
    }
    assert_eq!(world.state.phase, Phase::Serving { stage: 0 });
    world.out_of_time = Some(30_000);
    let why = rolled_back(&mut world).to_string();
    let said = "`--timeout`: orders@r2: metric `heap` is cannot tell yet: worse than tolerated in ";
    assert!(why.contains(said), "{why}");
}
