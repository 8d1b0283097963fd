//! One look at the target for all that wait for it.

use std::sync::Arc;
use std::time::Duration;

use platform_decide::observed::Observed;
use platform_port::{Target, TargetError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long to wait for the target to say that something changed before looking anyway.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// Observes a target for as long as somebody watches, once for all who do.
#[derive(Debug)]
pub struct Watcher {
    latest: watch::Receiver<Latest>,
    watching: watch::Sender<usize>,
    looking: JoinHandle<()>,
}

/// Somebody who watches.
struct Watching<'a>(&'a watch::Sender<usize>);

impl<'a> Watching<'a> {
    fn begin(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[derive(Debug, Clone)]
enum Latest {
    Nothing,
    Seen(Arc<Observed>),
    Failed(Arc<TargetError>),
}

impl Watcher {
    /// Observes a target where somebody watches.
    pub fn over(target: Arc<dyn Target>) -> Self {
        let (tell, latest) = watch::channel(Latest::Nothing);
        let (watching, mut watched) = watch::channel(0);
        let looking = tokio::spawn(async move {
            loop {
                if *watched.borrow_and_update() == 0 {
                    // What was seen before is too old for whoever comes next.
                    tell.send_replace(Latest::Nothing);
                    if watched.wait_for(|count| *count > 0).await.is_err() {
                        return;
                    }
                }
                let now = match target.observe().await {
                    Ok(observed) => Latest::Seen(Arc::new(observed)),
                    Err(error) => Latest::Failed(Arc::new(error)),
                };
                if tell.send(now).is_err() {
                    return;
                }
                tokio::select! {
                    () = target.changed(LOOK_AT_LEAST_EVERY) => {}
                    _ = watched.wait_for(|count| *count == 0) => {}
                }
            }
        });
        Self {
            latest,
            watching,
            looking,
        }
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
        let _watching = Watching::begin(&self.watching);
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
