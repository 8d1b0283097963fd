//! Groups: the running instances of one service at one version.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use platform_blueprint::{ResourceKind, ResourceName, SecretName, Service, ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::release::ReleaseNumber;

/// Which of a version's groups this is.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Track {
    /// The instances that serve the version for good.
    #[default]
    Main,
    /// Fresh instances of the old version, started beside a canary so that both are equally warm.
    Baseline,
}

/// Names a group: a service, the release that introduced its spec, and the track.
///
/// Written `orders@r5`, or `orders@r5-baseline`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// The service whose instances these are.
    pub service: ServiceName,
    /// The release that introduced the spec they run.
    pub version: ReleaseNumber,
    /// Which of the version's groups.
    pub track: Track,
}

impl GroupId {
    /// The main group of a version.
    pub fn main(service: ServiceName, version: ReleaseNumber) -> Self {
        Self {
            service,
            version,
            track: Track::Main,
        }
    }

    /// The baseline group of a version.
    pub fn baseline(service: ServiceName, version: ReleaseNumber) -> Self {
        Self {
            service,
            version,
            track: Track::Baseline,
        }
    }

    /// The name under which the gateway weighs and counts this group: `r5` or `r5-baseline`.
    pub fn lane(&self) -> String {
        match self.track {
            Track::Main => self.version.to_string(),
            Track::Baseline => format!("{}-baseline", self.version),
        }
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.service, self.lane())
    }
}

/// The text is not a group's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a group, such as `orders@r5`")]
pub struct NotAGroup(String);

impl FromStr for GroupId {
    type Err = NotAGroup;

    fn from_str(text: &str) -> Result<Self, NotAGroup> {
        let bad = || NotAGroup(text.to_owned());
        let (service, lane) = text.split_once('@').ok_or_else(bad)?;
        let (version, track) = match lane.strip_suffix("-baseline") {
            Some(version) => (version, Track::Baseline),
            None => (lane, Track::Main),
        };
        Ok(Self {
            service: service.parse().map_err(|_| bad())?,
            version: version.parse().map_err(|_| bad())?,
            track,
        })
    }
}

impl Serialize for GroupId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GroupId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for GroupId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GroupId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[a-z][a-z0-9-]*@r[0-9]+(-baseline)?$" })
    }
}

/// What a build yields, known by the digest of its inputs before it is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Artifact {
    /// Digest of the build's inputs; equal keys mean the same artifact.
    pub key: Digest,
    /// Where the artifact is once it has been built.
    pub place: Place,
}

/// Where an artifact is, and so how it is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Place {
    /// A folder of programs, searched first for the service's command.
    Folder {
        /// Absolute path.
        path: String,
    },
    /// An OCI image.
    Image {
        /// Full reference, with a digest where one is known.
        reference: String,
    },
    /// Nothing is built: the command names an installed program.
    Installed,
}

/// Something a service needs, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Need {
    /// Another service, reached through the gateway's internal listener.
    Service {
        /// Its name in the blueprint.
        name: ServiceName,
    },
    /// A backing store or broker.
    Resource {
        /// Its name in the blueprint.
        name: ResourceName,
        /// What it is.
        resource: ResourceKind,
    },
}

impl Need {
    /// The name in the blueprint.
    pub fn name(&self) -> &str {
        match self {
            Need::Service { name } => name.as_str(),
            Need::Resource { name, .. } => name.as_str(),
        }
    }

    /// The environment variable under which a service finds the need's address: `ORDERS_DB_URL`.
    pub fn variable(&self) -> String {
        format!("{}_URL", self.name().to_uppercase().replace('-', "_"))
    }
}

/// What every instance of a group runs. Holds secret names and versions, never values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceSpec {
    /// The service as resolved for the environment. Plans, releases and groups share it.
    pub service: Arc<Service>,
    /// What its build yields.
    pub artifact: Artifact,
    /// What it needs, in the order of the blueprint.
    pub needs: Vec<Need>,
    /// Versions of the secrets it is handed; a rotation makes another spec.
    pub secrets: BTreeMap<SecretName, u32>,
    /// The authorities one of which must have signed its own certificate, PEM; what the file of `tls.ca` holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

impl ServiceSpec {
    /// Digests what an instance's behaviour depends on.
    ///
    /// How many there are, how they are rolled out, how the gateway treats them and where the artifact lies leave it
    /// unchanged.
    pub fn digest(&self) -> Digest {
        // Every field is named, so that one that is added is thought of.
        let Service {
            kind,
            build,
            image,
            command,
            args,
            folder,
            port,
            protocol,
            tls,
            needs: _,
            replicas: _,
            zones,
            health,
            limits,
            env,
            stop,
            restart,
            logs,
            volumes,
            rollout: _,
            traffic: _,
            user,
            labels,
        } = self.service.as_ref();
        let program = (kind, build, image, command, args, folder, port, protocol);
        let keeping = (
            health, limits, env, stop, restart, logs, volumes, user, labels,
        );
        let digest = Digest::of_value(&(
            program,
            keeping,
            &self.artifact.key,
            &self.needs,
            &self.secrets,
        ));
        // Who is believed to be an instance goes with it, so that each release is believed by what it was deployed with.
        let digest = match tls {
            None => digest,
            Some(_) => Digest::of_value(&(digest, tls, &self.authority)),
        };
        // What came later leaves the digests of those alone that have none of it.
        if zones.is_empty() {
            return digest;
        }
        Digest::of_value(&(digest, zones))
    }
}

/// A group as it should be: so many instances of this spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupSpec {
    /// Which group.
    pub id: GroupId,
    /// How many instances.
    pub replicas: u32,
    /// What each of them runs.
    pub spec: ServiceSpec,
    /// [`ServiceSpec::digest`], carried as a label by what runs.
    pub digest: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_believed_to_be_a_service_is_a_part_of_its_spec() {
        let spec = |service: serde_json::Value, authority: Option<&str>| {
            let service: Service = serde_json::from_value(service).unwrap();
            let spec = ServiceSpec {
                service: Arc::new(service),
                artifact: Artifact {
                    key: Digest::of(b"orders"),
                    place: Place::Installed,
                },
                needs: Vec::new(),
                secrets: BTreeMap::new(),
                authority: authority.map(str::to_owned),
            };
            spec.digest()
        };
        let plain = serde_json::json!({ "protocol": "https" });
        let named = |name: &str| serde_json::json!({ "protocol": "https", "tls": { "ca": "ca.pem", "name": name } });
        let digests = [
            spec(plain.clone(), None),
            spec(named("a"), Some("ours")),
            spec(named("a"), Some("others")),
            spec(named("b"), Some("ours")),
        ];
        for (number, digest) in digests.iter().enumerate() {
            assert!(!digests[..number].contains(digest), "{number}");
        }
        assert_eq!(digests[0], spec(plain, None));
    }

    #[test]
    fn a_group_reads_back_what_it_wrote() {
        for text in ["orders@r5", "orders-api@r12-baseline"] {
            let id: GroupId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
        }
        for text in ["orders", "orders@5", "@r5", "orders@r", "orders@r5-canary"] {
            assert!(text.parse::<GroupId>().is_err(), "{text}");
        }
    }
}
