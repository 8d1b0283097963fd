//! How a rollout looks: a line while it goes on, a page when it is asked for.

mod narrow;

use std::fmt::Write as _;
use std::time::Duration;

use platform_decide::rollout::{Entry, Note};
use platform_drive::rollout::{
    Evidence, MemberProgress, Progress, Report, RolloutEvent, SideProgress,
};
use serde_json::{Value, json};

use crate::moment;
use crate::paint::Paint;
use crate::table::{Cell, Table, Tone};
use crate::terminal;
use crate::view::{Case, Line, Shown, Verdict};

/// Cells of a bar of evidence.
const BAR: usize = 20;

/// The case of `JUnit` that says how a rollout ended, whichever way that was.
const OUTCOME: &str = "outcome";

/// How an event is told to people.
pub(crate) fn line(event: &RolloutEvent) -> Line {
    match event {
        RolloutEvent::Step {
            what,
            text,
            release,
            ..
        } => match what {
            Note::GoingBack { .. }
            | Note::Quiet { .. }
            | Note::Holding { .. }
            | Note::OldIsDown { .. }
            | Note::WayBackIsDown { .. }
            | Note::Starved { .. }
            | Note::Stuck { .. }
            | Note::Paused { .. } => Line::Important(format!("{release} {text}")),
            _ => Line::Moment(format!("{release} {text}")),
        },
        RolloutEvent::Progress(progress) => {
            let services: Vec<&str> = progress
                .members
                .iter()
                .map(|member| member.service.as_str())
                .collect();
            let shown = RolloutShown::driven(progress.as_ref().clone());
            Line::Live(
                format!("rollout {}", services.join(" ")),
                format!("{} {progress}", progress.release),
                match terminal::size() {
                    Some(room) => shown.within(Paint::ALWAYS, room),
                    None => shown.human(Paint::ALWAYS),
                },
            )
        }
        RolloutEvent::Trouble { .. } => Line::Important(event.to_string()),
    }
}

/// What an event means for `JUnit`.
pub(crate) fn cases(event: &RolloutEvent) -> Vec<Case> {
    let RolloutEvent::Step {
        what,
        release,
        services,
        ..
    } = event
    else {
        return Vec::new();
    };
    let services = services.join(", ");
    let case = |name: String, verdict| Case {
        suite: "rollout".to_owned(),
        name: format!("{release} {services} {name}"),
        verdict,
    };
    match what {
        Note::StageOver { result } => vec![case(result.stage.clone(), Verdict::Passed)],
        Note::Promoted => vec![case(OUTCOME.to_owned(), Verdict::Passed)],
        Note::GoingBack { why } => {
            vec![case(OUTCOME.to_owned(), Verdict::Failed(why.to_string()))]
        }
        _ => Vec::new(),
    }
}

/// What a report means for `JUnit`: a case for each stage that was passed, and one for the end.
pub(crate) fn report_cases(report: &Report) -> Vec<Case> {
    let services = report.services();
    let case = |name: &str, verdict| Case {
        suite: "rollout".to_owned(),
        name: format!("{} {services} {name}", report.release),
        verdict,
    };
    let end = if report.ended == "promoted" {
        Verdict::Passed
    } else {
        Verdict::Failed(report.why.clone().unwrap_or_else(|| report.ended.clone()))
    };
    let stages = report.stages.iter();
    stages
        .map(|stage| case(&stage.stage, Verdict::Passed))
        .chain([case(OUTCOME, end)])
        .collect()
}

/// A rollout at one moment, with what happened in it and who drives it.
pub(crate) struct RolloutShown {
    pub(crate) progress: Progress,
    pub(crate) log: Vec<Entry>,
    pub(crate) driver: Option<String>,
    /// This run drives it.
    pub(crate) own: bool,
    /// Nothing more happens by itself.
    pub(crate) over: bool,
}

impl Shown for RolloutShown {
    fn kind(&self) -> &'static str {
        "rollout_status"
    }

    fn json(&self) -> Value {
        let mut value = serde_json::to_value(&self.progress).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("driver".to_owned(), json!(self.driver));
            fields.insert("over".to_owned(), json!(self.over));
            fields.insert("log".to_owned(), json!(self.log));
        }
        value
    }

    fn brief(&self) -> Option<String> {
        Some(format!("{} {}", self.progress.release, self.progress))
    }

    fn fitted(&self, paint: Paint, room: (u16, u16)) -> String {
        self.within(paint, room)
    }

    fn human(&self, paint: Paint) -> String {
        let progress = &self.progress;
        let mut text = self.head(paint);
        text.push_str(&table(&progress.members, paint));
        for member in &progress.members {
            if let Some(evidence) = &member.evidence {
                text.push('\n');
                text.push_str(&bars(&member.service, evidence, paint));
            }
            for metric in &member.metrics {
                let _ = writeln!(text, "{} {metric}", member.service);
            }
        }
        if !self.log.is_empty() {
            text.push('\n');
        }
        // The last that happened; the report has all of it.
        for entry in self.log.iter().rev().take(6).rev() {
            let time = moment::time_of_day(entry.at);
            let _ = writeln!(text, "{} {}", paint.dim(&time), entry.note);
        }
        text
    }
}

