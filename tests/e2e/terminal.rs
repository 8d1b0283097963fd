//! A command on a terminal, whose questions are answered.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::sandbox::{Running, Sandbox, Seen};

const QUESTION: &str = "[y/N] ";

/// A command that has asked something and waits for the answer.
pub(crate) struct Asking {
    pub(crate) running: Running,
    /// What the terminal shows, up to the question.
    pub(crate) shown: String,
    screen: File,
}

impl Asking {
    /// Runs a command on a terminal until it asks.
    pub(crate) fn until(sandbox: &Sandbox, words: &[&str]) -> Self {
        let terminal = nix::pty::openpty(None, None).expect("a terminal");
        let asked = sandbox
            .command(words)
            .stdin(terminal.slave.try_clone().expect("its other end"))
            .stderr(terminal.slave)
            .spawn()
            .expect("the program runs");
        let mut screen = File::from(terminal.master);
        let mut shown = Vec::new();
        while !shown.ends_with(QUESTION.as_bytes()) {
            let mut byte = [0];
            screen.read_exact(&mut byte).expect("a question");
            shown.extend(byte);
        }
        Self {
            running: Running::of(asked),
            shown: String::from_utf8_lossy(&shown).into_owned(),
            screen,
        }
    }

    /// Answers yes, and waits for the end; no further question may come.
    ///
    /// - returns: how it ended, and all that the terminal has shown
    pub(crate) fn agree(self) -> (Seen, String) {
        let Self {
            mut running,
            mut shown,
            mut screen,
        } = self;
        screen.write_all(b"y\n").expect("it is heard");
        let asked_at = shown.len();
        let (telling, told) = mpsc::channel();
        thread::spawn(move || {
            let mut some = [0; 1024];
            while let Ok(length) = screen.read(&mut some) {
                if telling.send(some[..length].to_owned()).is_err() {
                    return;
                }
            }
        });
        // Children of other tests have the terminal, too, so that its end tells nothing.
        loop {
            match told.recv_timeout(Duration::from_millis(200)) {
                Ok(some) => shown.push_str(&String::from_utf8_lossy(&some)),
                Err(_) if running.child().try_wait().expect("a child").is_some() => break,
                Err(_) => {}
            }
            assert!(!shown[asked_at..].contains(QUESTION), "{shown}");
        }
        (running.wait(), shown)
    }
}
