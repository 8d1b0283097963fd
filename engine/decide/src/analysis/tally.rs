//! Counts of one side, and of both sides between two looks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Requests answered by one side, and how many of them were bad or slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Tally {
    /// All requests answered.
    pub requests: u64,
    /// Those answered badly.
    pub bad: u64,
    /// Those answered too slowly. A request may be both bad and slow.
    pub slow: u64,
    /// Requests of heavy clients besides, which are in no comparison and in none of the other counts.
    pub left_out: u64,
}

impl Tally {
    /// What came in since `earlier`, both being totals of the same counter.
    ///
    /// A total that went down is a counter that began again at zero (its process restarted), so then all of it is new.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        if self.requests < earlier.requests || self.bad < earlier.bad || self.slow < earlier.slow {
            return self;
        }
        Self {
            requests: self.requests - earlier.requests,
            bad: self.bad - earlier.bad,
            slow: self.slow - earlier.slow,
            left_out: self.left_out.saturating_sub(earlier.left_out),
        }
    }

    /// What this has beyond `earlier`, count by count.
    #[must_use]
    pub fn beyond(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            bad: self.bad.saturating_sub(earlier.bad),
            slow: self.slow.saturating_sub(earlier.slow),
            left_out: self.left_out.saturating_sub(earlier.left_out),
        }
    }

    /// The larger of both, count by count.
    #[must_use]
    pub fn most(self, other: Self) -> Self {
        Self {
            requests: self.requests.max(other.requests),
            bad: self.bad.max(other.bad),
            slow: self.slow.max(other.slow),
            left_out: self.left_out.max(other.left_out),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            bad: self.bad.saturating_add(other.bad),
            slow: self.slow.saturating_add(other.slow),
            left_out: self.left_out.saturating_add(other.left_out),
        }
    }

    /// No more bad or slow answers than answers.
    pub(crate) fn coherent(self) -> Self {
        Self {
            requests: self.requests,
            bad: self.bad.min(self.requests),
            slow: self.slow.min(self.requests),
            left_out: self.left_out,
        }
    }
}

/// What both sides answered between two looks, or in total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Look {
    /// The old release.
    pub baseline: Tally,
    /// The new release.
    pub canary: Tally,
}

impl Look {
    /// What came in since `earlier`, side by side.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            baseline: self.baseline.since(earlier.baseline),
            canary: self.canary.since(earlier.canary),
        }
    }

    /// Both looks together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            baseline: self.baseline.plus(other.baseline),
            canary: self.canary.plus(other.canary),
        }
    }

    /// Requests of both sides.
    pub(crate) fn requests(self) -> u64 {
        self.baseline.requests.saturating_add(self.canary.requests)
    }

    pub(crate) fn coherent(self) -> Self {
        Self {
            baseline: self.baseline.coherent(),
            canary: self.canary.coherent(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(requests: u64, bad: u64, slow: u64) -> Tally {
        Tally {
            requests,
            bad,
            slow,
            left_out: 0,
        }
    }

    #[test]
    fn since_is_the_difference() {
        assert_eq!(tally(10, 3, 2).since(tally(4, 1, 2)), tally(6, 2, 0));
    }

    #[test]
    fn a_counter_that_began_again_counts_from_zero() {
        assert_eq!(tally(5, 1, 0).since(tally(400, 1, 0)), tally(5, 1, 0));
        assert_eq!(tally(500, 0, 0).since(tally(400, 1, 0)), tally(500, 0, 0));
    }

    #[test]
    fn more_bad_answers_than_answers_are_not_believed() {
        assert_eq!(tally(5, 9, 7).coherent(), tally(5, 5, 5));
    }
}
