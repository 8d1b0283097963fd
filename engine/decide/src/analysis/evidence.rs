//! The state of a comparison: what was counted and what it is worth as evidence.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dispersion::Dispersion;
use super::policy::{Margin, Policy};
use super::tally::{Look, Tally};
use super::verdict::{self, Measure, Verdict};
use super::wealth::{Against, Counts, Wealth};

/// One look multiplies the evidence by at most this power of what a verdict needs, so a single burst between two looks
/// is never enough to roll back.
const MOST_PER_LOOK: f64 = 0.45;

/// Evidence of one comparison so far. It is a value: save it, load it, go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    total: Look,
    /// Counts that wait until both sides answered something.
    pending: Look,
    looks: u64,
    clump: f64,
    /// What the old release did before the comparison: says where to place bets, and is no evidence itself.
    history: Tally,
    measures: Vec<MeasureEvidence>,
}

/// Evidence from one way of counting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct MeasureEvidence {
    pub(crate) measure: Measure,
    pub(crate) margin: Margin,
    pub(crate) worse: Wealth,
    pub(crate) better: Wealth,
    pub(crate) dispersion: Dispersion,
}

impl Evidence {
    /// No evidence yet. The margins and probabilities of the policy are fixed from here on.
    pub fn new(policy: &Policy) -> Self {
        Self::knowing(policy, Tally::default())
    }

    /// No evidence yet, but knowing what the old release did before. That places the first bets better and so saves
    /// requests; it is never held for or against the canary, and a history that no longer fits costs only time.
    pub fn knowing(policy: &Policy, history: Tally) -> Self {
        let margins = [
            (Measure::Errors, policy.errors),
            (Measure::Slow, policy.slow),
        ];
        let step = |probability: f64| -MOST_PER_LOOK * probability.ln();
        let measures = margins
            .into_iter()
            .filter_map(|(measure, margin)| Some((measure, margin?.coherent())))
            .map(|(measure, margin)| MeasureEvidence {
                measure,
                margin,
                worse: Wealth::new(Against::WithinMargin, margin, step(policy.alpha())),
                better: Wealth::new(Against::Regression, margin, step(policy.beta())),
                dispersion: Dispersion::default(),
            })
            .collect();
        Self {
            total: Look::default(),
            pending: Look::default(),
            looks: 0,
            clump: if policy.clump.is_finite() {
                policy.clump.max(1.0)
            } else {
                1.0
            },
            history: recent(history.coherent()),
            measures,
        }
    }

    /// Takes in what both sides answered since the last look.
    pub fn observe(&mut self, increment: Look) {
        self.looks += 1;
        self.pending = self.pending.plus(increment.coherent());
        if self.pending.baseline.requests == 0 || self.pending.canary.requests == 0 {
            return; // One side alone compares with nothing.
        }
        let look = std::mem::take(&mut self.pending);
        for evidence in &mut self.measures {
            evidence.observe(look, self.total, self.history, self.clump);
        }
        self.total = self.total.plus(look);
    }

    /// What the evidence shows after `elapsed` since the comparison began.
    pub fn verdict(&self, policy: &Policy, elapsed: Duration) -> Verdict {
        verdict::judge(self, policy, elapsed)
    }

    /// Everything that was counted.
    pub fn total(&self) -> Look {
        self.total.plus(self.pending)
    }

    /// Number of looks, also of those that saw nothing.
    pub fn looks(&self) -> u64 {
        self.looks
    }

    pub(crate) fn clump(&self) -> f64 {
        self.clump
    }

    pub(crate) fn measures(&self) -> &[MeasureEvidence] {
        &self.measures
    }
}

impl MeasureEvidence {
    fn observe(&mut self, look: Look, before: Look, history: Tally, clump: f64) {
        let base = self.rate(before.baseline.plus(history));
        let clump = clump.max(self.dispersion.clump());
        let counts = Counts {
            canary_bad: number(self.measure.count(look.canary)),
            canary: number(look.canary.requests),
            baseline_bad: number(self.measure.count(look.baseline)),
            baseline: number(look.baseline.requests),
        };
        let seen = number(before.canary.requests);
        self.worse.observe(counts, base, clump, seen);
        let together = self.rate(before.baseline.plus(before.canary).plus(history));
        self.better.observe(counts, together, clump, seen);
        let expected = counts.canary * self.rate(before.canary);
        let share = expected / (expected + counts.baseline * base);
        self.dispersion.observe(
            counts.canary_bad,
            counts.canary_bad + counts.baseline_bad,
            share,
        );
    }

    /// The rate of a side so far, drawn towards half of the regression while little is known.
    fn rate(&self, tally: Tally) -> f64 {
        let guess = self.margin.regression / 2.0;
        let bad = number(self.measure.count(tally));
        ((bad + GUESSED_BAD) / (number(tally.requests) + GUESSED_BAD / guess)).clamp(1e-6, 0.9)
    }
}

/// Bad answers that the first guess at a rate is worth.
const GUESSED_BAD: f64 = 0.75;

/// History that weighs no more than the latest few thousand requests.
fn recent(history: Tally) -> Tally {
    const MOST: u64 = 3000;
    if history.requests <= MOST {
        return history;
    }
    let scaled = |count: u64| {
        u64::try_from(u128::from(count) * u128::from(MOST) / u128::from(history.requests))
    };
    Tally {
        requests: MOST,
        bad: scaled(history.bad).unwrap_or(MOST),
        slow: scaled(history.slow).unwrap_or(MOST),
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}
