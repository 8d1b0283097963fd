//! Who may ask, and how much.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::one_or_many::one_or_many;
use crate::{Method, Period};

/// Who may come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// What is taken as proof; any one of them.
    pub by: Vec<AuthBy>,
    /// Scopes of which the token or key must have all.
    pub scopes: Vec<String>,
    /// Roles of which the token or key must have one.
    pub roles: Vec<String>,
    /// The audience, in place of the gateway's.
    pub audience: Option<String>,
    /// Whether requests without proof come in too, unnamed; a wrong proof never does.
    pub optional: bool,
    /// Keys that are not known and tokens that nobody signed, each minute and from one client address,
    /// beyond which none of that address are looked at; 0 for no limit.
    pub failures: u32,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            by: vec![AuthBy::Jwt],
            scopes: Vec::new(),
            roles: Vec::new(),
            audience: None,
            optional: false,
            failures: 60,
        }
    }
}

/// What is taken as proof of who calls.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum AuthBy {
    /// A bearer token signed by the issuer.
    Jwt,
    /// An API key.
    ApiKey,
}

/// How many requests may come in: a token bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// So many requests.
    pub requests: u32,
    /// In so much time.
    #[serde(default = "a_second")]
    pub every: Period,
    /// For each of these.
    #[serde(default)]
    pub per: RatePer,
    /// How many may come at once; `requests` if not given.
    #[serde(default)]
    pub burst: Option<u32>,
    /// Whether several gateways count together, through a redis resource.
    #[serde(default)]
    pub shared: bool,
}

fn a_second() -> Period {
    Period::from_secs(1)
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RatePer {
    /// Those of one client address.
    #[default]
    Client,
    /// Those of one token subject.
    Subject,
    /// Those of one API key.
    ApiKey,
    /// All of the route.
    Route,
}

/// Which other origins' pages may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Origins, such as `https://app.example`; `*` for any.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "crate::one_or_many::OneOrMany")]
    pub origins: Vec<String>,
    /// Methods they may use.
    pub methods: Vec<Method>,
    /// Headers they may send.
    pub headers: Vec<String>,
    /// Headers of the answer they may read.
    pub expose: Vec<String>,
    /// Whether they may send cookies and credentials.
    pub credentials: bool,
    /// How long a browser may remember the answer.
    pub max_age: Period,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            methods: vec![Method::Get, Method::Head, Method::Post],
            headers: vec!["content-type".to_owned()],
            expose: Vec::new(),
            credentials: false,
            max_age: Period::from_secs(600),
        }
    }
}
