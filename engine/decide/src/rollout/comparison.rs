//! New and old of one service on the same traffic: from the gateway's totals to a verdict.

use std::collections::BTreeMap;
use std::time::Duration;

use platform_blueprint::{Analysis, Better, Leeway, Metric, Rollout, WhenQuiet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::record::Record;
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

/// Evidence takes in what came since the last look this often, in milliseconds: clumps then fall within one look, and an
/// outage is still found within a second or two.
const LOOK_EVERY: u64 = 250;

/// For so long after a stage's shares came into force the new instances are compared with equally fresh ones alone, in
/// milliseconds; after that with all that the old release answers.
const WARM_UP: u64 = 30_000;

/// New and old of one service, counted since the rollout began.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The gateway's totals at the last look, and its epoch.
    epoch: Option<String>,
    last: BTreeMap<GroupId, Tally>,
    #[serde(default)]
    last_copies: BTreeMap<GroupId, Tally>,
    #[serde(default)]
    last_copied: BTreeMap<GroupId, Tally>,
    /// What the old release had answered when the rollout began.
    #[serde(default)]
    before: Tally,
    /// What all old instances answered since the rollout began.
    pub old: Tally,
    /// Of that, what fresh instances answered.
    #[serde(default)]
    pub baseline: Tally,
    /// What the new ones answered.
    pub new: Tally,
    /// What the new ones answered to copies of requests, which nobody got.
    #[serde(default)]
    pub copies: Tally,
    /// What both sides answered since the stage began, as far as it was compared.
    pub stage: Look,
    /// What each group answered since the stage began.
    #[serde(default)]
    pub parts: Increment,
    /// What the old release answered during the rollout, piece by piece, as long as it answers.
    #[serde(default)]
    record: Record,
    /// What waits for the next look, and for how long.
    #[serde(default)]
    waiting: Look,
    #[serde(default)]
    waited: u64,
    /// Evidence of this stage.
    evidence: Option<Evidence>,
    /// What it showed last.
    pub verdict: Option<Verdict>,
    /// Evidence of extra metrics in this stage.
    pub metrics: BTreeMap<String, PairedEvidence>,
    /// Why each could not be read when it was last asked for.
    #[serde(default)]
    pub unread: BTreeMap<String, String>,
    /// What the old release's values of each were, for when it has no requests any more.
    #[serde(default)]
    metric_records: BTreeMap<String, MetricRecord>,
}

impl Comparison {
    /// Takes in the gateway's totals, whether or not they are judged; returns what is new.
    pub(super) fn count(&mut self, groups: &Groups, counts: &Counts) -> Increment {
        let first = self.epoch.is_none();
        if self.epoch.as_deref() != Some(&counts.epoch) {
            // A gateway that started anew counts from zero, so all that it has counted came since.
            self.epoch = Some(counts.epoch.clone());
            self.last.clear();
            self.last_copies.clear();
            self.last_copied.clear();
        }
        // What was counted before the rollout began is not its business.
        let since = |last: &mut BTreeMap<GroupId, Tally>, now: &BTreeMap<_, _>, group: &GroupId| {
            let total: Tally = now.get(group).copied().unwrap_or_default();
            let earlier = last.get(group).copied().unwrap_or_default();
            last.insert(group.clone(), earlier.most(total));
            if first {
                Tally::default()
            } else {
                total.beyond(earlier)
            }
        };
        let mut of = |group: &GroupId| since(&mut self.last, &counts.lanes, group);
        let (main, baseline, new) = (of(&groups.main), of(&groups.baseline), of(&groups.new));
        let mut copied = |group: &GroupId| since(&mut self.last_copied, &counts.copied, group);
        let increment = Increment {
            main,
            baseline,
            new,
            copies: since(&mut self.last_copies, &counts.copies, &groups.new),
            copied: copied(&groups.main).plus(copied(&groups.baseline)),
        };
        if first {
            self.before = counts.lanes.get(&groups.main).copied().unwrap_or_default();
        }
        let old = increment.main.plus(increment.baseline);
        self.old = self.old.plus(old);
        self.baseline = self.baseline.plus(increment.baseline);
        self.record.add(old);
        self.new = self.new.plus(increment.new);
        self.copies = self.copies.plus(increment.copies);
        increment
    }

    /// Compares what came in while the stage's shares were in force.
    ///
    /// - `since`: how long they have been, in milliseconds
    /// - `passed`: time since the look before, likewise
    pub(super) fn compare(
        &mut self,
        side: &Side,
        increment: Increment,
        (since, passed): (u64, u64),
        policy: Option<&Policy>,
    ) {
        self.parts = self.parts.plus(increment);
        let fresh = side.baseline_share > Share::NONE;
        let copies = side.copied_share > Share::NONE;
        let baseline = if copies {
            increment.copied
        } else if fresh && since < WARM_UP {
            increment.baseline
        } else {
            increment.baseline.plus(increment.main)
        };
        let canary = if copies {
            increment.copies
        } else {
            increment.new
        };
        let beside = fresh || side.old_share() > Share::NONE;
        self.stage.canary = self.stage.canary.plus(canary);
        self.stage.baseline = if beside {
            self.stage.baseline.plus(baseline)
        } else {
            self.old
        };
        let Some(policy) = policy else {
            return;
        };
        if self.evidence.is_none() {
            self.evidence = Some(self.fresh_evidence(beside, policy));
        }
        self.waiting = self.waiting.plus(Look {
            baseline: if beside {
                baseline
            } else {
                self.record.next(self.stage.canary.requests)
            },
            canary,
        });
        self.waited = self.waited.saturating_add(passed);
        if let (Some(evidence), true) = (&mut self.evidence, self.waited >= LOOK_EVERY) {
            evidence.observe(std::mem::take(&mut self.waiting));
            self.waited = 0;
        }
    }

