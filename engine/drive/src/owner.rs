//! Who runs a command, in a way that later tells whether they still do.

use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

/// A process on a machine. A process id alone may be given to another process; with the boot and the start time it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The user's name.
    pub user: String,
    /// The machine's name.
    pub host: String,
    /// The machine's boot, as the kernel names it.
    pub boot: String,
    /// The process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`, proc(5)).
    pub started: u64,
}

impl Owner {
    /// This process.
    pub fn this_process() -> Self {
        let pid = std::process::id();
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            user: variable("USER")
                .or_else(|| variable("LOGNAME"))
                .unwrap_or_else(|| "somebody".to_owned()),
            host: fs::read_to_string("/proc/sys/kernel/hostname")
                .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned()),
            boot: boot(),
            pid,
            started: started(pid).unwrap_or_default(),
        }
    }

    /// Whether the process still runs; `None` where this machine cannot tell, because it runs on another.
    ///
    /// A boot of the same machine that is over has no living process.
    pub fn lives(&self) -> Option<bool> {
        let here = Self::this_process();
        if here.host != self.host {
            return None;
        }
        if here.boot != self.boot {
            // Containers may share a host name with another machine, so only this boot is certain.
            return None;
        }
        Some(started(self.pid) == Some(self.started))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} (process {})", self.user, self.host, self.pid)
    }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in parentheses and may itself hold any character.
    let (_, fields) = stat.rsplit_once(')')?;
    // What follows begins with field 3, the state; a zombie no longer runs.
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_one_that_reuses_its_number_does_not() {
        let me = Owner::this_process();
        assert_eq!(me.lives(), Some(true));
        let reused = Owner {
            started: me.started + 1,
            ..me.clone()
        };
        assert_eq!(reused.lives(), Some(false));
        let elsewhere = Owner {
            host: "elsewhere".to_owned(),
            ..me
        };
        assert_eq!(elsewhere.lives(), None);
    }
}
