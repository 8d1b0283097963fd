//! How the gateway treats the calls of a service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shorthand::{Refused, Shorthand, deserialize_shorthand};
use crate::{Breaker, Outliers, Period};

/// How the gateway spreads calls over the instances of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Traffic {
    /// How the next instance is chosen.
    pub balance: Balance,
    /// How many calls may be under way at once; the rest are answered 503.
    pub concurrency: Option<u32>,
    /// How many calls may be under way at one instance at once; those that find every instance so busy are answered 503.
    pub concurrency_each: Option<u32>,
    /// How long a fresh instance takes to its full share.
    pub slow_start: Period,
    /// When an instance is left out for a while; the gateway's if not given.
    pub outliers: Option<Outliers>,
    /// When calls are refused to spare the service; the gateway's if not given.
    pub breaker: Option<Breaker>,
    /// Connections that are kept for the calls to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
}

/// Connections to a service that are kept for the calls to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// How many idle ones to each instance, in HTTP/1.1; as many as there were calls at once if not given.
    pub keep: Option<u32>,
    /// How long one may idle; shorter than the service keeps its own, so that no call meets one that is being closed.
    pub idle: Period,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            keep: None,
            idle: Period::from_millis(1500),
        }
    }
}

/// How the next instance is chosen: a strategy, or
/// `{ strategy = "hash", on = "client" }`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(with = "BalanceForms")]
pub struct Balance {
    /// The strategy.
    pub strategy: BalanceStrategy,
    /// What a hash is taken of: `client`, `header:NAME` or `cookie:NAME`.
    pub on: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum BalanceForms {
    Short(BalanceStrategy),
    Full(BalanceKeys),
}

/// A strategy in full.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BalanceKeys {
    /// How the next instance is chosen.
    strategy: BalanceStrategy,
    /// With `hash`: what it is taken of: `client`, `header:NAME` or `cookie:NAME`.
    on: Option<String>,
}

/// A way to choose the next instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BalanceStrategy {
    /// The one with fewer calls under way, of two taken at random.
    #[default]
    LeastRequests,
    /// One after another.
    RoundRobin,
    /// The same one for the same client, header or cookie.
    Hash,
}

impl Shorthand for Balance {
    type Table = BalanceKeys;
    const EXPECTED: &'static str = "\"least-requests\", \"round-robin\", \"hash\" or a table";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        let strategy = match text {
            "least-requests" => BalanceStrategy::LeastRequests,
            "round-robin" => BalanceStrategy::RoundRobin,
            "hash" => BalanceStrategy::Hash,
            _ => return Err(Refused::Form),
        };
        Self::from_table(BalanceKeys { strategy, on: None })
    }
    fn from_table(keys: BalanceKeys) -> Result<Self, Refused> {
        let on = match (keys.strategy, keys.on) {
            (BalanceStrategy::Hash, None) => Some("client".to_owned()),
            (BalanceStrategy::Hash, Some(on)) => {
                let named = on
                    .strip_prefix("header:")
                    .or_else(|| on.strip_prefix("cookie:"));
                if on != "client" && named.is_none_or(str::is_empty) {
                    return Err(Refused::Value(format!(
                        "a hash cannot be taken of `{on}`; write `client`, `header:NAME` or \
                         `cookie:NAME`"
                    )));
                }
                Some(on)
            }
            (_, Some(_)) => {
                return Err(Refused::Value(
                    "`on` goes only with the strategy `hash`; remove it".to_owned(),
                ));
            }
            (_, None) => None,
        };
        Ok(Self {
            strategy: keys.strategy,
            on,
        })
    }
}

deserialize_shorthand!(Balance);
