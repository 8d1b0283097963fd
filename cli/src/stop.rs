//! Ctrl-C and its like: once to stop at a safe point, twice to leave now.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::view::{SharedView, Told};

/// The word to stop, from whoever runs us.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Exit code of the first signal; 0 until there was one.
    signal: AtomicU8,
    stands: Mutex<Option<String>>,
}

impl Stop {
    /// Cancelled at the first signal.
    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Says where things stand, for whoever leaves in the middle.
    pub(crate) fn stands(&self, how: impl Into<String>) {
        *self.shared.lock() = Some(how.into());
    }

    /// How a program ends that was stopped; `None` if it was not.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match self.shared.signal.load(Ordering::Relaxed) {
            0 => None,
            143 => Some(Exit::Terminated),
            _ => Some(Exit::Interrupted),
        }
    }

    /// Listens for signals from now on. Needs a runtime.
    pub(crate) fn listen(&self, view: &SharedView) {
        let (Ok(mut interrupts), Ok(mut terminations)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) else {
            // Without handlers a signal ends us at once, which is safe at any instant.
            return;
        };
        let stop = self.clone();
        let view = Arc::clone(view);
        tokio::spawn(async move {
            loop {
                let exit = tokio::select! {
                    _ = interrupts.recv() => Exit::Interrupted,
                    _ = terminations.recv() => Exit::Terminated,
                };
                stop.hear(exit, &view);
            }
        });
    }

    fn hear(&self, exit: Exit, view: &SharedView) {
        if !self.token.is_cancelled() {
            self.shared.signal.store(exit.code(), Ordering::Relaxed);
            if let Some(stands) = self.shared.lock().as_ref() {
                view.tell(&Told::important(format!(
                    "stopping at a safe point ({stands}); Ctrl-C again to leave now"
                )));
            }
            self.token.cancel();
            return;
        }
        let stands = self.shared.lock().clone();
        let stands = stands.unwrap_or_else(|| "nothing was under way".to_owned());
        view.tell(&Told::important(format!("left at once: {stands}")));
        // The second Ctrl-C means now.
        std::process::exit(i32::from(exit.code()));
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.stands
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
