//! Runs a build's program: its output passed on line by line, its whole process group ended with it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::error::BuildError;

/// How many of the last lines an error carries.
const TAIL: usize = 200;

/// How long an interrupted build may take to end by itself.
const GRACE: Duration = Duration::from_secs(3);

/// A program to run, not a shell line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invocation {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub folder: PathBuf,
    pub variables: Vec<(String, OsString)>,
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub status: ExitStatus,
    /// The last lines for people, verbatim.
    pub tail: Vec<String>,
}

impl Ended {
    /// Says how it ended.
    pub(super) fn words(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exited with {code}"),
            (None, Some(signal)) => match Signal::try_from(signal) {
                Ok(signal) => format!("was ended by {signal}"),
                Err(_) => format!("was ended by signal {signal}"),
            },
            (None, None) => "ended".to_owned(),
        }
    }
}

/// Finds a program as a shell would: on the `PATH`, or where its path says.
pub(in super::super) fn find(program: &str) -> Option<PathBuf> {
    let runs = |path: &Path| {
        path.metadata()
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| runs(path));
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| runs(path))
}

/// Ends a process group that is still there when the run is given up.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

enum Line {
    Out(String),
    Error(String),
}

/// Runs a program to its end.
///
/// Lines on standard output go to `on_out` first; those it returns, and all on standard error, are for people: they go
/// to `on_line`, into the log and the tail.
///
/// # Errors
///
/// That it cannot be started, or that `stop` was asked for, in which case nothing of it runs any more.
pub(super) async fn run(
    invocation: &Invocation,
    log: &Path,
    stop: &CancellationToken,
    mut on_out: impl FnMut(String) -> Option<String> + Send,
    mut on_line: impl FnMut(&str) + Send,
) -> Result<Ended, BuildError> {
    if let Some(folder) = log.parent() {
        tokio::fs::create_dir_all(folder)
            .await
            .map_err(BuildError::file("make", folder))?;
    }
    let mut written = tokio::fs::File::create(log)
        .await
        .map_err(BuildError::file("write", log))?;
    let mut child = Command::new(&invocation.program)
        .args(&invocation.arguments)
        .current_dir(&invocation.folder)
        .envs(
            invocation
                .variables
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(BuildError::file("run", &invocation.program))?;
    let group_id = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .map(Pid::from_raw);
    let group = Group(group_id);
    let (sender, mut lines) = mpsc::channel(256);
    if let Some(out) = child.stdout.take() {
        tokio::spawn(read_lines(out, sender.clone(), Line::Out));
    }
    if let Some(errors) = child.stderr.take() {
        tokio::spawn(read_lines(errors, sender.clone(), Line::Error));
    }
    drop(sender);
    let mut tail = VecDeque::new();
    let mut take = async |line: Line| {
        let shown = match line {
            Line::Out(text) => on_out(text),
            Line::Error(text) => Some(text),
        };
        let Some(text) = shown else { return };
        on_line(&text);
        // A log that cannot be written is no reason to fail a build.
        let _ = written.write_all(text.as_bytes()).await;
        let _ = written.write_all(b"\n").await;
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(text);
    };
    let status = loop {
        tokio::select! {
            () = stop.cancelled() => {
                end(&mut child, group_id).await;
                return Err(BuildError::Interrupted);
            }
            line = lines.recv() => match line {
                Some(line) => take(line).await,
                None => break wait(&mut child, stop, group_id).await?,
            },
            status = child.wait() => {
                let status = status.map_err(BuildError::file("run", &invocation.program))?;
                // What it left running must not keep us waiting for the end of its output.
                let rest = async { while let Some(line) = lines.recv().await { take(line).await } };
                let _ = tokio::time::timeout(Duration::from_millis(500), rest).await;
                break status;
            }
        }
    };
    let _ = written.flush().await;
    // Nothing that a build started in its group outlives it.
    drop(group);
    Ok(Ended {
        status,
        tail: tail.into(),
    })
}

async fn wait(
    child: &mut tokio::process::Child,
    stop: &CancellationToken,
    group: Option<Pid>,
) -> Result<ExitStatus, BuildError> {
    tokio::select! {
        status = child.wait() => status.map_err(BuildError::file("wait for", Path::new("the build"))),
        () = stop.cancelled() => {
            end(child, group).await;
            Err(BuildError::Interrupted)
        }
    }
}

async fn end(child: &mut tokio::process::Child, group: Option<Pid>) {
    if let Some(group) = group {
        let _ = killpg(group, Signal::SIGTERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err()
        && let Some(group) = group
    {
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait().await;
    }
}

async fn read_lines(
    from: impl AsyncRead + Unpin + Send,
    to: mpsc::Sender<Line>,
    kind: fn(String) -> Line,
) -> io::Result<()> {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        if to.send(kind(text)).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str, folder: &Path) -> Invocation {
        Invocation {
            program: find("sh").unwrap(),
            arguments: vec!["-c".into(), line.into()],
            folder: folder.to_owned(),
            variables: vec![("NAME".to_owned(), "x".into())],
        }
    }

    #[tokio::test]
    async fn output_is_passed_on_and_the_tail_kept() {
        let temp = tempfile::tempdir().unwrap();
        let log = temp.path().join("logs/a.log");
        let mut seen = Vec::new();
        let stop = CancellationToken::new();
        let line = "echo hidden; echo said $NAME >&2; exit 3";
        let ended = run(
            &shell(line, temp.path()),
            &log,
            &stop,
            |_| None,
            |line| {
                seen.push(line.to_owned());
            },
        )
        .await
        .unwrap();
        assert_eq!(ended.words(), "exited with 3");
        assert_eq!(seen, ["said x"]);
        assert_eq!(ended.tail, ["said x"]);
        assert_eq!(std::fs::read_to_string(log).unwrap(), "said x\n");
    }

    #[tokio::test]
    async fn an_interrupted_build_takes_its_children_along() {
        let temp = tempfile::tempdir().unwrap();
        let log = temp.path().join("a.log");
        let stop = CancellationToken::new();
        let line = "trap '' TERM; sleep 1000 & echo $! >&2; wait; sleep 1000";
        let (sender, mut pid) = mpsc::unbounded_channel();
        let invocation = shell(line, temp.path());
        let asked = stop.clone();
        let running = tokio::spawn(async move {
            run(&invocation, &log, &asked, Some, |line| {
                let _ = sender.send(line.to_owned());
            })
            .await
        });
        let pid: i32 = pid.recv().await.unwrap().parse().unwrap();
        stop.cancel();
        assert!(matches!(
            running.await.unwrap(),
            Err(BuildError::Interrupted)
        ));
        let gone = || {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |stat| stat.contains(") Z "))
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !gone() {
            assert!(std::time::Instant::now() < deadline, "{pid} still runs");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_child_left_in_the_background_does_not_keep_a_build_waiting() {
        let temp = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let invocation = shell("sleep 1000 & echo done", temp.path());
        let started = std::time::Instant::now();
        let ended = run(&invocation, &temp.path().join("a.log"), &stop, Some, |_| {})
            .await
            .unwrap();
        assert!(ended.status.success());
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
