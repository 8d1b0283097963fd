//! Services: the programs a project runs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Build, ByteSize, Cores, EnvValue, Health, ImageReference, NeedName, Period, Port, Rollout,
    Traffic, ZoneName,
};

/// A program the project runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// What it is: a service that stays, a job that ends, a worker without a port.
    pub kind: ServiceKind,
    /// How its artifact is made. Without one, `command` names a program that
    /// is installed where it runs.
    pub build: Option<Build>,
    /// Short for `build = { image = "…" }`; always absent once resolved.
    pub image: Option<ImageReference>,
    /// The program and its first arguments. Without one, the artifact itself.
    /// `${PORT}`, `${HOST}` and the addresses of needs are replaced.
    pub command: Vec<String>,
    /// Arguments after those of `command`.
    pub args: Vec<String>,
    /// The folder it runs in, relative to the blueprint.
    pub folder: Option<String>,
    /// The port it listens on; handed to it as `PORT`. None: nothing calls it.
    /// Where instances share a machine, each is handed a free port instead.
    pub port: Option<Port>,
    /// What it speaks on its port.
    pub protocol: Protocol,
    /// Whom the gateway believes to be it, where it shows a certificate of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServiceTls>,
    /// Services and resources that are ready before it starts, and whose
    /// addresses it is handed.
    pub needs: Vec<NeedName>,
    /// How many instances run.
    pub replicas: u32,
    /// Zones that its instances stand in, dealt in turn: the first instance in the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<ZoneName>,
    /// How to tell that it is ready, and that it lives.
    pub health: Health,
    /// What it may use.
    pub limits: Limits,
    /// Its environment variables.
    pub env: BTreeMap<String, EnvValue>,
    /// How it is asked to stop.
    pub stop: Stop,
    /// What happens when it ends by itself.
    pub restart: Restart,
    /// How much of its output is kept.
    pub logs: Logs,
    /// Folders that outlive its instances.
    pub volumes: Vec<Volume>,
    /// How it moves from one release to the next; what is not written is
    /// taken from the top-level `[rollout]`.
    pub rollout: Rollout,
    /// How the gateway spreads calls over its instances and guards them.
    pub traffic: Traffic,
    /// The user it runs as, where the target can tell users apart.
    pub user: Option<String>,
    /// Free words for whoever reads: owner, tier, documentation.
    pub labels: BTreeMap<String, String>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            kind: ServiceKind::Service,
            build: None,
            image: None,
            command: Vec::new(),
            args: Vec::new(),
            folder: None,
            port: None,
            protocol: Protocol::Http,
            tls: None,
            needs: Vec::new(),
            replicas: 1,
            zones: Vec::new(),
            health: Health::default(),
            limits: Limits::default(),
            env: BTreeMap::new(),
            stop: Stop::default(),
            restart: Restart::default(),
            logs: Logs::default(),
            volumes: Vec::new(),
            rollout: Rollout::default(),
            traffic: Traffic::default(),
            user: None,
            labels: BTreeMap::new(),
        }
    }
}

/// What a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceKind {
    /// Stays, and is restarted when it ends.
    #[default]
    Service,
    /// Runs once for each release and succeeds by exiting with 0.
    Job,
    /// Stays, but nothing calls it: it needs no port.
    Worker,
}

/// What a service speaks on its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2 without TLS, as gRPC servers speak it.
    H2c,
    /// HTTP/1.1 over TLS, with a certificate of its own.
    Https,
    /// HTTP/2 over TLS, with a certificate of its own.
    H2,
    /// HTTP/1.1 over TLS, with certificates of the environment's own authority on both sides.
    Mtls,
    /// HTTP/2 over TLS, with certificates of the environment's own authority on both sides.
    MtlsH2,
}

impl Protocol {
    /// As the blueprint writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::H2c => "h2c",
            Self::Https => "https",
            Self::H2 => "h2",
            Self::Mtls => "mtls",
            Self::MtlsH2 => "mtls-h2",
        }
    }

    /// Whether it is HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::H2c | Self::H2 | Self::MtlsH2)
    }

    /// Whether the service shows a certificate of its own, and asks for none.
    pub fn is_one_sided(self) -> bool {
        matches!(self, Self::Https | Self::H2)
    }

    /// Whether both sides show certificates of the environment's authority.
    pub fn is_mutual(self) -> bool {
        matches!(self, Self::Mtls | Self::MtlsH2)
    }
}

/// Whom the gateway believes to be a service that shows a certificate of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceTls {
    /// A file of authorities, one of which must have signed its certificate; the public ones if not given.
    pub ca: Option<String>,
    /// The name that its certificate must be for, an address too; the service's if not given.
    pub name: Option<String>,
}

/// What a service may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Cores, such as `0.5`.
    pub cpu: Option<Cores>,
    /// Memory, such as `128MiB`.
    pub memory: Option<ByteSize>,
}

/// How a service is asked to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stop {
    /// The signal that asks.
    pub signal: StopSignal,
    /// How long it may take before it is killed.
    pub grace: Period,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            signal: StopSignal::Term,
            grace: Period::from_secs(10),
        }
    }
}

/// A signal that asks a program to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum StopSignal {
    /// The usual way.
    #[default]
    #[serde(rename = "SIGTERM")]
    Term,
    /// As Ctrl-C does.
    #[serde(rename = "SIGINT")]
    Int,
    /// As some servers shut down gracefully.
    #[serde(rename = "SIGQUIT")]
    Quit,
    /// As a lost terminal does.
    #[serde(rename = "SIGHUP")]
    Hup,
    /// A signal of the program's own.
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// Another signal of the program's own.
    #[serde(rename = "SIGUSR2")]
    Usr2,
    /// As Apache stops gracefully.
    #[serde(rename = "SIGWINCH")]
    Winch,
}

impl StopSignal {
    /// The name, `SIGTERM` and such.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Hup => "SIGHUP",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Winch => "SIGWINCH",
        }
    }
}

/// What happens when an instance ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Restart {
    /// When it is started again.
    pub on: RestartOn,
    /// The first pause before a restart; doubles with each.
    pub backoff: Period,
    /// The longest pause.
    pub backoff_at_most: Period,
    /// So many ends within `window` are a crash loop, which is given up.
    pub crash_loop: u32,
    /// The time over which ends are counted.
    pub window: Period,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            on: RestartOn::Always,
            backoff: Period::from_millis(200),
            backoff_at_most: Period::from_secs(30),
            crash_loop: 5,
            window: Period::from_secs(60),
        }
    }
}

/// When an instance that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartOn {
    /// However it ended.
    #[default]
    Always,
    /// When it exited with another code than 0, or by a signal.
    Failure,
    /// Never.
    Never,
}

/// How much of an instance's output is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Logs {
    /// The size at which a log file is rotated.
    pub max_size: ByteSize,
    /// How many rotated files are kept.
    pub keep: u32,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            max_size: ByteSize::from_mib(10),
            keep: 3,
        }
    }
}

/// A folder that outlives instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its name; volumes of one name in one project are one folder.
    pub name: NeedName,
    /// Where the service finds it.
    pub path: String,
    /// How much it may hold, where the target can say.
    #[serde(default)]
    pub size: Option<ByteSize>,
    /// Whether the service may only read it.
    #[serde(default)]
    pub read_only: bool,
}
