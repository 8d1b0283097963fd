//! The gateway: what holds for every route.

use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::one_or_many::one_or_many;
use crate::shorthand::{Refused, Shorthand, deserialize_shorthand};
use crate::{ByteSize, Percent, Period, Port, SecretName, ZoneName};

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

/// Where traces go: a URL, or `{ url = "https://collector.example:4318", ca = "ca.pem" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "OtlpForms")]
pub struct Otlp {
    /// The collector's.
    pub url: String,
    /// A file of authorities, one of which must have signed what it shows; the public ones if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum OtlpForms {
    Short(String),
    Full(OtlpKeys),
}

/// Where traces go, in full.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OtlpKeys {
    /// The collector's URL.
    url: String,
    /// A file of authorities, one of which must have signed what it shows; the public ones if not given.
    #[serde(default)]
    ca: Option<String>,
}

impl Shorthand for Otlp {
    type Table = OtlpKeys;
    const EXPECTED: &'static str =
        "a URL or { url = \"https://collector.example:4318\", ca = \"ca.pem\" }";
    const TABLES: bool = true;
    fn from_text(url: &str) -> Result<Self, Refused> {
        Ok(Self {
            url: url.to_owned(),
            ca: None,
        })
    }
    fn from_table(keys: OtlpKeys) -> Result<Self, Refused> {
        Ok(Self {
            url: keys.url,
            ca: keys.ca,
        })
    }
}

deserialize_shorthand!(Otlp);

/// Where Prometheus may gather figures: a port of this machine alone, or `{ port = 9464, address = "10.0.0.5" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "MetricsForms")]
pub struct Metrics {
    /// The address it listens on.
    pub address: IpAddr,
    /// The port it listens on.
    pub port: Port,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum MetricsForms {
    Short(Port),
    Full(MetricsKeys),
}

/// Where figures are, in full.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricsKeys {
    /// The address; this machine alone if not given.
    #[serde(default = "loopback")]
    address: IpAddr,
    /// The port.
    port: Port,
}

fn loopback() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

impl Shorthand for Metrics {
    type Table = MetricsKeys;
    const EXPECTED: &'static str =
        "a port from 1 to 65535 or { port = 9464, address = \"127.0.0.1\" }";
    const TABLES: bool = true;
    fn from_integer(number: i64) -> Result<Self, Refused> {
        Ok(Self {
            address: loopback(),
            port: Port::from_integer(number)?,
        })
    }
    fn from_table(keys: MetricsKeys) -> Result<Self, Refused> {
        Ok(Self {
            address: keys.address,
            port: keys.port,
        })
    }
}

deserialize_shorthand!(Metrics);

/// Certificates that services with `protocol = "mtls"` and the gateway show each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mtls {
    /// How long one is valid, ten seconds to a year; with a third of that left another one takes its place.
    pub lasts: Period,
}

impl Default for Mtls {
    fn default() -> Self {
        Self {
            lasts: Period::from_secs(90 * 24 * 3600),
        }
    }
}

/// Certificates of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The port for TLS.
    pub port: Port,
    /// Certificates by host; the first is for clients that name none.
    pub certificates: Vec<Certificate>,
    /// Whether a local authority signs one for development.
    pub local_ca: bool,
    /// Whether plain HTTP is redirected to TLS.
    pub redirect: bool,
    /// The oldest version of TLS that is spoken.
    pub minimum: TlsVersion,
    /// A file of authorities, one of which must have signed a client's certificate.
    pub client_ca: Option<String>,
}

impl Tls {
    /// The files of certificates that it names: chains, then the authorities of clients.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let chains = self.certificates.iter().map(|one| &one.certificate);
        chains.chain(&self.client_ca).map(String::as_str)
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            port: Port::new(8443).unwrap_or(Port::MAX),
            certificates: Vec::new(),
            local_ca: false,
            redirect: true,
            minimum: TlsVersion::V12,
            client_ca: None,
        }
    }
}

/// A version of TLS.
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
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The hosts it is for; those it names if empty.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "crate::one_or_many::OneOrMany")]
    pub host: Vec<String>,
    /// The file of the certificate chain, PEM.
    pub certificate: String,
    /// The secret that holds the key, PEM.
    pub key: SecretName,
}

/// Which requests are written down; `true` all, `false` those alone that were answered badly: 5xx, broken off or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "AccessLogForms")]
pub struct AccessLog {
    /// Whether those that were answered well are.
    pub on: bool,
    /// The share of those; the others always are.
    pub sample: Percent,
    /// Query parameters whose values are left out, beside the usual ones such as `token` and `password`. Of headers
    /// `User-Agent` alone is written down.
    pub redact: Vec<String>,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            on: true,
            sample: Percent::FULL,
            redact: Vec::new(),
        }
    }
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum AccessLogForms {
    Short(bool),
    Full(AccessLogKeys),
}

/// An access log in full.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AccessLogKeys {
    /// Whether requests that were answered well are written down; others always are.
    on: Option<bool>,
    /// The share of those.
    sample: Option<Percent>,
    /// Query parameters whose values are left out.
    redact: Vec<String>,
}

impl Shorthand for AccessLog {
    type Table = AccessLogKeys;
    const EXPECTED: &'static str = "true, false or { sample = \"10%\" }";
    const TABLES: bool = true;
    fn from_bool(on: bool) -> Result<Self, Refused> {
        Ok(Self {
            on,
            ..Self::default()
        })
    }
    fn from_table(keys: AccessLogKeys) -> Result<Self, Refused> {
        Ok(Self {
            on: keys.on.unwrap_or(true),
            sample: keys.sample.unwrap_or(Percent::FULL),
            redact: keys.redact,
        })
    }
}

deserialize_shorthand!(AccessLog);

/// How bearer tokens are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// Who must have issued them.
    pub issuer: String,
    /// For whom they must be; any one of these.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "crate::one_or_many::OneOrMany")]
    pub audience: Vec<String>,
    /// Where the issuer's keys are: a URL, or a path on a service of the
    /// project as `service:/path`. The issuer's well-known place if not given.
    #[serde(default)]
    pub jwks: Option<String>,
    /// A file of authorities, one of which must have signed what that URL's server shows; the public ones if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// How far clocks may differ.
    #[serde(default = "half_a_minute")]
    pub leeway: Period,
    /// How long keys are kept before they are asked for again.
    #[serde(default = "ten_minutes")]
    pub refresh: Period,
    /// The claim that holds the scopes.
    #[serde(default = "scope_claim")]
    pub scopes: String,
    /// The claim that holds the roles.
    #[serde(default = "roles_claim")]
    pub roles: String,
}

fn half_a_minute() -> Period {
    Period::from_secs(30)
}

fn ten_minutes() -> Period {
    Period::from_secs(600)
}

fn scope_claim() -> String {
    "scope".to_owned()
}

fn roles_claim() -> String {
    "roles".to_owned()
}

/// How API keys are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeys {
    /// The header that carries them.
    #[serde(default = "api_key_header")]
    pub header: String,
    /// The secret that holds the list: one line for each, `name hash scopes…`.
    pub keys: SecretName,
}

fn api_key_header() -> String {
    "x-api-key".to_owned()
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
