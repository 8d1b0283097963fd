//! The one-page report of a rollout, kept as evidence of the run: values, Markdown and `JUnit`.

mod page;

use std::collections::BTreeMap;

use platform_blueprint::ServiceName;
use platform_decide::analysis::{Tally, Verdict};
use platform_decide::group::GroupId;
use platform_decide::release::ReleaseNumber;
use platform_decide::rollout::{
    Besides, Entry, MemberState, MetricSide, Note, Phase, StageResult, State, Why,
};
use platform_port::{Store, StoreError};
use serde::{Deserialize, Serialize};

use super::progress::{Evidence, Latency, evidence, metrics, phase_name};
use crate::apply::Crew;
use crate::error::in_words;
use crate::events::Event;
use crate::patience::patiently;
use crate::releases::{read_json, to_json};

/// What a rollout did and showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The release it brought.
    pub release: ReleaseNumber,
    /// `rolling`, `canary` or `blue-green`.
    pub strategy: String,
    /// How it ended: `promoted`, `rolled-back`, `interrupted`, `stuck`.
    pub ended: String,
    /// Why it went back, where it did.
    pub why: Option<String>,
    /// When it began, in milliseconds since the Unix epoch.
    pub began_at: u64,
    /// When it ended.
    pub ended_at: u64,
    /// From the moment the stage's traffic began to move to the decision to go back, in milliseconds, where what was seen
    /// decided.
    pub decided_after: Option<u64>,
    /// Each service.
    pub members: Vec<ReportMember>,
    /// Stages that were passed.
    pub stages: Vec<StageResult>,
    /// What happened, oldest first.
    pub log: Vec<Entry>,
}

/// One service of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportMember {
    /// The group that served before.
    pub from: GroupId,
    /// The group that was to take over.
    pub to: GroupId,
    /// What the new release answered.
    pub new: Tally,
    /// What it answered besides, to requests that are in no comparison.
    #[serde(default)]
    pub new_besides: Besides,
    /// What it answered to copies of requests, which nobody got.
    #[serde(default)]
    pub copies: Tally,
    /// What the old release answered meanwhile.
    pub old: Tally,
    /// What that answered besides, likewise.
    #[serde(default)]
    pub old_besides: Besides,
    /// Of that, what fresh instances of it answered.
    #[serde(default)]
    pub baseline: Tally,
    /// What the last verdict rests on.
    #[serde(default)]
    pub compared: Option<Compared>,
    /// How long answers took.
    #[serde(default)]
    pub latency: Latencies,
    /// How far the evidence had come to each verdict.
    #[serde(default)]
    pub evidence: Option<Evidence>,
    /// The last verdict, with its numbers in words.
    pub verdict: Option<String>,
    /// What extra metrics showed in the last stage.
    #[serde(default)]
    pub metrics: Vec<MetricSide>,
}

/// What was compared in the last stage of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Name of the stage.
    pub stage: String,
    /// What the new release answered in it.
    pub new: Tally,
    /// What that was compared with.
    pub old: Tally,
}

/// How long the answers of each side took since the gateway started, where known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Latencies {
    /// The new release's.
    pub new: Option<Latency>,
    /// Those of fresh instances of the old release.
    pub baseline: Option<Latency>,
    /// Those of the instances that served before.
    pub old: Option<Latency>,
}

/// A report as it is kept in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// The report.
    pub report: Report,
    /// The same as a page.
    pub markdown: String,
    /// The same for CI.
    pub junit: String,
}

/// The key of the report of one rollout of a run; `first` is the service that names the rollout.
pub fn record_key(run: &str, first: &str) -> String {
    format!("runs/{run}/rollout/{first}")
}

/// The report of the rollout that ended last; `None` where there is none.
///
/// # Errors
///
/// If the store fails.
pub async fn last_record(store: &dyn Store) -> Result<Option<RolloutRecord>, StoreError> {
    Ok(records(store, None, None).await?.pop())
}

/// The reports of all rollouts of one release, in the order in which they ended: with `rollout.order` it has several.
///
/// - `release`: which; if absent, that of the last run that had a rollout
/// - `service`: those alone that it was a part of
///
/// # Errors
///
/// If the store fails.
pub async fn records(
    store: &dyn Store,
    release: Option<ReleaseNumber>,
    service: Option<&ServiceName>,
) -> Result<Vec<RolloutRecord>, StoreError> {
    let mut found = Vec::new();
    let mut last_run = None;
    let keys = store.list("runs/").await?;
    // Ids of runs sort by their time.
    for key in keys.iter().rev() {
        let Some((run, _)) = key.split_once("/rollout/") else {
            continue;
        };
        if release.is_none() && last_run.is_some_and(|last| last != run) {
            break;
        }
        let Some((record, _)) = read_json::<RolloutRecord>(store, key).await? else {
            continue;
        };
        let mut members = record.report.members.iter();
        if release.is_none_or(|release| record.report.release == release)
            && service.is_none_or(|service| members.any(|member| member.to.service == *service))
        {
            last_run = Some(run);
            found.push(record);
        }
    }
    found.sort_by_key(|record| record.report.ended_at);
    Ok(found)
}

