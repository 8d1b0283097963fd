//! Services: the programs a project runs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shorthand::{Refused, Shorthand, deserialize_shorthand};
use crate::{
    Breaker, Build, ByteSize, Cores, Health, ImageReference, NeedName, Outliers, Percent, Period,
    Port, Rollout, SecretName,
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

/// The value of an environment variable: a text, number or flag, or
/// `{ secret = "name" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum EnvValue {
    /// A flag; handed over as `true` or `false`.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// A text, in which `${…}` references are replaced.
    Text(String),
    /// A secret, by its name.
    Secret(SecretReference),
    /// A text that looks like a secret and is none.
    Plain(PlainText),
}

/// A secret handed to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretReference {
    /// The name of the secret.
    pub secret: SecretName,
    /// How it is handed over.
    #[serde(default, rename = "as")]
    pub handed_as: SecretForm,
}

/// How a secret is handed to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecretForm {
    /// The variable holds the value.
    #[default]
    Env,
    /// The variable holds the path of a file that holds the value.
    File,
}

/// `{ plain = "…" }`: a text that looks like a secret and is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlainText {
    /// The text.
    pub plain: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EnvKeys {
    secret: Option<SecretName>,
    #[serde(rename = "as")]
    handed_as: Option<SecretForm>,
    plain: Option<String>,
}

impl Shorthand for EnvValue {
    type Table = EnvKeys;
    const EXPECTED: &'static str = "a text, a whole number, true, false or { secret = \"name\" }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        Ok(Self::Text(text.to_owned()))
    }
    fn from_bool(flag: bool) -> Result<Self, Refused> {
        Ok(Self::Flag(flag))
    }
    fn from_integer(number: i64) -> Result<Self, Refused> {
        Ok(Self::Number(number))
    }
    fn from_table(keys: EnvKeys) -> Result<Self, Refused> {
        match keys {
            EnvKeys {
                secret: Some(secret),
                handed_as,
                plain: None,
            } => Ok(Self::Secret(SecretReference {
                secret,
                handed_as: handed_as.unwrap_or_default(),
            })),
            EnvKeys {
                secret: None,
                handed_as: None,
                plain: Some(plain),
            } => Ok(Self::Plain(PlainText { plain })),
            _ => Err(Refused::Value(
                "the variable has no value; write `{ secret = \"name\" }`, \
                 `{ secret = \"name\", as = \"file\" }` or `{ plain = \"text\" }`"
                    .to_owned(),
            )),
        }
    }
}

deserialize_shorthand!(EnvValue);

impl EnvValue {
    /// The value as it is handed over, if it is not a secret.
    pub fn text(&self) -> Option<std::borrow::Cow<'_, str>> {
        match self {
            Self::Flag(flag) => Some(flag.to_string().into()),
            Self::Number(number) => Some(number.to_string().into()),
            Self::Text(text) | Self::Plain(PlainText { plain: text }) => Some(text.into()),
            Self::Secret(_) => None,
        }
    }

    /// The secret it refers to, if it does.
    pub fn secret(&self) -> Option<&SecretReference> {
        match self {
            Self::Secret(reference) => Some(reference),
            _ => None,
        }
    }
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

/// How the gateway spreads calls over the instances of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Traffic {
    /// How the next instance is chosen.
    pub balance: Balance,
    /// How many calls may be under way at once; the rest are answered 503.
    pub concurrency: Option<u32>,
    /// How many calls may be under way at one instance at once; those that find every instance so busy are answered 503.
    pub concurrency_each: Option<u32>,
    /// How long a fresh instance takes to its full share.
    pub slow_start: Period,
    /// When an instance is left out for a while; the gateway's if not given.
    pub outliers: Option<Outliers>,
    /// When calls are refused to spare the service; the gateway's if not given.
    pub breaker: Option<Breaker>,
    /// Connections that are kept for the calls to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
}

/// Connections to a service that are kept for the calls to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// How many idle ones to each instance, in HTTP/1.1; as many as there were calls at once if not given.
    pub keep: Option<u32>,
    /// How long one may idle; shorter than the service keeps its own, so that no call meets one that is being closed.
    pub idle: Period,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            keep: None,
            idle: Period::from_millis(1500),
        }
    }
}

