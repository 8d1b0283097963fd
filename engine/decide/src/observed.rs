//! What a target was seen to run.

use std::collections::BTreeMap;

use platform_blueprint::{ResourceName, ServiceName, ZoneName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::group::GroupId;
use crate::traffic::Split;

/// The state of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// Started, not ready yet.
    Starting,
    /// Ready, and reached through the gateway where it has a port.
    Ready,
    /// It was ready and is not now.
    Unready,
    /// It ended and will be started again after a while.
    Restarting,
    /// It ends again and again; it is started ever more rarely.
    CrashLooping,
    /// It was asked to stop.
    Stopping,
    /// It ran to its end with exit code 0, as a job should.
    Completed,
    /// It ended and will not be started again.
    Failed,
}

/// One instance as it was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceSeen {
    /// The target's name for it, unique in the environment: `orders@r5.2`.
    pub id: String,
    /// Its state.
    pub state: InstanceState,
    /// Where it listens, `host:port`.
    pub address: Option<String>,
    /// The target's own handle: a process id, a container id.
    pub handle: Option<String>,
    /// Times it was started again.
    pub restarts: u32,
    /// When it was last started, in milliseconds since the Unix epoch.
    pub started_at: Option<u64>,
    /// How it last ended, in words: `exit code 1`, `signal 9`, `out of memory`.
    pub last_exit: Option<String>,
    /// It was last ended for using more memory than its limit.
    pub out_of_memory: bool,
    /// Why it is not ready, in words.
    pub reason: Option<String>,
    /// Resident memory in bytes, where the target tells.
    pub memory: Option<u64>,
    /// The zone it stands in, where its service names any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
}

/// A group as it was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupSeen {
    /// Digest of the spec its instances run.
    pub digest: Digest,
    /// How many instances the target has been told to keep.
    pub replicas: u32,
    /// The instances, in the order of their names.
    pub instances: Vec<InstanceSeen>,
    /// What somebody changed of them, in words: `changed by hand: its memory limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<String>,
}

impl GroupSeen {
    /// How many instances are in the state.
    pub fn count(&self, state: InstanceState) -> usize {
        self.instances.iter().filter(|i| i.state == state).count()
    }

    /// Whether as many instances are ready, or have completed, as were asked for.
    pub fn settled(&self) -> bool {
        self.count(InstanceState::Ready) + self.count(InstanceState::Completed)
            >= self.replicas as usize
    }

    /// Whether the group, meant to have `replicas` instances of the spec `digest`, is up, coming up or has failed.
    pub fn coming(&self, digest: &Digest, replicas: u32) -> Coming {
        let told = self.digest == *digest && self.replicas == replicas;
        if told && self.settled() {
            return Coming::Up;
        }
        let given_up = self
            .instances
            .iter()
            .find(|i| matches!(i.state, InstanceState::CrashLooping | InstanceState::Failed));
        match given_up {
            Some(instance) if self.digest == *digest => Coming::Failed {
                instance: instance.id.clone(),
                reason: instance
                    .reason
                    .clone()
                    .or_else(|| instance.last_exit.clone())
                    .unwrap_or_else(|| "it did not come up".to_owned()),
            },
            _ => Coming::NotYet,
        }
    }

    /// Restarts of all instances together.
    pub fn restarts(&self) -> u32 {
        self.instances.iter().map(|i| i.restarts).sum()
    }
}

/// How a group that was asked for is getting on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coming {
    /// As many instances as asked for are ready, or have completed.
    Up,
    /// It may still come up.
    NotYet,
    /// An instance was given up on.
    Failed {
        /// The instance.
        instance: String,
        /// Why, in words.
        reason: String,
    },
}

/// A resource as it was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceSeen {
    /// Digest of the resource as it was asked for.
    pub digest: Digest,
    /// Whether it answers.
    pub ready: bool,
    /// What it is on this target, in words: `SQLite file`, `PostgreSQL 15`.
    pub engine: String,
    /// Where it is reached; never with credentials.
    pub address: Option<String>,
    /// Why it is not ready, in words.
    pub reason: Option<String>,
    /// Its server ends again and again; it is started ever more rarely.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub crash_looping: bool,
}

/// The gateway as it was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GatewaySeen {
    /// The URL requests are sent to.
    pub url: String,
    /// Whether it answers.
    pub ready: bool,
    /// The revision of the configuration it confirmed.
    pub revision: u64,
    /// Digest of the routes and settings it was given.
    pub ingress: Digest,
    /// How it shares requests out.
    pub splits: BTreeMap<ServiceName, Split>,
    /// Why it is to be put right whatever its routes are, in words: `it is paused`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amiss: Option<String>,
}

/// Everything of the project's that was seen on a target.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Observed {
    /// Groups by name.
    pub groups: BTreeMap<GroupId, GroupSeen>,
    /// Resources by name.
    pub resources: BTreeMap<ResourceName, ResourceSeen>,
    /// The gateway, where it runs.
    pub gateway: Option<GatewaySeen>,
    /// What of the target's own parts was found amiss and is right again, in words: `the keeper was paused`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub noticed: Vec<String>,
}

impl Observed {
    /// Digests what a plan is made from: which groups, resources and shares there are, not how healthy they are.
    ///
    /// A saved plan is applied only while this has not changed.
    pub fn fingerprint(&self) -> Digest {
        let groups: BTreeMap<_, _> = self
            .groups
            .iter()
            .map(|(id, seen)| (id, (&seen.digest, seen.replicas)))
            .collect();
        let resources: BTreeMap<_, _> = self
            .resources
            .iter()
            .map(|(name, seen)| (name, &seen.digest))
            .collect();
        let gateway = self.gateway.as_ref();
        let gateway = gateway.map(|g| (&g.ingress, &g.splits, &g.amiss));
        Digest::of_value(&(groups, resources, gateway))
    }

    /// Groups of one service, oldest version first.
    pub fn groups_of(&self, service: &ServiceName) -> impl Iterator<Item = (&GroupId, &GroupSeen)> {
        self.groups
            .iter()
            .filter(move |(id, _)| &id.service == service)
    }
}
