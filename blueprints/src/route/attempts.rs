//! How long a route waits, and when it asks once more.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Period;
use crate::shorthand::{Refused, Shorthand, deserialize_shorthand};

/// How long an answer may take; a text is the total.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "TimeoutForms")]
pub struct Timeout {
    /// From the request to the head of the answer, over all attempts. A request's body that does more than drip in, and the
    /// answer's, may take longer: only pauses are limited, by what is left of this or `first_byte`, whichever is less. Event streams, gRPC and
    /// websockets are limited by `idle` alone.
    pub total: Period,
    /// Until the connection stands.
    pub connect: Period,
    /// From one attempt's request to the head of its answer; the total if not given.
    pub first_byte: Option<Period>,
    /// Without a byte, in an event stream, gRPC or a websocket, and while a body is sent to the service.
    pub idle: Period,
}

impl Default for Timeout {
    fn default() -> Self {
        Self {
            total: Period::from_secs(30),
            connect: Period::from_secs(2),
            first_byte: None,
            idle: Period::from_secs(60),
        }
    }
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum TimeoutForms {
    Short(Period),
    Full(TimeoutKeys),
}

/// Timeouts in full.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TimeoutKeys {
    /// From the request to the head of the answer, over all attempts.
    total: Option<Period>,
    /// Until the connection stands.
    connect: Option<Period>,
    /// From one attempt's request to the head of its answer.
    first_byte: Option<Period>,
    /// Without a byte, in an event stream, gRPC or a websocket, and while a body is sent to the service.
    idle: Option<Period>,
}

impl Shorthand for Timeout {
    type Table = TimeoutKeys;
    const EXPECTED: &'static str =
        "a length of time such as \"2s\", or { total = \"2s\", connect = \"1s\" }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        let total = text
            .parse()
            .map_err(|error: crate::BadQuantity| Refused::Value(error.to_string()))?;
        Ok(Self {
            total,
            ..Self::default()
        })
    }
    fn from_table(keys: TimeoutKeys) -> Result<Self, Refused> {
        let usual = Self::default();
        Ok(Self {
            total: keys.total.unwrap_or(usual.total),
            connect: keys.connect.unwrap_or(usual.connect),
            first_byte: keys.first_byte,
            idle: keys.idle.unwrap_or(usual.idle),
        })
    }
}

deserialize_shorthand!(Timeout);

/// How often an idempotent request is tried again; a number is how often.
///
/// Where nothing is written, a request whose connection broke before an answer
/// gets one more attempt, so that an instance that dies harms nobody. Answers
/// are tried again only where that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "RetriesForms")]
pub struct Retries {
    /// How often at most, beyond the first attempt.
    pub attempts: u32,
    /// What is tried again.
    pub on: Vec<RetryOn>,
    /// The pause before the first; doubles, with jitter.
    pub backoff: Period,
    /// The time for one attempt, if shorter than the total.
    pub each: Option<Period>,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 1,
            on: vec![RetryOn::Connect, RetryOn::Reset],
            backoff: Period::from_millis(25),
            each: None,
        }
    }
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum RetriesForms {
    Short(u32),
    Full(RetriesKeys),
}

/// Retries in full.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetriesKeys {
    /// How often at most, beyond the first attempt.
    attempts: Option<u32>,
    /// What is tried again.
    on: Option<Vec<RetryOn>>,
    /// The pause before the first; doubles, with jitter.
    backoff: Option<Period>,
    /// The time for one attempt, if shorter than the total.
    each: Option<Period>,
}

/// What is worth another attempt.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// The connection could not be made.
    Connect,
    /// The connection broke before an answer.
    Reset,
    /// The attempt took too long.
    Timeout,
    /// 502, 503 or 504.
    Unavailable,
    /// Any 5xx.
    Error,
}

impl Retries {
    /// What is tried again, where retries are asked for and nothing is said of it.
    fn usual() -> Vec<RetryOn> {
        vec![RetryOn::Connect, RetryOn::Reset, RetryOn::Unavailable]
    }
}

impl Shorthand for Retries {
    type Table = RetriesKeys;
    const EXPECTED: &'static str = "a number of attempts, or { attempts = 2, on = [\"connect\"] }";
    const TABLES: bool = true;
    fn from_integer(number: i64) -> Result<Self, Refused> {
        let attempts = u32::try_from(number)
            .ok()
            .filter(|attempts| *attempts <= 10);
        Ok(Self {
            attempts: attempts.ok_or_else(|| {
                Refused::Value(format!(
                    "`{number}` is not a number of retries; write 0 to 10"
                ))
            })?,
            on: Self::usual(),
            ..Self::default()
        })
    }
    fn from_table(keys: RetriesKeys) -> Result<Self, Refused> {
        let usual = Self::default();
        let attempts = Self::from_integer(keys.attempts.map_or(1, i64::from))?.attempts;
        Ok(Self {
            attempts,
            on: keys.on.unwrap_or_else(Self::usual),
            backoff: keys.backoff.unwrap_or(usual.backoff),
            each: keys.each,
        })
    }
}

deserialize_shorthand!(Retries);
