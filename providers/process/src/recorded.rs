//! What is written down: what the agent keeps up, and what each instance is.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use platform_blueprint::ResourceName;
use platform_decide::desired::DesiredResource;
use platform_decide::digest::Digest;
use platform_decide::group::{GroupId, GroupSpec};
use platform_decide::traffic::Traffic;
use serde::{Deserialize, Serialize};

use crate::durable::{self, StateError, Survives};
use crate::identity::ProcessIdentity;
use crate::layout::Layout;

/// What the agent keeps up. Never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    /// Groups by name.
    pub(crate) groups: BTreeMap<GroupId, GroupSpec>,
    /// Groups on their way out.
    pub(crate) leaving: BTreeMap<GroupId, GroupSpec>,
    /// Resources by name.
    pub(crate) resources: BTreeMap<ResourceName, DesiredResource>,
    /// Routes and shares.
    pub(crate) traffic: Option<Traffic>,
    /// The gateway, where one is wanted.
    pub(crate) gateway: Option<GatewayProgram>,
    /// The highest revision given to the gateway.
    pub(crate) revision: u64,
}

/// The program that is run as the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GatewayProgram {
    /// Its file.
    pub(crate) program: PathBuf,
    /// Its build.
    pub(crate) build: String,
}

/// How an instance ended for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// As a job should.
    Completed,
    /// For this reason.
    Failed(String),
}

/// What is known of one instance. Lies in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct InstanceRecord {
    /// The process that runs now, or ran last.
    pub(crate) process: Option<ProcessIdentity>,
    /// The digest of the spec that it runs.
    pub(crate) digest: Option<Digest>,
    /// The build of its program, where that matters.
    pub(crate) build: Option<String>,
    /// Its port.
    pub(crate) port: Option<u16>,
    /// When it was last started, in milliseconds since the Unix epoch.
    pub(crate) started_at: Option<u64>,
    /// Times it was started again.
    pub(crate) restarts: u32,
    /// It was ready at least once, so what fails now worked before.
    pub(crate) proven: bool,
    /// It was ready when last looked at.
    pub(crate) ready: bool,
    /// How it last ended, in words.
    pub(crate) last_exit: Option<String>,
    /// It was last ended for using more memory than its limit.
    pub(crate) out_of_memory: bool,
    /// How it ended for good.
    pub(crate) outcome: Option<Outcome>,
}

impl InstanceRecord {
    /// Reads an instance's record; an unreadable one is as good as none.
    pub(crate) fn load(layout: &Layout, instance: &str) -> Option<Self> {
        let bytes = fs::read(layout.instance(instance).join("record.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Writes it down.
    ///
    /// # Errors
    ///
    /// If the folder takes no writes.
    pub(crate) fn save(&self, layout: &Layout, instance: &str) -> Result<(), StateError> {
        let folder = layout.instance(instance);
        let path = folder.join("record.json");
        let bytes = serde_json::to_vec(self)
            .map_err(|error| StateError::of("write", &path, error.into()))?;
        // Processes do not outlive a loss of power, so their records need not.
        let survives = match self.outcome {
            Some(_) => Survives::PowerLoss,
            None => Survives::Crash,
        };
        match durable::replace(&path, &bytes, survives) {
            Err(StateError::Unavailable { .. }) if !folder.is_dir() => {
                durable::make_folder(&folder)?;
                durable::replace(&path, &bytes, survives)
            }
            done => done,
        }
    }

    /// Names of all instances that have a folder.
    pub(crate) fn names(layout: &Layout) -> Vec<String> {
        fs::read_dir(layout.instances())
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }
}

/// The name of a group's instance, counted from 1.
pub(crate) fn instance_name(group: &GroupId, number: u32) -> String {
    format!("{group}.{number}")
}

/// The group and number of an instance's name.
pub(crate) fn instance_parts(name: &str) -> Option<(GroupId, u32)> {
    let (group, number) = name.rsplit_once('.')?;
    Some((group.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_name_reads_back() {
        let group: GroupId = "orders@r5-baseline".parse().unwrap();
        let name = instance_name(&group, 2);
        assert_eq!(name, "orders@r5-baseline.2");
        assert_eq!(instance_parts(&name), Some((group, 2)));
        assert_eq!(instance_parts("gateway"), None);
    }
}
