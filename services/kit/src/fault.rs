//! Faults on purpose, for drills and demonstrations of rollouts. Off unless `<PROGRAM>_FAULT` is set, and loud when on.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::problem::Problem;
use crate::quantity;
use crate::variables::Setting;

/// What goes wrong on purpose, such as `errors=5%,slow=3%:200ms`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// Share of requests answered with 500 (`errors=5%`).
    pub errors: f64,
    /// Share of requests that wait, and for how long (`slow=3%:200ms`).
    pub slow: Option<(f64, Duration)>,
    /// The program aborts at this request (`crash_after=100`).
    pub crash_after: Option<u64>,
    /// Bytes kept for ever with each request (`leak=1MiB`).
    pub leak: u64,
    /// Bytes of log lines written a second (`flood=1MiB`).
    pub flood: u64,
    /// The program ends at once with this code (`exit=3`).
    pub exit: Option<u8>,
    /// It never becomes ready (`unready`).
    pub unready: bool,
    /// It is ready no more after so many requests (`unready_after=100`).
    pub unready_after: Option<u64>,
    /// It listens one port further (`wrong_port`).
    pub wrong_port: bool,
    /// It takes no notice of stop signals (`ignore_stop`).
    pub ignore_stop: bool,
}

impl Setting for Faults {
    fn read(text: &str) -> Result<Self, String> {
        let mut faults = Self::default();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let number = || format!("`{part}` needs a whole number");
            match name {
                "errors" => faults.errors = quantity::share(value)?,
                "slow" => {
                    let (share, delay) = value
                        .split_once(':')
                        .ok_or_else(|| format!("`{part}` is not such as `slow=3%:200ms`"))?;
                    faults.slow = Some((quantity::share(share)?, quantity::duration(delay)?));
                }
                "crash_after" => {
                    faults.crash_after = Some(value.parse().map_err(|_| number())?);
                }
                "unready_after" => {
                    faults.unready_after = Some(value.parse().map_err(|_| number())?);
                }
                "leak" => faults.leak = quantity::bytes(value)?,
                "flood" => faults.flood = quantity::bytes(value)?,
                "exit" => faults.exit = Some(value.parse().map_err(|_| number())?),
                "unready" if value.is_empty() => faults.unready = true,
                "wrong_port" if value.is_empty() => faults.wrong_port = true,
                "ignore_stop" if value.is_empty() => faults.ignore_stop = true,
                _ => return Err(format!("`{part}` is not a fault")),
            }
        }
        Ok(faults)
    }
}

/// Faults at work on the requests of one instance.
#[derive(Debug)]
pub(crate) struct Injector {
    faults: Faults,
    seen: AtomicU64,
    leaked: Mutex<Vec<Vec<u8>>>,
}

impl Injector {
    pub(crate) fn new(faults: Faults) -> Arc<Self> {
        Arc::new(Self {
            faults,
            seen: AtomicU64::new(0),
            leaked: Mutex::default(),
        })
    }

    /// Whether it was to be ready no more by now.
    pub(crate) fn has_had_enough(&self) -> bool {
        let seen = self.seen.load(Ordering::Relaxed);
        self.faults.unready_after.is_some_and(|last| last <= seen)
    }

    pub(crate) fn floods(&self) -> bool {
        self.faults.flood > 0
    }

    /// Writes log lines at the rate asked for, for ever.
    pub(crate) async fn flood(self: Arc<Self>) {
        const LINE: &str =
            "this line is here to flood the log, because the environment asked for it";
        let lines = self.faults.flood / 10 / LINE.len() as u64;
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            for _ in 0..lines {
                tracing::warn!("{LINE}");
            }
        }
    }
}

pub(crate) async fn inject(
    State(injector): State<Arc<Injector>>,
    request: Request,
    next: Next,
) -> Response {
    let faults = &injector.faults;
    let seen = injector.seen.fetch_add(1, Ordering::Relaxed) + 1;
    if faults.crash_after.is_some_and(|last| last <= seen) {
        tracing::error!("fault: crashing");
        std::process::abort();
    }
    if faults.leak > 0 {
        let size = usize::try_from(faults.leak).unwrap_or(usize::MAX);
        // Written to, or the memory would only be promised.
        let kept = black_box(vec![1_u8; size]);
        let mut leaked = injector
            .leaked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        leaked.push(kept);
    }
    if let Some((share, delay)) = faults.slow
        && rand::random::<f64>() < share
    {
        tokio::time::sleep(delay).await;
    }
    if rand::random::<f64>() < faults.errors {
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR)
            .code("fault::injected")
            .detail("this error was asked for by the environment")
            .into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_together() {
        let faults =
            Faults::read("errors=5%, slow=3%:200ms,crash_after=100,leak=1MiB,unready").unwrap();
        let expected = Faults {
            errors: 0.05,
            slow: Some((0.03, Duration::from_millis(200))),
            crash_after: Some(100),
            leak: 1 << 20,
            unready: true,
            ..Faults::default()
        };
        assert_eq!(faults, expected);
    }

    #[test]
    fn anything_else_is_a_problem() {
        for text in [
            "error=5%",
            "errors=5",
            "slow=3%",
            "crash_after=x",
            "unready=no",
        ] {
            assert!(Faults::read(text).is_err(), "{text}");
        }
    }
}
