//! Services that do not do what they should: the deploy ends there, says why, and what served goes on.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::project::{Api, Project};
use crate::load::Load;
use crate::sandbox::{Seen, eventually};

fn bad(manner: &'static str) -> Api {
    Api {
        answer: "bad".to_owned(),
        manner,
        keys: "",
    }
}

fn says(seen: &Seen, texts: &[&str]) {
    for text in texts {
        assert!(seen.stderr.contains(text), "`{text}` in {seen:#?}");
    }
}

/// Deploys a bad release over a good one: it is taken back, and says all of `texts`, the last lines of its log among them.
fn check_second(manner: &'static str, texts: &[&str]) {
    let project = Project::deployed();
    let load = Load::on(project.port, 100);
    project.change(&bad(manner));
    let seen = project.deploy();
    assert_eq!(seen.code, 10, "{seen:#?}");
    says(&seen, &["rollout::rolled-back", "r1 serves on", "help:"]);
    says(&seen, texts);
    load.end().unharmed();
    assert_eq!(project.instances().len(), 2, "{:?}", project.processes());
    // What was taken back is over: the good blueprint has nothing to do.
    project.change(&Api::good("one"));
    project.is_clean("one");
    // And the next good one is deployed as if nothing had been.
    project.change(&Api::good("two"));
    project.deploy().ok();
    project.is_clean("two");
    project.down();
}

/// Deploys a bad release where nothing serves: it fails, and says all of `texts`.
fn check_first(manner: &'static str, texts: &[&str]) {
    let project = Project::new(&bad(manner));
    let seen = project.deploy();
    assert_eq!(seen.code, 1, "{seen:#?}");
    says(&seen, &["deploy::", "start api@r1", "help:"]);
    says(&seen, texts);
    // Mended, it comes up.
    project.change(&Api::good("mended"));
    project.deploy().ok();
    project.is_clean("mended");
    project.down();
}

const NEVER_READY: &[&str] = &[
    "was not ready within 3s",
    "GET /health answered 503",
    "starting as api@r",
];
const CRASH: &[&str] = &["exit code 3", "cannot find my configuration"];
const EXIT_0: &[&str] = &["exit code 0", "all done, goodbye"];
const WRONG_PORT: &[&str] = &["listens on port", "in place of", "starting as api@r"];

#[test]
fn what_never_becomes_ready_is_taken_back() {
    check_second("never-ready", NEVER_READY);
}

#[test]
fn what_never_becomes_ready_fails_the_first_time() {
    check_first("never-ready", NEVER_READY);
}

#[test]
fn what_crashes_at_start_is_taken_back() {
    check_second("crash", CRASH);
}

#[test]
fn what_crashes_at_start_fails_the_first_time() {
    check_first("crash", CRASH);
}

#[test]
fn what_ends_with_0_is_taken_back() {
    check_second("exit-0", EXIT_0);
}

#[test]
fn what_ends_with_0_fails_the_first_time() {
    check_first("exit-0", &[EXIT_0, &["kind = \"job\""]].concat());
}

#[test]
fn what_listens_elsewhere_is_taken_back() {
    check_second("wrong-port", WRONG_PORT);
}

#[test]
fn what_listens_elsewhere_fails_the_first_time() {
    check_first("wrong-port", WRONG_PORT);
}

#[test]
fn what_ignores_sigterm_is_replaced_all_the_same() {
    let deaf = Api {
        answer: "deaf".to_owned(),
        manner: "deaf",
        keys: "stop = { grace = \"500ms\" }",
    };
    let project = Project::new(&deaf);
    project.deploy().ok();
    project.is_clean("deaf");
    let load = Load::on(project.port, 100);
    project.change(&Api::good("two"));
    project.deploy().ok();
    load.end().unharmed();
    project.is_clean("two");
    project.change(&deaf);
    project.deploy().ok();
    let begun = Instant::now();
    project.sandbox.run(&["stop", "--yes"]).ok();
    assert!(begun.elapsed() < Duration::from_secs(10));
    eventually("nothing runs", || project.instances().is_empty());
    project.down();
}

fn size(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.metadata().ok())
        .map(|seen| seen.len())
        .sum()
}

#[test]
fn what_floods_its_log_fills_no_disk_and_slows_nobody() {
    let flood = Api {
        answer: "flood".to_owned(),
        manner: "flood",
        keys: "logs = { max_size = \"256KiB\", keep = 2 }",
    };
    let project = Project::deployed();
    let load = Load::on(project.port, 50);
    project.change(&flood);
    project.deploy().ok();
    let folder = project.state("logs/api");
    eventually("the log was rotated", || {
        let files = fs::read_dir(&folder).into_iter().flatten().count();
        files >= 2 * 3
    });
    let begun = Instant::now();
    project.sandbox.run(&["status", "--detailed-exitcode"]).ok();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "status took {took:?}");
    let tail = project.sandbox.run(&["logs", "api", "--tail", "5"]).ok();
    assert!(tail.stdout.contains("all is well"), "{tail:#?}");
    // Two instances, each with its file and two before it, and what was written between looking and turning.
    let size = size(&folder);
    assert!(size < 2 * 4 * (256 << 10), "{size} bytes of log");
    project.change(&Api::good("two"));
    project.deploy().ok();
    load.end().unharmed();
    project.is_clean("two");
    project.down();
}

/// Whether the agent can hold a service to a limit of memory here.
fn limits_hold(project: &Project) -> bool {
    let doctor = project.sandbox.run(&["doctor", "--format", "json"]);
    doctor.stdout.contains("processor time and memory")
        || doctor.stdout.contains("memory can be enforced")
}

#[test]
fn what_leaks_past_its_limit_is_ended_alone() {
    let leak = Api {
        answer: "leak".to_owned(),
        manner: "leak",
        keys: "limits = { memory = \"48MiB\" }",
    };
    let project = Project::deployed();
    if !limits_hold(&project) {
        super::skipped("no control group for memory is writable here");
        project.down();
        return;
    }
    // It is good until it has been ready for a while, so it is not the deploy that sees it, but the agent.
    project.change(&leak);
    let seen = project.deploy();
    assert!([0, 10].contains(&seen.code), "{seen:#?}");
    if seen.code == 10 {
        says(&seen, &["more memory than its limit", "r1 serves on"]);
    } else {
        eventually("it was ended for its memory", || {
            let seen = project.sandbox.run(&["status", "--format", "json"]).ok();
            seen.stdout.contains("out of memory") || seen.stdout.contains("more memory than")
        });
        project.sandbox.run(&["rollback", "--yes"]).ok();
    }
    eventually("the good release serves", || {
        project.answer().as_deref() == Some("one")
    });
    project.down();
}
