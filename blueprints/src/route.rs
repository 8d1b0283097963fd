//! Routes: which requests the gateway takes, and what becomes of them.

mod attempts;
mod delivery;
mod matching;
mod protection;
mod rewriting;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::one_or_many::one_or_many;
use crate::{Balance, ByteSize, ServiceName};

pub use attempts::{Retries, RetryOn, Timeout};
pub use delivery::{Cache, Compression, Encoding, Mirror};
pub use matching::{EscapedSlashes, Method, PathMatch, ValueMatch};
pub use protection::{Auth, AuthBy, Cors, RateLimit, RatePer};
pub use rewriting::{HeaderChanges, Redirect, Rewrite};

/// A rule of the gateway. A request goes by the most telling rule that it
/// matches: host, exact path, template, longest prefix, then more conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// A name for figures and messages; the path if not given.
    pub name: Option<String>,
    /// The path: a prefix, or a template if it has `{…}`, or
    /// `{ exact = "/path" }`.
    pub path: PathMatch,
    /// Hosts, such as `shop.example` or `*.shop.example`; any if empty.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "crate::one_or_many::OneOrMany")]
    pub host: Vec<String>,
    /// HTTP methods; any if empty.
    pub methods: Vec<Method>,
    /// Headers that must be there.
    pub headers: BTreeMap<String, ValueMatch>,
    /// Query parameters that must be there.
    pub query: BTreeMap<String, ValueMatch>,
    /// The service that answers.
    pub service: Option<ServiceName>,
    /// An answer that sends the client elsewhere, in place of `service`.
    pub redirect: Option<Redirect>,
    /// What the service sees in place of the path and host.
    pub rewrite: Option<Rewrite>,
    /// Changes to the headers of the request.
    pub request_headers: HeaderChanges,
    /// Changes to the headers of the answer.
    pub response_headers: HeaderChanges,
    /// Who may come in; anyone if absent.
    pub auth: Option<Auth>,
    /// How many requests may come in.
    pub rate_limit: Option<RateLimit>,
    /// How long an answer may take.
    pub timeout: Timeout,
    /// How often an idempotent request is tried again, within the budget.
    pub retries: Retries,
    /// Which other origins' pages may call.
    pub cors: Option<Cors>,
    /// Whether and how answers are kept.
    pub cache: Option<Cache>,
    /// Whether answers are compressed.
    pub compression: Compression,
    /// Another service that gets a copy of the requests.
    pub mirror: Option<Mirror>,
    /// How the next instance is chosen; as the service says if not given.
    pub balance: Option<Balance>,
    /// Whether a client stays with the release it met.
    pub sticky: bool,
    /// Whether it leads to the release on trial while there is one, whatever its share; else to the one that serves.
    pub preview: bool,
    /// The largest body of a request; the gateway's if not given.
    pub max_body: Option<ByteSize>,
    /// The largest body of an answer; any if not given.
    pub max_answer: Option<ByteSize>,
    /// Addresses and networks that may come in; any if empty.
    pub allow: Vec<String>,
    /// Addresses and networks that may not.
    pub deny: Vec<String>,
    /// What becomes of a path with an escaped slash or backslash.
    pub escaped_slashes: EscapedSlashes,
    /// Whether requests that change something must come from our own pages.
    pub csrf: bool,
    /// The content security policy of the answers.
    pub csp: Option<String>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            name: None,
            path: PathMatch::Prefix("/".to_owned()),
            host: Vec::new(),
            methods: Vec::new(),
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
            service: None,
            redirect: None,
            rewrite: None,
            request_headers: HeaderChanges::default(),
            response_headers: HeaderChanges::default(),
            auth: None,
            rate_limit: None,
            timeout: Timeout::default(),
            retries: Retries::default(),
            cors: None,
            cache: None,
            compression: Compression::default(),
            mirror: None,
            balance: None,
            sticky: true,
            preview: false,
            max_body: None,
            max_answer: None,
            allow: Vec::new(),
            deny: Vec::new(),
            escaped_slashes: EscapedSlashes::Refuse,
            csrf: false,
            csp: None,
        }
    }
}

impl Route {
    /// What figures and messages call it.
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(self.path.as_str())
    }
}
