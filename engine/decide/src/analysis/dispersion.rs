//! How much more than chance the bad answers of one side come together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Running estimate of the clump size: the variance of the canary's share of the bad answers between looks, over the
/// variance that independent answers would have. A burst on both sides at once does not count, since the share is taken
/// within each look.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Dispersion {
    squares: f64,
    variances: f64,
    doubt: f64,
}

impl Dispersion {
    /// The estimate of the looks so far, less its standard error; at least 1.
    pub(crate) fn clump(&self) -> f64 {
        if self.variances <= 0.0 {
            return 1.0;
        }
        ((self.squares - self.doubt.sqrt()) / self.variances).max(1.0)
    }

    /// Takes in one look.
    ///
    /// - `canary`, `total`: bad answers of the canary and of both sides
    /// - `share`: the canary's expected share of them
    pub(crate) fn observe(&mut self, canary: f64, total: f64, share: f64) {
        if total < 1.0 || share <= 0.0 || share >= 1.0 {
            return;
        }
        let deviation = canary - total * share;
        let square = deviation * deviation;
        let variance = total * share * (1.0 - share);
        self.squares += square;
        self.variances += variance;
        self.doubt += (square - variance) * (square - variance);
    }
}

/// Running estimate of how many bad answers of one side come at once: the mean of the squares of a look's bad answers on one
/// side over their mean, less what separate ones would show. It knows a clump from the first one on, where the share of
/// both sides needs many looks.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Bunching {
    bad: f64,
    excess: f64,
    doubt: f64,
}

/// Standard errors that an estimate of bunching is lowered by: with half of one separate answers cost nothing, and clumps show
/// nearly as well as without.
const DOUBTED: f64 = 0.5;

impl Bunching {
    /// The estimate of the looks so far, less a part of its standard error; at least 1.
    pub(crate) fn clump(&self) -> f64 {
        if self.bad <= 0.0 {
            return 1.0;
        }
        (1.0 + (self.excess - DOUBTED * self.doubt.sqrt()) / self.bad).max(1.0)
    }

    /// Takes in one side of one look.
    ///
    /// - `bad`: its bad answers
    /// - `expected`: how many were expected, by its rate so far or by what struck the other side in the same look
    pub(crate) fn observe(&mut self, bad: f64, expected: f64) {
        self.bad += bad;
        self.excess += bad * (bad - 1.0 - expected);
        // The variance of that for separate answers, whose number is nearly a Poisson variable: μ²(2 + μ).
        self.doubt += expected * expected * (2.0 + expected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_bad_answers_are_no_clumps() {
        let mut dispersion = Dispersion::default();
        for look in 0..40_u32 {
            dispersion.observe(f64::from(look % 2), 1.0, 0.5);
        }
        assert!((dispersion.clump() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn four_at_a_time_are_clumps_of_nearly_four() {
        let mut dispersion = Dispersion::default();
        for look in 0..100_u32 {
            dispersion.observe(if look % 2 == 0 { 4.0 } else { 0.0 }, 4.0, 0.5);
        }
        assert!(
            (3.3..=4.0).contains(&dispersion.clump()),
            "{}",
            dispersion.clump()
        );
    }

    #[test]
    fn the_first_clump_shows_its_size() {
        let mut bunching = Bunching::default();
        bunching.observe(3.0, 0.1);
        assert!((2.8..2.9).contains(&bunching.clump()), "{bunching:?}");
        for _ in 0..10 {
            bunching.observe(0.0, 0.1);
        }
        assert!((2.7..2.9).contains(&bunching.clump()), "{bunching:?}");
    }

    #[test]
    fn separate_answers_and_those_of_both_sides_are_not_bunched() {
        let mut bunching = Bunching::default();
        for _ in 0..10 {
            bunching.observe(1.0, 0.2);
        }
        // Something struck both sides alike.
        bunching.observe(6.0, 6.0);
        assert!((bunching.clump() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn one_look_proves_no_clumps() {
        let mut dispersion = Dispersion::default();
        dispersion.observe(20.0, 20.0, 0.5);
        assert!((dispersion.clump() - 1.0).abs() < 1e-9);
    }
}
