//! What a run tells, put in words for people and in JSON for programs.

use std::time::Duration;

use platform_drive::build::BuildEvent;
use platform_drive::events::{Event, Events};
use platform_port::Severity;
use serde_json::Value;

use crate::moment;
use crate::view::{Line, SharedView, Told};

/// Hands a run's events to the view.
pub(crate) struct RunEvents {
    view: SharedView,
}

impl RunEvents {
    /// Events that go to this view.
    pub(crate) fn new(view: &SharedView) -> Self {
        Self {
            view: SharedView::clone(view),
        }
    }
}

impl Events for RunEvents {
    fn emit(&self, event: Event) {
        let value = serde_json::to_value(&event).unwrap_or_default();
        let kind = value.get("type").and_then(Value::as_str).unwrap_or("event");
        let told = Told::new(kind, &value, line(&event));
        self.view.tell(&told);
        if let Event::Rollout(rollout) = &event {
            for case in crate::rollout_view::cases(rollout) {
                self.view.case(case);
            }
        }
    }
}

fn line(event: &Event) -> Line {
    match event {
        Event::LockWait { holder } => Line::Important(format!(
            "waiting for `{}` of {}, under way since {}",
            holder.command, holder.owner, holder.since
        )),
        Event::UnfinishedRun { run, release, what } => Line::Important(format!(
            "found run {run}, which was stopped while it deployed {release}: {what}"
        )),
        Event::Found(finding) => match finding.severity {
            Severity::Note => Line::Detail(finding.message.clone()),
            Severity::Warning | Severity::Error => Line::Note(finding.message.clone()),
        },
        // The plan has been shown as a whole.
        Event::PlannedChange(_) | Event::ChangeSummary { .. } => Line::Nothing,
        Event::ApplyStart { step } => Line::Begin(step.to_string(), step.to_string()),
        Event::ApplyProgress { step, message } => Line::Update(step.to_string(), message.clone()),
        Event::Trouble { what } => Line::Important(what.clone()),
        Event::ApplyComplete { step, milliseconds } => {
            let took = moment::span(Duration::from_millis(*milliseconds));
            Line::Done(step.to_string(), format!("{step} ({took})"))
        }
        Event::ApplyErrored { step, message, .. } => {
            Line::Failed(step.to_string(), format!("{step}: {message}"))
        }
        Event::Build(build) => built(build),
        Event::Rollout(rollout) => crate::rollout_view::line(rollout),
        Event::TakingBack { release, to } => Line::Important(match to {
            Some(to) => format!("taking {release} back; {to} serves on"),
            None => format!("taking {release} back"),
        }),
        Event::GroupRemoved { group } => Line::Note(format!("removed {group}")),
        Event::Released { release } => Line::Note(format!("{release} serves")),
        Event::Heartbeat { steps } => {
            let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
            Line::Detail(format!("still at: {}", steps.join(", ")))
        }
    }
}

fn built(event: &BuildEvent) -> Line {
    let names = |services: &[platform_blueprint::ServiceName]| {
        let names: Vec<&str> = services.iter().map(AsRef::as_ref).collect();
        names.join(", ")
    };
    match event {
        BuildEvent::Started { service, command } => Line::Begin(
            format!("build {service}"),
            format!("build {service}: {command}"),
        ),
        BuildEvent::Progress {
            service,
            done,
            part,
        } => Line::Update(format!("build {service}"), format!("{done}: {part}")),
        BuildEvent::Output { line, .. } => Line::Detail(line.clone()),
        BuildEvent::Built {
            service,
            took,
            size,
            ..
        } => {
            let (took, size) = (moment::span(*took), moment::bytes(*size));
            Line::Done(
                format!("build {service}"),
                format!("build {service} ({took}, {size})"),
            )
        }
        BuildEvent::Failed {
            service,
            message,
            output,
        } => {
            let mut text = format!("build {service}: {message}");
            for line in output {
                text.push('\n');
                text.push_str(line);
            }
            Line::Failed(format!("build {service}"), text)
        }
        BuildEvent::Image {
            service,
            reference,
            size,
            took,
        } => {
            let mut text = format!("image {service} ({}", moment::span(*took));
            if *size > 0 {
                text.push_str(", ");
                text.push_str(&moment::bytes(*size));
            }
            Line::Done(format!("build {service}"), format!("{text}): {reference}"))
        }
        BuildEvent::Pushed {
            service,
            reference,
            sent,
        } => Line::Note(format!(
            "pushed {service} ({} sent): {reference}",
            moment::bytes(*sent)
        )),
        BuildEvent::Pinned {
            reference, digest, ..
        } => Line::Note(format!("pinned {reference} to {digest}")),
        BuildEvent::Unpinned { reference, why, .. } => {
            Line::Important(format!("`{reference}` is not pinned to a digest: {why}"))
        }
        BuildEvent::Uncovered { service, files } => {
            let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
            Line::Important(format!(
                "the build of `{service}` read files outside its folder, whose changes go unseen; name them in `inputs`: {}",
                files.join(", ")
            ))
        }
        BuildEvent::Again { services, changed } => Line::Note(format!(
            "{} changed while {} was built; building again",
            changed.join(", "),
            names(services)
        )),
        BuildEvent::Waiting => Line::Note("waiting for another build of this project".to_owned()),
    }
}
