//! Two at once, twice in a row, stopped and started, and a clock that jumps.

use std::fs;
use std::time::{Duration, Instant};

use super::project::{Api, Project};
use crate::load::Load;
use crate::responder::ask;
use crate::sandbox::{Running, eventually};

/// A deploy that takes some seconds, once it holds the lock.
fn slow_deploy(project: &Project) -> Running {
    project.change(&Api {
        answer: "slow".to_owned(),
        manner: "never-ready",
        keys: "",
    });
    let deploy = project.sandbox.start(&["deploy", "--yes"]);
    eventually("it holds the lock", || {
        let status = project.sandbox.run(&["status", "--format", "json"]).ok();
        status.line("status")["run"]["command"] == "platform deploy"
    });
    deploy
}

#[test]
fn of_two_deploys_at_once_the_second_says_who_holds_the_lock_or_waits() {
    let project = Project::deployed();
    let mut first = slow_deploy(&project);
    let holder = first.child().id();
    eventually("it is rolling out", || {
        let status = project
            .sandbox
            .run(&["rollout", "status", "--format", "json"]);
        status.code == 0 && status.line("rollout_status")["over"] == false
    });
    project.change(&Api::good("one"));
    let second = project.deploy();
    assert_eq!(second.code, 75, "{second:#?}");
    for text in [
        "rollout::under-way",
        "`platform deploy`",
        "tester@",
        &holder.to_string(),
        "--lock-timeout",
        "--replace",
    ] {
        assert!(second.stderr.contains(text), "`{text}` in {second:#?}");
    }
    // It waits until the first, which fails and is taken back, is over; then everything is as this one wants it.
    let third = project
        .sandbox
        .run(&["deploy", "--yes", "--lock-timeout", "60s"])
        .ok();
    assert!(third.stdout.contains("nothing to do"), "{third:#?}");
    assert!(third.stderr.contains("waiting for"), "{third:#?}");
    let first = first.end("-0");
    assert_eq!(first.code, 10, "{first:#?}");
    project.is_clean("one");
    project.down();
}

#[test]
fn a_lock_whose_holder_was_killed_is_in_nobodys_way() {
    let project = Project::deployed();
    let mut first = slow_deploy(&project);
    first.child().kill().expect("it can be killed");
    first.child().wait().expect("it ends");
    project.change(&Api::good("two"));
    let begun = Instant::now();
    project.deploy().ok();
    assert!(begun.elapsed() < Duration::from_secs(10));
    project.is_clean("two");
    project.down();
}

#[test]
fn what_is_as_asked_is_left_alone() {
    let project = Project::deployed();
    let before = (project.instances(), project.gateways());
    let again = project.deploy().ok();
    assert!(again.stdout.contains("nothing to do"), "{again:#?}");
    let plan = |code| {
        let seen = project.sandbox.run(&["plan", "--detailed-exitcode"]);
        assert_eq!(seen.code, code, "{seen:#?}");
    };
    plan(0);
    assert_eq!((project.instances(), project.gateways()), before);
    project.change(&Api::good("two"));
    plan(2);
    // Planning changed nothing.
    assert_eq!((project.instances(), project.gateways()), before);
    assert_eq!(project.answer().as_deref(), Some("one"));
    let releases = project.sandbox.run(&["releases", "--format", "json"]).ok();
    let releases = releases.line("releases");
    assert_eq!(releases["releases"].as_array().map(Vec::len), Some(1));
    project.down();
}

#[test]
fn data_outlives_stopping_and_destroying_until_it_is_not_wanted() {
    let project = Project::deployed();
    assert_eq!(
        ask(project.port, "/keep/treasure").as_deref(),
        Some("treasure")
    );
    project.sandbox.run(&["stop", "--yes"]).ok();
    eventually("nothing runs", || project.processes().is_empty());
    let stopped = project.sandbox.run(&["status", "--detailed-exitcode"]);
    assert_eq!(stopped.code, 2, "{stopped:#?}");
    project.deploy().ok();
    assert_eq!(ask(project.port, "/kept").as_deref(), Some("treasure"));
    project.is_clean("one");
    project.sandbox.run(&["destroy", "--yes"]).ok();
    eventually("nothing runs", || project.processes().is_empty());
    project.deploy().ok();
    assert_eq!(ask(project.port, "/kept").as_deref(), Some("treasure"));
    project.sandbox.run(&["destroy", "--yes", "--data"]).ok();
    project.deploy().ok();
    assert_eq!(ask(project.port, "/kept").as_deref(), Some(""));
    project.down();
}

/// Where Debian and others keep the library that gives a program another time of day.
const FAKETIME: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// `platform` as a program that a library can be put before: as it was built here, or as `.ci/loaded` builds it.
fn loaded() -> Option<String> {
    let own = env!("CARGO_BIN_EXE_platform").to_owned();
    let named = std::env::var("PLATFORM_TEST_LOADED").ok();
    named
        .into_iter()
        .chain([own])
        .find(|program| platform_image::static_program(program.as_ref()).is_err())
}

#[test]
fn a_clock_that_jumps_confuses_nobody() {
    let Some(library) = FAKETIME.iter().find(|path| fs::metadata(path).is_ok()) else {
        super::skipped("libfaketime is not installed");
        return;
    };
    let Some(program) = loaded() else {
        super::skipped("`platform` is static, and PLATFORM_TEST_LOADED names no other");
        return;
    };
    let mut project = Project::new(&Api::good("one"));
    project.sandbox.run_by(&program);
    project.deploy().ok();
    let load = Load::on(project.port, 100);
    project.sandbox.set("LD_PRELOAD", *library);
    // A clock that is set, not a machine that slept.
    project.sandbox.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    for (round, jump) in ["+3650d", "-3650d", "+1h", "-1h"].into_iter().enumerate() {
        project.sandbox.set("FAKETIME", jump);
        if round % 2 == 1 {
            // The agent, too, comes back with a clock that was set.
            let agent = project.agent("process").expect("an agent");
            super::project::kill(agent, nix::sys::signal::Signal::SIGKILL);
            eventually("another agent is there", || {
                project.agent("process").is_some_and(|pid| pid != agent)
            });
        }
        // A run that was killed at another time of day holds no lock.
        let mut killed = slow_deploy(&project);
        killed.child().kill().expect("it can be killed");
        killed.child().wait().expect("it ends");
        let answer = format!("answer {round}");
        project.change(&Api::good(&answer));
        project.deploy().ok();
        project.is_clean(&answer);
        let logs = project.sandbox.run(&["logs", "api"]).ok();
        assert!(logs.stdout.contains("starting as"), "{logs:#?}");
    }
    load.end().unharmed();
    project.down();
}
