//! The keeper: a container that holds the volumes of documents, credentials and the authority, and the way to talk to it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, HostConfig,
};
use futures::{Stream, StreamExt};
use platform_port::{Retry, TargetError};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use crate::PROVIDER;
use crate::container::{hardened, log_config, volume};
use crate::engine::Engine;
use crate::inside::{AUTHORITY, Answer, Ask, Asked, CREDENTIALS, SIGNING, SOCKETS, STATE, Told};
use crate::names::{BUILD, KEEP, Role};
use crate::observe::ended;
use crate::program::{FOLDER, USER};
use crate::site::{Site, is_paused, is_running, label, lock, name};

/// How long the keeper may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest piece of output taken in at once.
const PIECE: usize = 64 * 1024;

type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>>;

/// An open way to the keeper: requests and answers over one command that runs in it.
pub(crate) struct Line {
    input: AsyncMutex<std::pin::Pin<Box<dyn AsyncWrite + Send>>>,
    waiting: Waiting,
    number: AtomicU64,
}

/// Why the keeper did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// The connection ended or never came about; asking anew may help.
    #[error("the keeper cannot be asked: {0}")]
    Broken(String),
    /// The engine refused, or something else is in the way.
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl From<Trouble> for TargetError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Target(error) => error,
            broken @ Trouble::Broken(_) => {
                TargetError::unreachable(PROVIDER, "ask the environment's keeper", broken)
            }
        }
    }
}

impl Line {
    async fn open(engine: &Engine, container: &str, command: Vec<String>) -> Result<Self, Trouble> {
        let broken = |error: bollard::errors::Error| Trouble::Broken(error.to_string());
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command),
            ..CreateExecOptions::default()
        };
        let made = engine.docker.create_exec(container, options).await;
        let made = made.map_err(broken)?;
        let started = bollard::exec::StartExecOptions {
            output_capacity: Some(PIECE),
            ..Default::default()
        };
        let started = engine.docker.start_exec(&made.id, Some(started)).await;
        let StartExecResults::Attached { output, input } = started.map_err(broken)? else {
            return Err(Trouble::Broken("it runs without us".to_owned()));
        };
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        tokio::spawn(listen(output, Arc::clone(&waiting)));
        Ok(Self {
            input: AsyncMutex::new(input),
            waiting,
            number: AtomicU64::new(0),
        })
    }

    fn is_open(&self) -> bool {
        lock(&self.waiting).is_some()
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, Trouble> {
        let broken = || Trouble::Broken("the connection to it ended".to_owned());
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        lock(&self.waiting)
            .as_mut()
            .ok_or_else(broken)?
            .insert(number, tell);
        let mut line = serde_json::to_vec(&Asked { number, ask }).unwrap_or_default();
        line.push(b'\n');
        let asked = async {
            {
                let mut input = self.input.lock().await;
                input.write_all(&line).await?;
                input.flush().await?;
            }
            Ok::<_, std::io::Error>(told.await)
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(_))) => Err(broken()),
            Ok(Err(error)) => Err(Trouble::Broken(error.to_string())),
            Err(_) => Err(Trouble::Broken(format!(
                "it did not answer within {} s",
                PATIENCE.as_secs()
            ))),
        }
    }
}

async fn listen(
    mut output: impl Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
    waiting: Waiting,
) {
    let mut text: Vec<u8> = Vec::new();
    while let Some(Ok(piece)) = output.next().await {
        match piece {
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                text.extend_from_slice(&message);
            }
            LogOutput::StdErr { message } => {
                tracing::debug!(said = %String::from_utf8_lossy(&message), "the keeper");
            }
            LogOutput::StdIn { .. } => {}
        }
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            if let Ok(told) = serde_json::from_slice::<Told>(&line)
                && let Some(waiting) = lock(&waiting).as_mut()
                && let Some(tell) = waiting.remove(&told.number)
            {
                let _ = tell.send(told.answer);
            }
        }
    }
    // Whoever waits hears that nobody will answer.
    *lock(&waiting) = None;
}

