//! What ends a run early.

use std::error::Error;
use std::io::ErrorKind;
use std::sync::Arc;

use platform_blueprint::Period;
use platform_decide::plan::StepId;
use platform_decide::release::ReleaseNumber;
use platform_port::{LogLine, Retry, StoreError, TargetError};

use crate::lease::LeaseError;

/// A run could not be carried through.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// A step failed, and what it leaves is for the next run to finish.
    #[error("release {release} is not up: {failure}")]
    Failed {
        /// The release.
        release: ReleaseNumber,
        /// The step that failed.
        failure: Box<Failure>,
    },
    /// What was asked for could not be asked or written down, after a part of the release had been promoted.
    #[error("release {release} could not be finished: {failure}; nothing is taken back")]
    Unfinished {
        /// The release.
        release: ReleaseNumber,
        /// The step that could not be carried out.
        failure: Box<Failure>,
    },
    /// A step failed, and so did taking back what the run had begun.
    #[error("release {release} failed ({failure}), and it could not be taken back")]
    NotTakenBack {
        /// The release.
        release: ReleaseNumber,
        /// The step that failed first.
        failure: Box<Failure>,
        /// The step of the way back that failed.
        #[source]
        back: Box<Failure>,
    },
    /// The target has changed since the plan was made.
    #[error("the target has changed since the plan was made")]
    Stale,
    /// The run was told to stop and stopped at a safe point.
    #[error("stopped {} `{step}`; {done} of {planned} steps are done", if *begun { "in" } else { "before" })]
    Stopped {
        /// The step that comes next.
        step: StepId,
        /// Whether it had begun.
        begun: bool,
        /// Steps that are done.
        done: usize,
        /// Steps of the plan.
        planned: usize,
    },
    /// Another run took the lease, so this one must not act any more.
    #[error("the lock was lost to another run")]
    LeaseLost,
    /// The lease could not be renewed for so long that another run may have it.
    #[error("the lock could not be renewed for {seconds} s, since the store did not answer")]
    LeaseExpired {
        /// How long.
        seconds: u64,
    },
    /// The lease could not be taken.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The target failed.
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl DriveError {
    /// Whether nobody goes on with what the run was doing: not so where the next run takes it up.
    pub(crate) fn ends_the_run(&self) -> bool {
        !matches!(
            self,
            Self::Stopped { .. }
                | Self::Unfinished { .. }
                | Self::LeaseLost
                | Self::LeaseExpired { .. }
        )
    }

    /// Stable code, such as `deploy::not-ready`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Failed { failure, .. } | Self::Unfinished { failure, .. } => failure.cause.code(),
            Self::NotTakenBack { .. } => "deploy::not-taken-back",
            Self::Stale => "plan::stale",
            Self::Stopped { .. } | Self::Lease(LeaseError::Stopped) => "run::stopped",
            Self::LeaseLost => "lock::lost",
            Self::LeaseExpired { .. } => "lock::expired",
            Self::Lease(LeaseError::Held { .. }) => "lock::held",
            Self::Lease(LeaseError::Store(error)) | Self::Store(error) => store_code(error),
            Self::Target(error) => error.code,
        }
    }

    /// What to do, a line the reader can act on.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Failed { failure, .. } => failure.cause.help().or_else(|| {
                let what = if failure.log.is_empty() {
                    "mend that"
                } else {
                    "mend what the log shows"
                };
                Some(format!(
                    "{what} and run `platform deploy` again; what is up stays up"
                ))
            }),
            Self::Unfinished { .. } | Self::LeaseExpired { .. } => Some(
                "run `platform deploy` again once the target answers; it goes on from here, and what serves goes on serving"
                    .to_owned(),
            ),
            Self::NotTakenBack { back, .. } => back.cause.help().or_else(|| {
                Some(
                    "run `platform status` to see what serves, then `platform deploy` again"
                        .to_owned(),
                )
            }),
            Self::Stale => Some("make a new plan with `platform plan --out FILE`".to_owned()),
            Self::Stopped { .. } => {
                Some("run `platform deploy` to go on, or `platform rollback` to go back".to_owned())
            }
            Self::LeaseLost => {
                Some("run `platform status` to see who changes the environment".to_owned())
            }
            Self::Lease(LeaseError::Held { .. }) => Some(
                "wait with `--lock-timeout 5m`, or run `platform unlock` if that run is gone"
                    .to_owned(),
            ),
            Self::Target(error) => error.help.clone(),
            Self::Lease(LeaseError::Store(error)) | Self::Store(error) => store_help(error),
            Self::Lease(LeaseError::Stopped) => None,
        }
    }
}

