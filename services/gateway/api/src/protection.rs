//! Who may ask, how often, and from where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A token bucket: `requests` per `every_ms`, with room for `burst`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// Requests allowed in each period.
    pub requests: u64,
    /// The period.
    pub every_ms: u64,
    /// Bucket size; 0 means `requests`.
    pub burst: u64,
    /// What is counted together.
    pub per: RateKey,
    /// Counts together with other gateways, through [`crate::Config::shared`].
    pub shared: bool,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            requests: 100,
            every_ms: 1_000,
            burst: 0,
            per: RateKey::Client,
            shared: false,
        }
    }
}

/// What a rate limit counts together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RateKey {
    /// The client's address (IPv6 by /64).
    #[default]
    Client,
    /// The verified token's subject; the client's address without one.
    Subject,
    /// The verified API key; the client's address without one.
    ApiKey,
    /// Everyone on the route together.
    Route,
}

/// Who may use a route. Without a valid token or key the answer is 401, without
/// the scopes and roles 403.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Whether bearer tokens are taken.
    pub tokens: bool,
    /// Scopes that all must be in the token's `scope` or `scp`, or among those of the key.
    pub scopes: Vec<String>,
    /// Roles of which one must be in the token's `roles`, or among those of the key. Empty asks for none.
    pub roles: Vec<String>,
    /// Audiences of which one must be in the token, instead of the identity's.
    pub audiences: Vec<String>,
    /// API keys that are taken instead of a token.
    pub api_keys: Vec<ApiKey>,
    /// The header that carries API keys.
    pub key_header: String,
    /// Lets requests without token and key pass, unidentified.
    pub optional: bool,
    /// Keys that are not known and tokens that nobody signed, each minute and from one client address
    /// (IPv6 by /64), beyond which none of that address are looked at: 429. 0 is unlimited.
    pub failures: u32,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            tokens: true,
            scopes: Vec::new(),
            roles: Vec::new(),
            audiences: Vec::new(),
            api_keys: Vec::new(),
            key_header: "x-api-key".to_owned(),
            optional: false,
            failures: 60,
        }
    }
}

/// An API key, kept as a hash only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKey {
    /// Name for logs and rate limits.
    pub name: String,
    /// SHA-256 of the key, in hex. Keys must be random, 128 bits or more.
    pub sha256: String,
    /// Scopes the key carries.
    pub scopes: Vec<String>,
    /// Roles of its holder.
    pub roles: Vec<String>,
}

/// How bearer tokens (JWT: RS256/384/512, PS256/384/512, ES256/384, `EdDSA`) are verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// Required `iss`; empty accepts any.
    pub issuer: String,
    /// Audiences of which one must be in `aud`; empty accepts any.
    pub audiences: Vec<String>,
    /// Where the public keys are.
    pub jwks: Jwks,
    /// Clock difference allowed.
    pub leeway_seconds: u64,
    /// How long keys are used before they are fetched again.
    pub refresh_seconds: u64,
    /// The claim that holds the scopes; `scp` is looked at too.
    pub scopes_claim: String,
    /// The claim that holds the roles.
    pub roles_claim: String,
    /// PEM file of the authorities for an `https` URL of keys, instead of the public ones.
    pub ca: Option<String>,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            jwks: Jwks::default(),
            leeway_seconds: 0,
            refresh_seconds: 300,
            scopes_claim: "scope".to_owned(),
            roles_claim: "roles".to_owned(),
            ca: None,
        }
    }
}

/// Where public keys are found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Jwks {
    /// URL, fetched when an unknown key id is met, and again once the keys are old.
    Url(String),
    /// The document itself, as JSON text.
    Inline(String),
}

impl Default for Jwks {
    fn default() -> Self {
        Self::Inline(r#"{"keys":[]}"#.into())
    }
}

/// Cross-origin access from browsers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Allowed origins, or `*`.
    pub origins: Vec<String>,
    /// Allowed methods; empty allows those of the route.
    pub methods: Vec<String>,
    /// Allowed request headers.
    pub headers: Vec<String>,
    /// Response headers scripts may read.
    pub expose: Vec<String>,
    /// Allows cookies; not together with `*`.
    pub credentials: bool,
    /// How long a browser may remember the answer.
    pub max_age_seconds: u64,
}
