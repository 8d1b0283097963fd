//! Shares in effect, held against those that are asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Increment;
use crate::rollout::stage::Side;
use crate::traffic::Share;

/// Requests that the smaller side should have had before shares are looked at: chance alone leaves it less than a quarter of so many
/// in one of 50 million looks (Poisson with mean 40, at most 9: 2e-8).
const ENOUGH: u64 = 40;

/// A side that gets less than this part of its requests gets hardly any.
const HARDLY: u64 = 4;

/// What came in since shares were last looked at, and what was found then.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub(in crate::rollout) struct Shares {
    since: Increment,
    #[serde(default)]
    found: Option<Starved>,
}

/// A side that got hardly any of the requests that it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(in crate::rollout) struct Starved {
    /// It is the new release.
    pub(in crate::rollout) new: bool,
    /// Requests that it got.
    pub(in crate::rollout) got: u64,
    /// Of so many.
    pub(in crate::rollout) of: u64,
    /// The share that was asked for.
    pub(in crate::rollout) share: Share,
}

impl Shares {
    pub(super) fn take(&mut self, side: &Side, increment: Increment) {
        self.since = self.since.plus(increment);
        let (new, old) = (side.new_share, side.new_share.rest());
        let (got_new, got_old) = (
            self.since.new.requests,
            self.since.main.plus(self.since.baseline).requests,
        );
        let of = got_new.saturating_add(got_old);
        let due = |share: Share| of.saturating_mul(u64::from(share.get())) / 1000;
        if due(new.min(old)) < ENOUGH {
            return;
        }
        let sides = [(true, got_new, new), (false, got_old, old)];
        let mut sides = sides.into_iter();
        let starved = sides.find(|(_, got, share)| got.saturating_mul(HARDLY) < due(*share));
        self.found = starved.map(|(new, got, share)| Starved {
            new,
            got,
            of,
            share,
        });
        self.since = Increment::default();
    }

    /// The side that got hardly any of its requests when there was last enough to look at.
    pub(in crate::rollout) fn starved(&self) -> Option<Starved> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Tally;

    fn check(share: u16, looks: &[(u64, u64)], expected: Option<(bool, u64, u64)>) {
        let side = Side {
            new: 1,
            old_before: 1,
            old: 1,
            baseline: 0,
            new_share: Share::thousandths(share),
            baseline_share: Share::NONE,
            copied_share: Share::NONE,
        };
        let tally = |requests| Tally {
            requests,
            ..Tally::default()
        };
        let mut shares = Shares::default();
        for &(new, old) in looks {
            let increment = Increment {
                main: tally(old),
                new: tally(new),
                ..Increment::default()
            };
            shares.take(&side, increment);
        }
        let found = shares.starved().map(|one| (one.new, one.got, one.of));
        assert_eq!(found, expected, "{share} {looks:?}");
    }

    #[test]
    fn a_side_that_gets_hardly_any_is_found_once_there_is_enough() {
        check(200, &[(3, 598)], Some((true, 3, 601)));
        check(200, &[(120, 480)], None);
        check(200, &[(0, 199)], None);
        check(200, &[(0, 100), (1, 99)], Some((true, 1, 200)));
        check(10, &[(0, 2_000)], None);
        check(10, &[(0, 4_000)], Some((true, 0, 4_000)));
        check(200, &[(180, 20)], Some((false, 20, 200)));
        // What was once is no more.
        check(200, &[(0, 200), (40, 160)], None);
        // There is one side alone.
        check(1000, &[(0, 5_000)], None);
        check(0, &[(5_000, 0)], None);
    }
}
