//! The state of a comparison: what was counted and what it is worth as evidence.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dispersion::{Bunching, Dispersion};
use super::measure::MeasureEvidence;
use super::policy::Policy;
use super::record::bounds;
use super::tally::{Look, Tally};
use super::verdict::{self, KEPT_FOR_THE_END, MISSES_KEPT_FOR_THE_END, Measure, Verdict};
use super::wealth::{Against, Wealth};

/// One look multiplies the evidence by at most this power of what a verdict needs, so that a verdict takes at least three
/// looks: what comes together by one cause falls into one look or two.
const MOST_PER_LOOK: f64 = 0.34;

/// What came in is taken in once it is this part of all requests so far, or this many. Few requests fall unequally on both
/// sides by chance, and what is compared within a look is worth less by one part in as many requests as it has; much
/// larger looks would only make the verdict late.
const LOOK_PART: u64 = 16;
const LOOK_ENOUGH: u64 = 20;

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
    /// Where the baseline is a record of what the old release answered: what of it was laid beside the canary.
    #[serde(default)]
    record: Option<Recorded>,
    measures: Vec<MeasureEvidence>,
}

/// A record laid beside the canary's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
struct Recorded {
    /// What was compared.
    laid: Look,
    /// What waits until both sides have something.
    waiting: Look,
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
        let alone = number(policy.measures().max(1) as u64);
        let step = |probability: f64| -MOST_PER_LOOK * probability.ln();
        let for_worse = step(policy.alpha() * (1.0 - KEPT_FOR_THE_END) / alone);
        let for_better = step(policy.beta() * (1.0 - MISSES_KEPT_FOR_THE_END));
        let measures = margins
            .into_iter()
            .filter_map(|(measure, margin)| Some((measure, margin?.coherent())))
            .map(|(measure, margin)| MeasureEvidence {
                measure,
                margin,
                worse: Wealth::new(Against::WithinMargin, margin, for_worse),
                better: Wealth::new(Against::Regression, margin, for_better),
                beside: None,
                dispersion: Dispersion::default(),
                bunching: Bunching::default(),
                bunching_within: Bunching::default(),
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
            record: None,
            measures,
        }
    }

    /// No evidence yet, for a canary that has all requests, so that the old release answers none beside it and its record
    /// takes its place.
    ///
    /// Two things are done with the record, and the mean of both e-values counts. It bounds the old release's rates,
    /// which then hold for any number of canary requests; the bounds take the part of each error probability that
    /// otherwise is kept for the final test. And it is laid beside the canary's answers piece by piece, each once: looks
    /// bring it as the baseline for as long as it lasts. What is assumed is that the old release would have gone on
    /// alike.
    ///
    /// - `history`: what the old release did before the record
    pub fn against_record(policy: &Policy, history: Tally, record: Tally) -> Self {
        let record = record.coherent();
        let mut evidence = Self::knowing(policy, history);
        let alone = number(policy.measures().max(1) as u64);
        for each in &mut evidence.measures {
            let bad = each.measure.count(record);
            let within = |probability: f64| bounds(bad, record.requests, probability / alone);
            let worse = within(policy.alpha() * KEPT_FOR_THE_END);
            let better = within(policy.beta() * MISSES_KEPT_FOR_THE_END);
            each.beside = Some(each.worse.clone());
            each.worse = each.worse.clone().against_bounds(worse);
            each.better = each.better.clone().against_bounds(better);
        }
        evidence.record = Some(Recorded::default());
        evidence.total.baseline = record;
        evidence
    }

    /// Takes in what both sides answered since the last look.
    pub fn observe(&mut self, increment: Look) {
        self.looks += 1;
        self.pending = self.pending.plus(increment.coherent());
        if self.record.is_some() {
            return self.observe_recorded();
        }
        if self.pending.baseline.requests == 0 || self.pending.canary.requests == 0 {
            return; // One side alone compares with nothing.
        }
        if self.pending.requests() < (self.total.requests() / LOOK_PART).min(LOOK_ENOUGH) {
            return; // Decided by the number of requests alone, never by what they were answered.
        }
        let look = std::mem::take(&mut self.pending);
        for evidence in &mut self.measures {
            evidence.observe(look, self.total, self.history, self.clump);
        }
        self.total = self.total.plus(look);
    }

