//! What a run tells while it goes on: one stream of values for people, JSON lines and evidence alike.

use platform_decide::group::GroupId;
use platform_decide::plan::{Change, StepId};
use platform_decide::release::ReleaseNumber;
use platform_port::{Finding, LogLine};
use serde::Serialize;

use crate::build::BuildEvent;
use crate::lease::Holder;
use crate::rollout::RolloutEvent;

/// Something that happened during a run.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Somebody else holds the environment's lock, and this run waits for it.
    LockWait {
        /// Who holds it.
        holder: Holder,
    },
    /// A stopped run was found, and what becomes of it.
    UnfinishedRun {
        /// The run that was stopped.
        run: String,
        /// The release it was deploying.
        release: ReleaseNumber,
        /// What this run does about it, in words.
        what: String,
    },
    /// Preflight found something.
    Found(Finding),
    /// One change that the plan makes.
    PlannedChange(Change),
    /// How many changes the plan makes.
    ChangeSummary {
        /// The release that the plan makes.
        release: ReleaseNumber,
        /// Number of changes.
        changes: usize,
        /// Number of steps.
        steps: usize,
    },
    /// A step begins.
    ApplyStart {
        /// The step.
        step: StepId,
    },
    /// A step says how it is getting on.
    ApplyProgress {
        /// The step.
        step: StepId,
        /// In words.
        message: String,
    },
    /// Something did not go as it should, and the run goes on.
    Trouble {
        /// What, and what becomes of it, in words.
        what: String,
    },
    /// A step is done.
    ApplyComplete {
        /// The step.
        step: StepId,
        /// How long it took.
        milliseconds: u64,
    },
    /// A step failed.
    ApplyErrored {
        /// The step.
        step: StepId,
        /// Stable code.
        code: String,
        /// In words, with causes.
        message: String,
        /// The last lines of what failed to start.
        log: Vec<LogLine>,
    },
    /// The build of an artifact moves on.
    Build(BuildEvent),
    /// A rollout moves on.
    Rollout(RolloutEvent),
    /// What this run had begun is taken back.
    TakingBack {
        /// The release that is taken back.
        release: ReleaseNumber,
        /// The release that serves on, if there is one.
        to: Option<ReleaseNumber>,
    },
    /// A group was taken away because it never came up.
    GroupRemoved {
        /// The group.
        group: GroupId,
    },
    /// A release serves.
    Released {
        /// Its number.
        release: ReleaseNumber,
    },
    /// The run goes on; sent when nothing else has been for a while.
    Heartbeat {
        /// Steps under way.
        steps: Vec<StepId>,
    },
}

/// Takes events in, whatever becomes of them.
pub trait Events: Send + Sync {
    /// Takes one event in; must not block.
    fn emit(&self, event: Event);
}

/// Drops every event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Events for Silent {
    fn emit(&self, _: Event) {}
}
