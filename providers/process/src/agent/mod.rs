//! The agent: starts, watches, restarts and stops everything of one environment.

mod api;
mod certificates;
mod chains;
mod child;
mod engine;
mod gateway;
mod gateway_process;
mod gateway_secrets;
mod group;
mod instance;
mod observe;
mod resource;
mod sealed;
mod start;
mod state;
mod stop;
mod watch;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::UnixListener;

pub(crate) use engine::program as engine_program;
pub(crate) use start::user_of;
use state::{Agent, End, Found};

use crate::durable::{self, StateError, Survives};
use crate::identity::ProcessIdentity;
use crate::keeper::{GIVE_UP, OCCUPIED};
use crate::layout::{AgentRecord, Layout};
use crate::options::AgentOptions;
use crate::recorded::Kept;

/// How long a predecessor may take to let go of the state folder.
const LOCK_WITHIN: Duration = Duration::from_secs(3);

/// Why an agent could not begin.
#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error("another agent is at work on `{0}`")]
    Occupied(String),
    #[error("everything in `{0}` was stopped")]
    Unwanted(String),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot listen on `{0}`")]
    Listen(String, #[source] io::Error),
}

/// Runs the agent of an environment until it is told to stop.
pub(crate) fn run(options: &AgentOptions) -> ExitCode {
    // A part that is gone would be missed silently; a fresh agent takes everything over whole.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("{panic}");
        std::process::abort();
    }));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(2))
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the agent's runtime");
            return ExitCode::FAILURE;
        }
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        match begin(options).await {
            Ok((agent, listener, lock)) => {
                let end = serve(&agent, listener).await;
                tracing::info!(?end, "the agent ends");
                let _ = fs::remove_file(agent.layout.agent_record());
                drop(lock);
                ExitCode::SUCCESS
            }
            Err(error @ (BeginError::Occupied(_) | BeginError::Unwanted(_))) => {
                tracing::info!(%error, "not needed");
                ExitCode::from(OCCUPIED)
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, ?cause, "cannot begin");
                ExitCode::from(GIVE_UP)
            }
        }
    })
}

async fn begin(options: &AgentOptions) -> Result<(Rc<Agent>, UnixListener, File), BeginError> {
    let layout = Layout::new(&options.state);
    // Looked at before anything is made, and again once nobody else can take it away.
    is_wanted(&layout)?;
    let lock = lock(&layout).await?;
    is_wanted(&layout)?;
    let open_files = raise_open_files();
    let sockets = layout.sockets()?;
    let secret_files = layout.secret_files()?;
    let recovered = durable::recover::<Kept>(&layout.desired());
    for damage in &recovered.damage {
        tracing::error!("{damage}");
    }
    let socket = sockets.join("agent.sock");
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)
        .map_err(|error| BeginError::Listen(socket.display().to_string(), error))?;
    let secrets = sealed::load(&layout);
    let known = recovered.value;
    let lost = known.is_none();
    let agent = Agent::new(Found {
        options: options.clone(),
        sockets,
        secret_files,
        kept: known.unwrap_or_default(),
        secrets,
        notes: recovered.damage,
        open_files,
        layout: layout.clone(),
    });
    let record = AgentRecord {
        process: ProcessIdentity::own().map_err(|error| {
            StateError::of("read", std::path::Path::new("/proc/self/stat"), error)
        })?,
        keeper: ProcessIdentity::of(nix::unistd::getppid().as_raw()).ok(),
        socket,
    };
    // Everything that ran before is taken over before anybody can ask.
    group::resume(&agent, lost);
    let bytes = serde_json::to_vec(&record)
        .map_err(|error| StateError::of("write", &layout.agent_record(), error.into()))?;
    durable::replace(&layout.agent_record(), &bytes, Survives::Crash)?;
    Ok((agent, listener, lock))
}

fn is_wanted(layout: &Layout) -> Result<(), BeginError> {
    if layout.agent_wanted().exists() {
        return Ok(());
    }
    Err(BeginError::Unwanted(layout.root().display().to_string()))
}

/// Waits for the state folder's lock, which a predecessor may hold for an instant more.
async fn lock(layout: &Layout) -> Result<File, BeginError> {
    let path = layout.agent_lock();
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| StateError::of("write", &path, error))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if begun.elapsed() < LOCK_WITHIN => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(fs::TryLockError::WouldBlock) => {
                return Err(BeginError::Occupied(layout.root().display().to_string()));
            }
            Err(fs::TryLockError::Error(error)) => {
                return Err(StateError::of("lock", &path, error).into());
            }
        }
    }
}

/// Each instance costs a few files; services get back the limit that we were given.
fn raise_open_files() -> u64 {
    let limit = Resource::RLIMIT_NOFILE;
    let Ok((soft, hard)) = getrlimit(limit) else {
        return 1024;
    };
    let _ = setrlimit(limit, hard, hard);
    soft
}

async fn serve(agent: &Rc<Agent>, listener: UnixListener) -> End {
    tokio::task::spawn_local(Rc::clone(agent).keeping());
    tokio::task::spawn_local(gateway_process::supervise(Rc::clone(agent)));
    tokio::task::spawn_local(gateway::pushing(Rc::clone(agent)));
    tokio::task::spawn_local(certificates::renewing(Rc::clone(agent)));
    tokio::task::spawn_local(chains::watching(Rc::clone(agent)));
    tokio::task::spawn_local(watch_keeper(Rc::clone(agent)));
    tokio::task::spawn_local(api::serve(Rc::clone(agent), listener));
    let mut end = agent.end.subscribe();
    loop {
        let told = *end.borrow_and_update();
        if let Some(told) = told {
            // The answer to who asked goes out first.
            tokio::time::sleep(Duration::from_millis(20)).await;
            return told;
        }
        if end.changed().await.is_err() {
            return End::Left;
        }
    }
}

/// Without a keeper nobody would start the next agent: a new one is started, whose agent takes over from this one.
async fn watch_keeper(agent: Rc<Agent>) {
    let Ok(keeper) = ProcessIdentity::of(nix::unistd::getppid().as_raw()) else {
        return;
    };
    // Started by hand, without a keeper.
    let kept = crate::process_table::command_line(keeper.pid)
        .iter()
        .any(|word| word == "--keep");
    if !kept {
        return;
    }
    let Some(keeper) = child::Child::adopt(&keeper, agent.layout.exits()) else {
        return;
    };
    keeper.gone().await;
    tracing::warn!("the keeper is gone; a new one takes over");
    let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let started = std::process::Command::new(program)
        .args(agent.options.arguments("--detach"))
        .current_dir("/")
        .stdin(std::process::Stdio::null())
        .status();
    match started {
        Ok(_) => {
            agent.end.send_replace(Some(End::Left));
        }
        Err(error) => tracing::error!(%error, "cannot start a new keeper"),
    }
}
