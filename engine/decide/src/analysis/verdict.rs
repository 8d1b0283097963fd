//! What the evidence shows, with its numbers.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, number};
use super::measure::MeasureEvidence;
use super::policy::{Margin, Policy, Undecided};
use super::sample_size::{exceedance, fixed_samples};
use super::tally::Tally;
use super::wealth::log_sum;

/// Part of the false rollback probability that is kept for the decision when the samples are used up.
pub(crate) const KEPT_FOR_THE_END: f64 = 0.1;

/// The same for the probability of a miss.
pub(crate) const MISSES_KEPT_FOR_THE_END: f64 = 0.35;

/// Part of the probability of a miss with which the final test is planned. More than what is kept, since most of the
/// regressions that it misses would have been missed before: docs/analysis.md has the measured sum.
const MISSES_AT_THE_END: f64 = 0.5;

/// A way of counting answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Bad answers.
    Errors,
    /// Slow answers.
    Slow,
}

impl Measure {
    /// What this way counts.
    pub fn count(self, tally: Tally) -> u64 {
        match self {
            Self::Errors => tally.bad,
            Self::Slow => tally.slow,
        }
    }
}

/// What a verdict rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The evidence of all looks.
    Evidence,
    /// The fixed-sample test, made once when the samples were used up.
    FinalTest,
    /// Nothing yet, and there is still time.
    Waiting,
    /// Nothing, and time or samples are used up.
    Expired,
}

/// What a rollout should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Advice {
    /// Keep the weights and look again.
    Hold,
    /// Go to the next step.
    Advance,
    /// Go back.
    RollBack,
}

/// What both sides did by one way of counting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeasureFinding {
    /// The way of counting.
    pub measure: Measure,
    /// Bad or slow answers of the baseline.
    pub baseline: u64,
    /// Bad or slow answers of the canary.
    pub canary: u64,
    /// The baseline's share, `0.0..=1.0`.
    pub baseline_share: f64,
    /// The canary's share, `0.0..=1.0`.
    pub canary_share: f64,
    /// What was allowed and what must not be missed.
    pub margin: Margin,
    /// Evidence that the canary is worse, as odds against chance: 100 is one in a hundred.
    pub odds_worse: f64,
    /// Evidence that the canary has no regression, likewise.
    pub odds_better: f64,
    /// Progress to each bound, `0.0..=1.0`.
    pub towards_worse: f64,
    /// Progress to the verdict "better or equal", `0.0..=1.0`.
    pub towards_better: f64,
    /// Estimated size of clumps in which such answers come; evidence was divided by it.
    pub clump: f64,
}

/// The numbers of a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What it rests on.
    pub basis: Basis,
    /// Requests that the baseline answered.
    pub baseline_requests: u64,
    /// Requests that the canary answered.
    pub canary_requests: u64,
    /// Requests of heavy clients that the baseline answered besides. They are in no comparison.
    #[serde(default)]
    pub baseline_left_out: u64,
    /// Those that the canary answered.
    #[serde(default)]
    pub canary_left_out: u64,
    /// Requests of each side before which nothing is called better or equal.
    #[serde(default)]
    pub samples_at_least: u64,
    /// Canary requests after which a decision is made.
    pub samples_at_most: u64,
    /// Time since the comparison began.
    pub elapsed: Duration,
    /// Time before which nothing is called better or equal.
    #[serde(default)]
    pub at_least: Duration,
    /// Time after which waiting ends.
    pub at_most: Duration,
    /// Evidence that the canary is worse in any way, `0.0..=1.0`; at 1 the verdict is `Worse`.
    pub towards_worse: f64,
    /// Evidence that it is better or equal in every way, `0.0..=1.0`.
    pub towards_better: f64,
    /// The measure that the verdict is about: the worst one.
    pub deciding: Option<Measure>,
    /// What to do now.
    pub advice: Advice,
    /// Both sides by each way of counting.
    pub measures: Vec<MeasureFinding>,
}

