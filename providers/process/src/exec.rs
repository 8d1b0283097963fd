//! Commands beside an instance, and connections to what listens.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use futures::FutureExt;
use platform_port::{Attachment, Signal, TargetError};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::PROVIDER;
use crate::launch::Launch;
use crate::protocol::ExecSurroundings;
use crate::surroundings::find_program;

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("`{name}` was not found"))
}

/// Runs a command with an instance's environment and folder, and in its control groups.
///
/// # Errors
///
/// If it cannot be started.
pub(crate) fn run(
    program: &Path,
    found: &ExecSurroundings,
    command: &[String],
    tty: bool,
) -> io::Result<Attachment> {
    let (name, arguments) = command.split_first().ok_or_else(|| not_found(""))?;
    let file = find_program(name, &found.search, &found.folder).ok_or_else(|| not_found(name))?;
    if tty {
        return with_terminal(program, found, file, arguments);
    }
    let mut command = Command::new(file);
    command
        .args(arguments)
        .env_clear()
        .envs(&found.environment)
        .current_dir(&found.folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that what it starts is told to end with it.
        .process_group(0)
        .kill_on_drop(true);
    if let Some((user, group)) = found.user {
        command.uid(user).gid(group);
    }
    let mut child = command.spawn()?;
    if let Some(pid) = child.id() {
        for group in &found.control_groups {
            // A limit that cannot be shared is no reason not to look at what is wrong.
            let _ = std::fs::write(group.join("cgroup.procs"), pid.to_string());
        }
    }
    let (Some(input), Some(output), Some(errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io::Error::other("its pipes are missing"));
    };
    Ok(Attachment {
        input: Box::new(input),
        output: Box::new(output),
        errors: Some(Box::new(errors)),
        signal: child.id().map(signalling),
        exit: exit_of(child),
        resize: None,
    })
}

/// Passes signals on to the process group that `leader` leads.
fn signalling(leader: u32) -> tokio::sync::mpsc::UnboundedSender<Signal> {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel::<Signal>();
    tokio::spawn(async move {
        let Some(group) = i32::try_from(leader).ok().map(nix::unistd::Pid::from_raw) else {
            return;
        };
        while let Some(signal) = told.recv().await {
            // All of it may have ended meanwhile.
            let _ = signal
                .as_str()
                .parse()
                .map(|signal: nix::sys::signal::Signal| nix::sys::signal::killpg(group, signal));
        }
    });
    tell
}

fn exit_of(mut child: Child) -> futures::future::BoxFuture<'static, Result<i32, TargetError>> {
    use std::os::unix::process::ExitStatusExt;
    async move {
        let status = child
            .wait()
            .await
            .map_err(|error| TargetError::unreachable(PROVIDER, "wait for the command", error))?;
        // As shells say it.
        Ok(status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .unwrap_or(1))
    }
    .boxed()
}

/// The launch becomes a session's leader and opens the terminal by its name, which makes it the session's own.
fn with_terminal(
    program: &Path,
    found: &ExecSurroundings,
    file: PathBuf,
    arguments: &[String],
) -> io::Result<Attachment> {
    let pair = nix::pty::openpty(None, None)?;
    let terminal = nix::unistd::ttyname(&pair.slave)?;
    let mut environment = found.environment.clone();
    let kind = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
    environment.entry("TERM".to_owned()).or_insert(kind);
    let launch = Launch {
        program: file,
        arguments: arguments.to_vec(),
        environment,
        folder: found.folder.clone(),
        stdin: Some(terminal.clone()),
        stdout: terminal.clone(),
        stderr: terminal.clone(),
        control_groups: found.control_groups.clone(),
        user: found.user,
        open_files: 1024,
    };
    let mut child = Command::new(program)
        .args(["agent", "--launch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let words = serde_json::to_vec(&launch)?;
    let mut instructions = child
        .stdin
        .take()
        .ok_or_else(|| io::Error::other("its pipe is missing"))?;
    let slave = pair.slave;
    let pid = child.id();
    tokio::spawn(async move {
        let _ = instructions.write_all(&words).await;
        drop(instructions);
        // Open until the command has it open, or its output would end at once.
        let opened = || {
            let seen = pid.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/fd/2")).ok());
            seen.is_none_or(|seen| seen == terminal)
        };
        while !opened() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        drop(slave);
    });
    let ours = File::from(pair.master);
    let for_size = ours.try_clone()?;
    let (resize, mut sizes) = tokio::sync::mpsc::unbounded_channel::<(u16, u16)>();
    tokio::spawn(async move {
        while let Some((columns, rows)) = sizes.recv().await {
            let size = Winsize {
                ws_col: columns,
                ws_row: rows,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            let _ = tcsetwinsize(&for_size, size);
        }
    });
    Ok(Attachment {
        input: Box::new(tokio::fs::File::from_std(ours.try_clone()?)),
        output: Box::new(TerminalOutput(tokio::fs::File::from_std(ours))),
        errors: None,
        exit: exit_of(child),
        resize: Some(resize),
        signal: pid.map(signalling),
    })
}

/// A terminal whose last user is gone says so with an error; for a reader that is its end.
struct TerminalOutput(tokio::fs::File);

impl AsyncRead for TerminalOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(context, buffer) {
            Poll::Ready(Err(error))
                if error.raw_os_error() == Some(nix::errno::Errno::EIO as i32) =>
            {
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

/// Opens a connection.
///
/// # Errors
///
/// If nobody listens.
pub(crate) async fn connect(address: &str) -> io::Result<Attachment> {
    let (output, input) = TcpStream::connect(address).await?.into_split();
    Ok(Attachment {
        input: Box::new(input),
        output: Box::new(output),
        errors: None,
        exit: futures::future::ready(Ok(0)).boxed(),
        resize: None,
        signal: None,
    })
}
