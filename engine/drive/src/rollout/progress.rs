//! How a rollout is getting on, for people and programs that watch it.

use std::collections::BTreeMap;
use std::fmt;

use platform_decide::analysis::{Tally, Verdict};
use platform_decide::group::GroupId;
use platform_decide::observed::{InstanceState, Observed};
use platform_decide::release::ReleaseNumber;
use platform_decide::rollout::{
    MemberState, MetricSide, Phase, State, arrangement, due, held_for, watched_for,
};
use platform_decide::traffic::Share;
use platform_port::Tallies;
use serde::{Deserialize, Serialize};

/// A rollout at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Progress {
    /// The release it brings.
    pub release: ReleaseNumber,
    /// `rolling`, `canary` or `blue-green`.
    pub strategy: &'static str,
    /// The phase: `starting`, `held` (a second colour before its switch), `serving`, `going-back` …
    pub phase: &'static str,
    /// Name of the stage.
    pub stage: String,
    /// Its number, from 1.
    pub stage_number: usize,
    /// Number of stages.
    pub stages: usize,
    /// Time in this phase, in milliseconds.
    pub phase_millis: u64,
    /// The least time of this phase where it has one, in milliseconds.
    pub phase_at_least_millis: Option<u64>,
    /// Time since it began, in milliseconds, also such in which nobody drove it.
    pub total_millis: u64,
    /// Who paused it, while it is.
    pub paused_by: Option<String>,
    /// Gates that have not answered.
    pub waits_for: Vec<String>,
    /// Why it goes or went back.
    pub why: Option<String>,
    /// Each service.
    pub members: Vec<MemberProgress>,
}

impl fmt::Display for Progress {
    /// One line: `5 % (2 of 5), serving 12 s: orders 40 requests 0 bad | 38 requests 1 bad`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.phase_millis / 1000;
        write!(
            f,
            "{} ({} of {}), {} {seconds} s",
            self.stage, self.stage_number, self.stages, self.phase
        )?;
        if let Some(by) = &self.paused_by {
            write!(f, ", paused by {by}")?;
        }
        if !self.waits_for.is_empty() {
            write!(f, ", waiting for {}", self.waits_for.join(", "))?;
        }
        for member in &self.members {
            let (new, old) = (&member.new, member.fresh.as_ref().unwrap_or(&member.old));
            write!(
                f,
                "; {} new {} requests {} bad, old {} requests {} bad",
                member.service,
                new.answered.requests,
                new.answered.bad,
                old.answered.requests,
                old.answered.bad
            )?;
            let left_out = new.answered.left_out.saturating_add(old.answered.left_out);
            if left_out > 0 {
                write!(f, ", {left_out} of heavy clients left out")?;
            }
            let asked = new.answered.requests > 0;
            if let Some(evidence) = member.evidence.as_ref().filter(|_| asked) {
                write!(
                    f,
                    ", evidence {:.0} % worse {:.0} % fine",
                    evidence.towards_worse * 100.0,
                    evidence.towards_better * 100.0
                )?;
            }
            for metric in &member.metrics {
                let MetricSide {
                    metric,
                    worse_pairs,
                    pairs,
                    ..
                } = metric;
                write!(f, ", {metric} worse in {worse_pairs} of {pairs} pairs")?;
            }
        }
        Ok(())
    }
}

/// One service of a rollout at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct MemberProgress {
    /// The service's name.
    pub service: String,
    /// The new release.
    pub new: SideProgress,
    /// Fresh instances of the old version, where they run beside the new ones.
    pub fresh: Option<SideProgress>,
    /// The old one.
    pub old: SideProgress,
    /// What both show so far.
    pub evidence: Option<Evidence>,
    /// What extra metrics show so far.
    pub metrics: Vec<MetricSide>,
}

/// One side of a service at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct SideProgress {
    /// The group.
    pub group: GroupId,
    /// Its share of the requests, in thousandths.
    pub share: u16,
    /// The share of which it gets copies and answers nobody, likewise.
    pub copied: u16,
    /// Instances that are ready.
    pub ready: usize,
    /// Instances there should be.
    pub instances: u32,
    /// What it answered in this stage, copies if it gets those, and after that what its whole side answered to clients since the
    /// rollout began.
    pub answered: Tally,
    /// How long its answers took since the gateway started, where known.
    pub latency: Option<Latency>,
}

/// How long answers took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Mean, in microseconds.
    pub mean_micros: u64,
    /// 99th percentile, in microseconds.
    pub p99_micros: Option<u64>,
}

/// How far the evidence has come to each verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Towards "worse", 0 to 1.
    pub towards_worse: f64,
    /// Towards "better or equal", 0 to 1.
    pub towards_better: f64,
    /// In words.
    pub verdict: String,
}

