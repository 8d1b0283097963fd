//! A rollout whose run is killed at instants that nobody chose, under load.
//!
//! Two hundred of them, in four parts:
//!
//! ```sh
//! PLATFORM_TEST_LONG=1 cargo nextest run -p platform --test e2e --no-capture rollout::instants
//! ```

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::site::{STRATEGIES, Site};
use crate::load::Load;

/// Requests a second while runs are killed.
const RATE: u32 = 60;

/// Shares of the new release, in thousandths, at the end of each stage of [`STRATEGIES`].
const SHARES: [&[u64]; 3] = [&[0, 200, 500, 1000], &[0, 1000], &[0, 500, 1000]];

/// Knuth's MMIX generator.
struct Random(u64);

impl Random {
    fn permille(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % 1_000).expect("below 1000")
    }
}

/// What the gateway does and what is saved are no more than one step apart.
#[track_caller]
fn agrees(site: &Site, shares: &[u64], when: &str) {
    let status = site.run(&["status", "--format", "json"]).ok();
    let status = status.line("status");
    let groups = status["services"].as_array().expect("services");
    let share = |group: &Value| group["share"].as_u64().unwrap_or(0);
    let whole: u64 = groups.iter().map(share).sum();
    assert_eq!(whole, 1000, "{when}: {status:#}");
    let seen = site.run(&["rollout", "status", "--format", "json"]);
    if seen.code != 0 {
        return; // There has been none yet.
    }
    let state = seen.line("rollout_status");
    if state["over"] == true {
        return;
    }
    let new = &state["members"][0]["new"]["group"];
    let now = groups
        .iter()
        .find(|group| group["group"] == *new)
        .map_or(0, share);
    let forward = matches!(
        state["phase"].as_str(),
        Some("starting" | "held" | "serving")
    );
    let number = usize::try_from(state["stage_number"].as_u64().unwrap_or(1)).expect("a stage");
    let allowed = match state["phase"].as_str() {
        // Over as a rollout, and its run was killed before the release was finished with.
        Some("before-start" | "removing" | "after-back" | "rolled-back") => vec![0],
        Some("retiring" | "promoted") => vec![1000],
        _ if forward => shares[number - 1..=number].to_vec(),
        // On the way back they stay as they were, or are with the old release.
        Some("going-back") => [&[0][..], &shares[number - 1..=number]].concat(),
        phase => panic!("{when}: {phase:?} is no phase of a rollout under way"),
    };
    assert!(allowed.contains(&now), "{when}: {now} {state:#}");
}

#[expect(clippy::print_stderr, reason = "figures that are wanted")]
fn check(part: usize) {
    let rounds = if super::long() { 50 } else { 3 };
    let site = Site::deployed();
    let load = Load::on(site.project.port, RATE);
    let mut served = "one".to_owned();
    // How long an unharmed rollout takes here and now, by strategy.
    let mut whole = [Duration::ZERO; 3];
    let mut random = Random(u64::from(std::process::id()) * 4 + part as u64);
    let mut killed = 0;
    for round in part..part + rounds {
        let which = round % STRATEGIES.len();
        let strategy = STRATEGIES[which];
        if whole[which].is_zero() {
            served = format!("whole {round}");
            site.wants(&served, strategy, true);
            let begun = Instant::now();
            site.run(&["deploy"]).ok();
            whole[which] = begun.elapsed();
        }
        let instant = whole[which] * random.permille() / 1_000;
        let answer = format!("answer {round}");
        // A third of them is going to be refused at the end, so that ways back are cut off, too.
        let passes = !random.permille().is_multiple_of(3);
        site.wants(&answer, strategy, passes);
        let deploy = site.project.sandbox.start(&["deploy", "--yes"]);
        thread::sleep(instant);
        let ended = deploy.end("-KILL");
        killed += usize::from(ended.code == 128 + 9);
        let when = format!(
            "round {round} of {strategy:?}, ended with {} after {instant:?} of {:?}",
            ended.code, whole[which]
        );
        agrees(&site, SHARES[which], &when);
        let now = site.project.answer();
        let now = now.unwrap_or_else(|| panic!("no answer: {when}"));
        assert!(now == served || now == answer, "{now}: {when}");
        match round % 4 {
            // The same again finishes it.
            0 | 1 => {
                let finished = site.run(&["deploy"]);
                assert_eq!(
                    finished.code,
                    if passes { 0 } else { 10 },
                    "{when}: {finished:#?}"
                );
                if passes {
                    served = answer;
                }
            }
            // Another one takes its place.
            2 => {
                served = format!("other {round}");
                site.wants(&served, strategy, true);
                site.run(&["deploy"]).ok();
            }
            // What served is wanted back.
            _ => {
                let abort = site.run(&["rollout", "abort"]);
                if abort.code != 0 {
                    // It was over, so the blueprint says it.
                    assert!(abort.stderr.contains("rollout::none"), "{when}: {abort:#?}");
                    site.wants(&served, strategy, true);
                    site.run(&["deploy"]).ok();
                }
            }
        }
        site.serves(&served, &when);
        let left = load.so_far();
        assert_eq!(left.failed, 0, "{when}: {left:#?}");
    }
    let tally = load.end().unharmed();
    // The gateway goes on all the while, so no connection is closed under a request.
    assert_eq!(tally.cut, 0, "{tally:#?}");
    eprintln!(
        "killed at {killed} of {rounds} instants, {} requests answered with 200, {} not",
        tally.answered, tally.failed
    );
    site.project.down();
}

#[test]
fn a_rollout_killed_at_any_instant_comes_to_its_end_first_part() {
    check(0);
}

#[test]
fn a_rollout_killed_at_any_instant_comes_to_its_end_second_part() {
    check(1);
}

#[test]
fn a_rollout_killed_at_any_instant_comes_to_its_end_third_part() {
    check(2);
}

#[test]
fn a_rollout_killed_at_any_instant_comes_to_its_end_fourth_part() {
    check(3);
}
