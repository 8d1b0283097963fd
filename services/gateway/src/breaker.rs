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
}

/// What one version's requests came to lately. Times are milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

impl Breaker {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request may be given to the version. A resting version gets
    /// one now and then, by which it shows whether it is well again.
    pub(crate) fn admits(&self, rules: &Rules, now: u64) -> bool {
        let mut state = self.lock();
        if state.rests_until == 0 {
            return true;
        }
        if now < state.rests_until {
            return false;
        }
        state.rests_until = now + (rules.rest_ms / 10).max(50);
        true
    }

    /// Counts how a request ended.
    pub(crate) fn record(&self, bad: bool, rules: &Rules, now: u64) {
        let mut state = self.lock();
        if state.rests_until > 0 {
            if bad {
                state.rests_until = now + rules.rest_ms;
            } else {
                *state = State::default();
            }
            return;
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
            *state = State {
                rests_until: now + rules.rest_ms,
                ..State::default()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_version_rests_and_comes_back() {
        let rules = Rules::default();
        let breaker = Breaker::default();
        for _ in 0..19 {
            breaker.record(true, &rules, 1_000);
        }
        assert!(breaker.admits(&rules, 1_000));
        breaker.record(true, &rules, 1_000);
        assert!(!breaker.admits(&rules, 1_001));
        // One tries after the rest; the next has to wait for it.
        assert!(breaker.admits(&rules, 6_000));
        assert!(!breaker.admits(&rules, 6_001));
        breaker.record(true, &rules, 6_010);
        assert!(!breaker.admits(&rules, 11_000));
        assert!(breaker.admits(&rules, 11_010));
        breaker.record(false, &rules, 11_020);
        assert!(breaker.admits(&rules, 11_021));
        assert!(breaker.admits(&rules, 11_022));
    }

    #[test]
    fn old_failures_are_forgotten() {
        let rules = Rules::default();
        let breaker = Breaker::default();
        for _ in 0..19 {
            breaker.record(true, &rules, 1_000);
        }
        breaker.record(true, &rules, 20_000);
        assert!(breaker.admits(&rules, 20_001));
    }
}