impl Progress {
    /// How a rollout is getting on.
    pub fn of(state: &State, observed: Option<&Observed>, tallies: Option<&Tallies>) -> Self {
        let stages = state.stages();
        let reached = state.stage();
        let held = held_for(state);
        let why = match &state.phase {
            Phase::GoingBack { why, .. }
            | Phase::Removing { why }
            | Phase::AfterBack { why }
            | Phase::RolledBack { why }
            | Phase::Stuck { why, .. } => Some(why.to_string()),
            _ => None,
        };
        Self {
            release: state.release,
            strategy: state.policy.strategy.as_str(),
            phase: held.map_or_else(|| phase_name(&state.phase), |_| "held"),
            stage: stages[reached].name.clone(),
            stage_number: reached + 1,
            stages: stages.len(),
            phase_millis: held.map_or(state.clock.phase, |_| state.clock.up),
            phase_at_least_millis: held.or_else(|| at_least(state, reached + 1 == stages.len())),
            total_millis: state
                .clock
                .looked
                .map_or(0, |looked| looked.saturating_sub(state.began)),
            paused_by: state.paused.as_ref().map(|paused| paused.by.clone()),
            waits_for: due(state).into_iter().map(|call| call.name).collect(),
            why,
            members: state
                .members
                .iter()
                .map(|member| member_progress(state, member, observed, tallies))
                .collect(),
        }
    }
}

fn member_progress(
    state: &State,
    member: &MemberState,
    observed: Option<&Observed>,
    tallies: Option<&Tallies>,
) -> MemberProgress {
    let arranged = arrangement(state);
    let baseline = member.baseline();
    let serving = matches!(state.phase, Phase::Serving { .. });
    let split = arranged.splits.get(member.service());
    let side = |group: &GroupId, stage: Tally, total: Tally| SideProgress {
        group: group.clone(),
        share: split.map_or(0, |split| split.share(group).get()),
        copied: split.map_or(0, |split| split.copied(group).get()),
        ready: observed
            .and_then(|observed| observed.groups.get(group))
            .map_or(0, |seen| seen.count(InstanceState::Ready)),
        instances: arranged.groups.get(group).copied().unwrap_or(0),
        answered: if serving { stage } else { total },
        latency: tallies.and_then(|tallies| latency(tallies, group)),
    };
    let comparison = &member.comparison;
    let parts = comparison.parts;
    let copied = split.is_some_and(|split| split.copied(&member.to) > Share::NONE);
    let new = if copied { parts.copies } else { parts.new };
    MemberProgress {
        service: member.service().to_string(),
        new: side(&member.to, new, comparison.new),
        fresh: (serving && arranged.groups.contains_key(&baseline))
            .then(|| side(&baseline, parts.baseline, parts.baseline)),
        old: side(&member.from, parts.main, comparison.old),
        evidence: comparison.verdict.as_ref().map(evidence),
        metrics: metrics(state, member),
    }
}

pub(super) fn metrics(state: &State, member: &MemberState) -> Vec<MetricSide> {
    let analysis = state.policy.analysis.as_ref();
    analysis.map_or_else(Vec::new, |analysis| member.metrics(analysis))
}

pub(super) fn evidence(verdict: &Verdict) -> Evidence {
    Evidence {
        towards_worse: verdict.finding().towards_worse,
        towards_better: verdict.finding().towards_better,
        verdict: verdict.explain(),
    }
}

/// How long the answers of each group of a rollout took.
pub(super) fn latencies(state: &State, tallies: &Tallies) -> BTreeMap<GroupId, Latency> {
    let groups = state
        .members
        .iter()
        .flat_map(|member| [member.to.clone(), member.from.clone(), member.baseline()]);
    groups
        .filter_map(|group| latency(tallies, &group).map(|took| (group, took)))
        .collect()
}

fn latency(tallies: &Tallies, group: &GroupId) -> Option<Latency> {
    let lane = tallies.lanes.get(group).filter(|lane| lane.requests > 0)?;
    Some(Latency {
        mean_micros: lane.time_micros / lane.requests,
        p99_micros: lane.p99_micros,
    })
}

/// Name of the stage a rollout is at or had come to.
pub(super) fn stage_name(state: &State) -> String {
    state.stages().swap_remove(state.stage()).name
}

/// The least time with the shares in force.
fn at_least(state: &State, last: bool) -> Option<u64> {
    let Phase::Serving { .. } = state.phase else {
        return None;
    };
    Some(watched_for(&state.policy, last))
}

/// The phase in one word.
pub(super) fn phase_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::BeforeStart => "before-start",
        Phase::Starting { .. } => "starting",
        Phase::Serving { .. } => "serving",
        Phase::Retiring => "retiring",
        Phase::Promoted => "promoted",
        Phase::GoingBack { .. } => "going-back",
        Phase::Removing { .. } => "removing",
        Phase::AfterBack { .. } => "after-back",
        Phase::RolledBack { .. } => "rolled-back",
        Phase::Interrupted { .. } => "interrupted",
        Phase::Stuck { .. } => "stuck",
    }
}
