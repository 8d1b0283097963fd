//! An engine on another machine, over `ssh`: each connection is `docker system dial-stdio` there, as Docker's own client does it.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{BollardRequest, Docker};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::engine::OLDEST;

/// The two ends of a program's pipes as one connection; the program ends with it.
struct Pipes {
    _child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl AsyncRead for Pipes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(context, buffer)
    }
}

impl AsyncWrite for Pipes {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(context)
    }
}

/// A folder of the user's alone, in which the connection to a machine is kept for the next: each costs a second otherwise.
fn keeping_folder() -> Option<PathBuf> {
    let user = nix::unistd::getuid();
    // It is found by the user's entry, as `ssh` finds it, not by `HOME`.
    let home = nix::unistd::User::from_uid(user).ok().flatten();
    let usual = home.map(|own| own.dir.join(".ssh"));
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let made = std::env::temp_dir().join(format!("platform-{user}"));
    let _ = std::fs::DirBuilder::new().mode(0o700).create(&made);
    let mut folders = usual.into_iter().chain(runtime).chain([made]);
    folders.find(|folder| {
        let plain = folder.to_str().is_some_and(|text| {
            // A socket's path is short, and `ssh` reads words and signs of its own in it.
            text.len() < 36 && !text.contains([' ', '%', '"', '$', '\\'])
        });
        let seen = std::fs::symlink_metadata(folder);
        plain
            && seen.is_ok_and(|seen| {
                seen.is_dir() && seen.uid() == user.as_raw() && seen.mode() & 0o022 == 0
            })
    })
}

/// The arguments of `ssh` for an address such as `ssh://me@host:2222`.
///
/// - `kept`: where one connection to the machine is kept, which carries all of ours
fn arguments(place: &str, kept: Option<&Path>) -> Result<Vec<String>, &'static str> {
    let address = place.strip_prefix("ssh://").unwrap_or(place);
    let address = address.split('/').next().unwrap_or_default();
    let (destination, port) = match address.rsplit_once(':') {
        Some((destination, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => {
            (destination, Some(port))
        }
        _ => (address, None),
    };
    if destination.is_empty() || destination.starts_with('-') {
        return Err("it names no machine");
    }
    let mut arguments = vec!["-T".to_owned()];
    if let Some(port) = port {
        arguments.extend(["-p".to_owned(), port.to_owned()]);
    }
    // Nobody is there to be asked.
    let mut options = vec!["BatchMode=yes".to_owned(), "ConnectTimeout=30".to_owned()];
    if let Some(folder) = kept {
        options.extend([
            "ControlMaster=auto".to_owned(),
            format!("ControlPath={}/platform-%C", folder.display()),
            "ControlPersist=30".to_owned(),
        ]);
    }
    for option in options {
        arguments.extend(["-o".to_owned(), option]);
    }
    let rest = ["--", destination, "docker", "system", "dial-stdio"];
    arguments.extend(rest.map(str::to_owned));
    Ok(arguments)
}

/// What `ssh` said of a connection that came to nothing.
async fn last_words(told: Option<ChildStderr>) -> Option<String> {
    const PATIENCE: Duration = Duration::from_secs(1);
    const MOST: u64 = 4 * 1024;
    let mut said = Vec::new();
    // A connection that is kept for the next one holds the pipe open, so its end may not come.
    let mut told = told?.take(MOST);
    let _ = tokio::time::timeout(PATIENCE, told.read_to_end(&mut said)).await;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    (!said.is_empty()).then_some(said)
}

/// Prepares connections through `ssh`.
///
/// # Errors
///
/// If the address names no machine.
pub(crate) fn connect(
    place: &str,
    patience_seconds: u64,
) -> Result<Docker, Box<dyn std::error::Error + Send + Sync>> {
    let arguments = Arc::new(arguments(place, keeping_folder().as_deref())?);
    let transport = move |request: BollardRequest| {
        let arguments = Arc::clone(&arguments);
        async move {
            let mut child = Command::new("ssh")
                .args(arguments.iter())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let told = child.stderr.take();
            let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
                return Err(Error::from(io::Error::other(
                    "the pipes of `ssh` are missing",
                )));
            };
            let pipes = TokioIo::new(Pipes {
                _child: child,
                input,
                output,
            });
            let (mut sender, connection) = hyper::client::conn::http1::handshake(pipes).await?;
            tokio::spawn(async move {
                let _ = connection.with_upgrades().await;
            });
            let (mut head, body) = request.into_parts();
            // The engine wants a path alone.
            let path = head
                .uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned();
            head.uri = path.parse().map_err(http::Error::from)?;
            head.headers
                .insert("host", http::HeaderValue::from_static("docker"));
            let request = hyper::Request::from_parts(head, body);
            match sender.send_request(request).await {
                Ok(answer) => Ok(answer),
                Err(error) => Err(match last_words(told).await {
                    Some(said) => Error::from(io::Error::other(said)),
                    None => error.into(),
                }),
            }
        }
    };
    let client = Docker::connect_with_custom_transport(
        transport,
        Some("http://docker"),
        patience_seconds,
        &OLDEST,
    )?;
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_arguments_and_never_an_option() {
        let joined =
            |place| arguments(place, Some(Path::new("/home/me/.ssh"))).map(|words| words.join(" "));
        let port = joined("ssh://me@host:2222").unwrap();
        assert!(port.starts_with("-T -p 2222 "), "{port}");
        assert!(
            port.ends_with("-- me@host docker system dial-stdio"),
            "{port}"
        );
        assert!(joined("ssh://host").unwrap().contains("-- host docker"));
        let kept = "-o ControlPath=/home/me/.ssh/platform-%C ";
        assert!(port.contains(kept), "{port}");
        let alone = arguments("ssh://host", None).unwrap().join(" ");
        assert!(!alone.contains("Control"), "{alone}");
        assert!(joined("ssh://-oProxyCommand=x").is_err());
        assert!(joined("ssh://").is_err());
    }
}
