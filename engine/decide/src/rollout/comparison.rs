//! New and old of one service on the same traffic: from the gateway's totals to a verdict.

use std::collections::BTreeMap;
use std::time::Duration;

use platform_blueprint::{Analysis, Better, Metric, Rollout, WhenQuiet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::seen::{Counts, Reading};
use super::stage::Side;
use crate::analysis::{
    Evidence, Look, Margin, PairedEvidence, PairedPolicy, Policy, Tally, Tolerance, Undecided,
    Verdict, WorseWhen,
};
use crate::group::GroupId;
use crate::traffic::Share;

/// A regression is this many times what is allowed, as in every table of docs/analysis.md.
const REGRESSION: f64 = 3.0;

/// New and old of one service, counted since the rollout began.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The gateway's totals at the last look, and its epoch.
    epoch: Option<String>,
    last: BTreeMap<GroupId, Tally>,
    /// What all old instances answered since the rollout began.
    pub old: Tally,
    /// What the new ones answered.
    pub new: Tally,
    /// What both sides answered since the stage began.
    pub stage: Look,
    /// Evidence of this stage.
    evidence: Option<Evidence>,
    /// What it showed last.
    pub verdict: Option<Verdict>,
    /// Requests of the old release's record that were used again in this stage.
    replayed: u64,
    /// Evidence of extra metrics, of all stages together.
    pub metrics: BTreeMap<String, PairedEvidence>,
}

impl Comparison {
    /// Takes in the gateway's totals, whether or not they are judged; returns what is new.
    pub(super) fn count(&mut self, groups: &Groups, counts: &Counts) -> Increment {
        let first = self.epoch.is_none();
        if self.epoch.as_deref() != Some(&counts.epoch) {
            // A gateway that started anew counts from zero, so all that it has counted came since.
            self.epoch = Some(counts.epoch.clone());
            self.last.clear();
        }
        let mut of = |group: &GroupId| {
            let total = counts.lanes.get(group).copied().unwrap_or_default();
            let earlier = self.last.insert(group.clone(), total).unwrap_or_default();
            // What was counted before the rollout began is not its business.
            if first {
                Tally::default()
            } else {
                total.since(earlier)
            }
        };
        let increment = Increment {
            main: of(&groups.main),
            baseline: of(&groups.baseline),
            new: of(&groups.new),
        };
        self.old = self.old.plus(increment.main).plus(increment.baseline);
        self.new = self.new.plus(increment.new);
        increment
    }

    /// Compares what came in while the stage's shares were in force.
    pub(super) fn compare(&mut self, side: &Side, increment: Increment, policy: Option<&Policy>) {
        let baseline = if side.baseline_share > Share::NONE {
            increment.baseline
        } else if side.old_share() > Share::NONE {
            increment.main
        } else {
            self.replay(increment.new.requests)
        };
        let look = Look {
            baseline,
            canary: increment.new,
        };
        self.stage = self.stage.plus(look);
        if let Some(policy) = policy {
            self.evidence
                .get_or_insert_with(|| Evidence::new(policy))
                .observe(look);
        }
    }

    /// As many requests as the old release's record has them, good and bad in their proportion.
    ///
    /// Once the new release has all requests there is no old one to compare with, so it is compared with what the old one
    /// did during the rollout, used again where that is not enough.
    fn replay(&mut self, requests: u64) -> Tally {
        let record = self.old;
        if record.requests == 0 {
            return Tally::default();
        }
        let up_to = self.replayed + requests;
        let part = |count: u64, of: u64| {
            let exact = u128::from(count) * u128::from(of) / u128::from(record.requests);
            u64::try_from(exact).unwrap_or(u64::MAX)
        };
        let between = |count: u64| part(count, up_to) - part(count, self.replayed);
        let tally = Tally {
            requests,
            bad: between(record.bad),
            slow: between(record.slow),
        };
        self.replayed = up_to;
        tally
    }

    /// Judges the stage so far.
    pub(super) fn judge(&mut self, policy: &Policy, elapsed: Duration) -> &Verdict {
        let evidence = self.evidence.get_or_insert_with(|| Evidence::new(policy));
        self.verdict.insert(evidence.verdict(policy, elapsed))
    }

    /// Takes in one reading of an extra metric.
    pub(super) fn read(&mut self, metric: &Metric, reading: &Reading, alpha: f64, beta: f64) {
        self.metrics
            .entry(metric.name.clone())
            .or_insert_with(|| PairedEvidence::new(paired_policy(metric, alpha, beta)))
            .observe(reading.old, reading.new);
    }