    fn observe_recorded(&mut self) {
        let Some(record) = &mut self.record else {
            return;
        };
        let look = std::mem::take(&mut self.pending);
        record.waiting = record.waiting.plus(look);
        let both = record.waiting.baseline.requests > 0 && record.waiting.canary.requests > 0;
        let laid = both.then(|| std::mem::take(&mut record.waiting));
        for evidence in &mut self.measures {
            if let Some(laid) = laid {
                evidence.observe(laid, record.laid, self.history, self.clump);
            }
            if look.canary.requests > 0 {
                evidence.observe_alone(look.canary, self.total, self.clump);
            }
        }
        record.laid = record.laid.plus(laid.unwrap_or_default());
        self.total.canary = self.total.canary.plus(look.canary);
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

    /// Whether the baseline is a record.
    pub(crate) fn is_recorded(&self) -> bool {
        self.record.is_some()
    }

    pub(crate) fn clump(&self) -> f64 {
        self.clump
    }

    pub(crate) fn measures(&self) -> &[MeasureEvidence] {
        &self.measures
    }
}

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
        left_out: 0,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::{Advice, Basis, Undecided};

    fn side(requests: u64, bad: u64, slow: u64) -> Tally {
        Tally {
            requests,
            bad,
            slow,
            left_out: 0,
        }
    }

    /// The verdict after the same look over and over, or the first that is final.
    fn after(policy: &Policy, looks: u64, baseline: Tally, canary: Tally) -> Verdict {
        let mut evidence = Evidence::new(policy);
        let mut verdict = evidence.verdict(policy, Duration::ZERO);
        for second in 1..=looks {
            evidence.observe(Look { baseline, canary });
            verdict = evidence.verdict(policy, Duration::from_secs(second));
            if verdict.advice() != Advice::Hold {
                break;
            }
        }
        verdict
    }

    #[test]
    fn half_bad_is_worse_within_a_few_looks() {
        let verdict = after(&Policy::default(), 4, side(20, 0, 0), side(20, 10, 0));
        let Verdict::Worse(finding) = &verdict else {
            panic!("{}", verdict.explain());
        };
        assert_eq!(finding.deciding, Some(Measure::Errors));
        assert_eq!(finding.advice, Advice::RollBack);
        assert!(finding.canary_requests <= 60);
        assert!((finding.towards_worse - 1.0).abs() < 1e-12);
    }

    #[test]
    fn bad_answers_that_come_at_once_weigh_less_than_as_many_one_by_one() {
        let policy = Policy::default();
        let log_odds = |at_once: u64| {
            let mut evidence = Evidence::new(&policy);
            for look in 0..60_u64 {
                evidence.observe(Look {
                    baseline: side(20, u64::from(look % 20 == 7), 0),
                    canary: side(20, if look % at_once == 0 { at_once } else { 0 }, 0),
                });
            }
            let verdict = evidence.verdict(&policy, Duration::from_secs(20));
            verdict.finding().measures[0].odds_worse.ln()
        };
        let (single, five) = (log_odds(1), log_odds(5));
        assert!(single > 10.0 && five < single / 3.0, "{single} {five}");
    }

    #[test]
    fn one_burst_between_two_looks_is_not_enough() {
        let verdict = after(&Policy::default(), 1, side(1000, 0, 0), side(1000, 1000, 0));
        assert!(
            matches!(verdict, Verdict::CannotTellYet(_)),
            "{}",
            verdict.explain()
        );
    }

    #[test]
    fn slow_answers_alone_roll_back() {
        let verdict = after(&Policy::default(), 60, side(50, 0, 1), side(50, 0, 15));
        assert!(
            matches!(&verdict, Verdict::Worse(finding) if finding.deciding == Some(Measure::Slow))
        );
        assert!(verdict.explain().contains("slow"), "{}", verdict.explain());
    }

    #[test]
    fn equal_releases_move_on_but_not_before_their_time() {
        let policy = Policy::default();
        let verdict = after(&policy, 300, side(100, 0, 1), side(100, 0, 1));
        assert!(
            matches!(verdict, Verdict::BetterOrEqual(_)),
            "{}",
            verdict.explain()
        );
        assert!(verdict.finding().elapsed >= policy.at_least);
    }

    #[test]
    fn silence_is_no_evidence() {
        let policy = Policy {
            undecided: Undecided::Hold,
            ..Policy::default()
        };
        let waiting = after(&policy, 599, side(0, 0, 0), side(0, 0, 0));
        assert!(
            matches!(waiting, Verdict::CannotTellYet(_)),
            "{}",
            waiting.explain()
        );
        let quiet = after(&policy, 600, side(0, 0, 0), side(0, 0, 0));
        assert!(matches!(quiet, Verdict::TooQuiet(_)), "{}", quiet.explain());
        assert_eq!(quiet.advice(), Advice::Hold);
        let one_sided = after(&policy, 600, side(50, 0, 0), side(0, 0, 0));
        assert!(
            matches!(one_sided, Verdict::TooQuiet(_)),
            "{}",
            one_sided.explain()
        );
    }

