//! Drills: experiments that break things and measure recovery.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NeedName, Objectives, Percent, Period};

/// An experiment: steady state, fault, recovery, verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// The service or resource that is broken.
    pub target: NeedName,
    /// How it is broken.
    pub fault: Fault,
    /// What must hold before, and again after.
    #[serde(default)]
    pub steady: Steady,
    /// What recovery must achieve; the resource's if not given.
    #[serde(default)]
    pub objectives: Objectives,
    /// How long the fault lasts, where it does not undo itself.
    #[serde(default = "half_a_minute")]
    pub lasts: Period,
    /// The longest the whole drill may take before faults are undone.
    #[serde(default = "ten_minutes")]
    pub at_most: Period,
    /// How often it is repeated, for a distribution.
    #[serde(default = "once")]
    pub runs: u32,
    /// The delay of `slow-network`.
    #[serde(default)]
    pub delay: Option<Period>,
}

fn half_a_minute() -> Period {
    Period::from_secs(30)
}

fn ten_minutes() -> Period {
    Period::from_secs(600)
}

fn once() -> u32 {
    1
}

/// How a target is broken.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The primary of a resource is killed.
    KillPrimary,
    /// A standby of a resource is killed.
    KillStandby,
    /// One instance of a service is killed.
    KillInstance,
    /// Every instance of a service is killed.
    KillAll,
    /// The target is frozen.
    Pause,
    /// The target is cut off from the network.
    CutNetwork,
    /// The target's network is slowed.
    SlowNetwork,
    /// The target's disk is filled.
    FillDisk,
    /// The data of a resource are lost, and restored from a backup.
    LoseData,
}

impl Fault {
    /// The word in the blueprint.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KillPrimary => "kill-primary",
            Self::KillStandby => "kill-standby",
            Self::KillInstance => "kill-instance",
            Self::KillAll => "kill-all",
            Self::Pause => "pause",
            Self::CutNetwork => "cut-network",
            Self::SlowNetwork => "slow-network",
            Self::FillDisk => "fill-disk",
            Self::LoseData => "lose-data",
        }
    }
}

/// What must hold before a drill, and again after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Steady {
    /// The path that is asked through the gateway; the first route if not given.
    pub route: Option<String>,
    /// The share of answers that must be good.
    pub success: Percent,
    /// An answer that takes longer is not good.
    pub within: Period,
    /// How many requests are made each second.
    pub rate: u32,
    /// How long it must hold.
    pub lasts: Period,
}

impl Default for Steady {
    fn default() -> Self {
        Self {
            route: None,
            success: Percent::whole(99),
            within: Period::from_secs(1),
            rate: 20,
            lasts: Period::from_secs(5),
        }
    }
}
