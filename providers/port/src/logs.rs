//! Log lines of instances, living and dead.

use platform_decide::release::ReleaseNumber;
use serde::{Deserialize, Serialize};

use crate::party::Party;

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line that an instance wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When the target took it in, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The instance: `orders@r5.2`.
    pub instance: String,
    /// Where it was written.
    pub stream: Stream,
    /// The text without its line end; bytes that are no UTF-8 are replaced.
    pub text: String,
}

/// Which log lines are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogQuery {
    /// Of these; of all where empty.
    pub parties: Vec<Party>,
    /// Of this instance alone.
    pub instance: Option<String>,
    /// Of this version alone.
    pub version: Option<ReleaseNumber>,
    /// Not older than this, in milliseconds since the Unix epoch.
    pub since: Option<u64>,
    /// At most so many lines of each service, the newest.
    pub tail: Option<usize>,
    /// Go on with new lines as they come.
    pub follow: bool,
}

impl LogQuery {
    /// Whether lines of this party are asked for, as far as its name tells.
    pub fn is_of(&self, party: &str) -> bool {
        self.parties.is_empty() || self.parties.iter().any(|asked| asked.as_str() == party)
    }
}