/// How much may be done to reach the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing: a keeper that does not run is not asked.
    IfRunning,
    /// Start it, or make it again where there are documents.
    IfKept,
    /// Make whatever is missing.
    Make,
}

impl Site {
    /// Asks the keeper; `None` where there is none and none is to be made.
    pub(crate) async fn ask(&self, ask: Ask, reach: Reach) -> Result<Option<Answer>, Trouble> {
        Ok(self.ask_again(ask, reach).await?.0)
    }

    /// The same, and how often it had to be asked again: what was asked before may have been done all the same.
    pub(crate) async fn ask_again(
        &self,
        ask: Ask,
        reach: Reach,
    ) -> Result<(Option<Answer>, u32), Trouble> {
        let mut tries = 0;
        loop {
            let Some(line) = Box::pin(self.line(reach)).await? else {
                return Ok((None, tries));
            };
            match line.ask(ask.clone()).await {
                Ok(answer) => return Ok((Some(answer), tries)),
                // The keeper may have been replaced or restarted just now.
                Err(Trouble::Broken(_)) if tries < 2 => tries += 1,
                Err(error) => return Err(error),
            }
            self.hang_up().await;
        }
    }

    /// Closes the way to the keeper; the next request opens another.
    pub(crate) async fn hang_up(&self) {
        *self.line.lock().await = None;
    }

    async fn line(&self, reach: Reach) -> Result<Option<Arc<Line>>, Trouble> {
        let mut current = self.line.lock().await;
        if let Some(line) = current.as_ref().filter(|line| line.is_open()) {
            return Ok(Some(Arc::clone(line)));
        }
        if self.destroyed.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let keeper = self.names.keeper();
        let mut seen = self.inspect(&keeper).await?;
        if !seen.as_ref().is_some_and(is_running) {
            match reach {
                Reach::IfRunning => return Ok(None),
                Reach::IfKept if !self.has_volume(&self.names.plumbing("state")).await? => {
                    return Ok(None);
                }
                Reach::IfKept | Reach::Make => {
                    self.ensure_keeper(false).await?;
                    seen = self.inspect(&keeper).await?;
                }
            }
        }
        let command = seen
            .as_ref()
            .filter(|seen| self.is_own(seen))
            .and_then(|seen| label(seen, KEEP))
            .and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
        let Some(mut command) = command else {
            return Err(crate::site::taken("container", &keeper).into());
        };
        command.extend(["inside", "serve"].map(str::to_owned));
        let line = Arc::new(Line::open(&self.engine, &keeper, command).await?);
        *current = Some(Arc::clone(&line));
        Ok(Some(line))
    }

    /// Makes sure that a keeper runs; of this very build where `current` is set.
    pub(crate) async fn ensure_keeper(&self, current: bool) -> Result<(), TargetError> {
        if current {
            self.destroyed.store(false, Ordering::SeqCst);
        }
        Box::pin(self.bring_keeper(current)).await
    }

    async fn bring_keeper(&self, current: bool) -> Result<(), TargetError> {
        let _one_at_a_time = self.laying.lock().await;
        let keeper = self.names.keeper();
        let program = self.program()?;
        let seen = self.recalled(&keeper).await?;
        let away = self.away(seen.as_ref()).await?;
        if let Some(seen) = seen {
            if !self.is_own(&seen) {
                return Err(crate::site::taken("container", &keeper));
            }
            let other = label(&seen, BUILD) != Some(program.build.as_str());
            if !(is_paused(&seen) || current && other) {
                if is_running(&seen) {
                    return Ok(());
                }
                self.start(name(&seen)).await?;
                self.notice(away);
                return Ok(());
            }
            self.remove(&keeper, None).await?;
        }
        self.is_for_us().await?;
        // Before the image: it stays on the engine while a volume says that it is needed.
        for what in ["state", "authority", "signing", "run"] {
            self.plumbing(&self.names.plumbing(what)).await?;
        }
        self.plumbing(&self.program_volume(&program.build)).await?;
        // It opens the data that stay, so it stays with them.
        let credentials = self.names.plumbing("credentials");
        self.volume(&credentials, self.names.labels(Role::Data))
            .await?;
        self.create_own(&keeper, self.keeper_body(&program)).await?;
        self.start(&keeper).await?;
        self.notice(away);
        Ok(())
    }

