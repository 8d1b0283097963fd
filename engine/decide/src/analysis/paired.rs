//! Comparison of any other number, read from both sides at the same time, look after look.
//!
//! A sign test by betting: for each pair only whether the canary's value is worse than the baseline's by more than the
//! tolerance counts, so outliers, units and distributions do not matter. Against "not worse more often than not" it bets
//! that the canary is worse in 65, 80 or 95 % of the pairs, and the other way round. What is assumed is that, given the
//! past, a canary within the tolerance is as likely to be on either side of it; values that are averages over windows
//! that overlap break that, so read them no faster than their window. What is allowed counts as no regression, also where
//! both are nothing: the bet that it is better or equal then is against "worse at all more often than not".

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::verdict::Advice;
use super::wealth::log_sum;

/// Which values are worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WorseWhen {
    /// Higher values, as of latency or memory.
    Higher,
    /// Lower values, as of throughput or cache hits.
    Lower,
}

/// A difference of two values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tolerance {
    /// In the metric's own unit.
    Absolute(f64),
    /// As a share of the baseline's value: 0.25 is a quarter.
    Relative(f64),
}

impl Tolerance {
    fn at(self, baseline: f64) -> f64 {
        match self {
            Self::Absolute(value) => value,
            Self::Relative(share) => share * baseline.abs(),
        }
    }
}

/// What is allowed for one metric, and how sure the verdict has to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairedPolicy {
    /// Which values are worse.
    pub worse_when: WorseWhen,
    /// Being worse by up to this is as good as the baseline.
    pub allowed: Tolerance,
    /// Being worse by at least this is a regression. At least `allowed`.
    pub regression: Tolerance,
    /// Probability of `Worse` for a canary within the tolerance.
    pub alpha: f64,
    /// Probability of `BetterOrEqual` for a canary with a regression.
    pub beta: f64,
}

/// Evidence from the pairs so far. It is a value: save it, load it, go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairedEvidence {
    policy: PairedPolicy,
    pairs: u64,
    worse_pairs: u64,
    last: Option<(f64, f64)>,
    worse: [f64; 3],
    better: [f64; 3],
}

/// What the pairs show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PairedVerdict {
    /// Within the tolerance, or better.
    BetterOrEqual,
    /// Worse than the tolerance allows.
    Worse,
    /// Neither is shown.
    CannotTellYet,
}

impl PairedVerdict {
    /// What a rollout should do.
    pub fn advice(self) -> Advice {
        match self {
            Self::BetterOrEqual => Advice::Advance,
            Self::Worse => Advice::RollBack,
            Self::CannotTellYet => Advice::Hold,
        }
    }
}

/// How often the canary is worse under each bet.
const BETS: [f64; 3] = [0.65, 0.8, 0.95];

impl PairedEvidence {
    /// No evidence yet.
    pub fn new(policy: PairedPolicy) -> Self {
        Self {
            policy,
            pairs: 0,
            worse_pairs: 0,
            last: None,
            worse: [0.0; 3],
            better: [0.0; 3],
        }
    }

    /// Takes in both sides' values of one look. Values that are not numbers are no evidence.
    pub fn observe(&mut self, baseline: f64, canary: f64) {
        if !baseline.is_finite() || !canary.is_finite() {
            return;
        }
        let excess = match self.policy.worse_when {
            WorseWhen::Higher => canary - baseline,
            WorseWhen::Lower => baseline - canary,
        };
        let allowed = self.policy.allowed.at(baseline);
        let worse = excess > allowed;
        // What is allowed is no regression, also where both are nothing: a figure that is zero on both sides is as good.
        let better = excess <= allowed || excess < self.policy.regression.at(baseline);
        self.pairs += 1;
        self.worse_pairs += u64::from(worse);
        self.last = Some((baseline, canary));
        bet(&mut self.worse, worse);
        bet(&mut self.better, better);
    }

    /// What the pairs show so far.
    pub fn verdict(&self) -> PairedVerdict {
        if self.towards_worse() >= 1.0 {
            PairedVerdict::Worse
        } else if self.towards_better() >= 1.0 {
            PairedVerdict::BetterOrEqual
        } else {
            PairedVerdict::CannotTellYet
        }
    }

    /// How many pairs were looked at.
    pub fn pairs(&self) -> u64 {
        self.pairs
    }

    /// In how many of them the canary was worse than tolerated.
    pub fn worse_pairs(&self) -> u64 {
        self.worse_pairs
    }

    /// The last pair: the baseline's value and the canary's.
    pub fn last(&self) -> Option<(f64, f64)> {
        self.last
    }

    /// Evidence that the canary is worse, `0.0..=1.0`.
    pub fn towards_worse(&self) -> f64 {
        towards(&self.worse, self.policy.alpha)
    }

    /// Evidence that it is better or equal, `0.0..=1.0`.
    pub fn towards_better(&self) -> f64 {
        towards(&self.better, self.policy.beta)
    }

