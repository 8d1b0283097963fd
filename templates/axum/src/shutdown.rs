//! Being asked to stop: by `SIGTERM`, or by Ctrl-C.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether we have been asked to stop.
#[derive(Clone)]
pub struct Asked(watch::Receiver<bool>);

impl Asked {
    /// Listens for the signals from now on.
    pub fn listen() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let _ = sender.send(true);
            // Kept alive for those who wait.
            sender.closed().await;
        });
        Ok(Self(receiver))
    }

    /// Whether it has happened.
    pub fn already(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once it has happened.
    pub async fn wait(&self) {
        let _ = self.0.clone().wait_for(|asked| *asked).await;
    }

    #[cfg(test)]
    pub fn fixed(asked: bool) -> Self {
        Self(watch::channel(asked).1)
    }
}
