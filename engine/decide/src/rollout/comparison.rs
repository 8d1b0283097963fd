//! New and old of one service on the same traffic: from the gateway's totals to a verdict.

mod metric_record;
mod policy;
mod shares;

use std::collections::BTreeMap;
use std::time::Duration;

use platform_blueprint::Metric;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::metric_record::MetricRecord;
pub use self::policy::comparison_policy;
use self::policy::paired_policy;
pub(super) use self::policy::{alpha, beta};
pub(super) use self::shares::Shares;
use super::besides::Besides;
use super::record::Record;
use super::seen::{Counts, Reading};
use super::stage::Side;
use crate::analysis::{Evidence, Look, PairedEvidence, Policy, Tally, Verdict};
use crate::group::GroupId;
use crate::traffic::Share;

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
    #[serde(default)]
    last_besides: BTreeMap<GroupId, Besides>,
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
    /// What the new ones answered that is in no comparison.
    #[serde(default)]
    pub new_besides: Besides,
    /// What all old instances did, likewise.
    #[serde(default)]
    pub old_besides: Besides,
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
    /// Whether requests go where they should in this stage.
    #[serde(default)]
    pub(super) shares: Shares,
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
            self.last_besides.clear();
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
        let mut besides = |group: &GroupId| {
            let total = counts.besides.get(group).copied().unwrap_or_default();
            let earlier = self.last_besides.get(group).copied().unwrap_or_default();
            self.last_besides.insert(group.clone(), earlier.most(total));
            if first {
                Besides::default()
            } else {
                total.beyond(earlier)
            }
        };
        let old = besides(&groups.main).plus(besides(&groups.baseline));
        self.new_besides = self.new_besides.plus(besides(&groups.new));
        self.old_besides = self.old_besides.plus(old);
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
        self.shares.take(side, increment);
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
        self.shares = Shares::default();
        self.waiting = Look::default();
        self.waited = 0;
        self.evidence = None;
        self.verdict = None;
        self.metrics.clear();
        for record in self.metric_records.values_mut() {
            record.begin();
        }
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

#[cfg(test)]
mod tests;
