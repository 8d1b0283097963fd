//! What a rollout looks at.

use std::collections::{BTreeMap, BTreeSet};

use platform_blueprint::ServiceName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::besides::Besides;
use super::gates::GateKey;
use super::words::Word;
use crate::analysis::Tally;
use crate::group::GroupId;
use crate::observed::{InstanceState, Observed};
use crate::traffic::Split;

/// What a gateway has counted since it started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Changes when the gateway starts anew and counts from zero.
    pub epoch: String,
    /// By group.
    pub lanes: BTreeMap<GroupId, Tally>,
    /// Answers to copies of requests, which nobody got; in no other count.
    pub copies: BTreeMap<GroupId, Tally>,
    /// Answers to the requests that were copied, by the group that gave them; part of `lanes`.
    pub copied: BTreeMap<GroupId, Tally>,
    /// Answers to requests that are in no comparison; in no other count.
    pub besides: BTreeMap<GroupId, Besides>,
}

/// What a gate answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "answer", content = "said")]
pub enum GateAnswer {
    /// Go on.
    Agrees,
    /// Go back, and why.
    Refuses(String),
}

/// The values of an extra metric, read at the same time of each side that answers requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The service.
    pub service: ServiceName,
    /// The metric.
    pub metric: String,
    /// The old release's value; `None` while it has no requests.
    pub old: Option<f64>,
    /// The new release's, likewise.
    pub new: Option<f64>,
}

/// An extra metric that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The service.
    pub service: ServiceName,
    /// The metric.
    pub metric: String,
    /// Why, in words.
    pub why: String,
}

/// What was seen since the last decision.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// The target.
    pub observed: &'a Observed,
    /// The gateway's counts, where they could be read.
    pub counts: Option<&'a Counts>,
    /// Gates that answered.
    pub gates: BTreeMap<GateKey, GateAnswer>,
    /// Extra metrics that were read.
    pub readings: Vec<Reading>,
    /// Extra metrics that could not be.
    pub unread: Vec<Unread>,
    /// Groups of which instances are being taken down.
    pub leaving: BTreeSet<GroupId>,
    /// The last of the operators' words, in their order.
    pub words: &'a [Word],
    /// The run was told to stop.
    pub stop: bool,
    /// The run was given so long, in milliseconds, and that is over.
    pub out_of_time: Option<u64>,
    /// The target refused the last move for good, and why.
    pub refused: Option<String>,
    /// The target did not do the last move, may do it yet, and said why.
    pub hindered: Option<String>,
}

impl<'a> Seen<'a> {
    /// The target, and nothing else.
    pub fn only(observed: &'a Observed) -> Self {
        Self {
            observed,
            counts: None,
            gates: BTreeMap::new(),
            readings: Vec::new(),
            unread: Vec::new(),
            leaving: BTreeSet::new(),
            words: &[],
            stop: false,
            out_of_time: None,
            refused: None,
            hindered: None,
        }
    }

    /// Instances of a group that are ready.
    pub(super) fn ready(&self, group: &GroupId) -> u32 {
        self.observed.groups.get(group).map_or(0, |seen| {
            u32::try_from(seen.count(InstanceState::Ready)).unwrap_or(u32::MAX)
        })
    }

    /// Whether anything of a group is there.
    pub(super) fn has(&self, group: &GroupId) -> bool {
        self.observed.groups.contains_key(group)
    }

    /// How the gateway shares out a service's requests.
    pub(super) fn split(&self, service: &ServiceName) -> Option<&Split> {
        self.observed.gateway.as_ref()?.splits.get(service)
    }

    /// What the instances of a group last said of why they are not ready.
    pub(super) fn reason(&self, group: &GroupId) -> Option<String> {
        let seen = self.observed.groups.get(group)?;
        seen.instances
            .iter()
            .filter(|instance| instance.state != InstanceState::Ready)
            .find_map(|instance| {
                instance
                    .reason
                    .clone()
                    .or_else(|| instance.last_exit.clone())
            })
    }
}
