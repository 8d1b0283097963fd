//! What a record of counts says of the rate behind it, whenever the record ended.

use statrs::function::beta::ln_beta;

/// The lowest and highest rate that `bad` of `requests` leave possible: the probability that a constant rate is ever
/// outside, at any number of requests, is at most `probability`.
///
/// - returns: `(0.0, 1.0)` for a record of nothing
///
/// Source: the mixture of likelihood ratios over Jeffreys' Beta(½, ½), a martingale under the true rate, and Ville's
/// inequality; H. Robbins, *Statistical methods related to the law of the iterated logarithm*, Annals of Mathematical
/// Statistics 41 (1970).
pub(crate) fn bounds(bad: u64, requests: u64, probability: f64) -> (f64, f64) {
    if requests == 0 {
        return (0.0, 1.0);
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let (bad, good) = (bad as f64, (requests - bad.min(requests)) as f64);
    let mixture = ln_beta(bad + 0.5, good + 0.5) - ln_beta(0.5, 0.5);
    let part = |count: f64, rate: f64| if count > 0.0 { count * rate.ln() } else { 0.0 };
    let possible =
        |rate: f64| mixture - part(bad, rate) - part(good, 1.0 - rate) < -probability.ln();
    let seen = bad / (bad + good);
    let edge = |outside: f64| {
        let (mut inside, mut outside) = (seen, outside);
        for _ in 0..60 {
            let middle = 0.5 * (inside + outside);
            if possible(middle) {
                inside = middle;
            } else {
                outside = middle;
            }
        }
        outside
    };
    (edge(0.0), edge(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_everything_possible() {
        assert_eq!(bounds(0, 0, 0.01), (0.0, 1.0));
    }

    #[test]
    fn bounds_hold_what_was_seen_and_close_in() {
        let (mut width, probability) = (1.0, 0.002);
        for (bad, requests) in [(0, 20), (1, 200), (10, 2_000), (100, 20_000)] {
            let (low, high) = bounds(bad, requests, probability);
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let seen = bad as f64 / requests as f64;
            assert!(low <= seen && seen <= high, "{low} {seen} {high}");
            assert!(high - low < width, "{low} {high}");
            width = high - low;
        }
        let (low, high) = bounds(100, 20_000, probability);
        assert!(0.0025 < low && high < 0.008, "{low} {high}");
    }

    #[test]
    fn only_bad_answers_leave_a_rate_of_one_possible() {
        let (low, high) = bounds(30, 30, 0.01);
        assert!(low > 0.7 && (high - 1.0).abs() < 1e-9, "{low} {high}");
    }
}