impl RolloutShown {
    /// As the run that drives it shows it.
    fn driven(progress: Progress) -> Self {
        Self {
            progress,
            log: Vec::new(),
            driver: None,
            own: true,
            over: false,
        }
    }

    fn head(&self, paint: Paint) -> String {
        let progress = &self.progress;
        let mut text = format!(
            "{} {}, {}: {}",
            paint.bold(&progress.release.to_string()),
            progress.strategy,
            progress.stage,
            progress.phase
        );
        if !self.over {
            let _ = write!(
                text,
                ", step {} of {}",
                progress.stage_number, progress.stages
            );
            let phase = moment::span(Duration::from_millis(progress.phase_millis));
            match progress.phase_at_least_millis.map(Duration::from_millis) {
                Some(least) => {
                    let _ = write!(text, ", {phase} of at least {}", moment::span(least));
                    let left = least.saturating_sub(Duration::from_millis(progress.phase_millis));
                    if !left.is_zero() {
                        let _ = write!(text, " ({} left)", moment::span(left));
                    }
                }
                None => {
                    let _ = write!(text, ", {phase}");
                }
            }
        }
        let total = moment::span(Duration::from_millis(progress.total_millis));
        let _ = writeln!(text, ", {total} in all");
        text.push_str(&self.matters(paint));
        text.push('\n');
        text
    }

    /// What holds it or sent it back.
    fn matters(&self, paint: Paint) -> String {
        let progress = &self.progress;
        let mut text = String::new();
        if let Some(by) = &progress.paused_by {
            let _ = writeln!(
                text,
                "{}",
                paint.yellow(&format!(
                    "paused by {by}; `platform rollout resume` goes on"
                ))
            );
        }
        if !progress.waits_for.is_empty() {
            let waits = format!("waiting for {}", progress.waits_for.join(", "));
            let _ = writeln!(text, "{}", paint.yellow(&waits));
        }
        if let Some(why) = &progress.why {
            let _ = writeln!(text, "{}", paint.red(why));
        }
        if !self.over && !self.own && self.driver.is_none() {
            let gone = "nobody drives it: `platform rollout resume` goes on with it, `platform rollout abort` takes it back";
            let _ = writeln!(text, "{}", paint.yellow(gone));
        }
        text
    }
}

/// Both sides of each service.
fn table(members: &[MemberProgress], paint: Paint) -> String {
    let mut table = Table::new(&[
        "GROUP", "SHARE", "READY", "REQUESTS", "BAD", "SLOW", "MEAN", "P99",
    ]);
    for member in members {
        table.row(side(&member.new));
        if let Some(fresh) = &member.fresh {
            table.row(side(fresh));
        }
        table.row(side(&member.old));
    }
    table.render(paint)
}

fn percent(share: u16) -> String {
    format!("{}.{} %", share / 10, share % 10)
}

fn tone_of(side: &SideProgress) -> Tone {
    if side.answered.bad == 0 {
        Tone::Plain
    } else {
        Tone::Warn
    }
}

fn side(side: &SideProgress) -> Vec<Cell> {
    let millis = |micros: u64| moment::span(Duration::from_micros(micros));
    // Of requests that are in no comparison there is a latency, too.
    let latency = side.latency.filter(|_| side.answered.requests > 0);
    let share = if side.copied > 0 {
        format!("copies of {}", percent(side.copied))
    } else {
        percent(side.share)
    };
    vec![
        Cell::from(side.group.to_string()),
        Cell::from(share),
        Cell::from(format!("{}/{}", side.ready, side.instances)),
        Cell::from(side.answered.requests.to_string()),
        Cell::new(side.answered.bad.to_string(), tone_of(side)),
        Cell::from(side.answered.slow.to_string()),
        Cell::from(
            latency
                .map(|latency| millis(latency.mean_micros))
                .unwrap_or_default(),
        ),
        Cell::from(
            latency
                .and_then(|latency| latency.p99_micros)
                .map(millis)
                .unwrap_or_default(),
        ),
    ]
}

/// A bar of so many cells, and the percentage that it shows.
fn bar(part: f64, cells: usize) -> (String, f64) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a few cells"
    )]
    let full = (part.clamp(0.0, 1.0) * cells as f64).round() as usize;
    (
        format!("{}{}", "█".repeat(full), "░".repeat(cells - full)),
        part * 100.0,
    )
}

