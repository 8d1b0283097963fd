use super::*;

fn groups() -> Groups {
    Groups {
        main: "orders@r1".parse().unwrap(),
        baseline: "orders@r1-baseline".parse().unwrap(),
        new: "orders@r2".parse().unwrap(),
    }
}

fn counts(epoch: &str, main: u64, new: u64) -> Counts {
    let tally = |requests| Tally {
        requests,
        bad: requests / 10,
        slow: 0,
        left_out: 0,
    };
    let lanes = [(groups().main, tally(main)), (groups().new, tally(new))];
    Counts {
        epoch: epoch.to_owned(),
        lanes: lanes.into(),
        ..Counts::default()
    }
}

fn all_new() -> Side {
    Side {
        new: 1,
        old_before: 1,
        old: 1,
        baseline: 0,
        new_share: Share::FULL,
        baseline_share: Share::NONE,
        copied_share: Share::NONE,
    }
}

#[test]
fn what_was_counted_before_is_not_counted() {
    let mut comparison = Comparison::default();
    comparison.count(&groups(), &counts("a", 1000, 0));
    assert_eq!(comparison.old.requests, 0);
    comparison.count(&groups(), &counts("a", 1100, 7));
    assert_eq!((comparison.old.requests, comparison.new.requests), (100, 7));
}

#[test]
fn a_gateway_that_started_anew_counts_from_zero() {
    let mut comparison = Comparison::default();
    comparison.count(&groups(), &counts("a", 1000, 0));
    comparison.count(&groups(), &counts("b", 1010, 30));
    assert_eq!(
        (comparison.old.requests, comparison.new.requests),
        (1010, 30)
    );
}

#[test]
fn a_request_that_is_counted_as_asked_for_a_moment_later_is_not_counted_twice() {
    let mut comparison = Comparison::default();
    for total in [1000, 1100, 1099, 1105] {
        comparison.count(&groups(), &counts("a", total, 0));
    }
    assert_eq!(comparison.old.requests, 105);
}

#[test]
fn what_is_in_no_comparison_is_counted_since_the_rollout_began() {
    let besides = |asked_for: u64, heavy: u64| {
        let tally = |bad| Tally {
            requests: bad,
            bad,
            slow: 0,
            left_out: 0,
        };
        Besides {
            asked_for: tally(asked_for),
            heavy: tally(heavy),
        }
    };
    let at = |epoch: &str, new: Besides, fresh: Besides| Counts {
        besides: [(groups().new, new), (groups().baseline, fresh)].into(),
        ..counts(epoch, 0, 0)
    };
    let mut comparison = Comparison::default();
    comparison.count(&groups(), &at("a", besides(7, 1), besides(2, 0)));
    comparison.count(&groups(), &at("a", besides(27, 4), besides(2, 5)));
    // The gateway started anew.
    comparison.count(&groups(), &at("b", besides(3, 0), besides(0, 1)));
    assert_eq!(comparison.new_besides, besides(23, 3));
    assert_eq!(comparison.old_besides, besides(0, 6));
    assert_eq!(comparison.new, Tally::default());
}

fn policy() -> Policy {
    Policy {
        at_least: Duration::ZERO,
        ..Policy::default()
    }
}

/// A new release that has all requests, each look so many of them and so many bad.
fn alone(record: Tally, looks: u64, (requests, bad): (u64, u64)) -> Comparison {
    let mut comparison = Comparison {
        old: record,
        ..Comparison::default()
    };
    comparison.record.add(record);
    for look in 0..looks {
        let increment = Increment {
            new: Tally {
                requests,
                bad,
                slow: 0,
                left_out: 0,
            },
            ..Increment::default()
        };
        comparison.compare(
            &all_new(),
            increment,
            (look * LOOK_EVERY, LOOK_EVERY),
            Some(&policy()),
        );
        comparison.judge(&policy(), Duration::from_millis(look * LOOK_EVERY));
    }
    comparison
}

fn record(requests: u64, bad: u64) -> Tally {
    Tally {
        requests,
        bad,
        slow: 0,
        left_out: 0,
    }
}

#[test]
fn with_all_requests_it_is_compared_with_the_record_however_long() {
    let worse = alone(record(2_000, 10), 40, (20, 2));
    assert!(matches!(worse.verdict, Some(Verdict::Worse(_))));
    // As bad as the old release was, for far longer than the record is.
    let alike = alone(record(2_000, 40), 4_000, (50, 1));
    assert!(
        !matches!(alike.verdict, Some(Verdict::Worse(_))),
        "{:?}",
        alike.verdict
    );
}

#[test]
fn nothing_is_compared_with_an_old_release_that_answered_nothing() {
    let found = alone(Tally::default(), 400, (20, 10));
    assert!(!matches!(found.verdict, Some(Verdict::Worse(_))));
}

#[test]
fn answers_to_copies_are_compared_with_those_to_the_same_requests_and_are_none_of_the_release() {
    let mut comparison = Comparison::default();
    let counts = |copied: u64, bad: u64| {
        let mut counts = counts("a", copied * 10, 0);
        counts.copies = [(groups().new, record(copied, bad))].into();
        counts.copied = [(groups().baseline, record(copied, 1))].into();
        counts
    };
    let side = Side {
        new_share: Share::NONE,
        copied_share: Share::thousandths(100),
        ..all_new()
    };
    comparison.count(&groups(), &counts(7, 3));
    let increment = comparison.count(&groups(), &counts(107, 33));
    comparison.compare(&side, increment, (0, LOOK_EVERY), Some(&policy()));
    assert_eq!(comparison.stage.canary, record(100, 30));
    assert_eq!(comparison.stage.baseline, record(100, 0));
    assert_eq!(
        (comparison.new, comparison.copies),
        (record(0, 0), record(100, 30))
    );
    assert_eq!(comparison.old.requests, 1_000);
}

#[test]
fn looks_that_are_too_close_are_one_look() {
    let mut comparison = Comparison::default();
    let side = Side {
        new_share: Share::thousandths(500),
        baseline_share: Share::thousandths(500),
        ..all_new()
    };
    let increment = Increment {
        baseline: record(5, 0),
        new: record(5, 0),
        ..Increment::default()
    };
    for _ in 0..10 {
        comparison.compare(&side, increment, (0, LOOK_EVERY / 5), Some(&policy()));
    }
    assert_eq!(comparison.evidence.unwrap().looks(), 2);
}

#[test]
fn what_is_fresh_is_compared_with_what_is_fresh_until_it_is_warm() {
    let side = Side {
        new_share: Share::thousandths(100),
        baseline_share: Share::thousandths(100),
        ..all_new()
    };
    let increment = Increment {
        main: record(80, 0),
        baseline: record(10, 0),
        new: record(10, 0),
        ..Increment::default()
    };
    let mut comparison = Comparison::default();
    comparison.compare(&side, increment, (0, 250), Some(&policy()));
    assert_eq!(comparison.stage.baseline.requests, 10);
    comparison.compare(&side, increment, (WARM_UP, 250), Some(&policy()));
    assert_eq!(comparison.stage.baseline.requests, 100);
}