    /// No evidence yet, with what is known of the old release.
    ///
    /// Once the new release has all requests there is no old one to compare with at the same time, so it is compared with
    /// what the old one did during the rollout.
    fn fresh_evidence(&self, beside: bool, policy: &Policy) -> Evidence {
        if beside {
            Evidence::knowing(policy, self.before.plus(self.old))
        } else {
            Evidence::against_record(policy, self.before, self.old)
        }
    }

    /// Judges the stage so far.
    pub(super) fn judge(&mut self, policy: &Policy, elapsed: Duration) -> &Verdict {
        let verdict = match &self.evidence {
            Some(evidence) => evidence.verdict(policy, elapsed),
            None => Evidence::new(policy).verdict(policy, elapsed),
        };
        self.verdict.insert(verdict)
    }

    /// Takes in one reading of an extra metric.
    ///
    /// A new release that has all requests is compared with what the old one's values were, each used once.
    ///
    /// - `judged`: a stage's shares are in force, so that a pair is evidence
    pub(super) fn read(
        &mut self,
        metric: &Metric,
        reading: &Reading,
        (alpha, beta): (f64, f64),
        judged: bool,
    ) {
        self.unread.remove(&metric.name);
        let record = self.metric_records.entry(metric.name.clone()).or_default();
        if let Some(old) = reading.old {
            record.add(old);
        }
        let (Some(new), true) = (reading.new, judged) else {
            return;
        };
        if let Some(old) = reading.old.or_else(|| record.next()) {
            self.metrics
                .entry(metric.name.clone())
                .or_insert_with(|| PairedEvidence::new(paired_policy(metric, alpha, beta)))
                .observe(old, new);
        }
    }

    /// Begins anew for another stage, keeping totals.
    pub(super) fn begin_stage(&mut self) {
        self.stage = Look::default();
        self.record.begin();
        self.parts = Increment::default();
        self.waiting = Look::default();
        self.waited = 0;
        self.evidence = None;
        self.verdict = None;
        self.metrics.clear();
        for record in self.metric_records.values_mut() {
            record.used = 0;
        }
    }
}

/// Values of a metric that a record keeps: the latest, as the nearest in time to what they are compared with.
const MOST_VALUES: usize = 128;

/// Values of an extra metric of the old release, oldest first, and how many were laid beside the new one's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
struct MetricRecord {
    values: Vec<f64>,
    used: usize,
}

impl MetricRecord {
    fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.values.push(value);
            self.values
                .drain(..self.values.len().saturating_sub(MOST_VALUES));
        }
    }

    fn next(&mut self) -> Option<f64> {
        let value = self.values.get(self.used).copied()?;
        self.used += 1;
        Some(value)
    }
}

/// The groups of one comparison.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    pub(super) main: GroupId,
    pub(super) baseline: GroupId,
    pub(super) new: GroupId,
}

/// What each group of a service answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Increment {
    /// The old instances.
    pub main: Tally,
    /// The fresh instances of the old version.
    pub baseline: Tally,
    /// The new ones.
    pub new: Tally,
    /// The new ones, to copies of requests.
    #[serde(default)]
    pub copies: Tally,
    /// The old ones, fresh or not, to the requests that were copied; counted above, too.
    #[serde(default)]
    pub copied: Tally,
}

impl Increment {
    fn plus(self, other: Self) -> Self {
        Self {
            main: self.main.plus(other.main),
            baseline: self.baseline.plus(other.baseline),
            new: self.new.plus(other.new),
            copies: self.copies.plus(other.copies),
            copied: self.copied.plus(other.copied),
        }
    }
}

/// The analysis as a rollout's policy asks for it, or `None` where nothing is compared.
///
/// The probability of a false rollback holds for the rollout as a whole, so each of its comparisons gets a part of it.
///
/// - `comparisons`: stages that are judged, times services that requests reach, times what is compared of each
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
        clump: f64::from(analysis.clump.max(1)),
        undecided: match analysis.when_quiet {
            WhenQuiet::Hold => Undecided::Hold,
            WhenQuiet::Advance => Undecided::Advance,
            WhenQuiet::RollBack => Undecided::RollBack,
        },
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
        allowed: tolerance(metric.margin, 1.0),
        regression: tolerance(metric.margin, REGRESSION),
        alpha,
        beta,
    }
}

