//! Releases: immutable records of what an environment was asked to run.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use platform_blueprint::{EnvironmentName, ProjectName, ResourceName, ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::desired::{DesiredResource, Ingress};
use crate::digest::Digest;
use crate::group::{GroupId, GroupSpec, ServiceSpec};

/// A release's number in its environment, counted from 1 and written `r12`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ReleaseNumber(pub u32);

impl ReleaseNumber {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for ReleaseNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// The text is not a release number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a release number, such as `r12`")]
pub struct NotARelease(String);

impl FromStr for ReleaseNumber {
    type Err = NotARelease;

    fn from_str(text: &str) -> Result<Self, NotARelease> {
        text.strip_prefix('r')
            .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .filter(|number| *number > 0)
            .map(Self)
            .ok_or_else(|| NotARelease(text.to_owned()))
    }
}

impl TryFrom<String> for ReleaseNumber {
    type Error = NotARelease;

    fn try_from(text: String) -> Result<Self, NotARelease> {
        text.parse()
    }
}

impl From<ReleaseNumber> for String {
    fn from(number: ReleaseNumber) -> Self {
        number.to_string()
    }
}

/// A service as a release has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlacedService {
    /// The release that introduced this spec; instances and the gateway carry it.
    pub version: ReleaseNumber,
    /// How many instances.
    pub replicas: u32,
    /// What each instance runs.
    pub spec: ServiceSpec,
    /// Digest of the spec.
    pub digest: Digest,
}

impl PlacedService {
    /// The group that serves it, with all its instances.
    pub fn group(&self, service: &ServiceName) -> GroupSpec {
        GroupSpec {
            id: GroupId::main(service.clone(), self.version),
            replicas: self.replicas,
            spec: self.spec.clone(),
            digest: self.digest.clone(),
        }
    }
}

/// Where a release is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseStatus {
    /// A run is bringing it up, or was stopped while doing so.
    Deploying,
    /// It serves.
    Active,
    /// It served until a later one took over.
    Superseded,
    /// It was taken back before or while it served.
    RolledBack,
    /// It never came up.
    Failed,
}

/// What an environment was asked to run: the resolved blueprint with its artifacts.
///
/// All but the status never changes after it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Release {
    /// Its number in the environment.
    pub number: ReleaseNumber,
    /// Digest of everything it runs, so equal releases can be told.
    pub digest: Digest,
    /// The project.
    pub project: ProjectName,
    /// The environment.
    pub environment: EnvironmentName,
    /// Services by name.
    pub services: BTreeMap<ServiceName, PlacedService>,
    /// Resources by name.
    pub resources: BTreeMap<ResourceName, DesiredResource>,
    /// Routes and the gateway's settings.
    pub ingress: Ingress,
    /// The release whose content this one repeats, when it came of a rollback.
    pub rollback_of: Option<ReleaseNumber>,
    /// The run that made it.
    pub run: String,
    /// When, as RFC 3339 in UTC.
    pub created_at: String,
    /// The commit the blueprint was read at, where there is a repository.
    pub commit: Option<String>,
    /// Where it is in its life.
    pub status: ReleaseStatus,
}

impl Release {
    /// The key of this release in an environment's store.
    pub fn key(number: ReleaseNumber) -> String {
        format!("releases/{:08}", number.0)
    }

    /// The group with this name, whole, if it is the release's.
    pub fn group(&self, id: &GroupId) -> Option<GroupSpec> {
        let placed = self.services.get(&id.service)?;
        (placed.version == id.version).then(|| GroupSpec {
            id: id.clone(),
            ..placed.group(&id.service)
        })
    }

    /// Every group the release runs when it is fully up.
    pub fn groups(&self) -> impl Iterator<Item = GroupSpec> + '_ {
        self.services
            .iter()
            .map(|(name, placed)| placed.group(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_number_reads_back_what_it_wrote() {
        assert_eq!("r12".parse(), Ok(ReleaseNumber(12)));
        assert_eq!(ReleaseNumber(12).to_string(), "r12");
        for text in ["12", "r", "r0", "r-1", "r1x", "R1"] {
            assert!(text.parse::<ReleaseNumber>().is_err(), "{text}");
        }
    }
}
