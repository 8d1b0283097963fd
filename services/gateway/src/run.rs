//! The life of a gateway process: start, serve, hand over or drain.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use platform_gateway_api::{Config, Reason};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::access_log::LogTarget;
use crate::control::{Control, Refusal};
use crate::gateway::Gateway;
use crate::store::{Kept, Store};
use crate::upstream_tls::Trust;
use crate::{admin, handover, health, socket};

/// How often it is seen whether something is to be looked after.
const TICK_MS: u64 = 100;
/// How often connections are looked at is this part of the shortest time that one may wait.
const LOOKS: u64 = 20;
/// How long an idle connection stays open while the gateway drains: a client
/// that is about to ask again gets its answer and is told to go.
const GRACE_MS: u64 = 1_000;

/// How a gateway is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder where the last configuration is kept, and found at start.
    pub state: Option<PathBuf>,
    /// Unix socket of the admin protocol.
    pub admin: Option<PathBuf>,
    /// Unix socket over which a successor takes the listening sockets.
    pub handover: Option<PathBuf>,
    /// File with the configuration (TOML, or JSON by its name), for standalone
    /// use; read again on SIGHUP.
    pub config: Option<PathBuf>,
    /// Where the access log goes.
    pub access_log: LogTarget,
    /// How long requests under way may take to finish when the gateway ends.
    pub drain_deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            state: None,
            admin: None,
            handover: None,
            config: None,
            access_log: LogTarget::None,
            drain_deadline: Duration::from_secs(30),
        }
    }
}

/// Why a gateway could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or socket could not be used.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// Verb phrase, such as "listen at".
        action: &'static str,
        /// The file or socket.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The configuration file is not one.
    #[error("cannot read the configuration in `{}`", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The configuration is refused.
    #[error("the configuration is refused: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Reason>),
    /// A signal could not be listened for.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
    /// The threads that serve connections could not be started.
    #[error("cannot start threads")]
    Threads(#[source] std::io::Error),
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

/// Runs a gateway until it was drained: by SIGTERM or SIGINT, by the admin
/// protocol, or because a successor took over.
///
/// # Errors
///
/// When it cannot start: a socket, file or configuration is unusable.
pub async fn run(options: Options) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut reload = signal(SignalKind::hangup()).map_err(Error::Signals)?;
    let gateway = Gateway::new(options.access_log.clone()).map_err(Error::Threads)?;
    let store = options.state.as_deref().map(Store::new);
    let control = Control::new(gateway.clone(), store.clone());
    let inheritance = match &options.handover {
        Some(path) => {
            let path = path.clone();
            let asked = tokio::task::spawn_blocking(move || handover::inherit(&path)).await;
            match asked {
                Ok(Ok(inheritance)) => inheritance,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot take over from a predecessor; starting alone");
                    None
                }
                Err(error) => {
                    tracing::warn!(%error, "taking over broke off; starting alone");
                    None
                }
            }
        }
        None => None,
    };
    // Who has a predecessor takes its place; nobody else does.
    if let (None, Some(path)) = (&options.handover, &options.admin)
        && socket::is_served(path)
    {
        let taken = std::io::Error::new(
            std::io::ErrorKind::AddrInUse,
            "another gateway answers there",
        );
        return Err(io("listen at", path)(taken));
    }
    let confirm = start(&control, &options, store.as_ref(), inheritance).await?;
    let admin_path = match &options.admin {
        Some(path) => {
            let (listener, own) = socket::listen(path).map_err(io("listen at", path))?;
            tokio::spawn(admin::serve(listener, control.clone()));
            Some(own)
        }
        None => None,
    };
    let mut successor = nobody();
    let handover_path = match &options.handover {
        Some(path) => {
            let (listener, own) = socket::listen(path).map_err(io("listen at", path))?;
            successor = Box::pin(handover::offer(listener, control.clone()));
            Some(own)
        }
        None => None,
    };
    if let Some(inheritance) = confirm
        && let Err(error) = inheritance.confirm()
    {
        tracing::warn!(%error, "the predecessor left before it was told");
    }
    let ticking = tokio::spawn(look_after(control.clone()));
    let checking = tokio::spawn(health::watch(gateway.clone()));
    tracing::info!(
        revision = gateway.snapshot.load().revision,
        "the gateway serves"
    );
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = control.leave.notified() => break,
            _ = reload.recv() => reread(&control, &options).await,
            given = &mut successor => match given {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!(%error, "cannot offer a hand-over any more");
                    successor = nobody();
                }
            },
        }
    }
    drain(&control, options.drain_deadline, &mut terminate).await;
    control.gateway.workers.stop();
    ticking.abort();
    checking.abort();
    drop((admin_path, handover_path));
    Ok(())
}

/// A successor that never comes.
fn nobody() -> Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>> {
    Box::pin(std::future::pending())
}

