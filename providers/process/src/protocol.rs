//! What target and agent say to each other: JSON over HTTP on a unix socket.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /agent` | [`AgentInfo`] |
//! | `GET /observed` | `platform_decide::observed::Observed` |
//! | `GET /changes?after=N&within=MS` | [`Changes`], once the number differs from `N` |
//! | `PUT /groups` with [`EnsureGroup`] | 204 |
//! | `DELETE /groups/ID` | 204 once the group is gone |
//! | `PUT /resources/NAME` with a `DesiredResource` | 204 |
//! | `DELETE /resources/NAME?data=BOOL` | 204 |
//! | `PUT /gateway` with [`EnsureGateway`] | 204 |
//! | `PUT /traffic` with [`RouteTraffic`] | 204 once the gateway has confirmed it |
//! | `GET /tallies` | `platform_port::Tallies` |
//! | `GET /surroundings?service=S&instance=I` | [`ExecSurroundings`] |
//! | `GET /address?name=N&port=P` | [`Address`] |
//! | `POST /stop` | 204 once everything is down; the agent ends |
//! | `POST /leave` | 204; the agent ends and leaves everything running |
//!
//! Anything that goes wrong is answered 4xx or 5xx with a [`Fault`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use platform_blueprint::SecretName;
use platform_decide::group::GroupSpec;
use platform_decide::traffic::Traffic;
use serde::{Deserialize, Serialize};

/// What an agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AgentInfo {
    /// The build of its program.
    pub(crate) build: String,
    /// Its process id.
    pub(crate) pid: i32,
    /// What it has to say about its own state, such as a damaged file.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
}

/// How often something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Changes {
    /// Grows with each change.
    pub(crate) number: u64,
}

/// A group as it should be, with the values of its secrets.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct EnsureGroup {
    /// The group.
    pub(crate) group: GroupSpec,
    /// Values by name. The socket is its owner's alone.
    pub(crate) secrets: BTreeMap<SecretName, String>,
}

/// What the gateway should do with requests, with the values of its secrets.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RouteTraffic {
    /// Routes and shares.
    pub(crate) traffic: Traffic,
    /// Values by name. The socket is its owner's alone.
    pub(crate) secrets: BTreeMap<SecretName, String>,
}

/// The program to run as the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EnsureGateway {
    /// Its file.
    pub(crate) program: PathBuf,
    /// Its build.
    pub(crate) build: String,
}

/// What a command needs to run as an instance would.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ExecSurroundings {
    /// The instance.
    pub(crate) instance: String,
    /// Its environment, secrets and all.
    pub(crate) environment: BTreeMap<String, String>,
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// Where programs are looked for first.
    pub(crate) search: Vec<PathBuf>,
    /// Control groups it is in.
    pub(crate) control_groups: Vec<PathBuf>,
    /// User and group it runs as.
    pub(crate) user: Option<(u32, u32)>,
}

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    /// `host:port`.
    pub(crate) address: String,
}

/// Why a request was not fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// Stable code.
    pub(crate) code: String,
    /// In words.
    pub(crate) message: String,
    /// What to do.
    #[serde(default)]
    pub(crate) help: Option<String>,
}

impl Fault {
    /// A fault with its code.
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            help: None,
        }
    }

    /// The same fault with a line that says what to do.
    #[must_use]
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<crate::durable::StateError> for Fault {
    fn from(error: crate::durable::StateError) -> Self {
        let help = match error.code() {
            "state::read-only" => Some("make the project's `.platform` folder writable".to_owned()),
            "state::disk-full" => Some("free some disk space and run the command again".to_owned()),
            _ => None,
        };
        let cause = std::error::Error::source(&error)
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        Self {
            code: error.code().to_owned(),
            message: format!("{error}{cause}"),
            help,
        }
    }
}
