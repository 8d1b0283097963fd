//! The gateway: what holds for every route.

mod identity;
mod telemetry;
mod tls;

use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ByteSize, Percent, Period, Port, ZoneName};

pub use identity::{ApiKeys, Jwt};
pub use telemetry::{AccessLog, Metrics, Otlp};
pub use tls::{Certificate, Mtls, Tls, TlsVersion};

/// The gateway: what holds for every route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// The address it listens on.
    pub address: IpAddr,
    /// The port it listens on.
    pub port: Port,
    /// How many gateways run, where the target can run several.
    pub replicas: u32,
    /// Certificates; without them it speaks plain HTTP.
    pub tls: Option<Tls>,
    /// What is written down of each request.
    pub access_log: AccessLog,
    /// Addresses and networks of proxies before it, whose `Forwarded` and
    /// `X-Forwarded-*` headers are believed.
    pub trust: Vec<String>,
    /// How bearer tokens are checked.
    pub jwt: Option<Jwt>,
    /// How API keys are checked.
    pub api_keys: Option<ApiKeys>,
    /// What it refuses.
    pub limits: GatewayLimits,
    /// When an instance is left out for a while.
    pub outliers: Outliers,
    /// When calls are refused to spare a service.
    pub breaker: Breaker,
    /// The most that retries may add to the requests.
    pub retry_budget: Percent,
    /// Whether answers carry the usual security headers.
    pub security_headers: bool,
    /// How long requests under way may take when it stops.
    pub drain: Period,
    /// Where traces go: an OTLP endpoint over HTTP.
    pub otlp: Option<Otlp>,
    /// The share of requests that are traced.
    pub trace: Percent,
    /// Where Prometheus may gather figures; nowhere if not given.
    pub metrics: Option<Metrics>,
    /// The redis resource through which several gateways count together.
    pub shared: Option<crate::ResourceName>,
    /// Certificates that services with `protocol = "mtls"` and the gateway show each other.
    pub mtls: Mtls,
    /// The zone it stands in: of services with `zones`, instances there are asked while one of them is fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: Port::new(8080).unwrap_or(Port::MAX),
            replicas: 1,
            tls: None,
            access_log: AccessLog::default(),
            trust: Vec::new(),
            jwt: None,
            api_keys: None,
            limits: GatewayLimits::default(),
            outliers: Outliers::default(),
            breaker: Breaker::default(),
            retry_budget: Percent::whole(20),
            security_headers: true,
            drain: Period::from_secs(30),
            otlp: None,
            trace: Percent::whole(10),
            metrics: None,
            shared: None,
            mtls: Mtls::default(),
            zone: None,
        }
    }
}

/// What the gateway refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayLimits {
    /// The largest body of a request.
    pub body: ByteSize,
    /// The largest head of a request.
    pub headers: ByteSize,
    /// How many header lines a request may have.
    pub header_count: u32,
    /// The longest request target.
    pub uri: ByteSize,
    /// How many connections it holds.
    pub connections: u32,
    /// How many requests may be under way; the rest are answered 503.
    pub requests: u32,
    /// How many streams one HTTP/2 connection may have.
    pub streams: u32,
    /// How long the head of a request may take to come in.
    pub header_time: Period,
    /// How long a body may pause.
    pub body_pause: Period,
    /// How long a connection may idle.
    pub idle: Period,
    /// How much memory kept answers may take, of all routes together; none keeps none.
    pub cache: ByteSize,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            body: ByteSize::from_mib(16),
            headers: ByteSize::from_bytes(32 << 10),
            header_count: 100,
            uri: ByteSize::from_bytes(8 << 10),
            connections: 100_000,
            requests: 20_000,
            streams: 128,
            header_time: Period::from_secs(10),
            body_pause: Period::from_secs(30),
            idle: Period::from_secs(75),
            cache: ByteSize::from_mib(64),
        }
    }
}

/// When an instance is left out for a while. A good answer begins the counts anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outliers {
    /// After so many requests in a row that were not answered: no connection, a broken one, or none in time; 0 for never.
    pub failures: u32,
    /// After so many 5xx answers in a row; 0, for never, if not given, as a release that answers so is for the rollout to judge.
    pub errors: u32,
    /// For so long the first time, and twice as long each time after, up to ten times as long.
    pub leave_out: Period,
    /// Never more than this share of a release's instances at once, and never the last one.
    pub at_most: Percent,
}

impl Default for Outliers {
    fn default() -> Self {
        Self {
            failures: 5,
            errors: 0,
            leave_out: Period::from_secs(10),
            at_most: Percent::whole(50),
        }
    }
}

/// When calls are refused to spare a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// When this share of the calls fails.
    pub errors: Percent,
    /// Of at least so many calls.
    pub at_least: u32,
    /// Over this time.
    pub window: Period,
    /// For so long, before a few calls try again.
    pub pause: Period,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            errors: Percent::whole(50),
            at_least: 20,
            window: Period::from_secs(10),
            pause: Period::from_secs(5),
        }
    }
}
