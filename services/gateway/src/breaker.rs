//! A version that fails most requests rests for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};

use platform_gateway_api::Breaker as Rules;

/// Parts of the window; the oldest is forgotten as a new one begins.
const SLOTS: usize = 10;

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    turn: u64,
    good: u32,
    bad: u32,
}

#[derive(Debug, Default)]
struct State {
    slots: [Slot; SLOTS],
    /// When the next request may try; 0 while serving.
    rests_until: u64,
    /// Grows with each rest and with each request that tries.
    era: u64,
}

impl State {
    fn rest(&mut self, until: u64) {
        *self = Self {
            rests_until: until.max(1),
            era: self.era + 1,
            ..Self::default()
        };
    }
}

/// Leave to ask a version. Its outcome counts only as long as it is the latest that was given: what was asked
/// before the version went to rest says nothing of how it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leave {
    era: u64,
}

/// What one version's requests came to lately. Times are milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

impl Breaker {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave for a request to ask the version, if it may. A resting version gets one request after its rest, by
    /// which it shows whether it is well again, and another where nothing was heard of that one for as long.
    pub(crate) fn admits(&self, rules: &Rules, now: u64) -> Option<Leave> {
        let mut state = self.lock();
        if now < state.rests_until {
            return None;
        }
        if state.rests_until > 0 {
            state.rest(now + rules.rest_ms.max(50));
        }
        Some(Leave { era: state.era })
    }

    /// A request that had leave ended without saying anything of the version; another may try.
    pub(crate) fn give_back(&self, leave: Leave, now: u64) {
        let mut state = self.lock();
        if leave.era == state.era && state.rests_until > 0 {
            state.rest(now);
        }
    }

    /// The version answered a request well; how that ends is recorded yet.
    pub(crate) fn answered(&self, leave: Leave) {
        let mut state = self.lock();
        if leave.era == state.era {
            state.rests_until = 0;
        }
    }

    /// Counts how a request ended.
    pub(crate) fn record(&self, leave: Leave, bad: bool, rules: &Rules, now: u64) {
        let mut state = self.lock();
        if leave.era != state.era {
            return;
        }
        if state.rests_until > 0 {
            if bad {
                state.rest(now + rules.rest_ms);
                return;
            }
            state.rests_until = 0;
        }
        let turn = now / (rules.window_ms / SLOTS as u64).max(1);
        let index = usize::try_from(turn % SLOTS as u64).unwrap_or(0);
        let slot = &mut state.slots[index];
        if slot.turn != turn {
            *slot = Slot {
                turn,
                ..Slot::default()
            };
        }
        if bad {
            slot.bad += 1;
        } else {
            slot.good += 1;
        }
        if !bad {
            return;
        }
        let recent = state
            .slots
            .iter()
            .filter(|slot| slot.turn + SLOTS as u64 > turn);
        let (good, bad) = recent.fold((0_u64, 0_u64), |(good, bad), slot| {
            (good + u64::from(slot.good), bad + u64::from(slot.bad))
        });
        let total = good + bad;
        if total >= u64::from(rules.at_least) && bad * 100 >= total * u64::from(rules.bad_percent) {
            state.rest(now + rules.rest_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Leave that must be given.
    fn asked(breaker: &Breaker, now: u64) -> Leave {
        breaker.admits(&Rules::default(), now).unwrap()
    }

    /// Has a fresh one fail until it rests, from 1 s to 6 s.
    fn resting() -> Breaker {
        let rules = Rules::default();
        let breaker = Breaker::default();
        for _ in 0..20 {
            breaker.record(asked(&breaker, 1_000), true, &rules, 1_000);
        }
        assert_eq!(breaker.admits(&rules, 1_001), None);
        breaker
    }

    #[test]
    fn a_failing_version_rests_and_comes_back() {
        let rules = Rules::default();
        let breaker = resting();
        assert_eq!(breaker.admits(&rules, 5_999), None);
        // One tries after the rest; the next has to wait for it.
        let first = asked(&breaker, 6_000);
        assert_eq!(breaker.admits(&rules, 6_001), None);
        breaker.record(first, true, &rules, 6_010);
        assert_eq!(breaker.admits(&rules, 11_009), None);
        let second = asked(&breaker, 11_010);
        breaker.record(second, false, &rules, 11_020);
        asked(&breaker, 11_021);
        asked(&breaker, 11_022);
    }

    #[test]
    fn only_the_one_that_tries_tells_whether_it_is_well() {
        let rules = Rules::default();
        let breaker = Breaker::default();
        let early = asked(&breaker, 900);
        for _ in 0..20 {
            breaker.record(asked(&breaker, 1_000), true, &rules, 1_000);
        }
        // Asked before the rest, answered in it.
        breaker.answered(early);
        breaker.record(early, false, &rules, 1_300);
        assert_eq!(breaker.admits(&rules, 1_301), None);
        let trial = asked(&breaker, 6_000);
        // Nor does a late failure make the rest longer, or its abort let another try.
        breaker.record(early, true, &rules, 6_001);
        breaker.give_back(early, 6_001);
        assert_eq!(breaker.admits(&rules, 6_002), None);
        breaker.record(trial, false, &rules, 6_003);
        asked(&breaker, 6_004);
    }

    #[test]
    fn who_says_nothing_makes_room_for_another() {
        let rules = Rules::default();
        let breaker = resting();
        let left = asked(&breaker, 6_000);
        breaker.give_back(left, 6_100);
        let silent = asked(&breaker, 6_100);
        assert_eq!(breaker.admits(&rules, 11_099), None);
        let next = asked(&breaker, 11_100);
        breaker.record(silent, false, &rules, 11_101);
        assert_eq!(breaker.admits(&rules, 11_102), None);
        // An answer that goes on for long need not end for others to be let in.
        breaker.answered(next);
        asked(&breaker, 11_103);
    }

    #[test]
    fn old_failures_are_forgotten() {
        let rules = Rules::default();
        let breaker = Breaker::default();
        for _ in 0..19 {
            breaker.record(asked(&breaker, 1_000), true, &rules, 1_000);
        }
        breaker.record(asked(&breaker, 20_000), true, &rules, 20_000);
        asked(&breaker, 20_001);
    }
}
