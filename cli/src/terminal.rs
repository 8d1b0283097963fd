//! The terminal we may stand on.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::termios::{self, SetArg, Termios};

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

/// Asks a question on standard error and reads one line; `None` at the end of the input.
pub(crate) fn ask(question: &str) -> io::Result<Option<String>> {
    let mut err = io::stderr().lock();
    write!(err, "{question} ")?;
    err.flush()?;
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer)?;
    Ok((0 < read).then(|| answer.trim().to_owned()))
}

/// The same, without showing what is typed.
pub(crate) fn ask_silently(question: &str) -> io::Result<Option<String>> {
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
    let answer = ask(question);
    drop(shown);
    let _ = writeln!(io::stderr());
    answer
}
