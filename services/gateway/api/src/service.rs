//! Services, their versions, and how requests are spread over them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One service: the versions it runs in and how requests are spread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// Versions by name (`r5`).
    pub versions: BTreeMap<String, Version>,
    /// How an endpoint is chosen inside a version.
    pub balance: Balance,
    /// Requests that ask for a version; the first that fits wins over the weights.
    pub overrides: Vec<Override>,
    /// Keeps a client with the version it met.
    pub sticky: Option<Sticky>,
    /// Copies requests to a version on trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<Copies>,
    /// Asks each endpoint whether it is healthy. Absent trusts the pusher.
    pub health: Option<HealthCheck>,
    /// Sets endpoints aside that fail requests.
    pub outliers: Outliers,
    /// Stops asking a service that fails.
    pub breaker: Option<Breaker>,
    /// Concurrency limits.
    pub limits: ServiceLimits,
    /// Connections that are kept for the next requests.
    pub pool: Pool,
    /// An answer whose head takes longer than this is tallied as slow.
    pub slow_after_ms: u64,
    /// Speaks HTTP/2 to the endpoints (gRPC needs it).
    pub http2: bool,
    /// Speaks TLS to the endpoints of each version that says nothing itself.
    pub tls: Option<UpstreamTls>,
    /// An endpoint in this zone is preferred while one there is fit.
    pub zone: Option<String>,
    /// A new endpoint's share grows over this time.
    pub slow_start_ms: u64,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            versions: BTreeMap::new(),
            balance: Balance::default(),
            overrides: Vec::new(),
            sticky: None,
            copies: None,
            health: None,
            outliers: Outliers::default(),
            breaker: None,
            limits: ServiceLimits::default(),
            pool: Pool::default(),
            slow_after_ms: 250,
            http2: false,
            tls: None,
            zone: None,
            slow_start_ms: 0,
        }
    }
}

/// TLS to the endpoints of a service. Files are reread with each configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// PEM file of the authorities that may have signed the endpoints' certificates; the public ones if absent.
    pub ca: Option<String>,
    /// The name that certificates must be for, sent as SNI; the endpoint's host if absent.
    pub name: Option<String>,
    /// PEM file of the chain that is shown to the endpoints, where they ask for one,
    pub certificate: Option<String>,
    /// and of its key.
    pub key: Option<String>,
}

/// One version of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Version {
    /// Share of the requests in thousandths, 0 to 1000, relative to the sum of
    /// the service's weights.
    pub weight: u32,
    /// Ready instances.
    pub endpoints: Vec<Endpoint>,
    /// What the version is here for. `preview` and `shadow` have weight 0.
    pub role: Role,
    /// Speaks TLS to these endpoints, in place of what the service says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
    /// Whether these endpoints are asked in HTTP/2, in place of what the service says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http2: Option<bool>,
}

/// One instance that takes requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Endpoint {
    /// Unique inside the service; counts are kept under it.
    pub id: String,
    /// `host:port`; a host name is looked up again every few seconds.
    pub address: String,
    /// Where it runs, for zone preference.
    pub zone: Option<String>,
}

/// What a version is here for.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The release that serves.
    #[default]
    Stable,
    /// The release on trial.
    Canary,
    /// Fresh instances of the old release that the canary is compared with.
    Baseline,
    /// Reached by a route or an override that names it, never by weight.
    Preview,
    /// Gets copies of requests only.
    Shadow,
}

impl Role {
    /// Whether the version takes a share of the ordinary requests.
    pub fn takes_traffic(self) -> bool {
        !matches!(self, Self::Preview | Self::Shadow)
    }
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The less busy of two taken at random.
    LeastRequests,
    /// By a hash of the client's address, moving few clients when endpoints change.
    ClientHash,
    /// By a hash of a header's value; round robin without it.
    HeaderHash(String),
    /// By a hash of a cookie's value; round robin without it.
    CookieHash(String),
}

