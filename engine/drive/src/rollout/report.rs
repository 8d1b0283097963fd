//! The one-page report of a rollout, kept as evidence of the run: values, Markdown and `JUnit`.

use std::collections::BTreeMap;
use std::fmt::Write;

use platform_blueprint::ServiceName;
use platform_decide::analysis::{Tally, Verdict};
use platform_decide::group::GroupId;
use platform_decide::release::ReleaseNumber;
use platform_decide::rollout::{
    Besides, Entry, MemberState, MetricSide, Note, Phase, StageResult, State, Why, plain,
};
use platform_port::{Store, StoreError};
use serde::{Deserialize, Serialize};

use super::progress::{Evidence, Latency, evidence, metrics, phase_name};
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

    /// Keeps the report as evidence of the run; safe to repeat.
    pub(super) async fn save(&self, store: &dyn Store, run: &str) -> Result<(), StoreError> {
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

    /// The report as a page of Markdown.
    pub fn markdown(&self) -> String {
        let mut page = String::new();
        let seconds = self.ended_at.saturating_sub(self.began_at) / 1000;
        // Writing to a string does not fail.
        let _ = writeln!(
            page,
            "# Rollout of {}, {}: {}\n",
            self.release,
            self.services(),
            self.ended
        );
        let _ = writeln!(page, "{} in {seconds} s.", self.strategy);
        if let Some(why) = &self.why {
            let _ = writeln!(page, "\nIt went back because {}.", marked(why));
        }
        if let Some(after) = self.decided_after {
            let _ = writeln!(
                page,
                "\nDecided {:.1} s after the stage's traffic began to move; {}.",
                f64::from(u32::try_from(after).unwrap_or(u32::MAX)) / 1000.0,
                self.harm()
            );
        }
        let _ = writeln!(
            page,
            "\n| group | requests | bad | slow | mean | p99 |\n| --- | ---: | ---: | ---: | ---: | ---: |"
        );
        for member in &self.members {
            member.rows(&mut page);
        }
        let timed = |member: &ReportMember| member.latency != Latencies::default();
        if self.members.iter().any(timed) {
            let _ = writeln!(
                page,
                "\nTimes are of all that a group answered since the gateway started."
            );
        }
        for member in &self.members {
            let (new, old) = (member.new.left_out, member.old.left_out);
            if new > 0 || old > 0 {
                let _ = writeln!(
                    page,
                    "\n{}: {new} more requests of the new release and {old} of the old one are in no comparison, as they come from \
                     clients that stay with one side and make far more requests than others.",
                    member.to.service
                );
            }
            if let Some(verdict) = &member.verdict {
                let _ = writeln!(page, "\n{}: {}.", member.to, marked(verdict));
            }
            if let Some(evidence) = &member.evidence {
                let _ = writeln!(
                    page,
                    "\n{}: evidence at the end {:.0} % towards worse, {:.0} % towards better or equal.",
                    member.to.service,
                    evidence.towards_worse * 100.0,
                    evidence.towards_better * 100.0
                );
            }
        }
        self.metric_table(&mut page);
        if !self.stages.is_empty() {
            let _ = writeln!(page, "\n## Stages\n");
            for stage in &self.stages {
                let _ = writeln!(page, "- {}", marked(&stage.to_string()));
            }
        }
        let _ = writeln!(page, "\n## What happened\n");
        for entry in &self.log {
            let after = entry.at.saturating_sub(self.began_at);
            let _ = writeln!(
                page,
                "- {}.{:01} s: {}",
                after / 1000,
                after % 1000 / 100,
                marked(&entry.note.to_string())
            );
        }
        page
    }

    /// How many requests met an error of the new release, by whatever way they came to it.
    fn harm(&self) -> String {
        let sum = |bad: fn(&ReportMember) -> u64| self.members.iter().map(bad).sum::<u64>();
        let asked_for = sum(|member| member.new_besides.asked_for.bad);
        let heavy = sum(|member| member.new_besides.heavy.bad);
        let all = sum(|member| member.new.bad) + asked_for + heavy;
        let mut words = format!("{all} requests met an error of the new release");
        let parts = [
            (asked_for, "chose it by a header or a cookie"),
            (heavy, "came from heavy clients"),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(bad, _)| *bad > 0)
            .map(|(bad, how)| format!("{bad} of them {how}"))
            .collect();
        if !parts.is_empty() {
            let _ = write!(words, ", {}", parts.join(" and "));
        }
        words
    }

    /// Extra metrics as they were in the last stage; each stage has its own in what it showed.
    fn metric_table(&self, page: &mut String) {
        if self.members.iter().all(|member| member.metrics.is_empty()) {
            return;
        }
        let _ = writeln!(
            page,
            "\n## Metrics\n\n| metric | group | | new | old | pairs | worse | verdict |\n\
             | --- | --- | --- | ---: | ---: | ---: | ---: | --- |"
        );
        let value = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        for member in &self.members {
            for side in &member.metrics {
                let _ = writeln!(
                    page,
                    "| {} | {} | {} | {} | {} | {} | {} | {} |",
                    marked(&side.metric),
                    member.to,
                    if side.only_reports {
                        "only reports"
                    } else {
                        "judges"
                    },
                    value(side.new),
                    value(side.old),
                    side.pairs,
                    side.worse_pairs,
                    marked(&side.words),
                );
            }
        }
    }

    /// The report as `JUnit`: a test case for each stage, and one for the end.
    pub fn junit(&self) -> String {
        let failed = self.ended != "promoted";
        let services = self.services();
        let mut cases = String::new();
        for stage in &self.stages {
            let _ = writeln!(
                cases,
                "    <testcase classname=\"rollout.{}\" name=\"{services} {}\" time=\"{}.{:03}\"/>",
                self.release,
                escaped(&stage.stage),
                stage.lasted / 1000,
                stage.lasted % 1000
            );
        }
        let time = self.ended_at.saturating_sub(self.began_at);
        let time = format!("{}.{:03}", time / 1000, time % 1000);
        let end = if failed {
            let why = escaped(self.why.as_deref().unwrap_or(&self.ended));
            format!(
                "><failure message=\"{why}\" type=\"{}\"/></testcase>",
                self.ended
            )
        } else {
            "/>".to_owned()
        };
        let _ = writeln!(
            cases,
            "    <testcase classname=\"rollout.{}\" name=\"{services} outcome\" time=\"{time}\"{end}",
            self.release
        );
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"rollout {} {services}\" tests=\"{}\" failures=\"{}\" time=\"{time}\">\n{cases}  </testsuite>\n</testsuites>\n",
            self.release,
            self.stages.len() + 1,
            u8::from(failed),
        )
    }
}