/// Evidence towards both verdicts.
fn bars(service: &str, evidence: &Evidence, paint: Paint) -> String {
    let (worse, worse_percent) = bar(evidence.towards_worse, BAR);
    let (fine, fine_percent) = bar(evidence.towards_better, BAR);
    format!(
        "{service} worse  {} {worse_percent:>3.0} %\n{service} fine   {} {fine_percent:>3.0} %\n{}\n",
        paint.red(&worse),
        paint.green(&fine),
        paint.dim(&evidence.verdict)
    )
}

#[cfg(test)]
mod tests {
    use platform_decide::analysis::{PairedVerdict, Tally};
    use platform_decide::rollout::{MetricSide, Why};

    use super::*;

    pub(super) fn shown() -> RolloutShown {
        let side = |group: &str, share, requests, bad| SideProgress {
            group: group.parse().unwrap(),
            share,
            copied: 0,
            ready: 1,
            instances: 1,
            answered: Tally {
                requests,
                bad,
                slow: 0,
                left_out: 0,
            },
            latency: None,
        };
        RolloutShown {
            progress: Progress {
                release: "r7".parse().unwrap(),
                strategy: "canary",
                phase: "serving",
                stage: "5 %".to_owned(),
                stage_number: 2,
                stages: 5,
                phase_millis: 12_000,
                phase_at_least_millis: Some(30_000),
                total_millis: 61_000,
                paused_by: None,
                waits_for: Vec::new(),
                why: None,
                members: vec![MemberProgress {
                    service: "orders".to_owned(),
                    new: side("orders@r7", 50, 40, 2),
                    fresh: Some(side("orders@r5-baseline", 50, 42, 0)),
                    old: side("orders@r5", 900, 803, 1),
                    evidence: Some(Evidence {
                        towards_worse: 0.5,
                        towards_better: 0.0,
                        verdict: "cannot tell yet".to_owned(),
                    }),
                    metrics: vec![MetricSide {
                        metric: "heap".to_owned(),
                        only_reports: true,
                        new: Some(3.5),
                        old: Some(3.0),
                        pairs: 7,
                        worse_pairs: 0,
                        verdict: PairedVerdict::BetterOrEqual,
                        words: "better or equal within the tolerance: worse than tolerated in 0 of 7 pairs"
                            .to_owned(),
                        unread: None,
                    }],
                }],
            },
            log: Vec::new(),
            driver: None,
            own: false,
            over: false,
        }
    }

    #[test]
    fn the_cases_of_rollouts_in_turn_have_names_of_their_own() {
        let step = |service: &str, what: Note| RolloutEvent::Step {
            release: "r5".parse().unwrap(),
            services: vec![service.to_owned()],
            at: 0,
            text: what.to_string(),
            what,
        };
        let back = Note::GoingBack {
            why: Why::Operator {
                by: "ada".to_owned(),
            },
        };
        let mut found = cases(&step("a", Note::Promoted));
        found.extend(cases(&step("b", back)));
        let found: Vec<(&str, &Verdict)> = found
            .iter()
            .map(|case| (case.name.as_str(), &case.verdict))
            .collect();
        assert_eq!(
            found,
            [
                ("r5 a outcome", &Verdict::Passed),
                (
                    "r5 b outcome",
                    &Verdict::Failed("ada asked for it".to_owned())
                ),
            ]
        );
    }

    #[test]
    fn copies_are_told_from_requests() {
        let mut shown = shown();
        let new = &mut shown.progress.members[0].new;
        (new.share, new.copied) = (0, 100);
        let page = shown.human(Paint::NONE);
        assert!(
            page.contains("orders@r7           copies of 10.0 %  1/1    40"),
            "{page}"
        );
    }

    #[test]
    fn a_page_shows_both_sides_and_the_evidence() {
        insta::assert_snapshot!(shown().human(Paint::NONE), @r"
        r7 canary, 5 %: serving, step 2 of 5, 12.0 s of at least 30.0 s (18.0 s left), 1m 1s in all
        nobody drives it: `platform rollout resume` goes on with it, `platform rollout abort` takes it back

        GROUP               SHARE   READY  REQUESTS  BAD  SLOW
        orders@r7           5.0 %   1/1    40        2    0
        orders@r5-baseline  5.0 %   1/1    42        0    0
        orders@r5           90.0 %  1/1    803       1    0

        orders worse  ██████████░░░░░░░░░░  50 %
        orders fine   ░░░░░░░░░░░░░░░░░░░░   0 %
        cannot tell yet
        orders metric `heap`, which only reports, is better or equal within the tolerance: worse than tolerated in 0 of 7 pairs
        ");
    }
}
