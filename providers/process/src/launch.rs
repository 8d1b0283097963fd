//! The last step before a service's program: a process that waits for its record, then becomes the program.
//!
//! The agent starts it, writes down its identity and only then tells it what to become, over its standard input. An agent
//! that is killed in between leaves an input without a word, and the process ends: no program ever runs without a record.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::{Deserialize, Serialize};

/// Exit code of a launch that got no instructions.
const CALLED_OFF: u8 = 124;
/// Exit code where the program could not be run.
pub(crate) const NOT_RUN: u8 = 126;

/// What to become. Holds secret values; goes through a pipe only.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The program's file.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// Its whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// The folder it runs in.
    pub(crate) folder: PathBuf,
    /// Its standard input; nothing where none is given.
    pub(crate) stdin: Option<PathBuf>,
    /// The pipe for its standard output.
    pub(crate) stdout: PathBuf,
    /// The pipe for its standard error.
    pub(crate) stderr: PathBuf,
    /// Control groups it joins.
    pub(crate) control_groups: Vec<PathBuf>,
    /// User and group it runs as.
    pub(crate) user: Option<(u32, u32)>,
    /// How many files it may open at a time.
    pub(crate) open_files: u64,
}

/// A pipe opened both ways: a reader that comes or goes is not noticed, and nothing written is lost.
pub(crate) fn open_pipe(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Waits for instructions on standard input, then becomes the program.
pub(crate) fn run() -> ExitCode {
    // Already a leader where somebody runs this by hand; then it stays as it is.
    let _ = nix::unistd::setsid();
    let mut text = Vec::new();
    if io::stdin().read_to_end(&mut text).is_err() || text.is_empty() {
        return ExitCode::from(CALLED_OFF);
    }
    let Ok(launch) = serde_json::from_slice::<Launch>(&text) else {
        return ExitCode::from(CALLED_OFF);
    };
    // A terminal opened first becomes the session's own.
    let stdin = match launch.stdin.as_deref().map(open_pipe).transpose() {
        Ok(stdin) => stdin.map_or_else(Stdio::null, Stdio::from),
        Err(_) => return ExitCode::from(NOT_RUN),
    };
    let (Ok(stdout), Ok(mut stderr)) = (open_pipe(&launch.stdout), open_pipe(&launch.stderr))
    else {
        return ExitCode::from(NOT_RUN);
    };
    let error = become_program(&launch, stdin, stdout, &stderr);
    let _ = writeln!(
        stderr,
        "platform: cannot run `{}`: {error}",
        launch.program.display()
    );
    ExitCode::from(NOT_RUN)
}

fn become_program(launch: &Launch, stdin: Stdio, stdout: File, stderr: &File) -> io::Error {
    let own = nix::unistd::getpid().to_string();
    for group in &launch.control_groups {
        if let Err(error) = std::fs::write(group.join("cgroup.procs"), &own) {
            return io::Error::other(format!("cannot join `{}`: {error}", group.display()));
        }
    }
    let resource = nix::sys::resource::Resource::RLIMIT_NOFILE;
    if let Ok((_, most)) = nix::sys::resource::getrlimit(resource) {
        let _ = nix::sys::resource::setrlimit(resource, launch.open_files.min(most), most);
    }
    let stderr = match stderr.try_clone() {
        Ok(stderr) => stderr,
        Err(error) => return error,
    };
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.arguments)
        .env_clear()
        .envs(&launch.environment)
        .current_dir(&launch.folder)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr);
    if let Some((user, group)) = launch.user {
        command.uid(user).gid(group);
    }
    command.exec()
}
