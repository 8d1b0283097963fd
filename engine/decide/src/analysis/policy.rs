//! What the comparison allows and how sure it has to be.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much worse is allowed, and how much worse must not be missed. Both are differences of shares of requests,
/// canary minus baseline: 0.005 is half a percent of all requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Margin {
    /// A canary that is worse by at most this is as good as the baseline.
    pub allowed: f64,
    /// A canary that is worse by at least this is a regression. At least `allowed`.
    pub regression: f64,
}

impl Margin {
    /// A margin of which three times as much is the regression that must not be missed.
    pub fn allowing(allowed: f64) -> Self {
        Self {
            allowed,
            regression: (allowed * 3.0).max(SMALLEST_REGRESSION),
        }
    }

    /// The same with values that make sense: `0 ≤ allowed < 1`, `allowed ≤ regression < 1`, and a regression that can
    /// be seen at all.
    pub(crate) fn coherent(self) -> Self {
        let allowed = finite(self.allowed).clamp(0.0, 0.9);
        Self {
            allowed,
            regression: finite(self.regression).clamp(allowed.max(SMALLEST_REGRESSION), 0.95),
        }
    }
}

/// Smaller regressions would need hundreds of thousands of requests to see.
const SMALLEST_REGRESSION: f64 = 1e-4;

fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

/// What to do when time or samples are used up and neither side is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Undecided {
    /// Go back: what is not shown to be fine is not fine. The miss probability holds, false rollbacks may exceed alpha.
    #[default]
    RollBack,
    /// Move on: what is not shown to be worse is fine. The false rollback probability holds, misses may exceed beta.
    Advance,
    /// Wait for an operator.
    Hold,
}

/// What is allowed, how sure the verdict has to be, and how long it may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Policy {
    /// Margin for bad answers; `None` does not judge them.
    pub errors: Option<Margin>,
    /// Margin for slow answers; `None` does not judge them.
    pub slow: Option<Margin>,
    /// Probability of a false rollback: of `Worse` for a canary that is within every margin.
    pub alpha: f64,
    /// Probability of missing: of `BetterOrEqual` for a canary with a stated regression.
    pub beta: f64,
    /// Canary requests, and baseline requests, before the canary may be called better or equal. An outage needs fewer.
    pub min_samples: u64,
    /// Canary requests after which a decision is made. `None` takes as many as a fixed-sample test of the same
    /// probabilities would need at the baseline's rate.
    pub max_samples: Option<u64>,
    /// Time before the canary may be called better or equal.
    pub at_least: Duration,
    /// Time after which waiting ends.
    pub at_most: Duration,
    /// Size of clumps in which bad answers are known to come, such as 3 for clients that retry twice. Evidence is
    /// divided by it. What is not known is estimated.
    pub clump: f64,
    /// What to do when the verdict is still open at the end.
    pub undecided: Undecided,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            errors: Some(Margin::allowing(0.005)),
            slow: Some(Margin::allowing(0.01)),
            alpha: 0.01,
            beta: 0.05,
            min_samples: 50,
            max_samples: None,
            at_least: Duration::from_secs(30),
            at_most: Duration::from_mins(10),
            clump: 1.0,
            undecided: Undecided::RollBack,
        }
    }
}

impl Policy {
    /// The policy of each of `steps` analyses in a row which together keep this policy's probability of a false
    /// rollback.
    #[must_use]
    pub fn for_each_of(&self, steps: u32) -> Self {
        Self {
            alpha: self.alpha / f64::from(steps.max(1)),
            ..self.clone()
        }
    }

    pub(crate) fn alpha(&self) -> f64 {
        probability(self.alpha, 0.01)
    }

    pub(crate) fn beta(&self) -> f64 {
        probability(self.beta, 0.05)
    }

    pub(crate) fn measures(&self) -> usize {
        usize::from(self.errors.is_some()) + usize::from(self.slow.is_some())
    }
}

fn probability(value: f64, otherwise: f64) -> f64 {
    if value.is_finite() {
        value.clamp(1e-9, 0.5)
    } else {
        otherwise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_margins_are_made_sensible() {
        let margin = Margin {
            allowed: f64::NAN,
            regression: -3.0,
        }
        .coherent();
        assert!(margin.allowed.abs() < f64::EPSILON);
        assert!(margin.regression > 0.0);
    }

    #[test]
    fn steps_share_the_false_rollback_probability() {
        let policy = Policy::default().for_each_of(4);
        assert!((policy.alpha - 0.0025).abs() < 1e-12);
        assert!((policy.beta - Policy::default().beta).abs() < 1e-12);
    }
}
