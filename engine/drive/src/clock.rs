//! Wall-clock time for records; never for deciding how long something took.

use chrono::{SecondsFormat, Utc};

/// Tells the time of day.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn millis(&self) -> u64;

    /// The same as RFC 3339 in UTC, to the second.
    fn rfc3339(&self) -> String {
        let millis = i64::try_from(self.millis()).unwrap_or(i64::MAX);
        chrono::DateTime::from_timestamp_millis(millis)
            .unwrap_or_default()
            .to_rfc3339_opts(SecondsFormat::Secs, true)
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn millis(&self) -> u64 {
        u64::try_from(Utc::now().timestamp_millis()).unwrap_or_default()
    }
}