/// Stable code of a store's error.
pub fn store_code(error: &StoreError) -> &'static str {
    match error {
        StoreError::Conflict { .. } => "state::conflict",
        StoreError::Damaged { .. } => "state::damaged",
        StoreError::Unavailable { source, .. } if told_by_target(source.as_ref()).is_some() => {
            told_by_target(source.as_ref()).map_or("state::unavailable", |error| error.code)
        }
        StoreError::Unavailable { action, source, .. } => match io_kind(source.as_ref()) {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => "state::disk-full",
            Some(ErrorKind::ReadOnlyFilesystem) => "state::read-only",
            Some(ErrorKind::PermissionDenied) if matches!(*action, "write" | "delete") => {
                "state::read-only"
            }
            _ => "state::unavailable",
        },
    }
}

/// What to do about a store's error, where there is something.
fn store_help(error: &StoreError) -> Option<String> {
    let help = match (store_code(error), error) {
        ("state::disk-full", _) => "free some disk space and run the command again".to_owned(),
        ("state::read-only", StoreError::Unavailable { place, .. }) => {
            format!("make `{place}` writable and run the command again")
        }
        (_, StoreError::Unavailable { source, .. }) => {
            return told_by_target(source.as_ref())?.help.clone();
        }
        (_, StoreError::Damaged { place, .. }) => {
            format!("bring `{place}` back from a backup, or move it away; what runs goes on")
        }
        _ => return None,
    };
    Some(help)
}

/// The target's error behind an error, where that says more than that the target refused.
fn told_by_target<'error>(error: &'error (dyn Error + 'static)) -> Option<&'error TargetError> {
    let mut told = causes(error).filter_map(|error| error.downcast_ref::<TargetError>());
    told.find(|error| error.code != "target::refused")
}

/// The kind of the operating system's error behind an error, if there is one.
fn io_kind(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    let mut found = causes(error).filter_map(|error| error.downcast_ref::<std::io::Error>());
    found.next().map(std::io::Error::kind)
}

/// An error, and what is behind it.
fn causes<'error>(
    error: &'error (dyn Error + 'static),
) -> impl Iterator<Item = &'error (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// An error and its causes in one line.
pub(crate) fn in_words(error: &(dyn Error + 'static)) -> String {
    causes(error)
        .skip(1)
        .fold(error.to_string(), |words, cause| {
            format!("{words}: {cause}")
        })
}

/// A step that failed, with what its instances last wrote.
#[derive(Debug, thiserror::Error)]
#[error("`{step}` failed")]
pub struct Failure {
    /// The step.
    pub step: StepId,
    /// Why.
    #[source]
    pub cause: Cause,
    /// The last log lines of what failed, oldest first.
    pub log: Vec<LogLine>,
}

impl Failure {
    /// The failure and its causes in one line.
    pub fn in_words(&self) -> String {
        in_words(self)
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// An instance was given up on.
    #[error("{instance}: {reason}")]
    Instance {
        /// The instance.
        instance: String,
        /// Why, in words.
        reason: String,
    },
    /// Something did not become ready in time.
    #[error("{subject} was not ready within {}{}", allowed(*within, *more), reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
    NotReady {
        /// What.
        subject: String,
        /// How long it had.
        within: Period,
        /// How much longer the target had to say itself why, where `within` is a service's `start_within`.
        more: Option<Period>,
        /// What it last said.
        reason: Option<String>,
    },
    /// A rollout ended with the old release serving.
    #[error("rolled back: {why}")]
    RolledBack {
        /// Why, in words.
        why: String,
        /// What the new instances last wrote, before they were taken down.
        log: Vec<LogLine>,
        /// It had not ended in the time that the run was given.
        out_of_time: bool,
    },
    /// The target failed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The target could not be observed.
    #[error("cannot look at the target")]
    Unseen(#[source] Arc<TargetError>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The run was told to stop.
    #[error("stopped")]
    Stopped,
}

/// The time that something had, in words.
fn allowed(within: Period, more: Option<Period>) -> String {
    match more {
        Some(more) => format!(
            "the {within} of `start_within`, nor in the {more} more that the target had to say why"
        ),
        None => within.to_string(),
    }
}

impl Cause {
    /// Whether the target or its store could not be reached or written to, which says nothing of the release.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Target(error) => error.retry == Retry::Later,
            Self::Unseen(error) => error.retry == Retry::Later,
            Self::Store(error) => matches!(error, StoreError::Unavailable { .. }),
            _ => false,
        }
    }

    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Instance { .. } => "deploy::instance-failed",
            Self::NotReady { .. } => "deploy::not-ready",
            Self::RolledBack {
                out_of_time: true, ..
            } => "rollout::out-of-time",
            Self::RolledBack { .. } => "rollout::rolled-back",
            Self::Target(error) => error.code,
            Self::Unseen(error) => error.code,
            Self::Store(error) => store_code(error),
            Self::Stopped => "run::stopped",
        }
    }

    /// What to do, where the cause says.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Target(error) => error.help.clone(),
            Self::Unseen(error) => error.help.clone(),
            Self::Store(error) => store_help(error),
            _ => None,
        }
    }
}
