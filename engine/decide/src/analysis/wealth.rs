//! An e-process for a difference of two shares: wealth that grows by betting against a hypothesis.
//!
//! Every stake bets on one alternative. For a look with `n` canary and `m` baseline requests it takes the alternative's
//! rates `(c, b)` and the pair `(q + δ, q)` on the hypothesis' edge that is hardest to tell from them, and multiplies
//! its wealth by
//!
//! ```text
//! S = Π canary (1 + κ/w·(y − q − δ)) · Π baseline (1 − κ/(1−w)·(y − q))        w = n / (n + m)
//! ```
//!
//! where `y` is 1 for a bad answer. For true mean rates `p` and `r` over the look `E[S] ≤ exp((n + m)·κ·(p − r − δ))`,
//! which is at most 1 while `p − r ≤ δ` (κ > 0), or `p − r ≥ δ` (κ < 0), whatever `r` is and however both change from
//! look to look. With `q` and κ as chosen here, S is the likelihood ratio of the alternative to that edge pair.
//!
//! Sources: Turner, Ly, Grünwald, *Generic E-variables for exact sequential k-sample tests that allow for optional
//! stopping*, arXiv 2106.02693; Turner, Grünwald, *Exact anytime-valid confidence intervals for contingency tables and
//! beyond*, arXiv 2203.09785. The mixture over starting points: Shin, Ramdas, Rinaldo, *E-detectors*, arXiv 2203.03532.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::Margin;
use super::sample_size::Rates;

/// Share of the wealth held back to be staked later, so that a regression that begins late is seen too.
const RESERVE: f64 = 0.05;

/// Canary requests after which half of the reserve is staked.
const RESERVE_HALF: f64 = 2000.0;

/// So many bad answers of one look are hardly of one cause. A look with fewer of them adds less evidence at the most, down to
/// this part of what others may.
const SURELY_MORE_THAN_ONE: f64 = 8.0;
const AS_ONE: f64 = 0.75;

/// What is bet against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Against {
    /// That the canary is within the margin: wealth is evidence that it is worse.
    WithinMargin,
    /// That the canary has a regression: wealth is evidence that it is better or equal.
    Regression,
}

/// The alternative a stake bets on, as canary rate from baseline rate: `scale · baseline + shift`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Stake {
    scale: f64,
    shift: f64,
    weight: f64,
    log_wealth: Option<f64>,
}

/// Bad answers and requests of both sides in one look, as numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Counts {
    pub(crate) canary_bad: f64,
    pub(crate) canary: f64,
    pub(crate) baseline_bad: f64,
    pub(crate) baseline: f64,
}

/// The wealth of all stakes against one hypothesis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Wealth {
    against: Against,
    edge: f64,
    /// The canary's rate at the hypothesis' edge, where the baseline's rate is bounded by a record instead of counted.
    #[serde(default)]
    fixed: Option<f64>,
    stakes: Vec<Stake>,
    /// Log of what all stakes and the reserve are worth.
    log_mixture: f64,
    /// Log of the evidence: as the mixture, but no look multiplies it by more than `log_step`.
    log_evidence: f64,
    log_step: f64,
}

impl Wealth {
    /// Wealth one against a hypothesis.
    ///
    /// - `log_step`: log of the most by which one look may multiply the evidence
    pub(crate) fn new(against: Against, margin: Margin, log_step: f64) -> Self {
        let (edge, stakes) = match against {
            Against::WithinMargin => (margin.allowed, stakes_on_worse(margin)),
            Against::Regression => (margin.regression, stakes_on_better(margin)),
        };
        Self {
            against,
            edge,
            fixed: None,
            stakes,
            log_mixture: 0.0,
            log_evidence: 0.0,
            log_step,
        }
    }

    /// The same against a baseline that answers nothing now and is known to be within `bounds`.
    pub(crate) fn against_bounds(mut self, (low, high): (f64, f64)) -> Self {
        let edge = match self.against {
            Against::WithinMargin => (high + self.edge).min(1.0),
            Against::Regression => (low + self.edge).min(1.0),
        };
        if self.against == Against::WithinMargin {
            self.stakes = stakes_beyond(edge);
        }
        self.fixed = Some(edge);
        self
    }

