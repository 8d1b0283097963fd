//! Whether an instance lives and whether it is ready, as it really is.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

/// A check that takes longer than this has failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// A report this fresh is given again, so that eager probes cost little.
const FRESH: Duration = Duration::from_millis(100);
/// The same for one that says that something is missing: who waits for it to come should not wait for us.
const FRESH_FAILURE: Duration = Duration::from_millis(10);

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Accepts requests.
    Serving,
    /// Still accepts requests, and says that it will stop.
    Draining,
    /// Finishes what it has accepted.
    Closing,
}

type CheckFn = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

struct Check {
    name: &'static str,
    required: bool,
    run: CheckFn,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// What was checked, such as `database`.
    pub name: &'static str,
    /// Whether it passed.
    pub passed: bool,
    /// Whether the instance is unready without it.
    pub required: bool,
    /// What was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How long it took.
    pub milliseconds: f64,
}

/// What an instance says about itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `ready`, `not-ready` or `draining`.
    pub status: &'static str,
    /// Each check in the order of registration.
    pub checks: Vec<CheckReport>,
}

impl Report {
    /// Returns whether requests should be sent here.
    pub fn is_ready(&self) -> bool {
        self.status == "ready"
    }
}

/// The health of one instance.
pub struct Health {
    phase: watch::Sender<Phase>,
    checks: Mutex<Arc<Vec<Check>>>,
    dead: Mutex<Option<String>>,
    last: tokio::sync::Mutex<Option<(Instant, Vec<CheckReport>)>>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("phase", &*self.phase.borrow())
            .finish_non_exhaustive()
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Serving),
            checks: Mutex::default(),
            dead: Mutex::default(),
            last: tokio::sync::Mutex::default(),
        }
    }
}

impl Health {
    /// Registers a check; the instance is ready only while every required one passes.
    pub fn register<F, C>(&self, name: &'static str, required: bool, check: F)
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = Result<(), String>> + Send + 'static,
    {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let check = Check {
            name,
            required,
            run: Box::new(move || check().boxed()),
        };
        if let Some(checks) = Arc::get_mut(&mut checks) {
            checks.push(check);
        } else {
            tracing::error!(
                name,
                "a check was registered after the start and is ignored"
            );
        }
    }

    /// Returns the phase.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Returns whether the instance is on its way out.
    pub fn is_draining(&self) -> bool {
        self.phase() != Phase::Serving
    }

    /// Moves on to a later phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = *now < phase;
            if later {
                *now = phase;
            }
            later
        });
    }

    /// Waits until the phase is at least `phase`.
    pub async fn reached(&self, phase: Phase) {
        let mut phases = self.phase.subscribe();
        // The sender lives in `self`, so this cannot fail while we wait.
        let _ = phases.wait_for(|now| *now >= phase).await;
    }

    /// Records that the instance can only be helped by a restart.
    pub fn mark_dead(&self, reason: impl Into<String>) {
        *self.dead.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.into());
    }

    /// Returns why the instance needs a restart, if it does.
    pub fn dead(&self) -> Option<String> {
        self.dead
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Runs the checks and tells how things stand.
    pub async fn report(&self) -> Report {
        let checks = self.checked().await;
        let failed = fails(&checks);
        let status = if self.is_draining() {
            "draining"
        } else if failed || self.dead().is_some() {
            "not-ready"
        } else {
            "ready"
        };
        Report { status, checks }
    }

    async fn checked(&self) -> Vec<CheckReport> {
        let mut last = self.last.lock().await;
        if let Some((at, reports)) = &*last {
            let fresh = if fails(reports) { FRESH_FAILURE } else { FRESH };
            if at.elapsed() < fresh {
                return reports.clone();
            }
        }
        let checks = self
            .checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let reports = futures::future::join_all(checks.iter().map(run)).await;
        *last = Some((Instant::now(), reports.clone()));
        reports
    }
}

fn fails(checks: &[CheckReport]) -> bool {
    checks.iter().any(|check| check.required && !check.passed)
}

async fn run(check: &Check) -> CheckReport {
    let started = Instant::now();
    let result = tokio::time::timeout(CHECK_TIMEOUT, (check.run)())
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {CHECK_TIMEOUT:?}")));
    let passed = result.is_ok();
    metrics::gauge!("health_check_passed", "check" => check.name).set(f64::from(u8::from(passed)));
    CheckReport {
        name: check.name,
        passed,
        required: check.required,
        detail: result.err(),
        milliseconds: (started.elapsed().as_secs_f64() * 1e6).round() / 1e3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn status(required: bool, result: Result<(), String>) -> &'static str {
        let health = Health::default();
        health.register("need", required, move || {
            let result = result.clone();
            async move { result }
        });
        health.report().await.status
    }

    #[tokio::test]
    async fn only_required_checks_decide() {
        assert_eq!(status(true, Ok(())).await, "ready");
        assert_eq!(status(true, Err("gone".into())).await, "not-ready");
        assert_eq!(status(false, Err("gone".into())).await, "ready");
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_fails() {
        let health = Health::default();
        health.register("need", true, futures::future::pending);
        let report = health.report().await;
        assert!(!report.is_ready());
        assert_eq!(
            report.checks[0].detail.as_deref(),
            Some("no answer within 2s")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn bad_news_is_given_again_for_a_shorter_while_than_good() {
        let health = Health::default();
        let (set, passes) = watch::channel(false);
        health.register("need", true, move || {
            let passes = *passes.borrow();
            async move { passes.then_some(()).ok_or_else(|| "gone".to_owned()) }
        });
        let check = async |after: u64, expected: &str| {
            tokio::time::advance(Duration::from_millis(after)).await;
            assert_eq!(health.report().await.status, expected);
        };
        check(0, "not-ready").await;
        set.send_replace(true);
        check(9, "not-ready").await;
        check(1, "ready").await;
        set.send_replace(false);
        check(99, "ready").await;
        check(1, "not-ready").await;
    }

    #[tokio::test]
    async fn draining_is_not_ready_and_never_goes_back() {
        let health = Health::default();
        health.enter(Phase::Closing);
        health.enter(Phase::Draining);
        health.reached(Phase::Draining).await;
        assert_eq!(health.phase(), Phase::Closing);
        assert_eq!(health.report().await.status, "draining");
    }
}
