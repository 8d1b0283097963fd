//! Routes: which requests they match and what is done to them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Auth, Balance, Cors, RateLimit};

/// One route of the public listeners.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own in the configuration"
)]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Unique name, used in logs, tallies and metrics.
    pub name: String,
    /// Which requests it takes.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Service in [`crate::Config::services`]. Absent only with `redirect`.
    pub service: Option<String>,
    /// Always this version of the service, as a preview route does.
    pub version: Option<String>,
    /// Redirects instead of forwarding.
    pub redirect: Option<Redirect>,
    /// Changes the path before forwarding.
    pub rewrite: Option<Rewrite>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// When a failed attempt is repeated.
    pub retries: Retries,
    /// How often a client may ask.
    pub rate_limit: Option<RateLimit>,
    /// Who may ask.
    pub auth: Option<Auth>,
    /// Cross-origin access from browsers.
    pub cors: Option<Cors>,
    /// Changes to the request's headers.
    pub request_headers: HeaderChange,
    /// Changes to the answer's headers.
    pub response_headers: HeaderChange,
    /// Adds `nosniff`, `frame-options`, `referrer-policy` and, over TLS, HSTS,
    /// where the service did not set them.
    pub security_headers: bool,
    /// Refuses requests with cookies that a browser sends for another site.
    pub csrf: bool,
    /// What becomes of a path with escaped slashes.
    pub escaped_slashes: EscapedSlashes,
    /// Largest request body in bytes; 0 is unlimited.
    pub max_body: u64,
    /// Largest body of an answer in bytes; 0 is unlimited. A longer one is answered 502, or breaks off
    /// where its length was not stated.
    pub max_answer: u64,
    /// Addresses or CIDR blocks that may ask. Empty allows everyone.
    pub allow: Vec<String>,
    /// Addresses or CIDR blocks that may not ask; wins over `allow`.
    pub deny: Vec<String>,
    /// Copies requests to this version of the service (role `shadow`) and
    /// drops its answers.
    pub mirror: Option<String>,
    /// Share of the requests that are copied, in thousandths; 0 means all.
    pub mirror_share: u32,
    /// Methods of which requests are copied, in upper case; GET and HEAD if empty, as what others do would be done twice.
    pub mirror_methods: Vec<String>,
    /// Shares requests out by weight also where the service is sticky.
    pub by_weight: bool,
    /// Compresses answers that the client accepts compressed.
    pub compress: bool,
    /// The encodings it compresses with (`br`, `zstd`, `gzip`); all of them if empty.
    pub encodings: Vec<String>,
    /// How an endpoint is chosen, instead of the service's way.
    pub balance: Option<Balance>,
    /// Keeps answers for those who ask next.
    pub cache: Option<Cache>,
}

/// Which requests a route takes. Everything stated must hold.
///
/// Among the routes that match, the winner is: stated host before any, exact
/// path before template before prefix, longer path before shorter, then more
/// conditions before fewer, then the earlier route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// Host names without port; `*.example.org` matches any one or more labels.
    /// Empty matches every host.
    pub hosts: Vec<String>,
    /// The path.
    pub path: PathMatch,
    /// Methods in upper case. Empty matches every method.
    pub methods: Vec<String>,
    /// Header conditions by name.
    pub headers: BTreeMap<String, ValueMatch>,
    /// Query parameter conditions by name.
    pub query: BTreeMap<String, ValueMatch>,
}

/// How a path is matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PathMatch {
    /// Whole segments from the start: `/api` matches `/api` and `/api/x`, not `/apis`.
    Prefix(String),
    /// Exactly this path.
    Exact(String),
    /// Segments, where `{name}` stands for any one non-empty segment, and a last `{name...}` for the rest.
    Template(String),
}

impl Default for PathMatch {
    fn default() -> Self {
        Self::Prefix("/".into())
    }
}

