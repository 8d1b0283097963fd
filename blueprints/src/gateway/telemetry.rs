//! What the gateway tells of itself and of requests: log, figures, traces.

use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shorthand::{Refused, Shorthand, deserialize_shorthand};
use crate::{Percent, Port};

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