    /// Begins anew for another stage, keeping totals.
    pub(super) fn begin_stage(&mut self) {
        self.stage = Look::default();
        self.evidence = None;
        self.verdict = None;
        self.replayed = 0;
    }
}

/// The groups of one comparison.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    pub(super) main: GroupId,
    pub(super) baseline: GroupId,
    pub(super) new: GroupId,
}

/// What each group answered since the last look.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Increment {
    main: Tally,
    baseline: Tally,
    pub(super) new: Tally,
}

/// The analysis as a rollout's policy asks for it, or `None` where nothing is compared.
///
/// The probability of a false rollback holds for the rollout as a whole, so each of its comparisons gets a part of it.
///
/// - `comparisons`: stages that are judged, times services that requests reach
pub fn comparison_policy(rollout: &Rollout, comparisons: usize) -> Option<Policy> {
    let analysis = rollout.analysis.as_ref()?;
    let policy = Policy {
        errors: Some(Margin::allowing(analysis.errors.fraction())),
        slow: Some(Margin::allowing(analysis.slow.fraction())),
        alpha: alpha(analysis),
        beta: beta(analysis),
        min_samples: u64::from(analysis.min_samples),
        max_samples: analysis.max_samples.map(u64::from),
        at_least: analysis.at_least.duration(),
        at_most: analysis.at_most.duration(),
        undecided: match analysis.when_quiet {
            WhenQuiet::Hold => Undecided::Hold,
            WhenQuiet::Advance => Undecided::Advance,
            WhenQuiet::RollBack => Undecided::RollBack,
        },
        ..Policy::default()
    };
    Some(policy.for_each_of(u32::try_from(comparisons).unwrap_or(u32::MAX)))
}

pub(super) fn alpha(analysis: &Analysis) -> f64 {
    1.0 - analysis.confidence.get()
}

pub(super) fn beta(analysis: &Analysis) -> f64 {
    1.0 - analysis.power.get()
}

fn paired_policy(metric: &Metric, alpha: f64, beta: f64) -> PairedPolicy {
    PairedPolicy {
        worse_when: match metric.better {
            Better::Lower => WorseWhen::Higher,
            Better::Higher => WorseWhen::Lower,
        },
        allowed: Tolerance::Relative(metric.margin.fraction()),
        regression: Tolerance::Relative(metric.margin.fraction() * REGRESSION),
        alpha,
        beta,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Groups {
        Groups {
            main: "orders@r1".parse().unwrap(),
            baseline: "orders@r1-baseline".parse().unwrap(),
            new: "orders@r2".parse().unwrap(),
        }
    }

    fn counts(epoch: &str, main: u64, new: u64) -> Counts {
        let tally = |requests| Tally {
            requests,
            bad: requests / 10,
            slow: 0,
        };
        let lanes = [(groups().main, tally(main)), (groups().new, tally(new))];
        Counts {
            epoch: epoch.to_owned(),
            lanes: lanes.into(),
        }
    }

    fn all_new() -> Side {
        Side {
            new: 1,
            old_before: 1,
            old: 1,
            baseline: 0,
            new_share: Share::FULL,
            baseline_share: Share::NONE,
        }
    }

    #[test]
    fn what_was_counted_before_is_not_counted() {
        let mut comparison = Comparison::default();
        comparison.count(&groups(), &counts("a", 1000, 0));
        assert_eq!(comparison.old.requests, 0);
        comparison.count(&groups(), &counts("a", 1100, 7));
        assert_eq!((comparison.old.requests, comparison.new.requests), (100, 7));
    }

    #[test]
    fn a_gateway_that_started_anew_counts_from_zero() {
        let mut comparison = Comparison::default();
        comparison.count(&groups(), &counts("a", 1000, 0));
        comparison.count(&groups(), &counts("b", 1010, 30));
        assert_eq!(
            (comparison.old.requests, comparison.new.requests),
            (1010, 30)
        );
    }

    #[test]
    fn the_old_record_is_used_again_in_proportion() {
        let mut comparison = Comparison {
            old: Tally {
                requests: 30,
                bad: 3,
                slow: 6,
            },
            ..Comparison::default()
        };
        for _ in 0..20 {
            let increment = Increment {
                new: Tally {
                    requests: 7,
                    bad: 0,
                    slow: 0,
                },
                ..Increment::default()
            };
            comparison.compare(&all_new(), increment, None);
        }
        let baseline = comparison.stage.baseline;
        assert_eq!(
            (baseline.requests, baseline.bad, baseline.slow),
            (140, 14, 28)
        );
    }

    #[test]
    fn nothing_is_compared_with_an_old_release_that_answered_nothing() {
        let mut comparison = Comparison::default();
        assert_eq!(comparison.replay(100), Tally::default());
    }
}
