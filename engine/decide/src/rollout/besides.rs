//! Requests that clients got answered and that are in no comparison.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::Tally;

/// What one side answered to requests that nobody drew by chance. Clients met it all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Besides {
    /// Requests that chose their side by a header or a cookie.
    pub asked_for: Tally,
    /// Requests of clients that stay with one side and make far more requests than others.
    pub heavy: Tally,
}

impl Besides {
    /// What this has beyond `earlier`, count by count.
    #[must_use]
    pub(super) fn beyond(self, earlier: Self) -> Self {
        Self {
            asked_for: self.asked_for.beyond(earlier.asked_for),
            heavy: self.heavy.beyond(earlier.heavy),
        }
    }

    /// The larger of both, count by count.
    #[must_use]
    pub(super) fn most(self, other: Self) -> Self {
        Self {
            asked_for: self.asked_for.most(other.asked_for),
            heavy: self.heavy.most(other.heavy),
        }
    }

    /// Both together.
    #[must_use]
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            asked_for: self.asked_for.plus(other.asked_for),
            heavy: self.heavy.plus(other.heavy),
        }
    }
}
