//! Runs of the analysis itself.

use std::time::Duration;

use platform_decide::analysis::{Basis, Evidence, Look, Policy, Tally, Verdict};

use crate::random::Draws;
use crate::traffic::Scenario;

/// How one run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Found worse.
    Worse,
    /// Found better or equal.
    Better,
    /// Neither in the time there was.
    Open,
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Whether the final test decided.
    pub by_final_test: bool,
    /// Requests that the canary answered until then.
    pub canary_requests: u64,
    /// Bad answers of the canary until then.
    pub canary_bad: u64,
    /// Time until then.
    pub elapsed: Duration,
}

/// Runs the analysis once.
pub fn run(scenario: &Scenario, policy: &Policy, draws: &mut Draws) -> Outcome {
    let before = scenario.history(draws);
    follow(policy, before, scenario.looks_per_second, |look| {
        scenario.look(look, draws)
    })
}

/// Runs the analysis once on what each look brings.
///
/// - `before`: what the old release answered before
pub fn follow(
    policy: &Policy,
    before: Tally,
    looks_per_second: u64,
    mut next: impl FnMut(u64) -> Look,
) -> Outcome {
    let mut evidence = Evidence::knowing(policy, before);
    let mut looks = 0;
    loop {
        evidence.observe(next(looks));
        looks += 1;
        let elapsed = Duration::from_secs(looks) / u32::try_from(looks_per_second).unwrap_or(1);
        let verdict = evidence.verdict(policy, elapsed);
        let finding = verdict.finding();
        let end = match &verdict {
            Verdict::Worse(_) => End::Worse,
            Verdict::BetterOrEqual(_) => End::Better,
            _ if finding.basis == Basis::Expired => End::Open,
            _ => continue,
        };
        let canary = evidence.total().canary;
        return Outcome {
            end,
            by_final_test: finding.basis == Basis::FinalTest,
            canary_requests: canary.requests,
            canary_bad: canary.bad,
            elapsed,
        };
    }
}
