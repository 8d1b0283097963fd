//! What becomes of an instance whose process ended: a decision as a value.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use platform_blueprint::{Restart, RestartOn, ServiceKind};

use crate::keeper::ProcessEnd;

/// What to do after a process ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AfterEnd {
    /// It has done what it was for.
    Complete,
    /// It is not started again.
    Fail(String),
    /// It is started again after a while.
    Restart {
        /// How long to wait.
        after: Duration,
        /// It ends again and again.
        looping: bool,
        /// Why it is not running, in words.
        reason: String,
    },
}

/// When an instance ended, as far as that still matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EndHistory {
    ends: VecDeque<Instant>,
    in_row: u32,
}

/// How a process ended and what it had been doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    /// How.
    pub(crate) end: ProcessEnd,
    /// How long it had run.
    pub(crate) ran_for: Duration,
    /// It used more memory than its limit.
    pub(crate) out_of_memory: bool,
    /// We ended it, for this reason.
    pub(crate) ended_for: Option<String>,
}

impl Ending {
    /// How it ended, in words.
    pub(crate) fn in_words(&self) -> String {
        if self.out_of_memory {
            "out of memory".to_owned()
        } else {
            self.end.to_string()
        }
    }
}

/// The longest pause once it counts as looping.
const RAREST: Duration = Duration::from_secs(600);

impl EndHistory {
    /// Decides what to do after an end.
    ///
    /// The pause doubles with each end, up to `backoff_at_most`; a process that ran for longer than the window starts over.
    /// So many ends within the window are a crash loop: the pause then goes on doubling beyond the usual limit.
    ///
    /// - `jitter`: 0.0 to 1.0
    pub(crate) fn after(
        &mut self,
        kind: ServiceKind,
        policy: &Restart,
        ending: &Ending,
        now: Instant,
        jitter: f64,
    ) -> AfterEnd {
        let words = ending.in_words();
        let clean = ending.end == ProcessEnd::Code(0) && ending.ended_for.is_none();
        if kind == ServiceKind::Job {
            return if clean {
                AfterEnd::Complete
            } else {
                AfterEnd::Fail(format!("the job ended with {words}"))
            };
        }
        let reason = match (&ending.ended_for, clean) {
            (Some(why), _) => why.clone(),
            (None, true) => "it ended with exit code 0, but a service keeps running; \
                             write kind = \"job\" for a program that ends"
                .to_owned(),
            (None, false) if ending.out_of_memory => {
                "it was ended for using more memory than its limit".to_owned()
            }
            (None, false) => format!("it ended with {words}"),
        };
        let again = match policy.on {
            RestartOn::Always => true,
            RestartOn::Failure => !clean,
            RestartOn::Never => false,
        };
        if !again {
            return AfterEnd::Fail(reason);
        }
        let window = policy.window.duration();
        if ending.ran_for > window {
            self.in_row = 0;
            self.ends.clear();
        }
        self.ends.push_back(now);
        while self
            .ends
            .front()
            .is_some_and(|first| now.duration_since(*first) > window)
            && self.ends.len() > usize::try_from(policy.crash_loop).unwrap_or(usize::MAX)
        {
            self.ends.pop_front();
        }
        let looping = policy.crash_loop > 0 && self.ends.len() >= policy.crash_loop as usize;
        let most = if looping {
            RAREST
        } else {
            policy.backoff_at_most.duration()
        };
        let doubled = policy
            .backoff
            .duration()
            .saturating_mul(1_u32.checked_shl(self.in_row).unwrap_or(u32::MAX));
        self.in_row = (self.in_row + 1).min(20);
        AfterEnd::Restart {
            // 75 % to 125 %, so that instances that fell together do not rise together.
            after: doubled.min(most).mul_f64(0.75 + 0.5 * jitter),
            looping,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use platform_blueprint::Period;

    use super::*;

    fn ending(end: ProcessEnd) -> Ending {
        Ending {
            end,
            ran_for: Duration::from_millis(5),
            out_of_memory: false,
            ended_for: None,
        }
    }

    fn policy() -> Restart {
        Restart {
            backoff: Period::from_millis(100),
            backoff_at_most: Period::from_secs(1),
            crash_loop: 4,
            ..Restart::default()
        }
    }

    fn check(kind: ServiceKind, on: RestartOn, end: ProcessEnd) -> AfterEnd {
        let policy = Restart { on, ..policy() };
        EndHistory::default().after(kind, &policy, &ending(end), Instant::now(), 0.5)
    }

    #[test]
    fn pauses_double_until_it_is_a_loop_and_beyond() {
        let mut history = EndHistory::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let decision = history.after(
                ServiceKind::Service,
                &policy(),
                &ending(ProcessEnd::Code(1)),
                now,
                0.5,
            );
            let AfterEnd::Restart { after, looping, .. } = decision else {
                panic!("{decision:?}");
            };
            pauses.push((after.as_millis(), looping));
            now += after;
        }
        let expected = [
            (100, false),
            (200, false),
            (400, false),
            (800, true),
            (1600, true),
            (3200, true),
        ];
        assert_eq!(pauses, expected);
    }

    #[test]
    fn a_process_that_ran_long_begins_anew() {
        let mut history = EndHistory::default();
        let now = Instant::now();
        for _ in 0..6 {
            let end = ending(ProcessEnd::Signal(11));
            history.after(ServiceKind::Worker, &policy(), &end, now, 0.5);
        }
        let long = Ending {
            ran_for: Duration::from_secs(3600),
            ..ending(ProcessEnd::Code(1))
        };
        let decision = history.after(ServiceKind::Worker, &policy(), &long, now, 0.5);
        assert!(
            matches!(decision, AfterEnd::Restart { after, looping: false, .. } if after.as_millis() == 100)
        );
    }

    #[test]
    fn a_job_ends_once_and_a_service_never() {
        use ProcessEnd::Code;
        use ServiceKind::{Job, Service};
        assert_eq!(check(Job, RestartOn::Always, Code(0)), AfterEnd::Complete);
        assert!(matches!(
            check(Job, RestartOn::Always, Code(3)),
            AfterEnd::Fail(_)
        ));
        assert!(matches!(
            check(Service, RestartOn::Always, Code(0)),
            AfterEnd::Restart { reason, .. } if reason.contains("kind = \"job\"")
        ));
        assert!(matches!(
            check(Service, RestartOn::Failure, Code(0)),
            AfterEnd::Fail(_)
        ));
        assert!(matches!(
            check(Service, RestartOn::Failure, Code(1)),
            AfterEnd::Restart { .. }
        ));
        assert!(matches!(
            check(Service, RestartOn::Never, Code(1)),
            AfterEnd::Fail(_)
        ));
    }
}