    /// Log of the evidence: probability of it ever reaching `ln(1/α)` is at most α while the hypothesis is true.
    pub(crate) fn log_evidence(&self) -> f64 {
        self.log_evidence
    }

    /// Bets on one look.
    ///
    /// - `base`: the baseline's rate as known before the look
    /// - `clump`: size of clumps as known before the look, and with it; losses are divided by the one, gains by the
    ///   larger, which can only make the evidence smaller and so leaves it valid
    /// - `seen`: canary requests before the look
    pub(crate) fn observe(&mut self, look: Counts, base: f64, clump: (f64, f64), seen: f64) {
        let reserve = |seen: f64| RESERVE * RESERVE_HALF / (RESERVE_HALF + seen);
        let left = reserve(seen + look.canary);
        let fresh = if seen <= 0.0 {
            1.0 - left
        } else {
            reserve(seen) - left
        };
        let mut worth = Worth::new(left.ln());
        for stake in &mut self.stakes {
            let added = (stake.weight * fresh).ln();
            let before = stake
                .log_wealth
                .map_or(added, |wealth| log_sum(wealth, added));
            let canary = (stake.scale * base + stake.shift).clamp(1e-7, 0.98);
            let gain = if let Some(edge) = self.fixed {
                gain_alone(self.against, edge, canary, look)
            } else {
                let on = Rates {
                    baseline: base,
                    canary,
                };
                gain(self.against, self.edge, on, look)
            };
            let after = before
                + gain
                    / if gain > 0.0 {
                        clump.1.max(clump.0)
                    } else {
                        clump.0
                    };
            stake.log_wealth = Some(after);
            worth.add(after);
        }
        let log_mixture = worth.log();
        let most = match self.against {
            Against::WithinMargin => {
                self.log_step * (look.canary_bad / SURELY_MORE_THAN_ONE).clamp(AS_ONE, 1.0)
            }
            Against::Regression => self.log_step,
        };
        self.log_evidence += (log_mixture - self.log_mixture).min(most);
        self.log_mixture = log_mixture;
    }
}

/// Share of the wealth that is bet on the stated regression.
const ON_STATED: f64 = 0.4;

/// The largest regression short of an outage that is bet on, and an outage.
const LARGEST: f64 = 0.6;
const OUTAGE: f64 = 0.97;

/// Share of each larger regression's wealth that the one twice as large gets.
const ON_TWICE: f64 = 0.7;

/// Bets that the canary is worse: by the stated regression, and by twice as much, four times, … up to an outage. So every
/// size has a bet nearby, and neighbours win together.
fn stakes_on_worse(margin: Margin) -> Vec<Stake> {
    let stake = |shift: f64, weight: f64| Stake {
        scale: 1.0,
        shift,
        weight,
        log_wealth: None,
    };
    let mut larger: Vec<_> =
        std::iter::successors(Some((margin.regression * 2.0, 1.0)), |(shift, weight)| {
            Some((shift * 2.0, weight * ON_TWICE))
        })
        .take_while(|(shift, _)| *shift < LARGEST)
        .collect();
    let left = larger.last().map_or(1.0, |(_, weight)| weight * ON_TWICE);
    larger.push((OUTAGE.max(margin.regression), left));
    let sum: f64 = larger.iter().map(|(_, weight)| weight).sum();
    let mut stakes = vec![stake(margin.regression, ON_STATED)];
    stakes.extend(
        larger
            .into_iter()
            .map(|(shift, weight)| stake(shift, weight * (1.0 - ON_STATED) / sum)),
    );
    stakes
}

/// Bets that the canary is worse than this rate: by half, and by more up to an outage.
fn stakes_beyond(edge: f64) -> Vec<Stake> {
    [(1.5, 0.4), (3.0, 0.3), (8.0, 0.2), (f64::INFINITY, 0.1)]
        .into_iter()
        .map(|(times, weight)| Stake {
            scale: 0.0,
            shift: (f64::max(edge, 1e-6) * times).min(0.95),
            weight,
            log_wealth: None,
        })
        .collect()
}

