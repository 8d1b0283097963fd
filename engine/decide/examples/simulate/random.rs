//! Exact draws, seeded.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// A source of draws that always gives the same ones for the same seed.
pub struct Draws {
    source: SmallRng,
    /// A mean, and the chance of no event at it: most draws are of the same few means.
    quiet: [(f64, f64); 2],
}

impl Draws {
    /// Draws for one block of runs of one cell.
    pub fn seeded(seed: u64) -> Self {
        Self {
            source: SmallRng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            quiet: [(0.0, 1.0); 2],
        }
    }

    /// A number in `0.0..1.0`.
    pub fn uniform(&mut self) -> f64 {
        self.source.random::<f64>()
    }

    /// Successes of `trials` with probability `share`.
    pub fn binomial(&mut self, trials: u64, share: f64) -> u64 {
        if trials == 0 || share <= 0.0 {
            return 0;
        }
        if share >= 1.0 {
            return trials;
        }
        if share > 0.5 {
            return trials - self.binomial(trials, 1.0 - share);
        }
        if trials as f64 * share > 30.0 {
            let half = trials / 2;
            return self.binomial(half, share) + self.binomial(trials - half, share);
        }
        let odds = share / (1.0 - share);
        let mut chance = match i32::try_from(trials) {
            Ok(trials) if trials < 64 => (1.0 - share).powi(trials),
            _ => (trials as f64 * (-share).ln_1p()).exp(),
        };
        let mut left = self.uniform();
        let mut count = 0;
        while left >= chance && count < trials {
            left -= chance;
            chance *= odds * (trials - count) as f64 / (count + 1) as f64;
            count += 1;
        }
        count
    }

    /// Events at a rate of `mean`.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 30.0 {
            return self.poisson(mean * 0.5) + self.poisson(mean * 0.5);
        }
        let mut chance = self.none(mean);
        let mut left = self.uniform();
        let mut count = 0_u64;
        while left >= chance && count < 400 {
            left -= chance;
            count += 1;
            chance *= mean / count as f64;
        }
        count
    }

    /// The chance of no event at a rate of `mean`.
    fn none(&mut self, mean: f64) -> f64 {
        if let Some((_, chance)) = self
            .quiet
            .iter()
            .find(|(known, _)| known.to_bits() == mean.to_bits())
        {
            return *chance;
        }
        self.quiet = [self.quiet[1], (mean, (-mean).exp())];
        self.quiet[1].1
    }

    /// A size of at least one, geometric with this mean.
    pub fn geometric(&mut self, mean: f64) -> u64 {
        let mut size = 1;
        while self.uniform() > 1.0 / mean && size < 1000 {
            size += 1;
        }
        size
    }
}
