//! A canary under which everything ends: by a crash of the machine, or by a stop.

use serde_json::Value;

use super::project::{Api, Project};
use crate::sandbox::eventually;

/// A canary that stays until it is sent on, and then is refused.
const REFUSED: &str = "rollout = { strategy = \"canary\", steps = [\"20%\"], hold = \"10m\", at_most = \"1h\", analysis = false, \
                       gates = [{ when = \"before-promote\", command = [\"false\"] }] }";

fn api(answer: &str) -> Api {
    Api {
        keys: REFUSED,
        ..Api::good(answer)
    }
}

fn status(project: &Project) -> Value {
    let seen = project
        .sandbox
        .run(&["rollout", "status", "--format", "json"]);
    match seen.code {
        0 => seen.line("rollout_status"),
        _ => Value::Null,
    }
}

fn serves(status: &Value) -> bool {
    status["phase"] == "serving" && status["stage_number"] == 1
}

/// Whether a run has taken it up and come to its step.
fn serves_again(status: &Value) -> bool {
    let log = status["log"].as_array();
    let mut since = log.into_iter().flatten().rev();
    serves(status)
        && since.next().is_some_and(|last| last["note"] == "serving")
        && since.any(|entry| entry["note"] == "taken-up")
}

/// A first release that serves, and a second that is at its step when everything ends.
fn fallen(crashed: bool) -> Project {
    let project = Project::new(&api("one"));
    project.deploy().ok();
    project.change(&api("two"));
    let deploy = project.sandbox.start(&["deploy", "--yes"]);
    eventually("both serve", || serves(&status(&project)));
    if crashed {
        deploy.end("-KILL");
        project.clear_up();
    } else {
        deploy.end("-INT");
        project.sandbox.run(&["stop", "--yes"]).ok();
    }
    assert!(project.answer().is_none());
    project
}

#[test]
fn a_canary_that_was_not_judged_is_gone_on_with_at_its_step() {
    for crashed in [true, false] {
        for command in [["deploy", "--yes"], ["rollout", "resume"]] {
            let project = fallen(crashed);
            let plan = project.sandbox.run(&["plan"]).ok();
            let told = "api@r1 → api@r2, go on where a stopped run left off";
            assert!(plan.stdout.contains(told), "{plan:#?}");
            let deploy = project.sandbox.start(&command);
            eventually("both serve again", || serves_again(&status(&project)));
            project.sandbox.run(&["rollout", "next"]).ok();
            let ended = deploy.end("-0");
            assert_eq!(ended.code, 10, "{ended:#?}");
            project.change(&api("one"));
            project.is_clean("one");
            project.down();
        }
    }
}

#[test]
fn a_canary_that_is_gone_back_from_leaves_nothing() {
    for crashed in [true, false] {
        let project = fallen(crashed);
        project.sandbox.run(&["rollout", "abort"]).ok();
        project.change(&api("one"));
        project.is_clean("one");
        project.down();
    }
}

#[test]
fn a_canary_whose_saved_state_is_damaged_is_named_and_taken_back() {
    let project = Project::new(&api("one"));
    project.deploy().ok();
    project.change(&api("two"));
    let deploy = project.sandbox.start(&["deploy", "--yes"]);
    eventually("both serve", || serves(&status(&project)));
    deploy.end("-KILL");
    for copy in ["document", "copy"] {
        let path = project.state(&format!("store/rollouts/00000002/api.{copy}"));
        assert!(path.is_file(), "{}", path.display());
        std::fs::write(path, "{ half of it").expect("a file");
    }
    for verb in ["status", "resume", "pause"] {
        let seen = project.sandbox.run(&["rollout", verb]);
        assert_eq!(seen.code, 1, "{seen:#?}");
        for said in [
            "rollout::damaged",
            "rollouts/00000002/api",
            "`platform rollback`",
        ] {
            assert!(seen.stderr.contains(said), "`{said}` in {seen:#?}");
        }
    }
    let doctor = project.sandbox.run(&["doctor", "--format", "json"]);
    assert!(doctor.stdout.contains("api.document"), "{doctor:#?}");
    let seen = project.sandbox.run(&["rollout", "abort"]).ok();
    assert!(seen.stderr.contains("cannot be made out"), "{seen:#?}");
    project.change(&api("one"));
    project.is_clean("one");
    project.down();
}
