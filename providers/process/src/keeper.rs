//! The agent's parent: starts it again when it dies, and writes down how orphans ended.
//!
//! Services are the agent's children. When the agent dies they become the keeper's, so their ends are still seen by somebody
//! who can tell the next agent. The keeper does nothing else, so that it has no reason to die.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::identity::{ProcessIdentity, boot_id};
use crate::layout::Layout;
use crate::options::AgentOptions;

/// Exit code of an agent that shall not be started again.
pub(crate) const GIVE_UP: u8 = 78;
/// Exit code of an agent that found another one at work.
pub(crate) const OCCUPIED: u8 = 75;

const SLOWEST: Duration = Duration::from_secs(5);

/// Starts a keeper that no terminal and no caller holds on to, and returns.
pub(crate) fn detach(options: &AgentOptions) -> ExitCode {
    let _ = nix::unistd::setsid();
    let Ok(program) = std::env::current_exe() else {
        return ExitCode::FAILURE;
    };
    let started = Command::new(program)
        .args(options.arguments("--keep"))
        .current_dir("/")
        .stdin(Stdio::null())
        .spawn();
    match started {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot start the keeper");
            ExitCode::FAILURE
        }
    }
}

/// Keeps an agent running until it has been asked to stop.
pub(crate) fn run(options: &AgentOptions) -> ExitCode {
    let _ = nix::unistd::setsid();
    if let Err(error) = nix::sys::prctl::set_child_subreaper(true) {
        tracing::warn!(%error, "ends of orphans will not be seen");
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            tracing::error!(%error, "cannot tell which program this is");
            return ExitCode::FAILURE;
        }
    };
    let layout = Layout::new(&options.state);
    let mut quick_deaths: u32 = 0;
    loop {
        let arguments: Vec<OsString> = options.arguments("");
        let started_at = Instant::now();
        let agent = Command::new(&program)
            .args(&arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .spawn();
        let pid = match agent {
            Ok(agent) => Pid::from_raw(agent.id().cast_signed()),
            Err(error) => {
                tracing::error!(%error, "cannot start the agent");
                return ExitCode::FAILURE;
            }
        };
        match reap_until(pid, &layout.exits()) {
            Some(WaitStatus::Exited(_, code))
                if code == 0 || code == i32::from(GIVE_UP) || code == i32::from(OCCUPIED) =>
            {
                return ExitCode::from(u8::try_from(code).unwrap_or(1));
            }
            Some(end) => tracing::warn!(?end, "the agent ended; starting it again"),
            None => return ExitCode::FAILURE,
        }
        quick_deaths = if started_at.elapsed() < Duration::from_secs(2) {
            quick_deaths + 1
        } else {
            0
        };
        if quick_deaths > 1 {
            let pause = Duration::from_millis(50 << quick_deaths.min(7));
            std::thread::sleep(pause.min(SLOWEST));
        }
    }
}

/// Waits for children until the agent ends; writes down how the others ended.
fn reap_until(agent: Pid, exits: &Path) -> Option<WaitStatus> {
    loop {
        // Looked at first and reaped after: until then nobody else gets its number.
        let seen = match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Ok(seen) => seen,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return None,
        };
        let pid = seen.pid()?;
        if pid != agent {
            record(exits, pid, seen);
        }
        let status = waitpid(pid, None).ok()?;
        if pid == agent {
            return Some(status);
        }
    }
}

fn record(exits: &Path, pid: Pid, status: WaitStatus) {
    let Ok(identity) = ProcessIdentity::of(pid.as_raw()) else {
        return;
    };
    let end = match status {
        WaitStatus::Exited(_, code) => ProcessEnd::Code(code),
        WaitStatus::Signaled(_, signal, _) => ProcessEnd::Signal(signal as i32),
        _ => return,
    };
    let line = format!(
        "{} {} {} {}\n",
        identity.boot,
        identity.pid,
        identity.start,
        end.mark()
    );
    let file = OpenOptions::new().create(true).append(true).open(exits);
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        tracing::warn!(%error, "cannot write down how a process ended");
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessEnd {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// Nobody saw it.
    Unknown,
}

impl ProcessEnd {
    fn mark(self) -> String {
        match self {
            Self::Code(code) => format!("code:{code}"),
            Self::Signal(signal) => format!("signal:{signal}"),
            Self::Unknown => "unknown".to_owned(),
        }
    }

    fn from_mark(mark: &str) -> Option<Self> {
        let (kind, number) = mark.split_once(':')?;
        let number = number.parse().ok()?;
        match kind {
            "code" => Some(Self::Code(number)),
            "signal" => Some(Self::Signal(number)),
            _ => None,
        }
    }

    /// Of a status that was waited for.
    pub(crate) fn of(status: WaitStatus) -> Self {
        match status {
            WaitStatus::Exited(_, code) => Self::Code(code),
            WaitStatus::Signaled(_, signal, _) => Self::Signal(signal as i32),
            _ => Self::Unknown,
        }
    }
}

impl std::fmt::Display for ProcessEnd {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Signal(signal) => write!(formatter, "signal {signal}"),
            Self::Unknown => formatter.write_str("ended unseen, exit code unknown"),
        }
    }
}

/// How a process ended, if the keeper wrote it down.
pub(crate) fn recorded_end(exits: &Path, identity: &ProcessIdentity) -> Option<ProcessEnd> {
    let text = std::fs::read_to_string(exits).ok()?;
    let start = format!("{} {} {} ", identity.boot, identity.pid, identity.start);
    text.lines()
        .rev()
        .find_map(|line| ProcessEnd::from_mark(line.strip_prefix(&start)?))
}

/// Forgets ends of earlier boots and keeps the file small. Called while no adopted process is waited for.
pub(crate) fn trim_exits(exits: &Path) {
    let Ok(text) = std::fs::read_to_string(exits) else {
        return;
    };
    if text.len() > 64 * 1024 || !text.lines().all(|line| line.starts_with(boot_id())) {
        let _ = std::fs::write(exits, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_found_by_the_whole_identity() {
        let folder = tempfile::tempdir().unwrap();
        let exits = folder.path().join("exits");
        std::fs::write(&exits, "b 7 100 code:0\nb 7 200 signal:9\nb 70 1 code:3\n").unwrap();
        let end = |pid, start| {
            let identity = ProcessIdentity {
                boot: "b".to_owned(),
                pid,
                start,
            };
            recorded_end(&exits, &identity)
        };
        assert_eq!(end(7, 100), Some(ProcessEnd::Code(0)));
        assert_eq!(end(7, 200), Some(ProcessEnd::Signal(9)));
        assert_eq!(end(70, 1), Some(ProcessEnd::Code(3)));
        assert_eq!(end(7, 1), None);
    }
}
