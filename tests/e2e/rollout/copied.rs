//! Releases of `orders` that get copies of requests before they answer anybody, under the load of users.

use serde_json::Value;

use super::shop::{Shop, harm};
use super::users::Answers;
use crate::sandbox::eventually;

const CANARY: &str = r#"strategy = "canary"
mirror = "40%"
steps = ["50%"]
hold = "1s"
bake = "2s"
analysis = { errors = "0.5%", slow = "20%", slow_after = "2s", at_least = "1s", at_most = "3m", min_samples = 50 }"#;

const BLUE_GREEN: &str = r#"strategy = "blue-green"
mirror = "100%"
hold = "1s"
bake = "2s"
analysis = { errors = "0.5%", slow = "20%", slow_after = "2s", at_least = "1s", at_most = "3m", min_samples = 50 }"#;

/// Copies that a release answered badly, and of how many.
#[track_caller]
fn copies(report: &Value) -> (u64, u64) {
    let copies = &report["members"][0]["copies"];
    let count = |of: &str| copies[of].as_u64().expect("a count");
    (count("bad"), count("requests"))
}

#[test]
fn many_errors_are_taken_back_before_anybody_meets_one() {
    for rollout in [CANARY, BLUE_GREEN] {
        let shop = Shop::with(rollout);
        let (seen, answers) = shop.deploys("errors=20%", "second");
        assert_eq!(seen.code, 10, "{seen:#?}");
        assert_eq!(harm(&answers, ""), Answers::new(), "{seen:#?}");
        let by_new = answers.keys().find(|(version, _)| version == "r2");
        assert_eq!(by_new, None, "{answers:?}");
        shop.stands_on("r1");
        let report = shop.report();
        let why = report["why"].as_str().expect("a reason");
        assert!(why.contains("the new release is worse"), "{why}");
        let (bad, requests) = copies(&report);
        assert!(0 < bad && bad < requests, "{report:#}");
        assert_eq!(report["members"][0]["new"]["requests"], 0, "{report:#}");
        told(rollout, &report);
        let page = shop.sandbox.run(&["rollout", "report"]).ok();
        assert!(page.stdout.contains("copies that nobody got"), "{page:#?}");
    }
}

/// Says what it took, for the table of docs/rollouts.md.
#[expect(clippy::print_stderr, reason = "figures that are wanted")]
fn told(rollout: &str, report: &Value) {
    let (bad, requests) = copies(report);
    let mirror = rollout.lines().nth(1).unwrap_or_default();
    eprintln!(
        "{} {mirror}: decided after {} ms; the new release answered {requests} copies, {bad} badly",
        report["strategy"], report["decided_after"]
    );
}

#[test]
fn a_good_release_goes_on_from_copies_to_requests_and_nobody_notices() {
    for rollout in [CANARY, BLUE_GREEN] {
        let shop = Shop::with(rollout);
        let (seen, answers) = shop.deploys("", "second");
        assert_eq!(seen.code, 0, "{seen:#?}");
        assert_eq!(harm(&answers, ""), Answers::new(), "{rollout}");
        assert!(answers.contains_key(&("r2".to_owned(), 200)), "{answers:?}");
        shop.stands_on("r2");
        let report = shop.report();
        assert_eq!(report["ended"], "promoted");
        let first = &report["stages"][0];
        assert!(
            first["stage"]
                .as_str()
                .is_some_and(|s| s.starts_with("copies of")),
            "{report:#}"
        );
        assert!(copies(&report).1 >= 50, "{report:#}");
    }
}

#[test]
fn while_it_gets_copies_it_is_shown_and_a_kill_changes_nothing() {
    let shop = Shop::with(CANARY);
    shop.wants("", "second");
    let plan = shop.sandbox.run(&["plan"]).ok();
    assert!(
        plan.stdout.contains("canary copies of 40%, 50%"),
        "{plan:#?}"
    );
    let users = shop.users();
    let deploy = shop.sandbox.start(&["deploy", "--yes"]);
    eventually("it gets copies", || {
        let status = shop.status();
        let new = &status["members"][0]["new"];
        new["copied"] == 400 && new["answered"]["requests"].as_u64().is_some_and(|n| n > 0)
    });
    deploy.end("-KILL");
    let status = shop.status();
    assert_eq!(status["stage"], "copies of 40 %", "{status:#}");
    assert_eq!(status["members"][0]["new"]["share"], 0, "{status:#}");
    let page = shop.sandbox.run(&["rollout", "status"]).ok();
    assert!(page.stdout.contains("copies of 40.0 %"), "{page:#?}");
    shop.sandbox.run(&["deploy", "--yes"]).ok();
    shop.stands_on("r2");
    assert_eq!(harm(&users.end(), ""), Answers::new());
}
