//! The whole configuration: listeners, routes and services, under a revision.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Identity, Route, Service};

/// Everything the gateway does, as one value.
///
/// Applied whole or refused whole. A configuration replaces the one before it
/// only if its revision is higher, or if it is the same configuration once more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Chosen by whoever pushes; grows with each change.
    pub revision: u64,
    /// Addresses to listen on.
    pub listeners: Vec<Listener>,
    /// Routes of the public listeners; the most specific match wins.
    pub routes: Vec<Route>,
    /// Services that routes and internal listeners lead to.
    pub services: BTreeMap<String, Service>,
    /// How bearer tokens are verified, where a route asks for one.
    pub identity: Option<Identity>,
    /// Peers whose `X-Forwarded-*`, `Forwarded` and request ids are believed:
    /// addresses or CIDR blocks. Empty believes nobody.
    pub trusted_proxies: Vec<String>,
    /// Networks whose addresses tell no client from another, such as that of a bridge or a NAT: what is kept per client
    /// is not kept for them.
    pub shared_addresses: Vec<String>,
    /// Most requests under way at a time; more are answered 503 at once. 0 is
    /// unlimited.
    pub max_requests: u32,
    /// Adds `x-platform-version` to answers.
    pub show_version: bool,
    /// What the access log holds.
    pub access_log: AccessLog,
    /// Memory for kept answers in bytes, over all routes with a `cache`.
    pub cache_memory: u64,
    /// Most streams of one HTTP/2 connection of a client at a time.
    pub streams: u32,
    /// Where spans of requests go. Absent, none are made; trace context is passed on all the same.
    pub traces: Option<Traces>,
    /// Where several gateways count together; see [`crate::RateLimit::shared`].
    pub shared: Option<Shared>,
}

/// Export of spans by OTLP over HTTP, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// URL of the collector, such as `http://127.0.0.1:4318`; `/v1/traces` is added where it has no path.
    pub endpoint: String,
    /// Share of the traces begun here that are exported, in thousandths.
    pub sample: u32,
    /// PEM file of the authorities for `https`, instead of the public ones.
    pub ca: Option<String>,
}

/// A Redis server through which several gateways count together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shared {
    /// `redis://host:port`, without a password; or
    pub url: Option<String>,
    /// a file that holds the URL, password and all.
    pub url_file: Option<String>,
    /// Gateways that name the same count together; others may use the server, too.
    pub space: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            revision: 0,
            listeners: Vec::new(),
            routes: Vec::new(),
            services: BTreeMap::new(),
            identity: None,
            trusted_proxies: Vec::new(),
            shared_addresses: Vec::new(),
            max_requests: 0,
            show_version: false,
            access_log: AccessLog::default(),
            cache_memory: 64 * 1024 * 1024,
            streams: 128,
            traces: None,
            shared: None,
        }
    }
}

/// One address the gateway accepts connections on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// Unique name; survives a change of address.
    pub name: String,
    /// `ip:port`. Port 0 takes a free port, which `GET /status` tells.
    pub address: String,
    /// Who is served here.
    pub kind: ListenerKind,
    /// Serves TLS (HTTP/1.1 and HTTP/2 by ALPN) where present.
    pub tls: Option<Tls>,
    /// Serves nothing here: sends every request to HTTPS on this port.
    pub https: Option<u16>,
    /// Limits against slow and oversized clients.
    pub limits: ListenerLimits,
}

/// Who a listener serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerKind {
    /// Everyone, by the routes.
    #[default]
    Public,
    /// Other services: every request goes to one service.
    Internal {
        /// Name in [`Config::services`].
        service: String,
    },
    /// Whoever gathers figures: `GET /metrics` as Prometheus text, and nothing else.
    Metrics,
}

/// Certificates of a TLS listener, chosen by SNI.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The first is used where no name fits.
    pub certificates: Vec<TlsCertificate>,
    /// Folder of a local authority that signs a certificate for each name a client asks for. It is
    /// made where there is none. For development only.
    pub development: Option<String>,
    /// The oldest version that is spoken.
    pub minimum: TlsVersion,
    /// PEM file of authorities, one of which must have signed the client's certificate.
    pub client_ca: Option<String>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

/// One certificate with its key, as PEM files that are reread when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsCertificate {
    /// Host names it is for, `*.example.org` allowed; those it names itself if empty.
    pub hosts: Vec<String>,
    /// Path of the PEM chain.
    pub certificate: String,
    /// Path of the PEM private key.
    pub key: String,
}

/// Limits on what one connection may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerLimits {
    /// Time to send a whole request head.
    pub head_ms: u64,
    /// Longest pause between two reads or writes of a body.
    pub idle_ms: u64,
    /// How long an idle keep-alive connection stays.
    pub keep_alive_ms: u64,
    /// Most connections at a time; more are closed at once. 0 is unlimited.
    pub connections: u32,
    /// Largest head of a request, in bytes; 431 above.
    pub head_bytes: u64,
    /// Most fields in a head; 431 above.
    pub head_fields: u32,
    /// Longest request target, in bytes; 414 above.
    pub target_bytes: u64,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            head_ms: 10_000,
            idle_ms: 60_000,
            keep_alive_ms: 75_000,
            connections: 0,
            head_bytes: 64 * 1024,
            head_fields: 128,
            target_bytes: 16 * 1024,
        }
    }
}

/// What the access log holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLog {
    /// Logged share of good answers, in thousandths. Bad ones are always logged.
    pub sample: u32,
    /// Query parameters whose values are replaced by `[redacted]`, in any case and however they are escaped.
    pub redact_query: Vec<String>,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            sample: 1000,
            redact_query: [
                "access_token",
                "refresh_token",
                "id_token",
                "token",
                "jwt",
                "assertion",
                "client_assertion",
                "code",
                "code_verifier",
                "client_secret",
                "secret",
                "password",
                "passwd",
                "api_key",
                "api-key",
                "apikey",
                "key",
                "session",
                "sessionid",
                "sig",
                "signature",
                "x-amz-signature",
                "x-amz-security-token",
                "x-goog-signature",
            ]
            .map(String::from)
            .to_vec(),
        }
    }
}
