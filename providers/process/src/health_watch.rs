//! When an instance is checked, and what the results mean for it.

use std::time::{Duration, Instant};

use platform_blueprint::{Check, Health};

/// What to check, and what the results add up to. Time is an argument.
#[derive(Debug, Clone)]
pub(crate) struct HealthWatch {
    ready_check: Option<Check>,
    live_check: Option<Check>,
    policy: Health,
    started: Instant,
    next_at: Instant,
    tight_pause: Duration,
    ready: bool,
    ever_ready: bool,
    unready_in_row: u32,
    dead_in_row: u32,
    /// Why it is not ready.
    pub(crate) reason: Option<String>,
}

/// What the results of checks mean for an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing new.
    Same,
    /// It is ready now.
    Ready,
    /// It was ready and is not now.
    Unready,
    /// It must be restarted.
    Dead(String),
    /// It did not become ready in time.
    TooSlow(String),
}

/// Results of one round of checks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Round {
    /// Of the readiness check, where one was due.
    pub(crate) ready: Option<Result<(), String>>,
    /// Of the liveness check, where one was due.
    pub(crate) live: Option<Result<(), String>>,
}

const TIGHTEST: Duration = Duration::from_millis(20);
const LOOSEST_AT_START: Duration = Duration::from_millis(250);
/// Beats in an interval between checks.
const BEATS: u32 = 8;
/// A program without port and check counts as ready once it has run for so long.
const PROOF_OF_LIFE: Duration = Duration::from_millis(500);

impl HealthWatch {
    /// Begins at the start of a process.
    ///
    /// - `has_port`: without a check of its own, its port is checked
    /// - `ever_ready`: it was ready before, as after an agent's restart; then it is checked at once and counts as ready
    pub(crate) fn new(policy: &Health, has_port: bool, was_ready: bool, now: Instant) -> Self {
        let ready_check = policy
            .ready
            .clone()
            .or_else(|| has_port.then_some(Check::Tcp { tcp: true }));
        let first = if ready_check.is_none() {
            PROOF_OF_LIFE
        } else {
            Duration::from_millis(2)
        };
        Self {
            ready_check,
            live_check: policy.live.clone(),
            policy: policy.clone(),
            started: now,
            next_at: now + first,
            tight_pause: TIGHTEST,
            ready: was_ready,
            ever_ready: was_ready,
            unready_in_row: 0,
            dead_in_row: 0,
            reason: None,
        }
    }

    /// When the next round is due; `None` where nothing is to be checked any more.
    ///
    /// What is ready is checked on a beat that all share: a machine that wakes for one check does a few more at little cost.
    ///
    /// - `origin`: a beat, and the same for all
    pub(crate) fn next_at(&self, origin: Instant) -> Option<Instant> {
        let idle = self.ready && self.ready_check.is_none() && self.live_check.is_none();
        if idle {
            return None;
        }
        let beat = self.policy.interval.duration() / BEATS;
        if !self.ready || beat.is_zero() {
            return Some(self.next_at);
        }
        let since = self.next_at.saturating_duration_since(origin);
        let beats = (since + beat / 2).as_nanos() / beat.as_nanos();
        Some(origin + beat * u32::try_from(beats).unwrap_or(u32::MAX))
    }

    /// The checks of the next round: readiness, and liveness once it was ready.
    pub(crate) fn due(&self) -> (Option<Check>, Option<Check>) {
        let live = self.live_check.clone().filter(|live| {
            // One question is enough where both are the same.
            self.ever_ready && Some(live) != self.ready_check.as_ref()
        });
        (self.ready_check.clone(), live)
    }

    /// Takes the results of a round in.
    ///
    /// - `jitter`: 0.0 to 1.0, spreads the checks of many instances
    pub(crate) fn record(&mut self, round: Round, now: Instant, jitter: f64) -> Verdict {
        let same_check = self.live_check.is_some() && self.live_check == self.ready_check;
        let live = if same_check && self.ever_ready {
            round.ready.clone()
        } else {
            round.live
        };
        let patience = self.policy.failures.max(1);
        match live {
            Some(Err(why)) => {
                self.dead_in_row += 1;
                if self.dead_in_row >= patience {
                    return Verdict::Dead(why);
                }
            }
            Some(Ok(())) => self.dead_in_row = 0,
            None => {}
        }
        let was_ready = self.ready;
        match round.ready.unwrap_or(Ok(())) {
            Ok(()) => {
                self.ready = true;
                self.ever_ready = true;
                self.unready_in_row = 0;
                self.reason = None;
            }
            Err(why) => {
                self.unready_in_row += 1;
                if self.unready_in_row >= patience {
                    self.ready = false;
                }
                self.reason = Some(why);
            }
        }
        self.schedule(now, jitter);
        if self.ready && !was_ready {
            return Verdict::Ready;
        }
        if !self.ready && was_ready {
            return Verdict::Unready;
        }
        let limit = self.policy.start_within.duration();
        if !self.ever_ready && now.duration_since(self.started) >= limit {
            return Verdict::TooSlow(self.reason.clone().unwrap_or_default());
        }
        Verdict::Same
    }

