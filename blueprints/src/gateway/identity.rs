//! Who asks: bearer tokens and API keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::one_or_many::one_or_many;
use crate::{Period, SecretName};

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