impl Report {
    /// The report of a rollout that has ended or stopped.
    ///
    /// - `latencies`: how long the answers of each group took
    pub(super) fn of(state: &State, latencies: &BTreeMap<GroupId, Latency>, now: u64) -> Self {
        let why = match &state.phase {
            Phase::RolledBack { why } | Phase::Stuck { why, .. } => Some(why.to_string()),
            _ => None,
        };
        let at = |wanted: fn(&Note) -> bool| {
            state
                .log
                .iter()
                .rev()
                .find(|entry| wanted(&entry.note))
                .map(|entry| entry.at)
        };
        let by_itself = matches!(
            &state.phase,
            Phase::RolledBack { why } if matches!(why, Why::Worse { .. } | Why::Guardrail { .. } | Why::Metric { .. })
        );
        let decided = at(|note| matches!(note, Note::GoingBack { .. }));
        let served = at(|note| matches!(note, Note::Serving { .. }));
        Self {
            release: state.release,
            strategy: state.policy.strategy.as_str().to_owned(),
            ended: phase_name(&state.phase).to_owned(),
            why,
            began_at: state.began,
            ended_at: now,
            decided_after: by_itself
                .then(|| Some(decided?.saturating_sub(served?)))
                .flatten(),
            members: state
                .members
                .iter()
                .map(|member| report_member(state, member, latencies))
                .collect(),
            stages: state.results.clone(),
            log: state.log.clone(),
        }
    }

    /// Keeps the report as evidence of the run. What it tells of has happened, whether or not that is written down.
    pub(super) async fn keep(&self, crew: &Crew) {
        let save = async || self.save(crew.target.store(), &crew.run).await;
        if let Err(error) = patiently(None, save, |error| crew.trouble(error)).await {
            let why = in_words(&error);
            crew.events.emit(Event::Trouble {
                what: format!("the rollout's report could not be kept: {why}"),
            });
        }
    }

    /// Safe to repeat.
    async fn save(&self, store: &dyn Store, run: &str) -> Result<(), StoreError> {
        let Some(first) = self
            .members
            .first()
            .map(|member| member.to.service.to_string())
        else {
            return Ok(());
        };
        let key = record_key(run, &first);
        let record = RolloutRecord {
            markdown: self.markdown(),
            junit: self.junit(),
            report: self.clone(),
        };
        let before = store.read(&key).await?.map(|document| document.version);
        store
            .write(&key, &to_json(&record), before.as_ref())
            .await?;
        Ok(())
    }

    /// The services that it moved, for names.
    pub fn services(&self) -> String {
        let services: Vec<&str> = self
            .members
            .iter()
            .map(|member| member.to.service.as_str())
            .collect();
        services.join(", ")
    }
}

fn report_member(
    state: &State,
    member: &MemberState,
    latencies: &BTreeMap<GroupId, Latency>,
) -> ReportMember {
    let comparison = &member.comparison;
    let served = state.log.iter().rev().find_map(|entry| match &entry.note {
        Note::Serving { stage } => Some(stage.clone()),
        _ => None,
    });
    let of = |group: &GroupId| latencies.get(group).copied();
    ReportMember {
        from: member.from.clone(),
        to: member.to.clone(),
        new: comparison.new,
        new_besides: comparison.new_besides,
        copies: comparison.copies,
        old: comparison.old,
        old_besides: comparison.old_besides,
        baseline: comparison.baseline,
        compared: served
            .filter(|_| comparison.verdict.is_some())
            .map(|stage| Compared {
                stage,
                new: comparison.stage.canary,
                old: comparison.stage.baseline,
            }),
        latency: Latencies {
            new: of(&member.to),
            baseline: of(&member.baseline()),
            old: of(&member.from),
        },
        evidence: comparison.verdict.as_ref().map(evidence),
        verdict: comparison.verdict.as_ref().map(Verdict::explain),
        metrics: metrics(state, member),
    }
}

#[cfg(test)]
mod tests;
