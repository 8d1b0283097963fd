//! Which process is meant, also when its number has been given to another.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use crate::process_table::ProcessStat;

/// One process of one boot of this machine, never another one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessIdentity {
    /// The boot it ran in.
    pub(crate) boot: String,
    /// Its number.
    pub(crate) pid: i32,
    /// When it was started, in clock ticks since boot.
    pub(crate) start: u64,
}

/// Names this boot of the machine.
pub(crate) fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    })
}

impl ProcessIdentity {
    /// The identity of the process that has this number now.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let stat = ProcessStat::read(pid)?;
        Ok(Self {
            boot: boot_id().to_owned(),
            pid,
            start: stat.start,
        })
    }

    /// The identity of this very process.
    ///
    /// # Errors
    ///
    /// If `/proc` is not there.
    pub(crate) fn own() -> io::Result<Self> {
        Self::of(nix::unistd::getpid().as_raw())
    }

    /// Whether it still runs; a process that ended and was not waited for does not.
    pub(crate) fn alive(&self) -> bool {
        self.boot == boot_id()
            && ProcessStat::read(self.pid)
                .is_ok_and(|stat| stat.start == self.start && !stat.ended())
    }

    /// A handle on this very process, `None` if it is gone.
    ///
    /// The handle is opened first and the identity checked after, so it cannot belong to a successor of the number.
    pub(crate) fn open(&self) -> Option<OwnedFd> {
        if self.boot != boot_id() {
            return None;
        }
        let pid = Pid::from_raw(self.pid)?;
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let stat = ProcessStat::read(self.pid).ok()?;
        (stat.start == self.start).then_some(handle)
    }

    /// Sends a signal to this very process; `false` if it is gone.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        self.open()
            .is_some_and(|handle| send(&handle, signal).is_ok())
    }
}

/// Sends a signal through a handle.
///
/// # Errors
///
/// If the process is gone or belongs to somebody else.
pub(crate) fn send(handle: &OwnedFd, signal: Signal) -> io::Result<()> {
    let signal = rustix::process::Signal::from_named_raw(signal as i32)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    rustix::process::pidfd_send_signal(handle, signal).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_number_is_not_the_same_process() {
        let own = ProcessIdentity::own().unwrap();
        assert!(own.alive());
        assert!(own.open().is_some());
        let earlier = ProcessIdentity {
            start: own.start - 1,
            ..own.clone()
        };
        assert!(!earlier.alive());
        assert!(earlier.open().is_none());
        assert!(!earlier.signal(Signal::SIGKILL));
        let before_reboot = ProcessIdentity {
            boot: "another".to_owned(),
            ..own
        };
        assert!(!before_reboot.alive());
        assert!(!before_reboot.signal(Signal::SIGKILL));
    }
}