    fn schedule(&mut self, now: Instant, jitter: f64) {
        let interval = self.policy.interval.duration();
        self.next_at = if self.ready {
            // 90 % to 110 %, so that instances that started together drift apart.
            now + interval.mul_f64(0.9 + 0.2 * jitter)
        } else {
            let pause = self.tight_pause;
            // A tenth more each time: readiness is noticed within about a tenth of the time it took. What needs a chain of
            // services waits for each of them, so these pauses add up.
            self.tight_pause = (pause * 11 / 10).min(LOOSEST_AT_START.min(interval.max(TIGHTEST)));
            let mut next = now + pause;
            if !self.ever_ready {
                // The verdict comes at the limit, not a pause after it.
                next = next.min((self.started + self.policy.start_within.duration()).max(now));
            }
            next
        };
        if self.ready {
            self.tight_pause = TIGHTEST;
        }
    }
}

#[cfg(test)]
mod tests {
    use platform_blueprint::Period;

    use super::*;

    fn policy() -> Health {
        Health {
            ready: Some(Check::Http("/ready".to_owned())),
            live: Some(Check::Http("/live".to_owned())),
            interval: Period::from_secs(2),
            failures: 2,
            start_within: Period::from_secs(1),
            ..Health::default()
        }
    }

    fn ready(result: Result<(), &str>) -> Round {
        Round {
            ready: Some(result.map_err(str::to_owned)),
            live: None,
        }
    }

    #[test]
    fn checks_are_tight_until_it_is_ready_and_then_calm() {
        let start = Instant::now();
        let mut watch = HealthWatch::new(&policy(), true, false, start);
        assert_eq!(watch.due().1, None);
        assert_eq!(watch.record(ready(Err("no")), start, 0.5), Verdict::Same);
        assert_eq!(watch.next_at(start), Some(start + TIGHTEST));
        assert_eq!(watch.record(ready(Ok(())), start, 0.5), Verdict::Ready);
        assert_eq!(watch.next_at(start), Some(start + Duration::from_secs(2)));
        assert!(watch.due().1.is_some());
    }

    #[test]
    fn what_is_ready_is_checked_on_a_beat_that_all_share() {
        let start = Instant::now();
        let next = |jitter| {
            let mut watch = HealthWatch::new(&policy(), true, true, start);
            let now = start + Duration::from_millis(777);
            watch.record(ready(Ok(())), now, jitter);
            watch.next_at(start).map(|next| next - start)
        };
        let after = |millis| Some(Duration::from_millis(millis));
        // 2,577 to 2,977 ms without a beat, which is an eighth of two seconds.
        assert_eq!(next(0.0), after(2_500));
        assert_eq!(next(0.4), after(2_750));
        assert_eq!(next(0.6), after(2_750));
        assert_eq!(next(1.0), after(3_000));
    }

    #[test]
    fn readiness_is_noticed_within_a_tenth_of_the_time_it_took() {
        let start = Instant::now();
        let patient = Health {
            start_within: Period::from_secs(60),
            ..policy()
        };
        for millis in [1, 100, 500, 1_500, 10_000] {
            let mut watch = HealthWatch::new(&patient, true, false, start);
            let up = start + Duration::from_millis(millis);
            let mut checks = 0;
            let mut now = start;
            while now < up {
                now = watch.next_at(start).expect("a next round");
                let seen = if now < up { Err("no") } else { Ok(()) };
                watch.record(ready(seen), now, 0.5);
                checks += 1;
            }
            let late = now - up;
            assert!(
                late <= TIGHTEST + Duration::from_millis(millis) / 10,
                "{late:?}"
            );
            assert!(checks <= 80, "{checks} checks in {millis} ms");
        }
    }

    #[test]
    fn what_is_not_ready_in_time_is_too_slow() {
        let start = Instant::now();
        let mut watch = HealthWatch::new(&policy(), true, false, start);
        let late = start + Duration::from_secs(1);
        assert_eq!(
            watch.record(ready(Err("503")), late, 0.5),
            Verdict::TooSlow("503".to_owned())
        );
        // What was ready before has no such limit.
        let mut watch = HealthWatch::new(&policy(), true, true, start);
        assert_eq!(watch.record(ready(Err("503")), late, 0.5), Verdict::Same);
        assert_eq!(watch.record(ready(Err("503")), late, 0.5), Verdict::Unready);
        assert_eq!(watch.record(ready(Ok(())), late, 0.5), Verdict::Ready);
    }

    #[test]
    fn it_is_dead_after_so_many_failures_in_a_row() {
        let start = Instant::now();
        let mut watch = HealthWatch::new(&policy(), true, true, start);
        let round = |live: Result<(), &str>| Round {
            ready: Some(Ok(())),
            live: Some(live.map_err(str::to_owned)),
        };
        assert_eq!(watch.record(round(Err("x")), start, 0.5), Verdict::Same);
        assert_eq!(watch.record(round(Ok(())), start, 0.5), Verdict::Same);
        assert_eq!(watch.record(round(Err("x")), start, 0.5), Verdict::Same);
        assert_eq!(
            watch.record(round(Err("x")), start, 0.5),
            Verdict::Dead("x".to_owned())
        );
    }

    #[test]
    fn a_program_without_port_and_check_proves_itself_by_running() {
        let start = Instant::now();
        let mut watch = HealthWatch::new(&Health::default(), false, false, start);
        assert_eq!(watch.next_at(start), Some(start + PROOF_OF_LIFE));
        assert_eq!(watch.record(Round::default(), start, 0.5), Verdict::Ready);
        assert_eq!(watch.next_at(start), None);
    }
}
