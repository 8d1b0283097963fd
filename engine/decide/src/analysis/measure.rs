//! Evidence from one way of counting.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dispersion::{Bunching, Dispersion};
use super::evidence::number;
use super::policy::Margin;
use super::tally::{Look, Tally};
use super::verdict::Measure;
use super::wealth::{Counts, Wealth, log_sum};

/// Evidence from one way of counting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct MeasureEvidence {
    pub(crate) measure: Measure,
    pub(crate) margin: Margin,
    pub(crate) worse: Wealth,
    pub(crate) better: Wealth,
    /// Evidence of being worse from a record laid beside the canary's answers, as long as it lasts.
    #[serde(default)]
    pub(crate) beside: Option<Wealth>,
    pub(crate) dispersion: Dispersion,
    /// Of what was expected before the look: few bad answers look like health, and they are few causes yet where they
    /// come at once.
    #[serde(default)]
    pub(crate) bunching: Bunching,
    /// Of each side's own rate, with the look itself: so a very bad release is not taken for clumps.
    #[serde(default)]
    pub(crate) bunching_within: Bunching,
}

impl MeasureEvidence {
    /// Takes in one look.
    ///
    /// - `before`: what was counted before it
    /// - `history`: what the old release did before the comparison
    /// - `clump`: size of clumps as stated
    pub(crate) fn observe(&mut self, look: Look, before: Look, history: Tally, clump: f64) {
        let base = self.rate(before.baseline.plus(history));
        let counts = Counts {
            canary_bad: number(self.measure.count(look.canary)),
            canary: number(look.canary.requests),
            baseline_bad: number(self.measure.count(look.baseline)),
            baseline: number(look.baseline.requests),
        };
        let known = self.dispersion.clump().max(clump);
        // With what the canary shows now: else a much worse one would look like clumps until its rate is learned.
        let canary = self.rate_near(base, before.canary.plus(look.canary));
        let expected = counts.canary * canary;
        let expected_base = counts.baseline * base;
        let share = expected / (expected + expected_base);
        self.dispersion.observe(
            counts.canary_bad,
            counts.canary_bad + counts.baseline_bad,
            share,
        );
        self.observe_bunching(counts, before.plus(look), (expected, expected_base));
        let clumps = (known, self.clump().max(clump));
        let seen = number(before.canary.requests);
        if let Some(beside) = &mut self.beside {
            beside.observe(counts, base, clumps, seen);
            return;
        }
        self.worse.observe(counts, base, clumps, seen);
        let together = self.rate(before.baseline.plus(before.canary).plus(history));
        let clumps = (known, clumps.1.max(self.bunching.clump()));
        self.better.observe(counts, together, clumps, seen);
    }

    /// Takes in what the canary answered, compared with what the whole record leaves possible.
    pub(crate) fn observe_alone(&mut self, canary: Tally, before: Look, clump: f64) {
        let counts = Counts {
            canary_bad: number(self.measure.count(canary)),
            canary: number(canary.requests),
            baseline_bad: 0.0,
            baseline: 0.0,
        };
        let clumps = (self.dispersion.clump().max(clump), self.clump().max(clump));
        let seen = number(before.canary.requests);
        let base = self.rate(before.baseline);
        self.worse.observe(counts, base, clumps, seen);
        let together = self.rate(before.baseline.plus(before.canary));
        self.better.observe(counts, together, clumps, seen);
    }

    /// How many bad answers of each side came at once, in one look.
    ///
    /// - `so_far`: with the look
    /// - `expected`: how many were expected of each side by what was known before
    fn observe_bunching(&mut self, look: Counts, so_far: Look, expected: (f64, f64)) {
        let canary = Side {
            bad: look.canary_bad,
            requests: look.canary,
        };
        let baseline = Side {
            bad: look.baseline_bad,
            requests: look.baseline,
        };
        for (side, other, so_far, expected) in [
            (canary, baseline, so_far.canary, expected.0),
            (baseline, canary, so_far.baseline, expected.1),
        ] {
            // What struck both sides at once is no clump.
            let as_many = other.rate() * side.requests;
            let own = self.share(so_far) * side.requests;
            self.bunching.observe(side.bad, expected.max(as_many));
            self.bunching_within.observe(side.bad, own.max(as_many));
        }
    }

    /// Size of clumps as far as it is known.
    pub(crate) fn clump(&self) -> f64 {
        self.dispersion.clump().max(self.bunching_within.clump())
    }

    fn share(&self, tally: Tally) -> f64 {
        number(self.measure.count(tally)) / number(tally.requests).max(1.0)
    }

    /// Log of the evidence that the canary is worse.
    pub(crate) fn log_worse(&self) -> f64 {
        let alone = self.worse.log_evidence();
        // The mean of e-values is one.
        self.beside.as_ref().map_or(alone, |beside| {
            log_sum(alone, beside.log_evidence()) - std::f64::consts::LN_2
        })
    }

    /// The rate of the canary so far, drawn towards the baseline's while little is known.
    fn rate_near(&self, base: f64, canary: Tally) -> f64 {
        let bad = number(self.measure.count(canary));
        (bad + LIKE_BASELINE * base) / (number(canary.requests) + LIKE_BASELINE)
    }

    /// The rate of a side so far, drawn towards half of the regression while little is known.
    fn rate(&self, tally: Tally) -> f64 {
        let guess = self.margin.regression / 2.0;
        let bad = number(self.measure.count(tally));
        ((bad + GUESSED_BAD) / (number(tally.requests) + GUESSED_BAD / guess)).clamp(1e-6, 0.9)
    }
}

/// One side of one look.
#[derive(Debug, Clone, Copy)]
struct Side {
    bad: f64,
    requests: f64,
}

impl Side {
    fn rate(&self) -> f64 {
        if self.requests > 0.0 {
            self.bad / self.requests
        } else {
            0.0
        }
    }
}

/// Bad answers that the first guess at a rate is worth.
const GUESSED_BAD: f64 = 0.75;

/// Requests for which the canary is taken to be like the baseline before anything is known of it.
const LIKE_BASELINE: f64 = 40.0;