/// Bets that the canary is no worse: equal, worse by half of what is allowed, better.
fn stakes_on_better(margin: Margin) -> Vec<Stake> {
    let stake = |scale: f64, shift: f64, weight: f64| Stake {
        scale,
        shift,
        weight,
        log_wealth: None,
    };
    vec![
        stake(1.0, 0.0, 0.8),
        stake(1.0, margin.allowed.min(margin.regression * 0.5), 0.15),
        stake(0.3, 0.0, 0.05),
    ]
}

/// Log of S for one look.
fn gain(against: Against, edge: f64, on: Rates, look: Counts) -> f64 {
    let outside = match against {
        Against::WithinMargin => on.canary > on.baseline + edge,
        Against::Regression => on.canary < on.baseline + edge,
    };
    let share = look.canary / (look.canary + look.baseline);
    let (true, Some(base)) = (outside, least_favourable(edge, on, share)) else {
        return 0.0; // The alternative is no alternative, so there is nothing to bet on.
    };
    let canary = base + edge;
    let on_canary = share * (on.canary - canary) / (canary * (1.0 - canary));
    let on_baseline = (1.0 - share) * (base - on.baseline) / (base * (1.0 - base));
    // Equal but for rounding; the smaller keeps every factor positive.
    let bet = if on_canary.abs() < on_baseline.abs() {
        on_canary
    } else {
        on_baseline
    };
    let canary_factor = bet / share;
    let baseline_factor = -bet / (1.0 - share);
    look.canary_bad * (canary_factor * (1.0 - canary)).ln_1p()
        + (look.canary - look.canary_bad) * (-canary_factor * canary).ln_1p()
        + look.baseline_bad * (baseline_factor * (1.0 - base)).ln_1p()
        + (look.baseline - look.baseline_bad) * (-baseline_factor * base).ln_1p()
}

/// Log of S for one look at the canary alone, bet on `rate` against the canary's rate at the hypothesis' edge.
fn gain_alone(against: Against, edge: f64, rate: f64, look: Counts) -> f64 {
    let outside = match against {
        Against::WithinMargin => rate > edge,
        Against::Regression => rate < edge,
    };
    if !outside || edge >= 1.0 {
        return 0.0;
    }
    look.canary_bad * (rate / edge).ln()
        + (look.canary - look.canary_bad) * ((1.0 - rate) / (1.0 - edge)).ln()
}

/// The baseline rate `q` for which the pair `(q, q + edge)` is hardest to tell from `on`, when the canary gets `share`
/// of the requests: the minimum of `share·KL(canary ‖ q + edge) + (1 − share)·KL(baseline ‖ q)`.
///
/// - returns: `None` when there is none in the open interval, as when `on` lies beyond what shares can be
pub fn least_favourable(edge: f64, on: Rates, share: f64) -> Option<f64> {
    let (low, high) = if on.canary > on.baseline + edge {
        (on.baseline, on.canary - edge)
    } else {
        ((on.canary - edge).max(0.0), on.baseline)
    };
    let high = high.min(1.0 - edge);
    if !(0.0 <= low && low < high && 0.0 < share && share < 1.0) {
        return None;
    }
    // Exact for rare events; a start for the others.
    let middle = share * on.canary + (1.0 - share) * on.baseline - edge;
    let product = (1.0 - share) * on.baseline * edge;
    let mut base = 0.5 * (middle + (middle * middle + 4.0 * product).sqrt());
    let (mut low, mut high) = (low, high);
    for _ in 0..4 {
        if !(low < base && base < high) {
            base = 0.5 * (low + high);
        }
        let canary = base + edge;
        let spread_canary = canary * (1.0 - canary);
        let spread = base * (1.0 - base);
        let off_canary = share * (on.canary - canary) / spread_canary;
        let off = (1.0 - share) * (on.baseline - base) / spread;
        let slope = off_canary + off;
        if slope > 0.0 {
            low = base;
        } else {
            high = base;
        }
        let curve = (share + off_canary * (1.0 - 2.0 * canary)) / spread_canary
            + ((1.0 - share) + off * (1.0 - 2.0 * base)) / spread;
        let step = slope / curve;
        base += step;
        if step.abs() < 1e-6 * base {
            break;
        }
    }
    (0.0 < base && base + edge < 1.0).then_some(base)
}

/// Sums values given by their logs.
struct Worth {
    largest: f64,
    sum: f64,
}

impl Worth {
    fn new(log: f64) -> Self {
        Self {
            largest: log,
            sum: 1.0,
        }
    }