/// How the next instance is chosen: a strategy, or
/// `{ strategy = "hash", on = "client" }`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(with = "BalanceForms")]
pub struct Balance {
    /// The strategy.
    pub strategy: BalanceStrategy,
    /// What a hash is taken of: `client`, `header:NAME` or `cookie:NAME`.
    pub on: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum BalanceForms {
    Short(BalanceStrategy),
    Full(BalanceKeys),
}

/// A strategy in full.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BalanceKeys {
    /// How the next instance is chosen.
    strategy: BalanceStrategy,
    /// With `hash`: what it is taken of: `client`, `header:NAME` or `cookie:NAME`.
    on: Option<String>,
}

/// A way to choose the next instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BalanceStrategy {
    /// The one with fewer calls under way, of two taken at random.
    #[default]
    LeastRequests,
    /// One after another.
    RoundRobin,
    /// The same one for the same client, header or cookie.
    Hash,
}

impl Shorthand for Balance {
    type Table = BalanceKeys;
    const EXPECTED: &'static str = "\"least-requests\", \"round-robin\", \"hash\" or a table";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        let strategy = match text {
            "least-requests" => BalanceStrategy::LeastRequests,
            "round-robin" => BalanceStrategy::RoundRobin,
            "hash" => BalanceStrategy::Hash,
            _ => return Err(Refused::Form),
        };
        Self::from_table(BalanceKeys { strategy, on: None })
    }
    fn from_table(keys: BalanceKeys) -> Result<Self, Refused> {
        let on = match (keys.strategy, keys.on) {
            (BalanceStrategy::Hash, None) => Some("client".to_owned()),
            (BalanceStrategy::Hash, Some(on)) => {
                let named = on
                    .strip_prefix("header:")
                    .or_else(|| on.strip_prefix("cookie:"));
                if on != "client" && named.is_none_or(str::is_empty) {
                    return Err(Refused::Value(format!(
                        "a hash cannot be taken of `{on}`; write `client`, `header:NAME` or \
                         `cookie:NAME`"
                    )));
                }
                Some(on)
            }
            (_, Some(_)) => {
                return Err(Refused::Value(
                    "`on` goes only with the strategy `hash`; remove it".to_owned(),
                ));
            }
            (_, None) => None,
        };
        Ok(Self {
            strategy: keys.strategy,
            on,
        })
    }
}

deserialize_shorthand!(Balance);

/// The largest share of a service's instances that may be down at once, or
/// their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Amount {
    /// So many.
    Count(u32),
    /// Such a share, rounded up for surge and down for what may be missing.
    Share(Percent),
}

impl Shorthand for Amount {
    type Table = crate::shorthand::Never;
    const EXPECTED: &'static str = "a whole number or a percentage such as \"25%\"";
    fn from_text(text: &str) -> Result<Self, Refused> {
        text.parse()
            .map(Self::Share)
            .map_err(|error: crate::BadQuantity| Refused::Value(error.to_string()))
    }
    fn from_integer(number: i64) -> Result<Self, Refused> {
        u32::try_from(number)
            .map(Self::Count)
            .map_err(|_| Refused::Value(format!("`{number}` instances cannot be; write 0 or more")))
    }
}

deserialize_shorthand!(Amount);

impl Amount {
    /// The number of instances it is of `replicas`, a share rounded up.
    pub fn rounded_up(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Share(share) => replicas - share_rounded_down(share.rest(), replicas),
        }
    }

    /// The number of instances it is of `replicas`, a share rounded down.
    pub fn rounded_down(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count.min(replicas),
            Self::Share(share) => share_rounded_down(share, replicas),
        }
    }
}

fn share_rounded_down(share: Percent, replicas: u32) -> u32 {
    let thousandths = u64::from(share.tenths()) * u64::from(replicas);
    u32::try_from(thousandths / 1000).unwrap_or(replicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_round_towards_safety() {
        let quarter = Amount::Share(Percent::whole(25));
        assert_eq!((quarter.rounded_up(6), quarter.rounded_down(6)), (2, 1));
        assert_eq!((quarter.rounded_up(4), quarter.rounded_down(4)), (1, 1));
        assert_eq!(Amount::Count(3).rounded_down(2), 2);
        assert_eq!(Amount::Share(Percent::NONE).rounded_up(5), 0);
    }
}
