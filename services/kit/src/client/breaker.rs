//! Decides whether calling makes sense.

use std::time::{Duration, Instant};

/// When a client stops calling, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerPolicy {
    /// Calls are counted over this time.
    pub window: Duration,
    /// Fewer calls than this say nothing.
    pub least: u32,
    /// Share of failed calls from which on it refuses, 0.0 to 1.0.
    pub share: f64,
    /// How long it refuses before it lets one call through to see.
    pub rest: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            least: 10,
            share: 0.5,
            rest: Duration::from_secs(2),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Calls go through and are counted.
    Passing { since: Instant, good: u32, bad: u32 },
    /// Calls are refused.
    Refusing { until: Instant },
    /// One call went through; should its caller never tell, another one goes after `until`.
    Probing { until: Instant },
}

/// Counts calls and says whether the next one should be made. Time is an argument.
#[derive(Debug, Clone)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: Option<State>,
}

impl Breaker {
    /// Makes a breaker that lets calls through.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            state: None,
        }
    }

    /// Returns whether a call should be made now. Each admitted call must be recorded.
    pub fn admit(&mut self, now: Instant) -> bool {
        match self.state {
            None | Some(State::Passing { .. }) => true,
            Some(State::Refusing { until } | State::Probing { until }) if until <= now => {
                let until = now + self.policy.rest;
                self.state = Some(State::Probing { until });
                true
            }
            Some(State::Refusing { .. } | State::Probing { .. }) => false,
        }
    }

    /// Records how an admitted call went.
    pub fn record(&mut self, now: Instant, succeeded: bool) {
        let (since, good, bad) = match self.state {
            Some(State::Passing { since, good, bad }) if now < since + self.policy.window => {
                (since, good, bad)
            }
            None | Some(State::Passing { .. }) => (now, 0, 0),
            Some(State::Probing { .. }) if succeeded => (now, 0, 0),
            Some(State::Probing { .. }) => {
                let until = now + self.policy.rest;
                self.state = Some(State::Refusing { until });
                return;
            }
            // A call from before the refusal; it says nothing about now.
            Some(State::Refusing { .. }) => return,
        };
        let good = good + u32::from(succeeded);
        let bad = bad + u32::from(!succeeded);
        let total = good.saturating_add(bad);
        let failing = f64::from(bad) >= self.policy.share * f64::from(total);
        self.state = Some(if self.policy.least <= total && failing {
            State::Refusing {
                until: now + self.policy.rest,
            }
        } else {
            State::Passing { since, good, bad }
        });
    }

    /// Returns whether calls are refused, but for the one that looks.
    pub fn is_refusing(&self) -> bool {
        matches!(
            self.state,
            Some(State::Refusing { .. } | State::Probing { .. })
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn after(outcomes: &[bool]) -> (Breaker, Instant) {
        let now = Instant::now();
        let policy = BreakerPolicy {
            window: 10 * SECOND,
            least: 4,
            share: 0.5,
            rest: SECOND,
        };
        let mut breaker = Breaker::new(policy);
        for &outcome in outcomes {
            assert!(breaker.admit(now));
            breaker.record(now, outcome);
        }
        (breaker, now)
    }

    #[test]
    fn few_or_mostly_good_calls_pass() {
        assert!(!after(&[false, false, false]).0.is_refusing());
        assert!(!after(&[true, true, true, false]).0.is_refusing());
    }

    #[test]
    fn half_bad_is_refused_until_one_call_succeeds() {
        let (mut breaker, now) = after(&[true, true, false, false]);
        assert!(!breaker.admit(now));
        assert!(breaker.admit(now + SECOND));
        assert!(!breaker.admit(now + SECOND), "one call looks, not two");
        breaker.record(now + SECOND, false);
        assert!(!breaker.admit(now + SECOND));
        assert!(breaker.admit(now + 2 * SECOND));
        breaker.record(now + 2 * SECOND, true);
        assert!(!breaker.is_refusing());
    }

    #[test]
    fn a_probe_that_is_never_recorded_is_followed_by_another() {
        let (mut breaker, now) = after(&[false; 4]);
        assert!(breaker.admit(now + SECOND));
        assert!(breaker.admit(now + 2 * SECOND));
    }

    #[test]
    fn old_failures_are_forgotten() {
        let (mut breaker, now) = after(&[false, false, false]);
        breaker.record(now + 11 * SECOND, false);
        assert!(!breaker.is_refusing());
    }
}
