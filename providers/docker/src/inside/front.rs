//! The first process of the gateway's container: keeps a gateway running, and lets a newer program take over without a gap.
//!
//! A newer program is put into the folder of programs, `current` there says how it is started, and SIGHUP has it started. It takes
//! the listening sockets from the one before, which ends by itself once its requests are answered.

use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// The file that says how the current program is started: a list of words, as JSON.
pub(crate) const CURRENT: &str = "current";
/// The first pause before a gateway that ended is started again; doubles with each, up to the last.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The gateways that run, the one at work last.
struct Running {
    pids: Vec<i32>,
    ended: mpsc::UnboundedSender<(i32, io::Result<ExitStatus>)>,
}

impl Running {
    fn start(&mut self, command: &[String], arguments: &[String]) -> io::Result<()> {
        let (program, words) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let child: Child = Command::new(program).args(words).args(arguments).spawn()?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .unwrap_or_default();
        self.pids.push(pid);
        let ended = self.ended.clone();
        tokio::spawn(async move {
            let mut child = child;
            let status = child.wait().await;
            let _ = ended.send((pid, status));
        });
        Ok(())
    }

    fn tell(&self, signal: Signal) {
        for pid in &self.pids {
            let _ = kill(Pid::from_raw(*pid), signal);
        }
    }
}

/// How the current program is started: as the file says, else as this one was.
fn current(folder: &Path, own: &[String]) -> Vec<String> {
    let text = std::fs::read(folder.join(CURRENT)).unwrap_or_default();
    let words: Option<Vec<String>> = serde_json::from_slice(&text).ok();
    let there = |words: &Vec<String>| {
        words
            .first()
            .is_some_and(|first| Path::new(first).is_file())
    };
    words.filter(there).unwrap_or_else(|| own.to_vec())
}

/// Removes programs that are not the current one.
fn sweep(folder: &Path) {
    let words = current(folder, &[]);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_current = words.iter().any(|word| Path::new(word).starts_with(&path));
        if path.is_dir() && !is_current {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Keeps a gateway running until it is told to stop.
///
/// - `folder`: where programs are put
/// - `own`: how this very program is started
pub(super) async fn front(folder: &Path, own: &[String], arguments: &[String]) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut renew = signal(SignalKind::hangup())?;
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut running = Running {
        pids: Vec::new(),
        ended,
    };
    let mut pause = PAUSE;
    let mut stopping = false;
    running.start(&current(folder, own), arguments)?;
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                stopping = true;
                running.tell(Signal::SIGTERM);
            }
            _ = interrupt.recv() => {
                stopping = true;
                running.tell(Signal::SIGTERM);
            }
            _ = renew.recv() => {
                if !stopping && let Err(error) = running.start(&current(folder, own), arguments) {
                    tracing::error!(%error, "the newer program cannot be started");
                }
            }
            Some((pid, _)) = ends.recv() => {
                running.pids.retain(|other| *other != pid);
                if running.pids.is_empty() {
                    if stopping {
                        return Ok(());
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    running.start(&current(folder, own), arguments)?;
                } else {
                    // It handed over, or the newer one did not come up: the other goes on.
                    pause = PAUSE;
                    sweep(folder);
                }
            }
        }
    }
}
