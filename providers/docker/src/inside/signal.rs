//! A signal to a command beside a service, from a container that sees the instance's processes.
//!
//! An engine starts commands in a container and has no way to end them, so they are found by a mark among their variables.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, setresgid, setresuid};

/// The variable whose value marks a command and what it starts.
pub(crate) const MARK: &str = "PLATFORM_EXEC";

/// Sends a signal to every process with this mark.
///
/// - `name`: as the kernel has it, such as `SIGINT`
pub(super) fn signal(mark: &str, name: &str) -> io::Result<()> {
    let signal: Signal = name.parse()?;
    become_user_of(Path::new("/proc/1/status"))?;
    // What is ended for good may start another one just then.
    let rounds = if signal == Signal::SIGKILL { 10 } else { 1 };
    for _ in 0..rounds {
        let found = marked(Path::new("/proc"), mark)?;
        if found.is_empty() {
            break;
        }
        for process in found {
            // It may have ended meanwhile.
            let _ = kill(process, signal);
        }
    }
    Ok(())
}

/// Becomes the user of the instance: who shares it may look and signal, and needs no power over others.
fn become_user_of(status: &Path) -> io::Result<()> {
    let text = fs::read_to_string(status)?;
    let id = |what: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(what));
        let id = line.and_then(|ids| ids.split_whitespace().next()?.parse::<u32>().ok());
        id.ok_or_else(|| io::Error::other(format!("the kernel does not tell `{what}`")))
    };
    let (user, group) = (Uid::from_raw(id("Uid:")?), Gid::from_raw(id("Gid:")?));
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    Ok(())
}

/// Processes that have the mark among the variables they were started with.
fn marked(processes: &Path, mark: &str) -> io::Result<Vec<Pid>> {
    let wanted = format!("{MARK}={mark}");
    let mut found = Vec::new();
    for entry in fs::read_dir(processes)? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // Those of others cannot be read, and are none of ours.
        let variables = fs::read(processes.join(name).join("environ")).unwrap_or_default();
        if variables
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
        {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_whole_among_variables() {
        let folder = tempfile::tempdir().unwrap();
        for (pid, variables) in [
            ("7", "PATH=/bin\0PLATFORM_EXEC=abc\0"),
            ("8", "PLATFORM_EXEC=abcd\0"),
            ("9", "NOTE=PLATFORM_EXEC=abc\0"),
            ("self", "PLATFORM_EXEC=abc\0"),
        ] {
            let own = folder.path().join(pid);
            fs::create_dir(&own).unwrap();
            fs::write(own.join("environ"), variables).unwrap();
        }
        // One that ended while it was looked at.
        fs::create_dir(folder.path().join("10")).unwrap();
        assert_eq!(marked(folder.path(), "abc").unwrap(), [Pid::from_raw(7)]);
    }
}