fn tolerance(leeway: Leeway, times: f64) -> Tolerance {
    match leeway {
        Leeway::Share(share) => Tolerance::Relative(share.fraction() * times),
        Leeway::Absolute(difference) => Tolerance::Absolute(difference * times),
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
            left_out: 0,
        };
        let lanes = [(groups().main, tally(main)), (groups().new, tally(new))];
        Counts {
            epoch: epoch.to_owned(),
            lanes: lanes.into(),
            ..Counts::default()
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
            copied_share: Share::NONE,
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
    fn a_request_that_is_counted_as_asked_for_a_moment_later_is_not_counted_twice() {
        let mut comparison = Comparison::default();
        for total in [1000, 1100, 1099, 1105] {
            comparison.count(&groups(), &counts("a", total, 0));
        }
        assert_eq!(comparison.old.requests, 105);
    }

    fn policy() -> Policy {
        Policy {
            at_least: Duration::ZERO,
            ..Policy::default()
        }
    }

    /// A new release that has all requests, each look so many of them and so many bad.
    fn alone(record: Tally, looks: u64, (requests, bad): (u64, u64)) -> Comparison {
        let mut comparison = Comparison {
            old: record,
            ..Comparison::default()
        };
        comparison.record.add(record);
        for look in 0..looks {
            let increment = Increment {
                new: Tally {
                    requests,
                    bad,
                    slow: 0,
                    left_out: 0,
                },
                ..Increment::default()
            };
            comparison.compare(
                &all_new(),
                increment,
                (look * LOOK_EVERY, LOOK_EVERY),
                Some(&policy()),
            );
            comparison.judge(&policy(), Duration::from_millis(look * LOOK_EVERY));
        }
        comparison
    }

    fn record(requests: u64, bad: u64) -> Tally {
        Tally {
            requests,
            bad,
            slow: 0,
            left_out: 0,
        }
    }

    #[test]
    fn with_all_requests_it_is_compared_with_the_record_however_long() {
        let worse = alone(record(2_000, 10), 40, (20, 2));
        assert!(matches!(worse.verdict, Some(Verdict::Worse(_))));
        // As bad as the old release was, for far longer than the record is.
        let alike = alone(record(2_000, 40), 4_000, (50, 1));
        assert!(
            !matches!(alike.verdict, Some(Verdict::Worse(_))),
            "{:?}",
            alike.verdict
        );
    }

    #[test]
    fn nothing_is_compared_with_an_old_release_that_answered_nothing() {
        let found = alone(Tally::default(), 400, (20, 10));
        assert!(!matches!(found.verdict, Some(Verdict::Worse(_))));
    }

    #[test]
    fn answers_to_copies_are_compared_with_those_to_the_same_requests_and_are_none_of_the_release()
    {
        let mut comparison = Comparison::default();
        let counts = |copied: u64, bad: u64| {
            let mut counts = counts("a", copied * 10, 0);
            counts.copies = [(groups().new, record(copied, bad))].into();
            counts.copied = [(groups().baseline, record(copied, 1))].into();
            counts
        };
        let side = Side {
            new_share: Share::NONE,
            copied_share: Share::thousandths(100),
            ..all_new()
        };
        comparison.count(&groups(), &counts(7, 3));
        let increment = comparison.count(&groups(), &counts(107, 33));
        comparison.compare(&side, increment, (0, LOOK_EVERY), Some(&policy()));
        assert_eq!(comparison.stage.canary, record(100, 30));
        assert_eq!(comparison.stage.baseline, record(100, 0));
        assert_eq!(
            (comparison.new, comparison.copies),
            (record(0, 0), record(100, 30))
        );
        assert_eq!(comparison.old.requests, 1_000);
    }

    #[test]
    fn looks_that_are_too_close_are_one_look() {
        let mut comparison = Comparison::default();
        let side = Side {
            new_share: Share::thousandths(500),
            baseline_share: Share::thousandths(500),
            ..all_new()
        };
        let increment = Increment {
            baseline: record(5, 0),
            new: record(5, 0),
            ..Increment::default()
        };
        for _ in 0..10 {
            comparison.compare(&side, increment, (0, LOOK_EVERY / 5), Some(&policy()));
        }
        assert_eq!(comparison.evidence.unwrap().looks(), 2);
    }

    #[test]
    fn what_is_fresh_is_compared_with_what_is_fresh_until_it_is_warm() {
        let side = Side {
            new_share: Share::thousandths(100),
            baseline_share: Share::thousandths(100),
            ..all_new()
        };
        let increment = Increment {
            main: record(80, 0),
            baseline: record(10, 0),
            new: record(10, 0),
            ..Increment::default()
        };
        let mut comparison = Comparison::default();
        comparison.compare(&side, increment, (0, 250), Some(&policy()));
        assert_eq!(comparison.stage.baseline.requests, 10);
        comparison.compare(&side, increment, (WARM_UP, 250), Some(&policy()));
        assert_eq!(comparison.stage.baseline.requests, 100);
    }
}
