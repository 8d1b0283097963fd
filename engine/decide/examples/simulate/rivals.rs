//! Rules that others apply to the same traffic.

use crate::random::Draws;
use crate::traffic::Scenario;

/// Bad answers and requests of both sides in one minute.
struct Minute {
    canary: (u64, u64),
    baseline: (u64, u64),
}

/// Minutes of steady traffic, each drawn at once.
fn minutes(scenario: &Scenario, count: u64, draws: &mut Draws) -> Vec<Minute> {
    let by_minute = Scenario {
        canary_per_second: scenario.canary_per_second * 60.0,
        looks_per_second: 1,
        ..scenario.clone()
    };
    (0..count)
        .map(|minute| {
            let look = by_minute.look(minute, draws);
            Minute {
                canary: (look.canary.bad, look.canary.requests),
                baseline: (look.baseline.bad, look.baseline.requests),
            }
        })
        .collect()
}

/// A rule that counts minutes in which less than 99 % of the canary's answers were good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Failed minutes at which it goes back.
    pub rolls_back_at: u64,
    /// Whether a minute without requests fails.
    pub silence_fails: bool,
}

/// Minutes of each run of the threshold rules.
pub const THRESHOLD_MINUTES: u64 = 10;

impl Threshold {
    /// Argo Rollouts: goes back when failed measurements exceed the limit. The documented query over no requests gives
    /// no number, which is taken as no failure.
    pub fn argo(failure_limit: u64) -> Self {
        Self {
            rolls_back_at: failure_limit + 1,
            silence_fails: false,
        }
    }

    /// Flagger: goes back when failed checks reach the threshold; no values is a failed check.
    pub fn flagger(threshold: u64) -> Self {
        Self {
            rolls_back_at: threshold,
            silence_fails: true,
        }
    }

    /// Runs the rule for ten minutes: the minute at which it went back.
    pub fn run(self, scenario: &Scenario, draws: &mut Draws) -> Option<u64> {
        let mut failed = 0;
        for (minute, seen) in minutes(scenario, THRESHOLD_MINUTES, draws)
            .into_iter()
            .enumerate()
        {
            let (bad, requests) = seen.canary;
            failed += u64::from(if requests == 0 {
                self.silence_fails
            } else {
                bad * 100 > requests
            });
            if failed >= self.rolls_back_at {
                return Some(minute as u64 + 1);
            }
        }
        None
    }
}

/// Minutes, and so points, of one Kayenta judgement.
pub const KAYENTA_MINUTES: u64 = 60;

/// Kayenta's judge on one metric, the share of bad answers in each minute: it is "high" when the lower end of the 98 %
/// confidence interval of the Mann-Whitney test is above a quarter of the estimated shift.
pub fn kayenta(scenario: &Scenario, draws: &mut Draws) -> bool {
    let seen = minutes(scenario, KAYENTA_MINUTES, draws);
    let share = |(bad, requests): (u64, u64)| {
        if requests == 0 {
            0.0
        } else {
            bad as f64 / requests as f64
        }
    };
    let canary: Vec<f64> = seen.iter().map(|minute| share(minute.canary)).collect();
    let baseline: Vec<f64> = seen.iter().map(|minute| share(minute.baseline)).collect();
    if canary == baseline {
        return false;
    }
    let (Some(lower), Some(estimate)) = (
        shift(&canary, &baseline, Z_99),
        shift(&canary, &baseline, 0.0),
    ) else {
        return false;
    };
    lower > (0.25 * estimate.abs()).max(SOLVER_ACCURACY)
}

/// Kayenta solves for the ends of the interval to this accuracy, so what is nearer to zero counts as zero.
const SOLVER_ACCURACY: f64 = 1e-4;

/// The 99 % quantile of the standard normal.
const Z_99: f64 = 2.326_347_874_040_841;

/// The shift of the canary's values at which the statistic of the Mann-Whitney test is `quantile`: with zero the
/// Hodges-Lehmann estimate, with a normal quantile an end of the asymptotic confidence interval, as in R's
/// `wilcox.test` with correction. `None` when all values are tied.
fn shift(canary: &[f64], baseline: &[f64], quantile: f64) -> Option<f64> {
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut low = least(canary) - most(baseline);
    let mut high = most(canary) - least(baseline);
    if statistic(canary, baseline, low)? <= quantile {
        return Some(low);
    }
    if statistic(canary, baseline, high)? >= quantile {
        return Some(high);
    }
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if statistic(canary, baseline, middle)? > quantile {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(0.5 * (low + high))
}

fn statistic(canary: &[f64], baseline: &[f64], shift: f64) -> Option<f64> {
    let mut all: Vec<(f64, bool)> = canary.iter().map(|value| (value - shift, true)).collect();
    all.extend(baseline.iter().map(|value| (*value, false)));
    all.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (x, y) = (canary.len() as f64, baseline.len() as f64);
    let (mut ranks, mut ties, mut at) = (0.0, 0.0, 0);
    while at < all.len() {
        let equal = all[at..]
            .iter()
            .take_while(|other| other.0.total_cmp(&all[at].0).is_eq())
            .count();
        let rank = at as f64 + (equal as f64 + 1.0) * 0.5;
        let of_canary = all[at..at + equal].iter().filter(|value| value.1).count();
        ranks += rank * of_canary as f64;
        ties += (equal as f64).powi(3) - equal as f64;
        at += equal;
    }
    let off = ranks - x * (x + 1.0) * 0.5 - x * y * 0.5;
    let spread = (x * y / 12.0 * (x + y + 1.0 - ties / ((x + y) * (x + y - 1.0)))).sqrt();
    let correction = if off == 0.0 { 0.0 } else { off.signum() * 0.5 };
    (spread > 0.0).then(|| (off - correction) / spread)
}
