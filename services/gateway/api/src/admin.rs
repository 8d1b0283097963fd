//! The admin protocol: HTTP/1.1 with JSON, over a unix socket.
//!
//! | request | answer |
//! | --- | --- |
//! | `PUT /config` with a [`crate::Config`] | 200 [`Applied`]; 422 [`Refused`]; 409 [`Refused`] for an older revision, or other content of the one in force |
//! | `GET /config` | the configuration in force |
//! | `GET /tallies` | [`crate::Tallies`] |
//! | `GET /status` | [`Status`] |
//! | `GET /metrics` | Prometheus text |
//! | `GET /openapi.json` | this, for programs |
//! | `DELETE /cache` | 200: forgets every kept answer |
//! | `POST /drain` | 202: stops accepting, finishes what is under way, exits |

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Reason;

/// A configuration was taken and is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// Its revision.
    pub revision: u64,
}

/// A configuration was refused whole; the one before stays in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// Everything that is wrong with it.
    pub reasons: Vec<Reason>,
}

/// What the gateway is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Status {
    /// Version of the program.
    pub program: String,
    /// Revision of the configuration in force; 0 before the first.
    pub revision: u64,
    /// The process's [`crate::Tallies::epoch`].
    pub epoch: String,
    /// Start of the process, milliseconds since 1970.
    pub started_ms: u64,
    /// Process id.
    pub pid: u32,
    /// Whether it only finishes what is under way.
    pub draining: bool,
    /// Listening addresses, with the port that was taken where 0 was asked.
    pub listeners: Vec<Listening>,
    /// Open client connections.
    pub connections: u64,
    /// Requests under way.
    pub requests: u64,
    /// Whether the configuration in force could not be written to disk. It is tried again each second.
    pub unkept: bool,
}

/// One listener as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Listening {
    /// Name in the configuration.
    pub name: String,
    /// `ip:port` it listens on.
    pub address: String,
}
