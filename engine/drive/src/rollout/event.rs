//! What a rollout tells while it goes on.

use std::fmt;

use platform_decide::release::ReleaseNumber;
use platform_decide::rollout::Note;
use serde::Serialize;

use super::progress::Progress;

/// A rollout moves on.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "rollout", rename_all = "snake_case")]
pub enum RolloutEvent {
    /// Something happened.
    Step {
        /// The release it brings.
        release: ReleaseNumber,
        /// The services that it moves.
        services: Vec<String>,
        /// When, in milliseconds since the Unix epoch.
        at: u64,
        /// What happened.
        what: Note,
        /// The same in words.
        text: String,
    },
    /// How both sides are doing, about once a second.
    Progress(Box<Progress>),
    /// The target did not do as asked; it is asked again.
    Trouble {
        /// The release it brings.
        release: ReleaseNumber,
        /// What it said.
        text: String,
    },
}

impl fmt::Display for RolloutEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step { text, .. } => f.write_str(text),
            Self::Progress(progress) => progress.fmt(f),
            Self::Trouble { text, .. } => write!(f, "{text}; asking again"),
        }
    }
}