    #[test]
    fn what_is_still_open_at_the_end_is_decided_by_the_policy() {
        for (undecided, advice) in [
            (Undecided::RollBack, Advice::RollBack),
            (Undecided::Advance, Advice::Advance),
        ] {
            let policy = Policy {
                undecided,
                max_samples: Some(60),
                at_least: Duration::ZERO,
                ..Policy::default()
            };
            let verdict = after(&policy, 10, side(10, 0, 0), side(10, 0, 0));
            assert!(
                matches!(verdict, Verdict::CannotTellYet(_)),
                "{}",
                verdict.explain()
            );
            assert_eq!(verdict.finding().basis, Basis::Expired);
            assert_eq!(verdict.advice(), advice);
        }
    }

    #[test]
    fn a_policy_that_judges_nothing_never_says_better() {
        let policy = Policy {
            errors: None,
            slow: None,
            ..Policy::default()
        };
        let verdict = after(&policy, 500, side(100, 0, 0), side(100, 50, 50));
        assert!(
            matches!(verdict, Verdict::CannotTellYet(_)),
            "{}",
            verdict.explain()
        );
    }

    #[test]
    fn a_verdict_says_its_numbers() {
        let verdict = after(&Policy::default(), 4, side(20, 0, 0), side(20, 10, 0));
        let text = verdict.explain();
        assert!(
            text.starts_with("the new release is worse: 50.0 % bad (")
                && text.contains("against 0.0 % (0 of"),
            "{text}"
        );
    }

    fn looks() -> impl Strategy<Value = Vec<Look>> {
        let tally = || {
            (0..60_u64, 0..20_u64, 0..20_u64)
                .prop_map(|(requests, bad, slow)| side(requests, bad, slow))
        };
        let look = (tally(), tally()).prop_map(|(baseline, canary)| Look { baseline, canary });
        prop::collection::vec(look, 1..60)
    }

    proptest! {
        #[test]
        fn evidence_that_was_saved_goes_on_the_same(looks in looks(), cut in 0..60_usize) {
            let policy = Policy::default();
            let (mut whole, mut part) = (Evidence::new(&policy), Evidence::new(&policy));
            for (at, look) in looks.iter().enumerate() {
                whole.observe(*look);
                part.observe(*look);
                if at == cut {
                    let saved = serde_json::to_string(&part).unwrap();
                    part = serde_json::from_str(&saved).unwrap();
                }
            }
            // Decimal text may move the last bit of a number.
            let elapsed = Duration::from_secs(40);
            let (left, right) = (whole.verdict(&policy, elapsed), part.verdict(&policy, elapsed));
            prop_assert_eq!(whole.total(), part.total());
            prop_assert_eq!(left.explain(), right.explain());
            prop_assert!((left.finding().towards_worse - right.finding().towards_worse).abs() < 1e-9);
            prop_assert!((left.finding().towards_better - right.finding().towards_better).abs() < 1e-9);
        }

        #[test]
        fn evidence_stays_a_number(looks in looks()) {
            let policy = Policy::default();
            let mut evidence = Evidence::new(&policy);
            for look in looks {
                evidence.observe(look);
                let verdict = evidence.verdict(&policy, Duration::from_secs(5));
                let finding = verdict.finding();
                prop_assert!((0.0..=1.0).contains(&finding.towards_worse));
                prop_assert!((0.0..=1.0).contains(&finding.towards_better));
                prop_assert!(evidence.measures.iter().all(|each| each.worse.log_evidence().is_finite()));
                prop_assert!(!verdict.explain().is_empty());
            }
        }

        #[test]
        fn a_canary_that_never_does_worse_is_never_called_worse(
            looks in looks(),
            less in prop::collection::vec((0..20_u64, 0..20_u64), 60),
        ) {
            let policy = Policy::default();
            let mut evidence = Evidence::new(&policy);
            for (look, less) in looks.iter().zip(less) {
                let baseline = look.baseline.coherent();
                let canary = side(baseline.requests, baseline.bad.saturating_sub(less.0), baseline.slow.saturating_sub(less.1));
                evidence.observe(Look { baseline, canary });
                let verdict = evidence.verdict(&policy, Duration::from_secs(40));
                prop_assert!(!matches!(verdict, Verdict::Worse(_)), "{}", verdict.explain());
            }
        }
    }
}