    /// The evidence in a sentence.
    pub fn explain(&self) -> String {
        let says = match self.verdict() {
            PairedVerdict::BetterOrEqual => "better or equal within the tolerance",
            PairedVerdict::Worse => "worse than tolerated",
            PairedVerdict::CannotTellYet => "cannot tell yet",
        };
        let last = self.last.map_or_else(String::new, |(baseline, canary)| {
            format!(", last {canary} against {baseline}")
        });
        format!(
            "{says}: worse than tolerated in {} of {} pairs{last}",
            self.worse_pairs, self.pairs
        )
    }
}

fn bet(logs: &mut [f64; 3], won: bool) {
    for (log, odds) in logs.iter_mut().zip(BETS) {
        *log += (if won { odds } else { 1.0 - odds } * 2.0).ln();
    }
}

fn towards(logs: &[f64; 3], probability: f64) -> f64 {
    let sum = logs
        .iter()
        .copied()
        .reduce(log_sum)
        .unwrap_or(f64::NEG_INFINITY);
    let mean = sum - 3.0_f64.ln();
    (mean / -probability.clamp(1e-9, 0.5).ln()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> PairedPolicy {
        PairedPolicy {
            worse_when: WorseWhen::Higher,
            allowed: Tolerance::Relative(0.1),
            regression: Tolerance::Relative(0.3),
            alpha: 0.01,
            beta: 0.05,
        }
    }

    fn check(pairs: &[(f64, f64)], expected: PairedVerdict) {
        let mut evidence = PairedEvidence::new(policy());
        for &(baseline, canary) in pairs.iter().cycle().take(60) {
            evidence.observe(baseline, canary);
            if evidence.verdict() != PairedVerdict::CannotTellYet {
                break;
            }
        }
        assert_eq!(evidence.verdict(), expected, "{}", evidence.explain());
    }

    #[test]
    fn always_half_as_much_again_is_worse() {
        check(&[(100.0, 150.0)], PairedVerdict::Worse);
    }

    #[test]
    fn the_same_is_equal() {
        check(
            &[(100.0, 101.0), (90.0, 88.0)],
            PairedVerdict::BetterOrEqual,
        );
    }

    #[test]
    fn what_is_no_number_is_no_evidence() {
        check(
            &[(f64::NAN, 3.0), (3.0, f64::INFINITY)],
            PairedVerdict::CannotTellYet,
        );
    }

    #[test]
    fn a_single_outlier_decides_nothing() {
        let mut evidence = PairedEvidence::new(policy());
        evidence.observe(1.0, 1e12);
        assert_eq!(evidence.verdict(), PairedVerdict::CannotTellYet);
    }

    /// What sixty pairs show where so much is allowed, for figures of which more is worse and of which less is.
    fn check_allowing(allowed: Tolerance, pair: (f64, f64), expected: [PairedVerdict; 2]) {
        let regression = match allowed {
            Tolerance::Absolute(value) => Tolerance::Absolute(value * 3.0),
            Tolerance::Relative(share) => Tolerance::Relative(share * 3.0),
        };
        let shown = [WorseWhen::Higher, WorseWhen::Lower].map(|worse_when| {
            let mut evidence = PairedEvidence::new(PairedPolicy {
                worse_when,
                allowed,
                regression,
                ..policy()
            });
            for _ in 0..60 {
                evidence.observe(pair.0, pair.1);
            }
            evidence.verdict()
        });
        assert_eq!(shown, expected, "{allowed:?} {pair:?}");
    }

    #[test]
    fn equal_values_are_equal_whatever_is_allowed() {
        use PairedVerdict::{BetterOrEqual, Worse};
        let equal = [BetterOrEqual; 2];
        for allowed in [0.0, 0.1].map(Tolerance::Relative) {
            check_allowing(allowed, (0.0, 0.0), equal);
            check_allowing(allowed, (7.0, 7.0), equal);
            check_allowing(allowed, (-7.0, -7.0), equal);
            // A share of nothing is nothing.
            check_allowing(allowed, (0.0, 1.0), [Worse, BetterOrEqual]);
            check_allowing(allowed, (0.0, -1.0), [BetterOrEqual, Worse]);
        }
        check_allowing(Tolerance::Absolute(0.0), (0.0, 0.0), equal);
        check_allowing(Tolerance::Absolute(2.0), (0.0, 2.0), equal);
        check_allowing(Tolerance::Absolute(2.0), (0.0, -2.0), equal);
        check_allowing(Tolerance::Absolute(2.0), (0.0, 7.0), [Worse, BetterOrEqual]);
    }

    #[test]
    fn lower_is_worse_where_stated() {
        let mut evidence = PairedEvidence::new(PairedPolicy {
            worse_when: WorseWhen::Lower,
            ..policy()
        });
        for _ in 0..20 {
            evidence.observe(100.0, 50.0);
        }
        assert_eq!(evidence.verdict(), PairedVerdict::Worse);
    }
}
