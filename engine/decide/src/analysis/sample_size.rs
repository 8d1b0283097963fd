//! How many requests a comparison needs, and the fixed-sample test that ends one.

use statrs::function::beta::beta_reg;
use statrs::function::erf::erfc_inv;

use super::wealth::least_favourable;

/// Shares of bad answers of both sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Of the old release.
    pub baseline: f64,
    /// Of the new release.
    pub canary: f64,
}

/// Canary requests that a fixed-sample test of two proportions needs to tell a difference of `allowed` from one of
/// `regression`.
///
/// - `base`: the baseline's share
/// - `canary_per_baseline`: canary requests for each baseline request, 1.0 for equal halves
/// - `alpha`, `beta`: one-sided error probabilities
///
/// Source: the normal approximation for the canary's share θ of all bad answers,
/// `X = (z(α)·√(θ₀(1−θ₀)) + z(β)·√(θ₁(1−θ₁)))² / (θ₁ − θ₀)²` bad answers, where θ₀ belongs to the pair within the margin
/// that is hardest to tell from the regression. Rare events make the usual formula for the difference of the rates
/// too small, since few bad answers of the baseline say little about its rate. Whole numbers need 2.5 / (θ₁ − θ₀) more,
/// which is fitted to the exact test.
pub fn fixed_samples(
    base: f64,
    allowed: f64,
    regression: f64,
    canary_per_baseline: f64,
    alpha: f64,
    beta: f64,
) -> f64 {
    let truth = Rates {
        baseline: base,
        canary: (base + regression).min(0.999),
    };
    let weight = canary_per_baseline / (1.0 + canary_per_baseline);
    let Some(edge) = least_favourable(allowed, truth, weight) else {
        return f64::INFINITY;
    };
    let share = |canary: f64, baseline: f64| {
        weight * canary / (weight * canary + (1.0 - weight) * baseline)
    };
    let null = share(edge + allowed, edge);
    let alternative = share(truth.canary, truth.baseline);
    let spread = |share: f64| (share * (1.0 - share)).sqrt();
    let distance = (alternative - null).max(1e-6);
    let reach = (upper_quantile(alpha) * spread(null) + upper_quantile(beta) * spread(alternative))
        / distance;
    // Common errors vary less than rare ones.
    let common = 1.0 - (weight * truth.canary + (1.0 - weight) * truth.baseline);
    let bad = reach * reach * common + WHOLE_NUMBERS / distance;
    (bad / (truth.canary + truth.baseline / canary_per_baseline)).max(1.0)
}

/// What the exact test needs beyond the normal approximation, times the distance of the shares.
const WHOLE_NUMBERS: f64 = 2.5;

/// The point that a standard normal exceeds with this probability.
fn upper_quantile(probability: f64) -> f64 {
    std::f64::consts::SQRT_2 * erfc_inv(2.0 * probability)
}

/// Probability of at least this many of all bad answers falling on the canary when it is worse by exactly `allowed`.
///
/// Given the total, each bad answer falls on the canary with a share that follows from both sides' requests and rates;
/// the baseline's rate is the most likely one under the hypothesis. With `allowed` zero no rate is left to estimate
/// and the test is the exact conditional one, valid under any common change of rates.
///
/// - `canary`, `baseline`: (bad, requests)
/// - `clump`: bad answers come in clumps of this size, at least 1
///
/// Source: conditional test of two counts, Przyborowski and Wilenski, *Biometrika* 31 (1940).
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn exceedance(canary: (u64, u64), baseline: (u64, u64), allowed: f64, clump: f64) -> f64 {
    let (bad, requests) = (canary.0 as f64, canary.1 as f64);
    let (base_bad, base_requests) = (baseline.0 as f64, baseline.1 as f64);
    if requests < 1.0 || base_requests < 1.0 || bad < 1.0 {
        return 1.0;
    }
    let base = restricted_base(bad, requests, base_bad, base_requests, allowed);
    let expected = requests * (base + allowed).min(1.0);
    let expected_base = base_requests * base;
    let share = expected / (expected + expected_base);
    let clump = clump.max(1.0);
    binomial_at_least(bad / clump, (bad + base_bad) / clump, share)
}

/// The baseline rate most likely when the canary's is higher by `allowed`.
fn restricted_base(
    bad: f64,
    requests: f64,
    base_bad: f64,
    base_requests: f64,
    allowed: f64,
) -> f64 {
    let (mut low, mut high) = (0.0_f64, (1.0 - allowed).max(1e-9));
    let slope = |base: f64| {
        let canary = base + allowed;
        ratio(bad, canary) - ratio(requests - bad, 1.0 - canary) + ratio(base_bad, base)
            - ratio(base_requests - base_bad, 1.0 - base)
    };
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if slope(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

fn ratio(count: f64, share: f64) -> f64 {
    if count <= 0.0 {
        0.0
    } else {
        count / share.max(1e-12)
    }
}

/// `P(Binomial(trials, share) ≥ count)`, continued to fractions through the beta function.
fn binomial_at_least(count: f64, trials: f64, share: f64) -> f64 {
    if share >= 1.0 || count <= 0.0 {
        return 1.0;
    }
    beta_reg(count, (trials - count + 1.0).max(1e-9), share.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_heads_of_twenty() {
        let chance = exceedance((20, 1000), (0, 1000), 0.0, 1.0);
        assert!((chance - 0.5_f64.powi(20)).abs() < 1e-9, "{chance}");
    }

    #[test]
    fn a_margin_makes_the_same_counts_likelier() {
        let without = exceedance((20, 1000), (5, 1000), 0.0, 1.0);
        let with = exceedance((20, 1000), (5, 1000), 0.01, 1.0);
        assert!(without < 0.01 && with > 0.1, "{without} {with}");
    }

    #[test]
    fn no_bad_answers_show_nothing() {
        assert!((exceedance((0, 100), (7, 100), 0.0, 1.0) - 1.0).abs() < 1e-12);
        assert!((exceedance((3, 0), (0, 100), 0.0, 1.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn planned_samples_are_what_the_exact_test_needs() {
        // Needed by the exact test, found by simulation: examples/simulate/reference.rs.
        for (base, allowed, exact) in [
            (0.001, 0.0, 1_059.0),
            (0.005, 0.0, 1_717.0),
            (0.02, 0.0, 3_867.0),
            (0.005, 0.005, 4_059.0),
            (0.02, 0.005, 8_546.0),
        ] {
            let planned = fixed_samples(base, allowed, 0.015, 1.0, 0.01, 0.05);
            assert!(
                (0.95..1.06).contains(&(planned / exact)),
                "{base} {allowed}: {planned}"
            );
        }
    }
}