/// Requests that ask for a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Override {
    /// Header that must have `value`; or
    pub header: Option<String>,
    /// cookie that must have `value`.
    pub cookie: Option<String>,
    /// The value asked for; empty accepts any.
    pub value: String,
    /// Version that then answers, while it has an endpoint.
    pub version: String,
}

/// Copies of requests for a version of the same service, whose answers are
/// counted and go to nobody.
///
/// Only `GET` and `HEAD` are copied, as they change nothing, and neither tunnels nor
/// streams of events, as they do not end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Copies {
    /// The version that gets them (role `shadow`).
    pub version: String,
    /// The version whose requests are copied; those of all if absent.
    pub of: Option<String>,
    /// Share of those, in thousandths.
    pub share: u32,
}

/// What identifies a client that keeps its version.
///
/// The version follows from a hash of the identity and the weights, so it
/// needs no state: growing a version's weight moves clients only into it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sticky {
    /// The client's address. Programs on the gateway's own machine share one,
    /// so their requests are shared out by weight.
    #[default]
    Client,
    /// A header's value; the client's address without it.
    Header(String),
    /// A cookie's value; the client's address without it.
    Cookie(String),
}

/// Active health checks over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheck {
    /// Path that answers 2xx when healthy.
    pub path: String,
    /// Versions that are asked at another path; an empty one asks for a connection alone.
    pub paths: BTreeMap<String, String>,
    /// A fresh endpoint takes no requests before it has passed once. Those that a process finds in the configuration
    /// it starts with are believed.
    pub prove: bool,
    /// Pause between checks.
    pub every_ms: u64,
    /// Time one check may take.
    pub timeout_ms: u64,
    /// Successes in a row that make an endpoint healthy again.
    pub healthy_after: u32,
    /// Failures in a row that make an endpoint unhealthy.
    pub unhealthy_after: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/health/ready".into(),
            paths: BTreeMap::new(),
            prove: false,
            every_ms: 2_000,
            timeout_ms: 1_000,
            healthy_after: 1,
            unhealthy_after: 2,
        }
    }
}

/// When an endpoint is set aside for failing requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outliers {
    /// Unanswered requests in a row that set it aside; 0 never does.
    pub consecutive_unreachable: u32,
    /// 5xx answers in a row that set it aside; 0 never does.
    pub consecutive_bad: u32,
    /// How long, doubling each time it happens again, up to ten times as long. Then one request tries it.
    pub eject_ms: u64,
    /// Share of a version's endpoints that always stays, in percent. At least
    /// one always stays.
    pub floor_percent: u32,
}

impl Default for Outliers {
    fn default() -> Self {
        Self {
            consecutive_unreachable: 3,
            consecutive_bad: 0,
            eject_ms: 5_000,
            floor_percent: 50,
        }
    }
}

/// When a failing service is no longer asked, per version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Share of bad answers that trips it, in percent,
    pub bad_percent: u32,
    /// over this window,
    pub window_ms: u64,
    /// with at least so many requests in it.
    pub at_least: u32,
    /// How long nothing is asked; then one request at a time tries, and ends the rest or begins the next one.
    pub rest_ms: u64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            bad_percent: 50,
            window_ms: 10_000,
            at_least: 20,
            rest_ms: 5_000,
        }
    }
}

/// Concurrency limits; 0 is unlimited. What is over them is answered 503 with
/// `Retry-After` at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceLimits {
    /// Requests under way to the service.
    pub concurrent: u32,
    /// Requests under way to each endpoint.
    pub concurrent_per_endpoint: u32,
}

/// Connections to the endpoints that are kept for the next requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// How long one may idle; 0 keeps none. Shorter than common servers keep theirs (2 s and more), so that a request
    /// hardly ever meets one that is just being closed.
    pub idle_ms: u64,
    /// Most idle connections of HTTP/1.1 to each endpoint, in even parts for each thread, rounded up; 0 keeps none.
    /// Absent, as many are kept as there were requests at once.
    pub per_endpoint: Option<u32>,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            idle_ms: 1_500,
            per_endpoint: None,
        }
    }
}