    /// Why the keeper of an environment that has documents does not answer, in words; `None` where it may.
    ///
    /// - `seen`: its container
    async fn away(
        &self,
        seen: Option<&ContainerInspectResponse>,
    ) -> Result<Option<String>, TargetError> {
        let status = seen.and_then(|seen| seen.state.as_ref()?.status);
        Ok(match (seen, status) {
            (None, _) => {
                let kept = self.has_volume(&self.names.plumbing("state")).await?;
                kept.then(|| "its container was removed".to_owned())
            }
            (_, Some(ContainerStateStatusEnum::PAUSED)) => Some("it was paused".to_owned()),
            // One that was made and never started is of a run that was killed.
            (
                Some(seen),
                Some(status @ (ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD)),
            ) => Some(format!("its container was {status}; {}", ended(seen))),
            _ => None,
        })
    }

    fn notice(&self, away: Option<String>) {
        let told = away.map(|why| format!("the keeper was away: {why}; it runs again"));
        lock(&self.noticed).extend(told);
    }

    /// Why the keeper is away, for `doctor`; `None` where it is not.
    pub(crate) async fn keeper_away(&self) -> Result<Option<String>, TargetError> {
        let seen = self.inspect(&self.names.keeper()).await?;
        self.away(seen.as_ref()).await
    }

    /// The volume in which other containers find our program.
    pub(crate) fn program_volume(&self, build: &str) -> String {
        program_volume(&self.names, build)
    }

    fn keeper_body(&self, program: &crate::program::Program) -> ContainerCreateBody {
        let mut command = program.command(FOLDER);
        let mut labels = self.names.labels(Role::Keeper);
        labels.insert(BUILD.to_owned(), program.build.clone());
        let words = serde_json::to_string(&command).unwrap_or_default();
        labels.insert(KEEP.to_owned(), words);
        command.extend(["inside", "keep"].map(str::to_owned));
        ContainerCreateBody {
            image: Some(program.image()),
            entrypoint: Some(command),
            user: Some(format!("{USER}:{USER}")),
            labels: Some(labels),
            host_config: Some(HostConfig {
                // Nobody talks to it but through the engine.
                network_mode: Some("none".to_owned()),
                mounts: Some(vec![
                    volume(&self.names.plumbing("state"), STATE, false),
                    volume(&self.names.plumbing("credentials"), CREDENTIALS, false),
                    volume(&self.names.plumbing("authority"), AUTHORITY, false),
                    volume(&self.names.plumbing("signing"), SIGNING, false),
                    volume(&self.names.plumbing("run"), SOCKETS, false),
                    // The first who mounts it fills it from the image.
                    volume(&self.program_volume(&program.build), FOLDER, false),
                ]),
                log_config: Some(log_config(&platform_blueprint::Logs::default())),
                ..hardened()
            }),
            ..ContainerCreateBody::default()
        }
    }
}

/// An answer that is none to what was asked, as an error.
pub(crate) fn unexpected(action: &str, answer: Option<Answer>) -> TargetError {
    let said = match answer {
        Some(Answer::Failed(said) | Answer::Silent(said)) => said,
        Some(_) => "the keeper is of another build and answers otherwise".to_owned(),
        None => "the environment has no keeper".to_owned(),
    };
    TargetError {
        retry: Retry::Later,
        ..TargetError::refused(PROVIDER, action, said)
    }
}

/// The volume from which other containers run our own program.
pub(crate) fn program_volume(names: &crate::names::Names, build: &str) -> String {
    names.plumbing(&format!("program-{build}"))
}