/// What the evidence shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// The canary is within every margin, or better.
    BetterOrEqual(Finding),
    /// The canary is worse than a margin allows.
    Worse(Finding),
    /// Neither is shown. Look again, unless [`Finding::basis`] says that waiting has ended.
    CannotTellYet(Finding),
    /// Waiting has ended and there were too few requests to compare. No traffic is no evidence.
    TooQuiet(Finding),
}

impl Verdict {
    /// Its numbers.
    pub fn finding(&self) -> &Finding {
        match self {
            Self::BetterOrEqual(finding)
            | Self::Worse(finding)
            | Self::CannotTellYet(finding)
            | Self::TooQuiet(finding) => finding,
        }
    }

    /// What a rollout should do.
    pub fn advice(&self) -> Advice {
        self.finding().advice
    }
}

/// Judges evidence under a policy.
pub(crate) fn judge(evidence: &Evidence, policy: &Policy, elapsed: Duration) -> Verdict {
    let total = evidence.total();
    let end = End::of(evidence, policy);
    let levels = Levels::of(evidence, policy);
    let enough = policy.min_samples.max(1);
    let mut finding = Finding {
        basis: Basis::Waiting,
        baseline_requests: total.baseline.requests,
        canary_requests: total.canary.requests,
        baseline_left_out: total.baseline.left_out,
        canary_left_out: total.canary.left_out,
        samples_at_least: enough,
        samples_at_most: end.samples_at_most,
        elapsed,
        at_least: policy.at_least,
        at_most: policy.at_most,
        towards_worse: levels.towards_worse(),
        towards_better: levels.towards_better(),
        deciding: levels.deciding(),
        advice: Advice::Hold,
        measures: levels.findings(evidence),
    };
    let quiet = total.canary.requests < enough || total.baseline.requests < enough;
    let decided = |finding: Finding, basis: Basis, worse: bool| {
        if worse {
            Verdict::Worse(Finding {
                basis,
                advice: Advice::RollBack,
                ..finding
            })
        } else {
            Verdict::BetterOrEqual(Finding {
                basis,
                advice: Advice::Advance,
                ..finding
            })
        }
    };
    if levels.worse >= 0.0 {
        return decided(finding, Basis::Evidence, true);
    }
    let ripe = !quiet && elapsed >= policy.at_least;
    if ripe && levels.better >= 0.0 {
        return decided(finding, Basis::Evidence, false);
    }
    if ripe && end.reached {
        if end.worse {
            return decided(finding, Basis::FinalTest, true);
        }
        if end.telling {
            return decided(finding, Basis::FinalTest, false);
        }
    }
    if elapsed < policy.at_most && !(ripe && end.reached) {
        return Verdict::CannotTellYet(finding);
    }
    finding.basis = Basis::Expired;
    finding.advice = match policy.undecided {
        Undecided::RollBack => Advice::RollBack,
        Undecided::Advance => Advice::Advance,
        Undecided::Hold => Advice::Hold,
    };
    if quiet {
        Verdict::TooQuiet(finding)
    } else {
        Verdict::CannotTellYet(finding)
    }
}

/// How far each measure is from its bounds, in logs; zero or more is there.
struct Levels {
    bound_worse: f64,
    bound_better: f64,
    /// Distance of all measures together.
    worse: f64,
    better: f64,
    each: Vec<(Measure, f64, f64)>,
}

impl Levels {
    fn of(evidence: &Evidence, policy: &Policy) -> Self {
        let alpha = policy.alpha() * (1.0 - KEPT_FOR_THE_END);
        let beta = policy.beta() * (1.0 - MISSES_KEPT_FOR_THE_END);
        let each: Vec<_> = evidence
            .measures()
            .iter()
            .map(|each| (each.measure, each.log_worse(), each.better.log_evidence()))
            .collect();
        // The mean of e-values is an e-value, however they depend on each other; and a canary is fine only when it is
        // fine in every way.
        let sum = each
            .iter()
            .map(|(_, worse, _)| *worse)
            .reduce(log_sum)
            .unwrap_or(f64::NEG_INFINITY);
        let mean = sum - number(each.len().max(1) as u64).ln();
        let least = each
            .iter()
            .map(|(_, _, better)| *better)
            .fold(f64::INFINITY, f64::min);
        Self {
            bound_worse: -alpha.ln(),
            bound_better: -beta.ln(),
            worse: mean + alpha.ln(),
            better: if each.is_empty() {
                f64::NEG_INFINITY
            } else {
                least + beta.ln()
            },
            each,
        }
    }

