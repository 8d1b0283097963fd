//! The terminal we may stand on.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::sys::termios::{self, SetArg, Termios};
use tokio_util::sync::CancellationToken;

/// Columns and rows, where one of the standard streams is a terminal.
pub(crate) fn size() -> Option<(u16, u16)> {
    let on = |stream: BorrowedFd<'_>| {
        let size = rustix::termios::tcgetwinsize(stream).ok()?;
        (0 < size.ws_col && 0 < size.ws_row).then_some((size.ws_col, size.ws_row))
    };
    on(io::stderr().as_fd()).or_else(|| on(io::stdout().as_fd()))
}

/// A terminal that hands every key over as it is pressed; put back as it was when dropped.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes standard input raw; `None` where it is no terminal.
    pub(crate) fn enter() -> Option<Self> {
        let input = io::stdin();
        let before = termios::tcgetattr(input.as_fd()).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(input.as_fd(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &self.before);
    }
}

/// How often it is seen whether the word to stop came in place of an answer.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Asks a question on standard error and reads one line; `None` at the end of the input.
///
/// # Errors
///
/// [`io::ErrorKind::Interrupted`] at the word to stop.
pub(crate) fn ask(question: &str, stop: &CancellationToken) -> io::Result<Option<String>> {
    {
        let mut err = io::stderr().lock();
        write!(err, "{question} ")?;
        err.flush()?;
    }
    let (answered, answers) = mpsc::channel();
    // Reading cannot be broken off, so it has a thread that nobody waits for.
    thread::spawn(move || {
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        let _ = answered.send(read.map(|read| (0 < read).then(|| answer.trim().to_owned())));
    });
    loop {
        match answers.recv_timeout(LOOK_EVERY) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if stop.is_cancelled() => {
                let _ = writeln!(io::stderr());
                return Err(io::ErrorKind::Interrupted.into());
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// The same, without showing what is typed.
pub(crate) fn ask_silently(question: &str, stop: &CancellationToken) -> io::Result<Option<String>> {
    struct Shown(Option<Termios>);
    impl Drop for Shown {
        fn drop(&mut self) {
            if let Some(before) = &self.0 {
                let _ = termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, before);
            }
        }
    }
    let input = io::stdin();
    let before = termios::tcgetattr(input.as_fd()).ok();
    if let Some(before) = &before {
        let mut hidden = before.clone();
        hidden.local_flags.remove(termios::LocalFlags::ECHO);
        termios::tcsetattr(input.as_fd(), SetArg::TCSADRAIN, &hidden)?;
    }
    let shown = Shown(before);
    let answer = ask(question, stop);
    drop(shown);
    let _ = writeln!(io::stderr());
    answer
}
