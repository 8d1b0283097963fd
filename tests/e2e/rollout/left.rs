//! A rollout whose run is gone, halted, or better left alone while somebody asks for it back; and one whose blueprint is wrong.

use serde_json::Value;

use crate::sandbox::{Running, Seen, eventually};
use crate::terminal::Asking;
use crate::withstand::project::{Api, Project};

/// A canary that stays at its only step until somebody sends it on.
const STAYS: &str = r#"[rollout]
strategy = "canary"
steps = ["50%"]
hold = "10m"
bake = "0s"
analysis = false
"#;

/// The same, with a gate that answers on the way back only once the file `hold` is gone.
const HELD_BACK: &str = r#"gates = [{ when = "after-rollback", timeout = "10m", command = ["sh", "-c", "while test -e hold; do sleep 0.1; done"] }]
"#;

const PROTECTED: &str = r#"
[environments.local]
provider = "process"
protected = true
"#;

/// `one` serves, and `two` is half-way there.
fn half_way(policy: &str) -> (Project, Running) {
    let project = Project::deployed();
    wants(&project, "two", policy);
    let deploy = project.sandbox.start(&["deploy", "--yes"]);
    eventually("both serve", || phase(&project) == "serving");
    (project, deploy)
}

fn wants(project: &Project, answer: &str, policy: &str) {
    project.change(&Api::good(answer));
    let text = project.sandbox.read("platform.toml");
    let (head, _) = text.split_once("[rollout]").expect("a policy");
    let text = format!("{head}{STAYS}{policy}");
    project.sandbox.write("platform.toml", &text);
}

fn status(project: &Project) -> Value {
    let seen = project
        .sandbox
        .run(&["rollout", "status", "--format", "json"]);
    if seen.code == 0 {
        seen.line("rollout_status")
    } else {
        Value::Null
    }
}