    fn towards_worse(&self) -> f64 {
        progress(self.worse + self.bound_worse, self.bound_worse)
    }

    fn towards_better(&self) -> f64 {
        progress(self.better + self.bound_better, self.bound_better)
    }

    fn deciding(&self) -> Option<Measure> {
        self.each
            .iter()
            .max_by(|left, right| left.1.total_cmp(&right.1))
            .map(|(measure, ..)| *measure)
    }

    fn findings(&self, evidence: &Evidence) -> Vec<MeasureFinding> {
        let total = evidence.total();
        let spread = number(self.each.len().max(1) as u64).ln();
        evidence
            .measures()
            .iter()
            .map(|each| {
                let (baseline, canary) = (
                    each.measure.count(total.baseline),
                    each.measure.count(total.canary),
                );
                MeasureFinding {
                    measure: each.measure,
                    baseline,
                    canary,
                    baseline_share: share(baseline, total.baseline.requests),
                    canary_share: share(canary, total.canary.requests),
                    margin: each.margin,
                    odds_worse: each.log_worse().min(700.0).exp(),
                    odds_better: each.better.log_evidence().min(700.0).exp(),
                    towards_worse: progress(each.log_worse(), self.bound_worse + spread),
                    towards_better: progress(each.better.log_evidence(), self.bound_better),
                    clump: each.clump().max(evidence.clump()),
                }
            })
            .collect()
    }
}

fn progress(log: f64, bound: f64) -> f64 {
    (log / bound).clamp(0.0, 1.0)
}

fn share(count: u64, of: u64) -> f64 {
    if of == 0 {
        0.0
    } else {
        number(count) / number(of)
    }
}

/// What happens when the samples are used up.
struct End {
    samples_at_most: u64,
    reached: bool,
    /// The final test finds the canary worse.
    worse: bool,
    /// The final test would have found a regression.
    telling: bool,
}

impl End {
    fn of(evidence: &Evidence, policy: &Policy) -> Self {
        let total = evidence.total();
        let needed = evidence
            .measures()
            .iter()
            .map(|each| needed(each, evidence, policy))
            .reduce(f64::max)
            .unwrap_or(f64::INFINITY);
        let at_most = policy.max_samples.map_or(needed, number);
        let canary = number(total.canary.requests);
        // A record has spent the final test's part of the probabilities on its bounds.
        let reached = canary >= at_most && total.baseline.requests > 0 && !evidence.is_recorded();
        let alone = number(policy.measures().max(1) as u64);
        let worse = reached
            && evidence.measures().iter().any(|each| {
                let count = |tally: Tally| (each.measure.count(tally), tally.requests);
                let clump = each.clump().max(evidence.clump());
                exceedance(
                    count(total.canary),
                    count(total.baseline),
                    each.margin.allowed,
                    clump,
                ) <= policy.alpha() * KEPT_FOR_THE_END / alone
            });
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive count"
        )]
        Self {
            samples_at_most: at_most.ceil() as u64,
            reached,
            worse,
            telling: canary >= needed,
        }
    }
}

/// Canary requests with which the final test finds a regression with the policy's probabilities.
fn needed(each: &MeasureEvidence, evidence: &Evidence, policy: &Policy) -> f64 {
    let total = evidence.total();
    let base = (number(each.measure.count(total.baseline)) + 0.5)
        / (number(total.baseline.requests) + 1.5 / each.margin.regression);
    let ratio = if total.baseline.requests == 0 || total.canary.requests == 0 {
        1.0
    } else {
        number(total.canary.requests) / number(total.baseline.requests)
    };
    let alone = number(policy.measures().max(1) as u64);
    let clump = each.clump().max(evidence.clump());
    clump
        * fixed_samples(
            base.min(0.9),
            each.margin.allowed,
            each.margin.regression,
            ratio,
            policy.alpha() * KEPT_FOR_THE_END / alone,
            policy.beta() * MISSES_AT_THE_END,
        )
}
