//! The command line killed at each step and at any instant: what serves goes on, and the next run ends what was begun.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::project::{Api, Project};
use crate::load::Load;

/// Requests a second while commands are killed.
const RATE: u32 = 60;

fn long() -> bool {
    std::env::var("PLATFORM_TEST_LONG").is_ok_and(|value| value == "1")
}

/// Starts a deploy and kills it once `instant` says so; `false` where it ended by itself before.
fn killed_deploy(project: &Project, mut instant: impl FnMut(&str) -> bool) -> bool {
    let events = project.sandbox.project().join("events.jsonl");
    let _ = fs::remove_file(&events);
    let mut deploy = project
        .sandbox
        .start(&["deploy", "--yes", "--events", "events.jsonl"]);
    loop {
        let told = fs::read_to_string(&events).unwrap_or_default();
        if instant(&told) {
            deploy.child().kill().expect("it can be killed");
            let status = deploy.child().wait().expect("it ends");
            return status.code().is_none();
        }
        if deploy.child().try_wait().expect("its end").is_some() {
            return false;
        }
        thread::sleep(Duration::from_micros(200));
    }
}

fn steps_begun(told: &str) -> usize {
    let begun = |line: &&str| line.contains(r#""type":"apply_start""#);
    told.lines().filter(begun).count()
}

/// Lines that say that something was done or is about to be.
fn moves(told: &str) -> usize {
    let step =
        |line: &&str| line.contains(r#""type":"apply_"#) || line.contains(r#""rollout":"step""#);
    told.lines().filter(step).count()
}

#[test]
fn a_first_deploy_killed_at_each_step_is_finished() {
    for step in 1.. {
        let project = Project::new(&Api::good("one"));
        let killed = killed_deploy(&project, |told| steps_begun(told) >= step);
        project.deploy().ok();
        project.is_clean("one");
        project.down();
        if !killed {
            assert!(step > 5, "only {step} steps");
            return;
        }
    }
}

#[test]
fn a_first_deploy_killed_anywhere_is_taken_away_without_a_rest() {
    for step in [1, 3, 5] {
        let project = Project::new(&Api::good("one"));
        killed_deploy(&project, |told| steps_begun(told) >= step);
        project.down();
    }
}

#[test]
fn a_deploy_killed_at_each_step_is_finished_and_what_serves_goes_on() {
    let count = if long() { moves } else { steps_begun };
    let project = Project::deployed();
    let load = Load::on(project.port, RATE);
    for step in 1.. {
        let answer = format!("answer {step}");
        project.change(&Api::good(&answer));
        let killed = killed_deploy(&project, |told| count(told) >= step);
        let left = load.so_far();
        assert_eq!(left.failed, 0, "killed at step {step}: {left:#?}");
        let finished = project.deploy().ok();
        if killed {
            assert!(
                finished.stderr.contains("goes on where it stopped")
                    || finished.stderr.contains("nothing is left to do"),
                "{finished:#?}"
            );
        }
        project.is_clean(&answer);
        let left = load.so_far();
        assert_eq!(left.failed, 0, "finished after step {step}: {left:#?}");
        if !killed {
            assert!(step > 5, "only {step} steps");
            break;
        }
    }
    load.end().unharmed();
    project.down();
}

/// Kills a deploy at instants that nobody chose, 20 or just a few; five tests share them, so that none takes long.
fn check_instants(part: u32) {
    let rounds = if long() { 20 } else { 3 };
    let project = Project::deployed();
    let load = Load::on(project.port, RATE);
    // How long an unharmed deploy takes here and now.
    project.change(&Api::good("whole"));
    let begun = Instant::now();
    project.deploy().ok();
    let whole = begun.elapsed();
    let mut served = "whole".to_owned();
    let mut random = u64::from(std::process::id() * 5 + part);
    for round in part..part + rounds {
        // Knuth's MMIX generator.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let permille = u32::try_from((random >> 33) % 1_000).expect("below 1000");
        let instant = whole * permille / 1_000;
        let answer = format!("answer {round}");
        project.change(&Api::good(&answer));
        let begun = Instant::now();
        let killed = killed_deploy(&project, |_| begun.elapsed() >= instant);
        let when = format!("round {round}, killed after {instant:?} of {whole:?}: {killed}");
        let now = project
            .answer()
            .unwrap_or_else(|| panic!("no answer: {when}"));
        assert!(now == served || now == answer, "{now}: {when}");
        // The same again finishes it; another one replaces it; the one before takes it back.
        let wanted = match round % 3 {
            0 => answer.clone(),
            1 => format!("other {round}"),
            _ => served.clone(),
        };
        project.change(&Api::good(&wanted));
        project.deploy().ok();
        project.is_clean(&wanted);
        served = wanted;
        let left = load.so_far();
        assert_eq!(left.failed, 0, "{when}: {left:#?}");
    }
    load.end().unharmed();
    project.down();
}

#[test]
fn a_deploy_killed_at_any_instant_is_finished_or_replaced_first_part() {
    check_instants(0);
}

#[test]
fn a_deploy_killed_at_any_instant_is_finished_or_replaced_second_part() {
    check_instants(1);
}

#[test]
fn a_deploy_killed_at_any_instant_is_finished_or_replaced_third_part() {
    check_instants(2);
}

#[test]
fn a_deploy_killed_at_any_instant_is_finished_or_replaced_fourth_part() {
    check_instants(3);
}

#[test]
fn a_deploy_killed_at_any_instant_is_finished_or_replaced_fifth_part() {
    check_instants(4);
}
