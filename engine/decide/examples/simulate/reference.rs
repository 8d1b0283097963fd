//! What the analysis is measured against: Wald's test for someone who knows both rates.

use platform_decide::analysis::{Margin, Rates, exceedance, least_favourable};

use crate::random::Draws;
use crate::trial::End;

/// The sequential probability ratio test of the true pair of rates against the pair of the opposite hypothesis that is
/// hardest to tell from it, with Wald's bounds. Nobody who has to learn the rates can do better on both sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wald {
    truth: Rates,
    other: Rates,
    worse: bool,
    weight: f64,
    upper: f64,
    lower: f64,
    probabilities: (f64, f64),
}

impl Wald {
    /// The test for a cell, if its truth belongs to one of the hypotheses.
    pub fn new(truth: Rates, margin: Margin, weight: f64, alpha: f64, beta: f64) -> Option<Self> {
        let difference = truth.canary - truth.baseline;
        let worse = difference > margin.allowed + 1e-12;
        if worse && difference < margin.regression - 1e-12 {
            return None;
        }
        let edge = if worse {
            margin.allowed
        } else {
            margin.regression
        };
        let base = least_favourable(edge, truth, weight)?;
        let (false_alarm, miss) = if worse { (alpha, beta) } else { (beta, alpha) };
        Some(Self {
            truth,
            other: Rates {
                baseline: base,
                canary: base + edge,
            },
            worse,
            weight,
            upper: ((1.0 - miss) / false_alarm).ln(),
            lower: (miss / (1.0 - false_alarm)).ln(),
            probabilities: (alpha, beta),
        })
    }

    /// The same test when it errs on this cell's truth as rarely as this.
    pub fn erring(self, rarely: f64) -> Self {
        let (alpha, beta) = self.probabilities;
        let false_alarm = if self.worse { alpha } else { beta };
        Self {
            upper: ((1.0 - rarely) / false_alarm).ln(),
            lower: (rarely / (1.0 - false_alarm)).ln(),
            ..self
        }
    }

    /// The end that is right on this cell.
    pub fn right_end(&self) -> End {
        if self.worse { End::Worse } else { End::Better }
    }

    /// Wald's lower bound for the mean number of canary requests of any test with these error probabilities that
    /// compares the two sides.
    pub fn bound(&self) -> f64 {
        let information = divergence(self.truth.canary, self.other.canary)
            + (1.0 - self.weight) / self.weight
                * divergence(self.truth.baseline, self.other.baseline);
        self.nats() / information
    }

    /// The same for a test that knows the baseline's rate and looks at the canary alone.
    pub fn one_sample_bound(&self, margin: Margin) -> f64 {
        let edge = if self.worse {
            margin.allowed
        } else {
            margin.regression
        };
        self.nats() / divergence(self.truth.canary, self.truth.baseline + edge)
    }

    fn nats(&self) -> f64 {
        let miss = (self.lower.exp() * (1.0 - (-self.upper).exp())
            / (1.0 - (self.lower - self.upper).exp()))
        .min(0.5);
        (1.0 - miss) * self.upper + miss * self.lower
    }

    /// Runs the test once, request by request: canary requests until the end, and the end. Requests up to the next bad
    /// answer are drawn at once.
    pub fn run(&self, draws: &mut Draws) -> (End, u64) {
        let of_baseline = ((1.0 - self.weight) / self.weight).round() as u64;
        let canary = Ratio::new(self.truth.canary, self.other.canary);
        let baseline = Ratio::new(self.truth.baseline, self.other.baseline);
        let all_good = canary.of(0, 1) + baseline.of(0, of_baseline);
        let quiet =
            (-self.truth.canary).ln_1p() + of_baseline as f64 * (-self.truth.baseline).ln_1p();
        let mut log = 0.0;
        let mut requests = 0;
        loop {
            let good = ((1.0 - draws.uniform()).ln() / quiet).floor();
            let bound = if all_good > 0.0 {
                self.upper
            } else {
                self.lower
            };
            let reach = ((bound - log) / all_good).ceil();
            if reach <= good {
                requests += reach as u64;
                log = bound;
            } else {
                requests += good as u64 + 1;
                let some = 1.0 - quiet.exp();
                let canary_bad = u64::from(draws.uniform() * some < self.truth.canary);
                let mut baseline_bad = draws.binomial(of_baseline, self.truth.baseline);
                while canary_bad + baseline_bad == 0 {
                    baseline_bad = draws.binomial(of_baseline, self.truth.baseline);
                }
                log += good * all_good
                    + canary.of(canary_bad, 1)
                    + baseline.of(baseline_bad, of_baseline);
            }
            if log >= self.upper || log <= self.lower {
                break;
            }
        }
        let right = log >= self.upper;
        (
            if right == self.worse {
                End::Worse
            } else {
                End::Better
            },
            requests,
        )
    }
}

struct Ratio {
    bad: f64,
    good: f64,
}

impl Ratio {
    fn new(truth: f64, other: f64) -> Self {
        Self {
            bad: (truth / other).ln(),
            good: ((1.0 - truth) / (1.0 - other)).ln(),
        }
    }

    fn of(&self, bad: u64, requests: u64) -> f64 {
        bad as f64 * self.bad + (requests - bad) as f64 * self.good
    }
}

/// Kullback-Leibler divergence of two Bernoulli rates, in nats.
fn divergence(truth: f64, other: f64) -> f64 {
    let part = |truth: f64, other: f64| {
        if truth > 0.0 {
            truth * (truth / other).ln()
        } else {
            0.0
        }
    };
    part(truth, other) + part(1.0 - truth, 1.0 - other)
}

/// Canary requests for which the fixed-sample conditional test reaches the power at this truth: the smallest number of a
/// fine grid, by simulation.
pub fn fixed_samples_needed(
    truth: Rates,
    margin: Margin,
    weight: f64,
    (alpha, beta): (f64, f64),
    draws: &mut Draws,
) -> u64 {
    let ratio = (1.0 - weight) / weight;
    let regression = Rates {
        canary: truth.baseline + margin.regression,
        ..truth
    };
    let power = |requests: u64, draws: &mut Draws| {
        let of_baseline = (requests as f64 * ratio).round() as u64;
        let found = (0..4000)
            .filter(|_| {
                let canary = (draws.binomial(requests, regression.canary), requests);
                let baseline = (
                    draws.binomial(of_baseline, regression.baseline),
                    of_baseline,
                );
                exceedance(canary, baseline, margin.allowed, 1.0) <= alpha
            })
            .count();
        found as f64 / 4000.0
    };
    let (mut low, mut high) = (10.0_f64, 200_000.0_f64);
    while high / low > 1.01 {
        let middle = (low * high).sqrt();
        if power(middle as u64, draws) < 1.0 - beta {
            low = middle;
        } else {
            high = middle;
        }
    }
    high.ceil() as u64
}
