//! Where a rollout is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::words::Why;

/// Where a rollout is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Gates are asked whether it may begin; nothing has been touched.
    BeforeStart,
    /// The stage's instances come up; requests are shared out as in the stage before.
    Starting {
        /// Index of the stage.
        stage: usize,
    },
    /// Requests are shared out as the stage has it, and both sides are watched.
    Serving {
        /// Index of the stage.
        stage: usize,
    },
    /// The new release serves for good, and the old instances go.
    Retiring,
    /// The new release serves alone.
    Promoted,
    /// All requests go to the old release, as soon as it can take them.
    GoingBack {
        /// Why.
        why: Why,
        /// The stage it had come to.
        stage: usize,
    },
    /// The old release serves, and the new instances go.
    Removing {
        /// Why it went back.
        why: Why,
    },
    /// The old release serves alone, and gates are told.
    AfterBack {
        /// Why it went back.
        why: Why,
    },
    /// The old release serves alone.
    RolledBack {
        /// Why.
        why: Why,
    },
    /// The run was told to stop: requests are back where it is safest, instances stay, and the next run goes on.
    Interrupted {
        /// The stage it had come to.
        stage: usize,
    },
    /// The old release does not come up again; requests stay where they are, and a person has to look.
    Stuck {
        /// Why it wanted to go back.
        why: Why,
        /// The stage it had come to.
        stage: usize,
    },
}

impl Phase {
    /// Whether nothing more happens by itself.
    pub fn is_over(&self) -> bool {
        matches!(
            self,
            Self::Promoted
                | Self::RolledBack { .. }
                | Self::Interrupted { .. }
                | Self::Stuck { .. }
        )
    }

    /// Whether the rollout is on its way to the new release and may still turn back by itself.
    pub fn is_forward(&self) -> bool {
        matches!(
            self,
            Self::BeforeStart | Self::Starting { .. } | Self::Serving { .. }
        )
    }

    /// The stage it is at or had come to; the first once the old release serves again.
    pub(super) fn stage(&self) -> usize {
        match self {
            Self::Starting { stage }
            | Self::Serving { stage }
            | Self::GoingBack { stage, .. }
            | Self::Interrupted { stage }
            | Self::Stuck { stage, .. } => *stage,
            Self::Retiring | Self::Promoted => usize::MAX,
            Self::BeforeStart
            | Self::Removing { .. }
            | Self::AfterBack { .. }
            | Self::RolledBack { .. } => 0,
        }
    }
}