/// What becomes of a path with an escaped slash or backslash (`%2F`, `%5C`), which some services take for
/// the character itself and some do not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EscapedSlashes {
    /// It is answered 400.
    #[default]
    Refuse,
    /// It is forwarded as it is and matched as part of a segment, unless another route would take it
    /// if the escapes were resolved.
    Keep,
}

/// How a header or query value is matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ValueMatch {
    /// Exactly this value.
    Exact(String),
    /// A value that starts so.
    Prefix(String),
    /// Present (`true`) or absent (`false`), whatever the value.
    Present(bool),
}

/// An answer that sends the client elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Redirect {
    /// Scheme, host and optional port; absent keeps the request's own.
    pub origin: Option<String>,
    /// Path that replaces the whole path, the query stays; `{name}` of a template match is filled in. Absent keeps the path.
    pub path: Option<String>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

impl Default for Redirect {
    fn default() -> Self {
        Self {
            origin: None,
            path: None,
            status: 308,
        }
    }
}

/// A change of the path before forwarding; the query stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// Replaces the matched prefix; only with a prefix match.
    pub prefix: Option<String>,
    /// Replaces the whole path; `{name}` of a template match is filled in.
    pub path: Option<String>,
    /// Replaces the `Host` sent to the service.
    pub host: Option<String>,
}

/// Time limits of one request, in milliseconds; 0 is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// To connect to an endpoint.
    pub connect_ms: u64,
    /// From forwarding an attempt to the first byte of its answer.
    pub first_byte_ms: u64,
    /// Longest pause inside a body, either way.
    pub idle_ms: u64,
    /// From the request's head to the end of the answer's head, over all attempts; a body that
    /// has come at less than 500 bytes a second by then is answered 408.
    pub total_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect_ms: 2_000,
            first_byte_ms: 60_000,
            idle_ms: 60_000,
            total_ms: 0,
        }
    }
}

/// Which answers are kept, beside what they say themselves (RFC 9111).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// How long an answer is fresh that does not say. Absent, only those that say are kept.
    pub fresh_ms: Option<u64>,
    /// How long a stale answer that does not say is given while a fresh one is fetched.
    pub stale_while_revalidate_ms: u64,
    /// How long a stale answer that does not say is given while the service fails.
    pub stale_if_error_ms: u64,
    /// Request headers that tell answers apart, beside what `Vary` says.
    pub vary: Vec<String>,
    /// Largest body that is kept, in bytes.
    pub max_body: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            fresh_ms: None,
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: 0,
            vary: Vec::new(),
            max_body: 4 * 1024 * 1024,
        }
    }
}

/// When a failed attempt is repeated on another endpoint.
///
/// A connection that could not be made is always repeated: nothing was sent.
/// Beyond that only GET, HEAD, OPTIONS, TRACE, PUT and DELETE whose body can
/// be sent again are, and never after the answer has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retries {
    /// Most repeated attempts of one request.
    pub attempts: u32,
    /// Whether an attempt is repeated whose connection broke before an answer.
    pub reset: bool,
    /// Whether an attempt is repeated that did not answer in its time.
    pub timeout: bool,
    /// Statuses that also are repeated, such as 503.
    pub statuses: Vec<u16>,
    /// Retries allowed per service as a share of its requests, in thousandths,
    /// beside a floor of 10 in 10 seconds.
    pub budget: u32,
    /// Longest pause before a repeated attempt; a random part of it is waited,
    /// doubled each time. Milliseconds.
    pub backoff_ms: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 2,
            reset: true,
            timeout: false,
            statuses: Vec::new(),
            budget: 200,
            backoff_ms: 25,
        }
    }
}

/// Changes to headers, in the order remove, set, add.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderChange {
    /// Names taken away.
    pub remove: Vec<String>,
    /// Names with the one value they get.
    pub set: BTreeMap<String, String>,
    /// Names with a value added beside what is there.
    pub add: BTreeMap<String, String>,
}
