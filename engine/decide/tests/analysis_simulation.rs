//! A small run of the simulation: enough to notice when the analysis stops keeping what it promises.
//!
//! The tables in `docs/analysis.md` come from the large one, `examples/simulate`.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a simulation, far below 2^52"
)]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "modules are shared with the example"
)]

#[path = "../examples/simulate/clients.rs"]
mod clients;
#[path = "../examples/simulate/crew.rs"]
mod crew;
#[path = "../../../services/gateway/src/crowd.rs"]
mod crowd;
#[path = "../examples/simulate/random.rs"]
mod random;
#[path = "../examples/simulate/traffic.rs"]
mod traffic;
#[path = "../examples/simulate/trial.rs"]
mod trial;

use std::time::Duration;

use clients::{Others, Population};
use platform_decide::analysis::{Look, Margin, Policy, Tally};
use traffic::{HeavyClient, Load, Scenario, Weather};
use trial::{End, Outcome};

const RUNS: u64 = 2000;

fn policy() -> Policy {
    Policy {
        errors: Some(Margin {
            allowed: 0.005,
            regression: 0.015,
        }),
        slow: None,
        at_least: Duration::ZERO,
        at_most: Duration::from_secs(1_000_000),
        ..Policy::default()
    }
}

fn runs(cell: u64, scenario: &Scenario, policy: &Policy) -> Vec<Outcome> {
    crew::repeat(RUNS, cell, |draws| trial::run(scenario, policy, draws))
}

/// Asserts that at most this share ended so, give or take what chance does once in a thousand times.
fn check_at_most(outcomes: &[Outcome], end: End, share: f64) {
    let seen = outcomes.iter().filter(|outcome| outcome.end == end).count() as f64;
    let runs = outcomes.len() as f64;
    let most = runs * share + 3.1 * (runs * share * (1.0 - share)).sqrt();
    assert!(
        seen <= most,
        "{seen} of {runs} ended {end:?}, at most {most:.0} expected"
    );
}

#[test]
fn false_rollbacks_stay_below_alpha() {
    let policy = Policy {
        errors: Some(Margin {
            allowed: 0.0,
            regression: 0.015,
        }),
        ..policy()
    };
    check_at_most(
        &runs(1, &Scenario::steady(0.005, 0.005), &policy),
        End::Worse,
        policy.alpha,
    );
}

/// Its errors say nothing of the release as long as each of its requests goes to a side by itself.
#[test]
fn one_heavy_client_that_goes_by_weight_is_no_regression() {
    let scenario = Scenario {
        weight: 0.05,
        heavy_client: Some(HeavyClient {
            share: 0.3,
            bad: 0.2,
        }),
        ..Scenario::steady(0.005, 0.005)
    };
    let policy = policy();
    check_at_most(&runs(9, &scenario, &policy), End::Worse, policy.alpha);
}

/// Those of one client in ten requests with 20 % errors, which stays with the side that its hash gives it.
#[test]
fn one_heavy_client_that_stays_with_a_side_is_left_out_and_no_regression() {
    let policy = policy();
    let ends = |leaves_out| {
        let population = Population {
            heavy: Some(HeavyClient {
                share: 0.1,
                bad: 0.2,
            }),
            leaves_out,
            ..Population::steady(Others::Alike(500), 0.5)
        };
        let known = population.known();
        crew::repeat(RUNS, 10, |draws| {
            let mut run = known.dealt(draws);
            let looks = population.looks_per_second;
            trial::follow(&policy, Tally::default(), looks, |_| run.look(draws))
        })
    };
    check_at_most(&ends(true), End::Worse, policy.alpha);
    let compared = ends(false);
    let worse = compared.iter().filter(|outcome| outcome.end == End::Worse);
    // So it is where its requests are compared, too: as often as it falls to the canary.
    assert!(worse.count() as f64 > 0.4 * RUNS as f64);
}

#[test]
fn false_rollbacks_stay_below_alpha_in_bad_weather() {
    let scenario = Scenario {
        load: Load::Bursty,
        weather: Weather::Shocks,
        weight: 0.25,
        ..Scenario::steady(0.005, 0.01)
    };
    check_at_most(&runs(2, &scenario, &policy()), End::Worse, policy().alpha);
}

#[test]
fn misses_stay_below_beta() {
    let scenario = Scenario {
        weight: 0.05,
        ..Scenario::steady(0.005, 0.02)
    };
    check_at_most(&runs(3, &scenario, &policy()), End::Better, policy().beta);
}

/// Clumps of 3 on average weigh as if all had 5 answers: the mean of their squares over their mean.
#[test]
fn clumps_that_are_stated_cost_requests_and_nothing_else() {
    let policy = Policy {
        clump: 5.0,
        ..policy()
    };
    let ends = |cell, canary| {
        let scenario = Scenario::steady(0.005, canary).in_clumps(3.0);
        runs(cell, &scenario, &policy)
    };
    check_at_most(&ends(14, 0.01), End::Worse, policy.alpha);
    check_at_most(&ends(15, 0.02), End::Better, policy.beta);
}

/// As a release that gets copies of what the old one is asked: a request that is bad for one is bad for the other, too.
#[test]
fn on_the_same_requests_it_errs_no_more_often() {
    let policy = policy();
    // Of a hundred requests two are bad on both sides, and of those of the new release so many more.
    let ends = |cell, more: f64| {
        crew::repeat(RUNS, cell, |draws| {
            trial::follow(&policy, Tally::default(), 4, |_| {
                let requests = 10;
                let both = draws.binomial(requests, 0.02);
                let of = |bad| Tally {
                    requests,
                    bad,
                    ..Tally::default()
                };
                Look {
                    baseline: of(both),
                    canary: of(both + draws.binomial(requests - both, more / 0.98)),
                }
            })
        })
    };
    check_at_most(&ends(11, 0.0), End::Worse, policy.alpha);
    check_at_most(&ends(12, 0.005), End::Worse, policy.alpha);
    check_at_most(&ends(13, 0.015), End::Better, policy.beta);
}

#[test]
fn one_bad_answer_in_five_is_caught_within_a_hundred_requests_on_average() {
    let outcomes = runs(4, &Scenario::steady(0.005, 0.2), &policy());
    check_at_most(&outcomes, End::Better, 0.001);
    let mean = outcomes
        .iter()
        .map(|outcome| outcome.canary_requests as f64)
        .sum::<f64>()
        / RUNS as f64;
    assert!(mean < 100.0, "{mean}");
}

#[test]
fn an_outage_is_caught_within_twenty_requests_on_average() {
    let scenario = Scenario {
        looks_per_second: 4,
        ..Scenario::steady(0.005, 1.0)
    };
    let outcomes = runs(5, &scenario, &policy());
    let mean = outcomes
        .iter()
        .map(|outcome| outcome.canary_requests as f64)
        .sum::<f64>()
        / RUNS as f64;
    assert!(mean < 20.0, "{mean}");
}
