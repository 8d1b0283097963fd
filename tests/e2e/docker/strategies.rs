//! Every way to move from one release to the next, on an engine, while requests come.

use super::{Project, answers, has_engine};
use crate::load::Load;

/// Judged by what the gateway of the engine counts.
const JUDGED: &str = r#"
[rollout]
strategy = "canary"
steps = ["50%"]
hold = "1s"
bake = "2s"
analysis = { errors = "0.5%", slow = "20%", slow_after = "2s", at_least = "1s", at_most = "3m", min_samples = 50 }
"#;

/// Changes the project's answer by a strategy, and takes it back, under load that loses nothing.
fn moves(test: &str, strategy: &str) {
    if !has_engine() {
        return;
    }
    let project = Project::new(test);
    project.serves();
    let load = Load::on(project.port, 40);
    project.answering("two");
    let told = project.run(&["deploy", "--yes", strategy]).ok();
    answers(project.port, "two");
    project.run(&["rollback", "--yes"]).ok();
    answers(project.port, "one");
    let tally = load.end().unharmed();
    let new = tally
        .answers
        .iter()
        .find(|(said, _)| said.starts_with("two"));
    assert!(new.is_some(), "{told:#?} {tally:#?}");
    project.down();
}

#[test]
fn a_canary_is_promoted_and_nobody_notices() {
    moves("canary", "--canary=50%");
}

#[test]
fn colours_are_switched_and_nobody_notices() {
    moves("colours", "--blue-green");
}

#[test]
fn batches_are_replaced_and_nobody_notices() {
    moves("batches", "--rolling");
}

#[test]
fn a_bad_release_is_judged_by_its_answers_and_taken_back() {
    if !has_engine() {
        return;
    }
    let project = Project::new("judged");
    project.serves();
    let load = Load::on(project.port, 60);
    project.answering_by("faulty", JUDGED);
    let told = project.run(&["deploy", "--yes"]);
    assert_eq!(told.code, 10, "{told:#?}");
    let tally = load.end();
    answers(project.port, "one");

    // It is the evidence that spoke, and what it rests on are answers that were given.
    let report = project.run(&["rollout", "report", "--format", "json"]).ok();
    let report = report.line("rollout_report")["report"].clone();
    let why = report["why"].as_str().expect("a reason");
    assert!(why.contains("the new release is worse"), "{why}");
    let new = &report["members"][0]["new"];
    let bad = new["bad"].as_u64().expect("a count");
    assert!(bad > 0, "{report:#}");
    // Nobody met an error but of the release that was on trial.
    assert_eq!(tally.refused, 0, "{tally:#?}");
    assert!(tally.failed >= bad, "{tally:#?} {report:#}");
    let status = project.run(&["status", "--format", "json"]).ok();
    let services = status.line("status")["services"].clone();
    assert_eq!(services[0]["version"], "r1", "{services:#}");
    assert_eq!(services[0]["share"], 1000, "{services:#}");
    project.down();
}

#[test]
fn a_good_release_is_judged_and_promoted() {
    if !has_engine() {
        return;
    }
    let project = Project::new("judged-good");
    project.serves();
    let load = Load::on(project.port, 60);
    project.answering_by("two", JUDGED);
    project.deploy();
    answers(project.port, "two");
    let tally = load.end().unharmed();
    let new = tally.answers.keys().any(|said| said.starts_with("two"));
    assert!(new, "{tally:#?}");
    let report = project.run(&["rollout", "report", "--format", "json"]).ok();
    let report = report.line("rollout_report")["report"].clone();
    assert_eq!(report["ended"], "promoted", "{report:#}");
    let requests = report["members"][0]["new"]["requests"].as_u64();
    assert!(requests > Some(0), "{report:#}");
    project.down();
}

#[test]
fn a_bad_release_that_gets_copies_is_taken_back_before_anybody_meets_it() {
    if !has_engine() {
        return;
    }
    let project = Project::new("copied");
    project.serves();
    let load = Load::on(project.port, 60);
    let copied = JUDGED.replace("steps = ", "mirror = \"50%\"\nsteps = ");
    project.answering_by("faulty", &copied);
    let told = project.run(&["deploy", "--yes"]);
    assert_eq!(told.code, 10, "{told:#?}");
    load.end().unharmed();
    answers(project.port, "one");
    let report = project.run(&["rollout", "report", "--format", "json"]).ok();
    let report = report.line("rollout_report")["report"].clone();
    let why = report["why"].as_str().expect("a reason");
    assert!(why.contains("the new release is worse"), "{why}");
    let member = &report["members"][0];
    assert_eq!(member["new"]["requests"], 0, "{report:#}");
    assert!(member["copies"]["bad"].as_u64() > Some(0), "{report:#}");
    project.down();
}
