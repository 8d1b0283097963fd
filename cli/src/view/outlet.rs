//! Where a view writes, and what became of it.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::CliError;

/// Notes how writing went. After the first failure nothing more is to be written.
pub(super) struct Outlet {
    name: String,
    closed: AtomicBool,
    lost: OnceLock<io::Error>,
}

impl Outlet {
    /// - `name`: what people call it
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            closed: AtomicBool::new(false),
            lost: OnceLock::new(),
        }
    }

    pub(super) fn note(&self, written: io::Result<()>) {
        if let Err(error) = written {
            self.closed.store(true, Ordering::Relaxed);
            // A reader who has seen enough loses nothing.
            if error.kind() != io::ErrorKind::BrokenPipe {
                let _ = self.lost.set(error);
            }
        }
    }

    pub(super) fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// What to tell of something that could not be written.
    pub(super) fn lost(&self) -> Option<CliError> {
        let error = self.lost.get()?;
        let message = format!("{} took no more of what was asked for", self.name);
        Some(CliError::new("output::not-written", message).because(error))
    }
}
