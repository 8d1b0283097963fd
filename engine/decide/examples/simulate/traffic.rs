//! Traffic of both sides, look by look.

use platform_decide::analysis::{Look, Tally};

use crate::random::Draws;

/// How the load changes with time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// The same all the time.
    Steady,
    /// A sine of a period of ten minutes, from a fifth to nine fifths of the mean.
    Diurnal,
    /// Mostly a third of the mean, and eight times that one second in ten.
    Bursty,
}

/// What besides the release changes the rate of bad and slow answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weather {
    /// Nothing.
    Calm,
    /// Follows a sine of a period of seven minutes, from a third to five thirds, for both sides alike.
    Diurnal,
    /// A dependency that fails 10 % of all requests of both sides for two seconds in sixty.
    Shocks,
    /// Bad answers come in clumps on one side, geometric with this mean.
    Clumps(f64),
    /// Each side's rate is drawn anew each second: usually a third of the mean, else five times it.
    Hiccups,
}

/// Rates of one side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side {
    /// Share of bad answers.
    pub bad: f64,
    /// Share of slow answers.
    pub slow: f64,
}

/// One client that makes much of the traffic, and whose errors have nothing to do with the release.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeavyClient {
    /// Share of all requests that it makes.
    pub share: f64,
    /// Share of bad answers to it, on either side as long as the releases are equal.
    pub bad: f64,
}

/// A cell of the simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// As it is called in the tables.
    pub name: String,
    /// The old release.
    pub baseline: Side,
    /// The new release.
    pub canary: Side,
    /// Seconds after which the canary turns from the baseline's rates to its own.
    pub turns_after: u64,
    /// Share of requests that go to the canary; the rest goes to the baseline.
    pub weight: f64,
    /// Requests that the canary gets each second, on average.
    pub canary_per_second: f64,
    /// Requests of the old release counted before the comparison began.
    pub history: u64,
    /// Looks each second.
    pub looks_per_second: u64,
    /// How the load changes.
    pub load: Load,
    /// What changes rates.
    pub weather: Weather,
    /// A client among the others that is not like them, whose requests go by weight.
    pub heavy_client: Option<HeavyClient>,
}

impl Scenario {
    /// Steady, calm traffic in equal halves, ten requests a second each.
    pub fn steady(base: f64, canary: f64) -> Self {
        Self {
            name: String::new(),
            baseline: Side {
                bad: base,
                slow: 0.0,
            },
            canary: Side {
                bad: canary,
                slow: 0.0,
            },
            turns_after: 0,
            weight: 0.5,
            canary_per_second: 10.0,
            history: 0,
            looks_per_second: 2,
            load: Load::Steady,
            weather: Weather::Calm,
            heavy_client: None,
        }
    }

    /// The same with bad answers in clumps, geometric with this mean, and enough requests in a look for nearly any of them.
    pub fn in_clumps(self, mean: f64) -> Self {
        Self {
            weather: Weather::Clumps(mean),
            canary_per_second: 40.0,
            ..self
        }
    }

    /// The same with so many slow answers on both sides; none are drawn otherwise.
    pub fn with_slow(self, slow: f64) -> Self {
        Self {
            baseline: Side {
                slow,
                ..self.baseline
            },
            canary: Side {
                slow,
                ..self.canary
            },
            ..self
        }
    }

    /// What the old release answered before.
    pub fn history(&self, draws: &mut Draws) -> Tally {
        // Everybody was on the old release.
        let bad = self.heavy_client.map_or(self.baseline.bad, |client| {
            self.baseline.bad * (1.0 - client.share) + client.bad * client.share
        });
        Tally {
            requests: self.history,
            bad: draws.binomial(self.history, bad),
            slow: draws.binomial(self.history, self.baseline.slow),
            left_out: 0,
        }
    }

    /// What both sides answer until the next look.
    pub fn look(&self, number: u64, draws: &mut Draws) -> Look {
        let second = number / self.looks_per_second;
        let turn = |period: f64| (std::f64::consts::TAU * second as f64 / period).sin();
        let weather = if self.weather == Weather::Diurnal {
            turn(420.0)
        } else {
            0.0
        };
        let load = match self.load {
            Load::Steady => 1.0,
            Load::Diurnal => 1.0 + 0.8 * turn(600.0),
            Load::Bursty if draws.uniform() < 0.1 => 80.0 / 17.0,
            Load::Bursty => 10.0 / 17.0,
        };
        let canary_mean = self.canary_per_second * load / self.looks_per_second as f64;
        let baseline_mean = canary_mean * (1.0 - self.weight) / self.weight;
        let canary = if second < self.turns_after {
            self.baseline
        } else {
            self.canary
        };
        let Some(client) = self.heavy_client else {
            return Look {
                baseline: self.side(self.baseline, baseline_mean, second, weather, draws),
                canary: self.side(canary, canary_mean, second, weather, draws),
            };
        };
        let its_mean = (canary_mean + baseline_mean) * client.share;
        let its_canary = its_mean * self.weight;
        let mut both = |rates: Side, others: f64, its: f64| {
            let others = others * (1.0 - client.share);
            // A release that is worse is worse for this one, too.
            let its_rates = Side {
                bad: client.bad + rates.bad - self.baseline.bad,
                ..rates
            };
            let one = self.side(rates, others, second, weather, draws);
            let other = self.side(its_rates, its, second, weather, draws);
            Tally {
                requests: one.requests + other.requests,
                bad: one.bad + other.bad,
                slow: one.slow + other.slow,
                left_out: 0,
            }
        };
        Look {
            baseline: both(self.baseline, baseline_mean, its_mean - its_canary),
            canary: both(canary, canary_mean, its_canary),
        }
    }

    fn side(&self, rates: Side, mean: f64, second: u64, turn: f64, draws: &mut Draws) -> Tally {
        let requests = draws.poisson(mean);
        let factor = match self.weather {
            Weather::Diurnal => 1.0 + 2.0 / 3.0 * turn,
            Weather::Hiccups if draws.uniform() < 1.0 / 7.0 => 5.0,
            Weather::Hiccups => 1.0 / 3.0,
            _ => 1.0,
        };
        let shock = if self.weather == Weather::Shocks && second % 60 < 2 {
            0.1
        } else {
            0.0
        };
        let share = |share: f64| (share * factor + shock).min(1.0);
        let bad = match self.weather {
            Weather::Clumps(mean) => {
                // A clump ends with its look at the latest; the mean of what is left of one keeps the rate as stated.
                let left = mean * (1.0 - (1.0 - 1.0 / mean).powf(requests as f64));
                let clumps = draws.binomial(requests, rates.bad / left.max(1.0));
                (0..clumps)
                    .map(|_| draws.geometric(mean).min(requests))
                    .sum::<u64>()
                    .min(requests)
            }
            _ => draws.binomial(requests, share(rates.bad)),
        };
        Tally {
            requests,
            bad,
            slow: draws.binomial(requests, share(rates.slow)),
            left_out: 0,
        }
    }
}
