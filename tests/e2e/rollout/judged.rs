//! Good and bad releases of `orders` under the load of users.

use serde_json::Value;

use super::shop::{BLUE_GREEN, CANARY, ROLLING, Shop, harm};
use super::users::Answers;

/// Judged for answers slower than 180 ms, too, at one step.
const SLOW: &str = r#"strategy = "canary"
steps = ["50%"]
hold = "1s"
bake = "2s"
analysis = { errors = "0.5%", slow = "0.5%", slow_after = "180ms", at_least = "1s", at_most = "4m", min_samples = 50 }"#;

#[track_caller]
fn is_promoted(rollout: &'static str) {
    let shop = Shop::with(rollout);
    let (seen, answers) = shop.deploys("", "second");
    assert_eq!(seen.code, 0, "{seen:#?}");
    assert_eq!(harm(&answers, ""), Answers::new(), "{rollout}");
    assert!(answers.contains_key(&("r2".to_owned(), 200)), "{answers:?}");
    shop.stands_on("r2");
    assert_eq!(shop.report()["ended"], "promoted");
}

#[test]
fn a_good_canary_is_promoted_and_nobody_notices() {
    is_promoted(CANARY);
}

#[test]
fn a_good_second_colour_is_promoted_and_nobody_notices() {
    is_promoted(BLUE_GREEN);
}

#[test]
fn a_good_rolling_update_is_promoted_and_nobody_notices() {
    is_promoted(ROLLING);
}

/// A release with a fault is taken back, and nobody is harmed but those whom it answered itself.
#[track_caller]
fn is_taken_back(rollout: &'static str, fault: &str, why: &str) -> Value {
    let shop = Shop::with(rollout);
    let (seen, answers) = shop.deploys(fault, "second");
    assert_eq!(seen.code, 10, "{fault}: {seen:#?}");
    assert_eq!(harm(&answers, "r2"), Answers::new(), "{fault}: {seen:#?}");
    shop.stands_on("r1");
    let report = shop.report();
    let said = report["why"].as_str().expect("a reason");
    let latency = &report["members"][0]["latency"];
    for side in ["new", "old"] {
        let mean = latency[side]["mean_micros"].as_u64();
        assert!(mean.is_some_and(|mean| mean > 0), "{side}: {latency}");
    }
    assert!(said.contains(why), "{fault}: {said}");
    told(fault, &report, &answers);
    report
}

/// Says what it took and whom it met, for the tables of docs/rollouts.md.
#[expect(clippy::print_stderr, reason = "figures that are wanted")]
fn told(fault: &str, report: &Value, answers: &Answers) {
    let new = &report["members"][0]["new"];
    let met: u64 = answers
        .iter()
        .filter(|((version, status), _)| version == "r2" && *status != 200)
        .map(|(_, count)| count)
        .sum();
    eprintln!(
        "{} {fault}: decided after {} ms; the new release answered {} requests, {} bad and {} slow; {met} users met an error",
        report["strategy"], report["decided_after"], new["requests"], new["bad"], new["slow"]
    );
}

#[test]
fn many_errors_are_taken_back_within_250_requests() {
    let report = is_taken_back(CANARY, "errors=20%", "the new release is worse");
    // What the verdict rests on; answers to what was under way then come on top.
    let verdict = report["members"][0]["verdict"].as_str().expect("a verdict");
    let rests_on = verdict
        .split_once(" % bad (")
        .and_then(|(_, rest)| rest.split_once(')'))
        .and_then(|(counts, _)| counts.split_once(" of "))
        .and_then(|(_, requests)| requests.parse::<u64>().ok())
        .expect("counts in the verdict");
    // The mean is below a hundred (docs/analysis.md); one run in thousands needs more than this.
    assert!(rests_on <= 250, "{verdict}");
}

#[test]
fn some_errors_of_a_canary_are_taken_back() {
    is_taken_back(CANARY, "errors=5%", "the new release is worse");
}

#[test]
fn some_errors_of_a_second_colour_are_taken_back() {
    is_taken_back(BLUE_GREEN, "errors=8%", "the new release is worse");
}

#[test]
fn a_few_slow_answers_are_taken_back() {
    is_taken_back(SLOW, "slow=3%:200ms", "slow");
}

#[test]
fn a_crash_is_taken_back_at_once() {
    is_taken_back(CANARY, "crash_after=100", "ended and was started again");
}

#[test]
fn instances_that_are_ready_no_more_are_taken_back() {
    is_taken_back(CANARY, "unready_after=100", "is ready no more");
}

#[test]
fn a_leak_is_taken_back_at_its_limit() {
    is_taken_back(CANARY, "leak=1MiB", "memory");
}