/// Puts the first configuration in force: the predecessor's, the file's, or the one kept.
///
/// - returns: what must be confirmed to the predecessor
async fn start(
    control: &Arc<Control>,
    options: &Options,
    store: Option<&Store>,
    inheritance: Option<handover::Inheritance>,
) -> Result<Option<handover::Inheritance>, Error> {
    let mut sockets = Vec::new();
    let mut confirm = None;
    let mut first = Kept::default();
    if let (Some(store), Some(state)) = (store, &options.state) {
        match store.load().await {
            Ok(kept) => first = kept.unwrap_or_default(),
            // A file that cannot be understood must not keep the gateway from starting.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                tracing::error!(%error, "the kept configuration cannot be read and is left out");
            }
            Err(error) => return Err(io("read", state)(error)),
        }
    }
    if let Some(mut inheritance) = inheritance {
        sockets = std::mem::take(&mut inheritance.sockets);
        first.config = inheritance.config.clone();
        confirm = Some(inheritance);
    }
    if let Some(path) = &options.config {
        let mut config = read(path).await?;
        config.revision = config.revision.max(first.config.revision);
        first.config = config;
    }
    let kept_alone = confirm.is_none() && options.config.is_none();
    let revision = first.config.revision;
    let applied = control
        .apply_with(first.config, sockets, &first.addresses)
        .await;
    match applied.map_err(refused) {
        Ok(_) => {}
        // Keys that lay in memory are gone after a restart of the machine. Whoever pushes brings them with the next
        // configuration, and can do so only if there is a gateway.
        Err(error) if kept_alone => {
            tracing::error!(%error, "the kept configuration cannot be used and is left out");
            let nothing = Config {
                revision,
                ..Config::default()
            };
            let applied = control.apply_with(nothing, Vec::new(), &first.addresses);
            applied.await.map_err(refused)?;
        }
        Err(error) => return Err(error),
    }
    Ok(confirm)
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Invalid(reasons) | Refusal::Stale(reasons) => Error::Refused(reasons),
    }
}

async fn read(path: &Path) -> Result<Config, Error> {
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(io("read", path))?;
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let parsed: Result<Config, Box<dyn std::error::Error + Send + Sync>> = if is_json {
        serde_json::from_str(&text).map_err(Into::into)
    } else {
        toml::from_str(&text).map_err(Into::into)
    };
    parsed.map_err(|source| Error::Syntax {
        path: path.into(),
        source,
    })
}

/// Reads the configuration file again; a bad one changes nothing.
async fn reread(control: &Control, options: &Options) {
    let Some(path) = &options.config else {
        return;
    };
    match read(path).await {
        Ok(mut config) => {
            config.revision = config
                .revision
                .max(control.gateway.snapshot.load().revision + 1);
            match control.apply(config).await {
                Ok(revision) => tracing::info!(revision, "the configuration was read again"),
                Err(refusal) => tracing::error!(?refusal, "the configuration is refused"),
            }
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "the configuration stays as it was");
        }
    }
}

/// Closes connections that wait in vain, until the process ends.
async fn look_after(control: Arc<Control>) {
    let gateway = &control.gateway;
    let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ticks = 0_u64;
    loop {
        tick.tick().await;
        ticks += 1;
        let grace = gateway.is_draining().then_some(GRACE_MS);
        if grace.is_some() || ticks.is_multiple_of(ticks_between_looks(gateway)) {
            gateway.connections.close_overdue(grace);
        }
        if ticks.is_multiple_of(10) {
            if gateway.unkept.load(Ordering::Relaxed) {
                let control = control.clone();
                tokio::spawn(async move { control.keep_again().await });
            }
            let snapshot = gateway.snapshot.load();
            for listener in snapshot.listeners.values() {
                if let Some(secured) = &listener.secured {
                    secured.reload_if_changed();
                }
            }
            let mut versions = snapshot.services.values().flat_map(|one| &one.versions);
            let outdated = |trust: &Arc<Trust>| trust.is_outdated();
            if versions.any(|version| version.trust.as_ref().is_some_and(outdated)) {
                let control = control.clone();
                tokio::spawn(async move { control.read_trust_again().await });
            }
        }
    }
}

/// Ticks from one look at the connections to the next, so that none stays much longer than it may:
/// from 1 to 10.
fn ticks_between_looks(gateway: &Gateway) -> u64 {
    let snapshot = gateway.snapshot.load();
    let waits = snapshot.listeners.values().flat_map(|listener| {
        let head = Some(listener.limits.head_ms).filter(|ms| *ms > 0);
        head.into_iter().chain([listener.limits.keep_alive_ms])
    });
    let ticks = waits.min().unwrap_or(0) / (LOOKS * TICK_MS);
    ticks.clamp(1, 10)
}

/// Finishes what is under way; a second signal or the deadline ends it.
async fn drain(control: &Control, deadline: Duration, terminate: &mut Signal) {
    let gateway = &control.gateway;
    control.begin_draining().await;
    tracing::info!(
        connections = gateway.connections.count(),
        "the gateway drains"
    );
    let end = Instant::now() + deadline;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    // Connections accepted last are known within a tick.
    tick.tick().await;
    loop {
        tokio::select! {
            _ = tick.tick() => (),
            _ = terminate.recv() => break,
        }
        if gateway.connections.count() == 0 || Instant::now() >= end {
            break;
        }
    }
    let left = gateway.connections.count();
    if left > 0 {
        tracing::warn!(
            connections = left,
            "the gateway ends before all requests did"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_configuration_is_valid() {
        let text = include_str!("../../../docs/gateway.md");
        let fenced = text
            .split("```toml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next());
        let mut count = 0;
        for example in fenced {
            let config: Config = toml::from_str(example).unwrap();
            config.validate().unwrap();
            count += 1;
        }
        assert!(count > 0);
    }
}
