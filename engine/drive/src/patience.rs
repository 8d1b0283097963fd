//! Asking again what a store or a target that is away for a moment did not do.

use std::error::Error;
use std::time::Duration;

use platform_port::{Retry, StoreError, TargetError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::store_code;

/// How long to wait before asking again.
pub(crate) const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// For how long something may fail that may pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What goes on failing is told again after so many times.
const TELL_EVERY: u32 = 10;

/// How long what has begun to act may take to come to its end once a run is told to stop.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// An error that may pass by itself.
pub(crate) trait Passing: Error + 'static {
    /// Whether asking again could help.
    fn passes(&self) -> bool;
}

impl Passing for StoreError {
    fn passes(&self) -> bool {
        // Somebody has to make room first, or to let it write.
        let for_good = matches!(store_code(self), "state::disk-full" | "state::read-only");
        matches!(self, Self::Unavailable { .. }) && !for_good
    }
}

impl Passing for TargetError {
    fn passes(&self) -> bool {
        self.retry == Retry::Later
    }
}

/// Asks until it is done or will not be, and for no longer than [`PATIENCE`] while it fails.
///
/// - `stop`: ends the waiting
/// - `told`: takes in what is asked again about, now and then
///
/// # Errors
///
/// The last one, if it goes on failing, if asking again does not help, or once `stop` is cancelled.
pub(crate) async fn patiently<T, E: Passing>(
    stop: Option<&CancellationToken>,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
    told: impl Fn(&E),
) -> Result<T, E> {
    let begun = Instant::now();
    let mut failed = 0_u32;
    loop {
        let error = match ask().await {
            Err(error) if error.passes() && begun.elapsed() < PATIENCE => error,
            done => return done,
        };
        if failed.is_multiple_of(TELL_EVERY) {
            told(&error);
        }
        failed += 1;
        let stopped = async {
            match stop {
                Some(stop) => stop.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(ASK_AGAIN_AFTER) => {}
            () = stopped => return Err(error),
        }
    }
}

/// Lets something that acts come to its end. Once `stop` is cancelled it has [`ENDS_WITHIN`] for that, and then is left as by a run
/// that is killed there; `None` where it was.
pub(crate) async fn ended<T>(
    stop: &CancellationToken,
    acting: impl Future<Output = T>,
) -> Option<T> {
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(ENDS_WITHIN).await;
    };
    tokio::select! {
        biased;
        done = acting => Some(done),
        () = late => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> StoreError {
        StoreError::Unavailable {
            action: "write",
            key: "journal".to_owned(),
            place: "memory".to_owned(),
            source: "the connection broke".into(),
        }
    }

    async fn check(failures: u32, error: fn() -> StoreError) -> (bool, u32) {
        let mut asked = 0;
        let done = patiently(
            None,
            async || {
                asked += 1;
                if asked <= failures {
                    Err(error())
                } else {
                    Ok(())
                }
            },
            |_| {},
        )
        .await;
        (done.is_ok(), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_waited_for_and_not_for_ever() {
        assert_eq!(check(0, away).await, (true, 1));
        assert_eq!(check(60, away).await, (true, 61));
        assert_eq!(check(61, away).await, (false, 61));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_is_not_asked_again() {
        let conflict = || StoreError::Conflict {
            key: "journal".to_owned(),
        };
        assert_eq!(check(1, conflict).await, (false, 1));
        let full = || StoreError::Unavailable {
            action: "write",
            key: "journal".to_owned(),
            place: "a folder".to_owned(),
            source: std::io::Error::from(std::io::ErrorKind::StorageFull).into(),
        };
        assert_eq!(check(1, full).await, (false, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_acts_has_a_while_to_end_once_it_is_to_stop() {
        let stop = CancellationToken::new();
        stop.cancel();
        let takes = async |seconds: u64| tokio::time::sleep(Duration::from_secs(seconds)).await;
        assert_eq!(ended(&stop, takes(4)).await, Some(()));
        assert_eq!(ended(&stop, takes(6)).await, None);
        assert_eq!(ended(&CancellationToken::new(), takes(600)).await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_to_stop_ends_the_waiting() {
        let stop = CancellationToken::new();
        stop.cancel();
        let done = patiently(Some(&stop), async || Err::<(), _>(away()), |_| {}).await;
        assert!(done.is_err());
    }
}