    fn add(&mut self, log: f64) {
        if log > self.largest {
            self.sum = self.sum * (self.largest - log).exp() + 1.0;
            self.largest = log;
        } else {
            self.sum += (log - self.largest).exp();
        }
    }

    fn log(&self) -> f64 {
        self.largest + self.sum.ln()
    }
}

/// Log of the sum of two values given by their logs.
pub(crate) fn log_sum(left: f64, right: f64) -> f64 {
    let (large, small) = if left > right {
        (left, right)
    } else {
        (right, left)
    };
    large + (small - large).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The chance of so many of `of` with probability `share`.
    fn chance(count: u32, of: u32, share: f64) -> f64 {
        let ways = (0..count).fold(1.0, |ways, at| {
            ways * f64::from(of - at) / f64::from(at + 1)
        });
        let power = |base: f64, times: u32| base.powf(f64::from(times));
        ways * power(share, count) * power(1.0 - share, of - count)
    }

    /// Mean of S over all outcomes of a look.
    fn mean_factor(
        against: Against,
        edge: f64,
        on: Rates,
        truth: Rates,
        (canary, baseline): (u32, u32),
    ) -> f64 {
        let mut mean = 0.0;
        for canary_bad in 0..=canary {
            for baseline_bad in 0..=baseline {
                let look = Counts {
                    canary_bad: f64::from(canary_bad),
                    canary: f64::from(canary),
                    baseline_bad: f64::from(baseline_bad),
                    baseline: f64::from(baseline),
                };
                mean += chance(canary_bad, canary, truth.canary)
                    * chance(baseline_bad, baseline, truth.baseline)
                    * gain(against, edge, on, look).exp();
            }
        }
        mean
    }

    proptest! {
        /// The whole guarantee rests on this: whatever is bet, a true hypothesis is not expected to lose.
        #[test]
        fn no_bet_against_the_truth_gains(
            edge in 0.0..0.3_f64,
            bet in (0.0001..0.6_f64, 0.0..0.9_f64),
            truth in (0.0..0.6_f64, 0.0..1.0_f64),
            sizes in (1..7_u32, 1..12_u32),
        ) {
            let on = Rates { baseline: bet.0, canary: (bet.0 + bet.1).min(0.98) };
            let within = Rates { baseline: truth.0, canary: truth.1 * (truth.0 + edge) };
            let worse = mean_factor(Against::WithinMargin, edge, on, within, sizes);
            prop_assert!(worse <= 1.0 + 1e-6, "{worse}");
            let regressed = truth.0 + edge;
            let beyond = Rates { baseline: truth.0, canary: regressed + truth.1 * (1.0 - regressed) };
            let on = Rates { canary: bet.1 * bet.0, ..on };
            let better = mean_factor(Against::Regression, edge, on, beyond, sizes);
            prop_assert!(better <= 1.0 + 1e-6, "{better}");
        }

        #[test]
        fn the_least_favourable_pair_is_the_nearest(
            edge in 0.0..0.2_f64,
            base in 0.0005..0.5_f64,
            excess in 0.01..0.4_f64,
            share in 0.01..0.99_f64,
        ) {
            let on = Rates { baseline: base, canary: base + edge * 0.2 + excess };
            prop_assume!((on.canary - base - edge).abs() > 1e-3 && base + edge < 0.95);
            let divergence = |truth: f64, other: f64| {
                truth * (truth / other).ln() + (1.0 - truth) * ((1.0 - truth) / (1.0 - other)).ln()
            };
            let distance = |at: f64| {
                share * divergence(on.canary, at + edge) + (1.0 - share) * divergence(on.baseline, at)
            };
            if let Some(nearest) = least_favourable(edge, on, share) {
                for other in [nearest * 0.98, nearest * 1.02] {
                    if other + edge < 1.0 {
                        prop_assert!(distance(nearest) <= distance(other) + 1e-9);
                    }
                }
            }
        }
    }

    #[test]
    fn with_no_margin_the_nearest_pair_is_the_mean() {
        let on = Rates {
            baseline: 0.01,
            canary: 0.05,
        };
        let base = least_favourable(0.0, on, 0.25).unwrap();
        assert!((base - 0.02).abs() < 1e-9, "{base}");
    }
}
