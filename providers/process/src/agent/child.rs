//! One process that the agent started or found, until it ends.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::identity::ProcessIdentity;
use crate::keeper::{ProcessEnd, recorded_end};
use crate::launch::Launch;
use crate::process_table::{INSTANCE_VARIABLE, STATE_VARIABLE};

/// How long the keeper may take to write down an end.
const KEEPER_WITHIN: Duration = Duration::from_secs(1);

/// A running process.
#[derive(Debug)]
pub(super) struct Child {
    /// Which.
    pub(super) identity: ProcessIdentity,
    handle: AsyncFd<OwnedFd>,
    /// We are its parent and wait for it ourselves.
    own: bool,
    exits: PathBuf,
}

/// A process that waits to be told what to become. Dropped, it ends.
pub(super) struct Prepared {
    child: std::process::Child,
    /// Which.
    pub(super) identity: ProcessIdentity,
    exits: PathBuf,
}

/// Starts a process that will become an instance's program.
///
/// # Errors
///
/// If no process can be started.
pub(super) fn prepare(tag: &str, instance: &str, exits: PathBuf) -> io::Result<Prepared> {
    // This very program, also where its file has been replaced since.
    let child = Command::new("/proc/self/exe")
        .arg0("platform")
        .args(["agent", "--launch"])
        .env_clear()
        .env(STATE_VARIABLE, tag)
        .env(INSTANCE_VARIABLE, instance)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let identity = ProcessIdentity::of(child.id().cast_signed())?;
    Ok(Prepared {
        child,
        identity,
        exits,
    })
}

/// Has a handle wake us.
#[expect(
    deprecated,
    reason = "its successor is unsafe, which is forbidden here; an owned handle that is never replaced is sound"
)]
fn watched(handle: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(handle, Interest::READABLE)
}

impl Prepared {
    /// Tells it what to become.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub(super) fn launch(mut self, launch: &Launch) -> io::Result<Child> {
        let words = serde_json::to_vec(launch)?;
        if let Some(mut input) = self.child.stdin.take() {
            input.write_all(&words)?;
        }
        let handle = self
            .identity
            .open()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Child {
            identity: self.identity,
            handle: watched(handle)?,
            own: true,
            exits: self.exits,
        })
    }
}

impl Child {
    /// Takes over a process that an agent before us started; `None` if it is gone.
    pub(super) fn adopt(identity: &ProcessIdentity, exits: PathBuf) -> Option<Self> {
        if !identity.alive() {
            return None;
        }
        let handle = identity.open()?;
        Some(Self {
            identity: identity.clone(),
            handle: watched(handle).ok()?,
            own: false,
            exits,
        })
    }

    /// Waits until it is gone, however it ended.
    pub(super) async fn gone(&self) {
        let _ = self.handle.readable().await;
    }

    /// Waits for its end. Safe to give up and ask again, as long as no end was returned.
    pub(super) async fn ended(&self) -> ProcessEnd {
        // A handle on a process becomes readable when it ends (pidfd_open(2)).
        let _ = self.handle.readable().await;
        if self.own {
            let pid = Pid::from_raw(self.identity.pid);
            return waitpid(pid, Some(WaitPidFlag::WNOHANG))
                .map_or(ProcessEnd::Unknown, ProcessEnd::of);
        }
        let deadline = tokio::time::Instant::now() + KEEPER_WITHIN;
        loop {
            if let Some(end) = recorded_end(&self.exits, &self.identity) {
                return end;
            }
            if tokio::time::Instant::now() >= deadline {
                return ProcessEnd::Unknown;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