fn phase(project: &Project) -> String {
    let status = status(project);
    status["phase"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn says(seen: &Seen, code: i32, said: &[&str]) {
    assert_eq!(seen.code, code, "{seen:#?}");
    for said in said {
        assert!(seen.stderr.contains(said), "`{said}` in {seen:#?}");
    }
}

/// Only `answer` is there, and nothing is left half-way.
#[track_caller]
fn serves(project: &Project, answer: &str) {
    assert_eq!(project.answer().as_deref(), Some(answer));
    let seen = project.sandbox.run(&["status", "--format", "json"]).ok();
    let status = seen.line("status");
    assert!(status["unfinished"].is_null(), "{status:#}");
    let services = status["services"].as_array().expect("services");
    assert_eq!(services.len(), 1, "{status:#}");
    assert_eq!(services[0]["share"], 1000, "{status:#}");
}

#[test]
fn whoever_waits_for_a_way_back_goes_it_where_its_run_is_killed() {
    for (verbs, answer) in [
        (["rollback", "--yes"].as_slice(), "one"),
        (&["rollout", "abort", "--wait"], "one"),
        (&["deploy", "--yes", "--replace"], "three"),
    ] {
        let (project, deploy) = half_way(HELD_BACK);
        project.sandbox.write("hold", "");
        if answer == "three" {
            project.change(&Api::good("three"));
        }
        let waits = project.sandbox.start(verbs);
        // The word was heard, and the run is on its way back.
        eventually("the gate is asked", || {
            !["serving", ""].contains(&phase(&project).as_str())
        });
        deploy.end("-KILL");
        let seen = waits.wait();
        says(&seen, 0, &["is gone; this run goes on in its place"]);
        serves(&project, answer);
        std::fs::remove_file(project.sandbox.project().join("hold")).expect("a file removed");
        project.down();
    }
}

#[test]
fn whoever_sends_it_on_and_waits_goes_on_where_its_run_is_killed() {
    const ASKED: &str = r#"gates = [{ when = "before-start", timeout = "10m", command = ["sh", "-c", "while test -e hold; do sleep 0.1; done"] }]
"#;
    let project = Project::deployed();
    project.sandbox.write("hold", "");
    wants(&project, "two", ASKED);
    let deploy = project.sandbox.start(&["deploy", "--yes"]);
    eventually("the gate is asked", || {
        phase(&project).starts_with("before")
    });
    let next = project.sandbox.run(&["rollout", "next"]);
    says(&next, 0, &["a gate is waited for before anything starts"]);
    let mut waits = project.sandbox.start(&["rollout", "pause", "--wait"]);
    let told = waits.until_told("paused it");
    assert!(!told.contains("gone"), "{told}");
    deploy.end("-KILL");
    let paused = waits.wait();
    says(
        &paused,
        1,
        &["is gone", "rollout::no-driver", "rollout resume"],
    );
    std::fs::remove_file(project.sandbox.project().join("hold")).expect("a file removed");
    project.sandbox.run(&["rollout", "promote", "--wait"]).ok();
    serves(&project, "two");
    project.down();
}

#[test]
fn what_cannot_be_done_or_is_not_agreed_to_takes_no_rollout_back() {
    let (project, deploy) = half_way("");
    let untouched = |seen: &Seen, code: i32, said: &[&str]| {
        says(seen, code, said);
        assert!(!seen.stderr.contains("taking back"), "{seen:#?}");
        let status = status(&project);
        assert_eq!(status["phase"], "serving", "{status:#}");
        assert!(status["driver"].is_string(), "{status:#}");
    };
    let run = |verbs: &[&str]| project.sandbox.run(verbs);
    untouched(
        &run(&["rollback", "r99", "--yes"]),
        1,
        &["rollback::unknown-release"],
    );
    untouched(
        &run(&["rollback", "r2", "--yes"]),
        1,
        &["rollback::under-way", "rollout promote"],
    );
    untouched(
        &run(&["deploy", "--yes", "--replace", "--timeout", "0s"]),
        64,
        &["--timeout", "no rollout ends"],
    );
    let good = project.sandbox.read("platform.toml");
    let fails = good.replace(
        "port = 9000\n",
        "port = 9000\nbuild = { command = \"exit 3\", output = \"x\" }\n",
    );
    assert_ne!(fails, good);
    project.sandbox.write("platform.toml", &fails);
    untouched(
        &run(&["deploy", "--yes", "--replace"]),
        1,
        &["build::failed"],
    );
    project
        .sandbox
        .write("platform.toml", &format!("{good}{PROTECTED}"));
    for verbs in [
        ["deploy", "--replace"].as_slice(),
        &["rollback"],
        &["rollback", "r1"],
    ] {
        untouched(
            &run(verbs),
            64,
            &["usage::needs-yes", "Take back the canary"],
        );
    }
    // An emergency stop stays one word.
    run(&["rollout", "abort", "--wait"]).ok();
    assert_eq!(deploy.wait().code, 10);
    serves(&project, "one");
    project.down();
}

#[test]
fn who_agrees_to_replace_a_rollout_is_asked_once() {
    let (project, deploy) = half_way("");
    wants(&project, "three", "");
    let good = project.sandbox.read("platform.toml");
    let moves = good.replace("hold = \"10m\"", "hold = \"0s\"");
    project
        .sandbox
        .write("platform.toml", &format!("{moves}{PROTECTED}"));
    let asking = Asking::until(&project.sandbox, &["deploy", "--replace"]);
    assert!(asking.shown.contains("Take back the canary"));
    let (replaced, _) = asking.agree();
    replaced.ok();
    assert_eq!(deploy.wait().code, 10);
    serves(&project, "three");
    project.down();
}

#[test]
fn a_run_that_is_halted_is_got_round_as_the_help_says() {
    let (project, mut deploy) = half_way("");
    let id = deploy.child().id().to_string();
    let signal = |signal: &str| {
        let sent = std::process::Command::new("kill")
            .args([signal, &id])
            .status();
        assert!(sent.expect("kill runs").success());
    };
    signal("-STOP");
    let deaf = project.sandbox.run(&["rollout", "abort"]);
    says(
        &deaf,
        1,
        &["rollout::not-heard", "`platform unlock --force`"],
    );
    project.sandbox.run(&["unlock", "--force", "--yes"]).ok();
    project.sandbox.run(&["rollback", "--yes"]).ok();
    signal("-CONT");
    let ended = deploy.wait();
    says(&ended, 75, &["the lock was lost to another run"]);
    serves(&project, "one");
    project.down();
}

#[test]
fn a_blueprint_with_mistakes_keeps_nobody_from_steering_what_is_deployed() {
    let (project, deploy) = half_way("");
    let good = project.sandbox.read("platform.toml");
    let run = |verbs: &[&str]| project.sandbox.run(verbs);
    let mistakes = [
        good.replace("port = 9000", "prot = 9000"),
        good.replace("port = 9000", "port = "),
        // Nothing of this can be read for certain.
        good.replace("[project]", "[project"),
        good.replace("name = \"shop\"", "nmae = \"shop\""),
    ];
    for mistake in &mistakes {
        assert_ne!(*mistake, good);
        project.sandbox.write("platform.toml", mistake);
        for (verbs, shows) in [
            (["rollout", "pause"].as_slice(), ""),
            (&["rollout", "status"], "api@r2"),
            (&["rollout", "resume"], ""),
            (&["status"], "release r1"),
        ] {
            let seen = run(verbs);
            says(
                &seen,
                0,
                &[
                    "blueprint::set-aside",
                    "is not a valid blueprint, with `blueprint::",
                ],
            );
            assert!(seen.stdout.contains(shows), "{verbs:?}: {seen:#?}");
        }
        let refused = run(&["deploy", "--yes"]);
        assert_eq!(refused.code, 65, "{refused:#?}");
    }
    run(&["rollout", "abort", "--wait"]).ok();
    assert_eq!(deploy.wait().code, 10);
    serves(&project, "one");

    project.sandbox.write("platform.toml", &good);
    let deploy = project.sandbox.start(&["deploy", "--yes"]);
    eventually("both serve", || phase(&project) == "serving");
    deploy.end("-KILL");
    project.sandbox.write("platform.toml", &mistakes[0]);
    run(&["rollback"]).ok();
    serves(&project, "one");

    project.sandbox.write("platform.toml", &good);
    let deploy = project.sandbox.start(&["deploy", "--yes"]);
    eventually("both serve", || phase(&project) == "serving");
    deploy.end("-KILL");
    project.sandbox.write("platform.toml", &mistakes[2]);
    // Whether it is protected nobody can tell.
    says(&run(&["rollback"]), 64, &["usage::needs-yes"]);
    run(&["rollout", "abort"]).ok();
    serves(&project, "one");
    project.sandbox.write("platform.toml", &good);
    project.down();
}
