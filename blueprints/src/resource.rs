//! Resources: the backing stores and brokers that services need.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ByteSize, ImageReference, Period};

/// A backing store or broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// What it is.
    pub kind: ResourceKind,
    /// What stands behind it: an embedded stand-in or a real server. If not
    /// written, embedded on local processes and the real server elsewhere;
    /// never `auto` once resolved.
    #[serde(default)]
    pub engine: Engine,
    /// The version of the server, such as `16`.
    #[serde(default)]
    pub version: Option<String>,
    /// The image of the server, instead of the usual one.
    #[serde(default)]
    pub image: Option<ImageReference>,
    /// How many standbys follow the primary.
    #[serde(default)]
    pub standbys: u32,
    /// Whether a write waits for a standby before it is acknowledged.
    #[serde(default)]
    pub synchronous: bool,
    /// How often it is backed up, and how many backups are kept.
    #[serde(default)]
    pub backup: Option<Backup>,
    /// What a drill measures it against.
    #[serde(default)]
    pub objectives: Objectives,
    /// How much it may hold, where the target can say.
    #[serde(default)]
    pub storage: Option<ByteSize>,
    /// How much memory it may use.
    #[serde(default)]
    pub memory: Option<ByteSize>,
    /// How long its server has to answer once it is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_within: Option<Period>,
    /// An address of a server that somebody else runs: nothing is started.
    #[serde(default)]
    pub external: Option<External>,
}

/// What a resource is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceKind {
    /// A relational database.
    Postgres,
    /// A cache and key-value store.
    Redis,
    /// A message broker with durable streams.
    Nats,
    /// A store of files by key.
    ObjectStore,
    /// A full-text index.
    Search,
}

impl ResourceKind {
    /// The word in the blueprint.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Nats => "nats",
            Self::ObjectStore => "object-store",
            Self::Search => "search",
        }
    }

    /// The engines that can stand behind it, the usual real one first.
    pub fn engines(self) -> &'static [Engine] {
        match self {
            Self::Postgres => &[Engine::Postgres, Engine::Embedded],
            Self::Redis => &[Engine::Redis, Engine::Valkey, Engine::Embedded],
            Self::Nats => &[Engine::Nats, Engine::Embedded],
            Self::ObjectStore => &[Engine::S3, Engine::Embedded],
            Self::Search => &[Engine::Opensearch, Engine::Embedded],
        }
    }
}

/// What stands behind a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// As the environment's provider has it.
    #[default]
    Auto,
    /// A stand-in that needs no server: a file of SQL tables, a memory cache, a
    /// durable queue, a folder.
    Embedded,
    /// `PostgreSQL`.
    Postgres,
    /// Redis.
    Redis,
    /// Valkey, which speaks Redis.
    Valkey,
    /// NATS with `JetStream`.
    Nats,
    /// A server that speaks S3.
    S3,
    /// `OpenSearch`.
    Opensearch,
}

impl Engine {
    /// The word in the blueprint.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Embedded => "embedded",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Nats => "nats",
            Self::S3 => "s3",
            Self::Opensearch => "opensearch",
        }
    }
}

/// How often a resource is backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    /// The time between two backups.
    pub every: Period,
    /// How many are kept.
    pub keep: u32,
}

impl Default for Backup {
    fn default() -> Self {
        Self {
            every: Period::from_secs(24 * 3600),
            keep: 7,
        }
    }
}

/// What recovery must achieve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Objectives {
    /// The longest time without service (RTO).
    pub recovery_time: Option<Period>,
    /// The most acknowledged work that may be lost (RPO).
    pub recovery_point: Option<Period>,
}

/// A server that somebody else runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// The secret that holds its address, with credentials.
    pub secret: crate::SecretName,
}
