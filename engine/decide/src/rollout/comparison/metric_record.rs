//! What an extra metric was of the old release, for when it has no requests any more.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Values of a metric that a record keeps: the latest, as the nearest in time to what they are compared with.
const MOST_VALUES: usize = 128;

/// Values of an extra metric of the old release, oldest first, and how many were laid beside the new one's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct MetricRecord {
    values: Vec<f64>,
    used: usize,
}

impl MetricRecord {
    pub(super) fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.values.push(value);
            self.values
                .drain(..self.values.len().saturating_sub(MOST_VALUES));
        }
    }

    /// The oldest that was not laid beside a new one yet.
    pub(super) fn next(&mut self) -> Option<f64> {
        let value = self.values.get(self.used).copied()?;
        self.used += 1;
        Some(value)
    }

    /// Begins with the oldest again.
    pub(super) fn begin(&mut self) {
        self.used = 0;
    }
}
