//! Health: how to tell that a service is ready, and that it lives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Period;
use crate::shorthand::{Refused, Shorthand, deserialize_shorthand};

/// How to tell that a service is ready, and that it lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// Passes when it can take calls. Without one: its port is open, or, if it
    /// has no port, it runs.
    pub ready: Option<Check>,
    /// Fails when it must be restarted. Without one, only its end counts.
    pub live: Option<Check>,
    /// The pause between checks.
    pub interval: Period,
    /// How long one check may take.
    pub timeout: Period,
    /// How long it may take to become ready for the first time.
    pub start_within: Period,
    /// So many failures in a row are a failure.
    pub failures: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            ready: None,
            live: None,
            interval: Period::from_secs(2),
            timeout: Period::from_secs(2),
            start_within: Period::from_secs(60),
            failures: 3,
        }
    }
}

/// One check: an HTTP path, `{ tcp = true }` or `{ command = […] }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Check {
    /// `GET` of this path answers 200 to 399.
    Http(String),
    /// The port takes a connection.
    Tcp {
        /// Always true.
        tcp: bool,
    },
    /// A command, run where the service runs, exits with 0.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CheckKeys {
    tcp: Option<bool>,
    command: Option<Vec<String>>,
}

impl Shorthand for Check {
    type Table = CheckKeys;
    const EXPECTED: &'static str =
        "a path such as \"/health/ready\", { tcp = true } or { command = [\"…\"] }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        if text.starts_with('/') && !text.contains(char::is_whitespace) {
            Ok(Self::Http(text.to_owned()))
        } else {
            Err(Refused::Value(format!(
                "`{text}` is not a path; begin it with `/`"
            )))
        }
    }
    fn from_table(keys: CheckKeys) -> Result<Self, Refused> {
        match keys {
            CheckKeys {
                tcp: Some(true),
                command: None,
            } => Ok(Self::Tcp { tcp: true }),
            CheckKeys {
                tcp: None,
                command: Some(command),
            } if !command.is_empty() => Ok(Self::Command { command }),
            _ => Err(Refused::Value(
                "the check does not say what to do; write `{ tcp = true }` or \
                 `{ command = [\"program\", \"argument\"] }`"
                    .to_owned(),
            )),
        }
    }
}

deserialize_shorthand!(Check);
