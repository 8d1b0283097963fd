//! The target's side of [`crate::protocol`], and how an agent is started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::durable::{self, StateError};
use crate::identity::ProcessIdentity;
use crate::layout::{AgentRecord, Layout};
use crate::options::AgentOptions;
use crate::protocol::{AgentInfo, Fault};

/// Has the program's allocator use small pages: an agent and its gateway are there for long and need little, where a
/// command is quickest with few large ones.
const FOR_LONG: [(&str, &str); 1] = [("MIMALLOC_ALLOW_THP", "0")];

/// How long a fresh agent may take until it listens.
const START_WITHIN: Duration = Duration::from_secs(15);

/// Why an exchange with the agent failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// Nobody listens.
    #[error("no agent runs for `{}`", .0.display())]
    Absent(PathBuf),
    /// The exchange broke off.
    #[error("the agent did not answer {0}")]
    Broken(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answered that it will not.
    #[error("{}", .0.message)]
    Refused(Fault),
    /// It did not come up.
    #[error("the agent did not start: {0}")]
    NotStarted(String),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Where an agent listens, if one says that it runs and does.
pub(crate) fn record(layout: &Layout) -> Option<AgentRecord> {
    let bytes = fs::read(layout.agent_record()).ok()?;
    let record: AgentRecord = serde_json::from_slice(&bytes).ok()?;
    record.process.alive().then_some(record)
}

/// Talks to an agent. Each call opens its own connection.
#[derive(Debug, Clone)]
pub(crate) struct AgentClient {
    socket: PathBuf,
}

impl AgentClient {
    /// The client of the agent that runs now.
    ///
    /// # Errors
    ///
    /// [`AgentError::Absent`] if none does.
    pub(crate) fn running(layout: &Layout) -> Result<Self, AgentError> {
        record(layout)
            .map(|record| Self {
                socket: record.socket,
            })
            .ok_or_else(|| AgentError::Absent(layout.root().to_owned()))
    }

    /// Asks for a value.
    ///
    /// # Errors
    ///
    /// If there is no answer, or a refusal.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AgentError> {
        let bytes = self.exchange(Method::GET, path, Vec::new()).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| AgentError::Broken(path.to_owned(), error.into()))
    }

    /// Asks for a change.
    ///
    /// # Errors
    ///
    /// If there is no answer, or a refusal.
    pub(crate) async fn change<T: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: &T,
    ) -> Result<(), AgentError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| AgentError::Broken(path.to_owned(), error.into()))?;
        self.exchange(method, path, body).await.map(drop)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Bytes, AgentError> {
        let broken = |error: Box<dyn std::error::Error + Send + Sync>| {
            AgentError::Broken(format!("{method} {path}"), error)
        };
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| broken(error.into()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(error.into()))?;
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("host", "agent")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| broken(error.into()))?;
        let answer = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            Ok::<_, hyper::Error>((status, answer.into_body().collect().await?.to_bytes()))
        };
        tokio::pin!(answer, connection);
        let (status, bytes) = tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(error),
            },
        }
        .map_err(|error| broken(error.into()))?;
        if status.is_success() {
            return Ok(bytes);
        }
        let fault = serde_json::from_slice(&bytes).unwrap_or_else(|_| {
            let code = if status == StatusCode::NOT_FOUND {
                "agent::unknown"
            } else {
                "agent::bug"
            };
            Fault::new(code, format!("{method} {path} answered {status}"))
        });
        Err(AgentError::Refused(fault))
    }

    /// What it is.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub(crate) async fn info(&self) -> Result<AgentInfo, AgentError> {
        self.get("/agent").await
    }
}

/// The client of a running agent of this build, started if there is none, replaced if it is of another build.
///
/// # Errors
///
/// If the state folder takes no writes, or no agent comes up.
pub(crate) async fn ensure(
    program: &Path,
    build: &str,
    options: &AgentOptions,
    layout: &Layout,
) -> Result<AgentClient, AgentError> {
    if let Ok(client) = AgentClient::running(layout) {
        match client.info().await {
            Ok(info) if info.build == build => return Ok(client),
            Ok(_) => leave(&client, layout).await,
            // It is on its way out, or up.
            Err(_) => {}
        }
    }
    check_writable(layout)?;
    start(program, options, layout).await
}

/// Has an agent of another build make room; everything it keeps up goes on meanwhile.
async fn leave(client: &AgentClient, layout: &Layout) {
    let process = record(layout).map(|record| record.process);
    let _ = client.change(Method::POST, "/leave", &()).await;
    let begun = Instant::now();
    while process.as_ref().is_some_and(ProcessIdentity::alive)
        && begun.elapsed() < Duration::from_secs(5)
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Says so before anything is touched where the state folder takes no writes.
///
/// # Errors
///
/// `state::read-only` or `state::disk-full`.
pub(crate) fn check_writable(layout: &Layout) -> Result<(), StateError> {
    durable::make_folder(layout.root())?;
    let trial = layout.root().join(".trial");
    // Enough to notice a disk that is all but full.
    let written = durable::replace(&trial, &vec![0; 64 * 1024], durable::Survives::Crash);
    let _ = fs::remove_file(&trial);
    written?;
    if let Some(parent) = layout.root().parent()
        && parent.file_name().is_some_and(|name| name == ".platform")
    {
        let ignore = parent.join(".gitignore");
        if !ignore.exists() {
            let _ = fs::write(ignore, "*\n");
        }
    }
    Ok(())
}

async fn start(
    program: &Path,
    options: &AgentOptions,
    layout: &Layout,
) -> Result<AgentClient, AgentError> {
    let log_path = layout.agent_log();
    if fs::metadata(&log_path).is_ok_and(|seen| seen.len() > 1024 * 1024) {
        let _ = fs::rename(&log_path, log_path.with_extension("log.1"));
    }
    let open = || {
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(|error| StateError::of("write", &log_path, error))
    };
    let (stdout, stderr) = (open()?, open()?);
    let wanted = layout.agent_wanted();
    fs::write(&wanted, "").map_err(|error| StateError::of("write", &wanted, error))?;
    let before = fs::metadata(&log_path).map_or(0, |seen| seen.len());
    let status = tokio::process::Command::new(program)
        .args(options.arguments("--detach"))
        .envs(FOR_LONG)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .status()
        .await
        .map_err(|error| {
            AgentError::NotStarted(format!("cannot run `{}`: {error}", program.display()))
        })?;
    if !status.success() {
        return Err(AgentError::NotStarted(last_words(
            &log_path,
            before,
            &status.to_string(),
        )));
    }
    let begun = Instant::now();
    loop {
        if let Ok(client) = AgentClient::running(layout)
            && client.info().await.is_ok()
        {
            return Ok(client);
        }
        if begun.elapsed() > START_WITHIN {
            return Err(AgentError::NotStarted(last_words(
                &log_path,
                before,
                "it says nothing",
            )));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn last_words(log: &Path, from: u64, otherwise: &str) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let start = usize::try_from(from).unwrap_or(0).min(bytes.len());
    let text = String::from_utf8_lossy(&bytes[start..]).into_owned();
    text.lines().last().unwrap_or(otherwise).to_owned()
}
