//! One look at the target for all that wait for it.

use std::sync::Arc;
use std::time::Duration;

use platform_decide::observed::Observed;
use platform_port::{Target, TargetError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long to wait for the target to say that something changed before looking anyway.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// Observes a target for as long as it is kept, once for all who watch.
#[derive(Debug)]
pub struct Watcher {
    latest: watch::Receiver<Latest>,
    looking: JoinHandle<()>,
}

#[derive(Debug, Clone)]
enum Latest {
    Nothing,
    Seen(Arc<Observed>),
    Failed(Arc<TargetError>),
}

impl Watcher {
    /// Begins to observe.
    pub fn over(target: Arc<dyn Target>) -> Self {
        let (tell, latest) = watch::channel(Latest::Nothing);
        let looking = tokio::spawn(async move {
            loop {
                let now = match target.observe().await {
                    Ok(observed) => Latest::Seen(Arc::new(observed)),
                    Err(error) => Latest::Failed(Arc::new(error)),
                };
                if tell.send(now).is_err() {
                    return;
                }
                target.changed(LOOK_AT_LEAST_EVERY).await;
            }
        });
        Self { latest, looking }
    }

    /// Waits until `judge` makes something of what is observed.
    ///
    /// A target that cannot be looked at for a while is looked at again; after `patience` looks in a row that failed, the last
    /// failure is returned.
    ///
    /// # Errors
    ///
    /// The target's error, when it stays away.
    pub async fn until<T>(
        &self,
        patience: u32,
        mut judge: impl FnMut(&Observed) -> Option<T>,
    ) -> Result<T, Arc<TargetError>> {
        let mut latest = self.latest.clone();
        let mut failures = 0;
        loop {
            let now = latest.borrow_and_update().clone();
            match now {
                Latest::Nothing => {}
                Latest::Seen(observed) => {
                    failures = 0;
                    if let Some(found) = judge(&observed) {
                        return Ok(found);
                    }
                }
                Latest::Failed(error) => {
                    failures += 1;
                    if failures > patience {
                        return Err(error);
                    }
                }
            }
            if latest.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.looking.abort();
    }
}
