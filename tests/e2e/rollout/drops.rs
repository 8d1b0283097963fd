//! Promotions and rollbacks one after another under constant load: no request fails.
//!
//! Twenty of each, for every strategy:
//!
//! ```sh
//! PLATFORM_TEST_LONG=1 cargo nextest run -p platform --test e2e --no-capture rollout::drops
//! ```

use super::site::{STRATEGIES, Site};
use crate::load::Load;

/// Requests a second, whatever becomes of those before.
const RATE: u32 = 100;

#[expect(clippy::print_stderr, reason = "figures that are wanted")]
fn check(strategy: &str) {
    let rounds = if super::long() { 20 } else { 2 };
    let site = Site::deployed();
    let load = Load::on(site.project.port, RATE);
    let mut served = "one".to_owned();
    for round in 1..=rounds {
        let when = format!("round {round} of {strategy}");
        let answer = format!("answer {round}");
        site.wants(&answer, strategy, true);
        site.run(&["deploy"]).ok();
        site.serves(&answer, &when);
        if round % 2 == 0 {
            // Refused at its end, with instances and traffic of both releases.
            served = answer;
            site.wants(&format!("refused {round}"), strategy, false);
            let refused = site.run(&["deploy"]);
            assert_eq!(refused.code, 10, "{when}: {refused:#?}");
        } else {
            // Taken back after it was promoted.
            site.run(&["rollback"]).ok();
        }
        site.serves(&served, &when);
        let left = load.so_far();
        assert_eq!(left.failed, 0, "{when}: {left:#?}");
    }
    let tally = load.end().unharmed();
    // The gateway goes on all the while, so no connection is closed under a request.
    assert_eq!(tally.cut, 0, "{tally:#?}");
    eprintln!(
        "{strategy:?}: {rounds} promotions and {rounds} rollbacks, {} requests answered with 200, {} not; the slowest took {:?}",
        tally.answered, tally.failed, tally.slowest
    );
    site.project.down();
}

#[test]
fn no_request_fails_while_canaries_come_and_go() {
    check(STRATEGIES[0]);
}

#[test]
fn no_request_fails_while_colours_come_and_go() {
    check(STRATEGIES[1]);
}

#[test]
fn no_request_fails_while_batches_come_and_go() {
    check(STRATEGIES[2]);
}