impl ReportMember {
    /// Its rows of the table.
    fn rows(&self, page: &mut String) {
        let mut row = |group: &str, tally: Tally, latency: Option<Latency>| {
            let mean = latency.map(|latency| in_millis(latency.mean_micros));
            let p99 = latency.and_then(|latency| latency.p99_micros);
            let _ = writeln!(
                page,
                "| {group} | {} | {} | {} | {} | {} |",
                tally.requests,
                tally.bad,
                tally.slow,
                mean.unwrap_or_default(),
                p99.map(in_millis).unwrap_or_default()
            );
        };
        if self.copies.requests > 0 {
            let copies = format!("{}, copies that nobody got", self.to);
            row(&copies, self.copies, None);
        }
        let sides = [
            (&self.to, self.new, self.latency.new, self.new_besides),
            (&self.from, self.old, self.latency.old, self.old_besides),
        ];
        for (group, tally, latency, besides) in sides {
            row(&group.to_string(), tally, latency);
            for (part, which) in [
                (besides.asked_for, "by a header or a cookie"),
                (besides.heavy, "of heavy clients"),
            ] {
                if part.requests > 0 {
                    row(&format!("{group} besides, {which}"), part, None);
                }
            }
        }
        if self.baseline.requests > 0 {
            let baseline = GroupId::baseline(self.from.service.clone(), self.from.version);
            let part = format!("of that {baseline}");
            row(&part, self.baseline, self.latency.baseline);
        }
        if let Some(compared) = &self.compared {
            let Compared { stage, new, old } = compared;
            row(&format!("{}, compared in {stage}", self.to), *new, None);
            row(&format!("the old release, compared in {stage}"), *old, None);
        }
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

/// A time in milliseconds, with a tenth.
fn in_millis(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

/// Text for a line or a cell of Markdown, in which nothing of it is anything but text.
fn marked(text: &str) -> String {
    let mut marked = String::with_capacity(text.len());
    for letter in plain(text).chars() {
        if matches!(letter, '\\' | '|' | '<' | '[' | ']' | '*' | '~') {
            marked.push('\\');
        }
        marked.push(letter);
    }
    marked
}

/// Text for an XML attribute.
fn escaped(text: &str) -> String {
    plain(text)
        .chars()
        .map(|letter| match letter {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use platform_decide::analysis::PairedVerdict;

    use super::*;

    fn report() -> Report {
        Report {
            release: ReleaseNumber(2),
            strategy: "canary".to_owned(),
            ended: "rolled-back".to_owned(),
            why: Some("orders@r2: 20 % bad & \"slow\"".to_owned()),
            began_at: 1_000,
            ended_at: 9_500,
            decided_after: Some(1_200),
            members: vec![ReportMember {
                from: "orders@r1".parse().unwrap(),
                to: "orders@r2".parse().unwrap(),
                new: Tally {
                    requests: 90,
                    bad: 18,
                    slow: 0,
                    left_out: 31,
                },
                new_besides: Besides {
                    asked_for: Tally {
                        requests: 30,
                        bad: 20,
                        ..Tally::default()
                    },
                    heavy: Tally {
                        requests: 31,
                        bad: 2,
                        ..Tally::default()
                    },
                },
                old_besides: Besides::default(),
                copies: Tally {
                    requests: 70,
                    bad: 2,
                    slow: 1,
                    left_out: 0,
                },
                old: Tally {
                    requests: 900,
                    bad: 1,
                    slow: 0,
                    left_out: 0,
                },
                baseline: Tally {
                    requests: 92,
                    bad: 0,
                    slow: 0,
                    left_out: 0,
                },
                compared: Some(Compared {
                    stage: "25 %".to_owned(),
                    new: Tally {
                        requests: 89,
                        bad: 18,
                        slow: 0,
                        left_out: 0,
                    },
                    old: Tally {
                        requests: 91,
                        bad: 0,
                        slow: 0,
                        left_out: 0,
                    },
                }),
                latency: Latencies {
                    new: Some(Latency {
                        mean_micros: 3_140,
                        p99_micros: Some(12_000),
                    }),
                    baseline: None,
                    old: Some(Latency {
                        mean_micros: 2_990,
                        p99_micros: None,
                    }),
                },
                evidence: Some(Evidence {
                    towards_worse: 1.0,
                    towards_better: 0.0,
                    verdict: "the new release is worse".to_owned(),
                }),
                verdict: None,
                metrics: vec![MetricSide {
                    metric: "heap".to_owned(),
                    only_reports: true,
                    new: Some(101.5),
                    old: Some(100.0),
                    pairs: 12,
                    worse_pairs: 1,
                    verdict: PairedVerdict::CannotTellYet,
                    words: "cannot tell yet: worse than tolerated in 1 of 12 pairs".to_owned(),
                    unread: None,
                }],
            }],
            stages: Vec::new(),
            log: vec![Entry {
                at: 3_200,
                note: Note::GoingBack {
                    why: Why::Operator {
                        by: "ada".to_owned(),
                    },
                },
            }],
        }
    }

    #[test]
    fn a_page_says_how_it_ended_and_why() {
        let page = report().markdown();
        assert!(
            page.starts_with("# Rollout of r2, orders: rolled-back\n"),
            "{page}"
        );
        assert!(
            page.contains(
                "40 requests met an error of the new release, 20 of them chose it by a header or a cookie and 2 of them came from \
                 heavy clients."
            ),
            "{page}"
        );
        assert!(page.contains("| orders@r2 | 90 | 18 | 0 |"), "{page}");
        assert!(
            page.contains("| orders@r2, copies that nobody got | 70 | 2 | 1 |"),
            "{page}"
        );
        for row in [
            "| orders@r2 | 90 | 18 | 0 | 3.1 ms | 12.0 ms |",
            "| orders@r2 besides, by a header or a cookie | 30 | 20 | 0 |  |  |",
            "| orders@r2 besides, of heavy clients | 31 | 2 | 0 |  |  |",
            "| orders@r1 | 900 | 1 | 0 | 2.9 ms |  |",
            "| of that orders@r1-baseline | 92 | 0 | 0 |  |  |",
            "| orders@r2, compared in 25 % | 89 | 18 | 0 |  |  |",
            "| the old release, compared in 25 % | 91 | 0 | 0 |  |  |",
            "| heap | orders@r2 | only reports | 101.5 | 100 | 12 | 1 | cannot tell yet: worse than tolerated in 1 of 12 pairs |",
            "orders: evidence at the end 100 % towards worse, 0 % towards better or equal.",
        ] {
            assert!(page.contains(row), "`{row}` in {page}");
        }
        assert!(
            page.contains("orders: 31 more requests of the new release and 0 of the old one are in no comparison"),
            "{page}"
        );
        assert!(
            page.contains("- 2.2 s: goes back: ada asked for it"),
            "{page}"
        );
    }

    #[test]
    fn what_a_gate_says_is_nothing_but_text() {
        let why = Why::Gate {
            gate: "tests".to_owned(),
            answer: "exit status: 1: line one\n| x | y |\n# Title <b>\u{1b}[31m".to_owned(),
        };
        let mut report = report();
        report.why = Some(why.to_string());
        report.log[0].note = Note::GoingBack { why };
        let page = report.markdown();
        let said = "gate `tests` does not agree: exit status: 1: line one / \\| x \\| y \\| / # Title \\<b>";
        for line in [
            format!("It went back because {said}."),
            format!("- 2.2 s: goes back: {said}"),
        ] {
            assert!(page.lines().any(|of| of == line), "{line} in {page}");
        }
        let junit = report.junit();
        assert!(
            junit.contains("line one / | x | y | / # Title &lt;b&gt;\""),
            "{junit}"
        );
        for text in [page, junit] {
            assert!(!text.contains('\u{1b}'), "{text}");
        }
    }

    #[test]
    fn junit_is_xml_and_counts_the_failure() {
        let text = report().junit();
        assert!(text.contains("tests=\"1\" failures=\"1\""), "{text}");
        assert!(text.contains("20 % bad &amp; &quot;slow&quot;"), "{text}");
        assert!(text.contains("name=\"orders outcome\""), "{text}");
    }
}
