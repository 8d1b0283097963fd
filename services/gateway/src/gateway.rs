//! The running gateway: what all its parts share.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use pingora_core::server::ShutdownWatch;
use platform_gateway_api::Tallies;
use platform_gateway_api::admin::Status;
use tokio::sync::{Notify, watch};

use crate::access_log::{AccessLogWriter, LogTarget};
use crate::cache::Cache;
use crate::clock::unix_ms;
use crate::connections::Connections;
use crate::ledger::Ledger;
use crate::mirror::Mirror;
use crate::registry::Registry;
use crate::snapshot::Snapshot;
use crate::tally::Gauge;
use crate::traces::Exporter;
use crate::workers::Workers;

/// Shared by listeners, requests and the admin socket.
pub(crate) struct Gateway {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    /// Those that were in force before, for as long as requests keep to them.
    replaced: Mutex<Vec<Weak<Snapshot>>>,
    pub(crate) registry: Registry,
    pub(crate) connections: Connections,
    pub(crate) log: AccessLogWriter,
    pub(crate) mirror: Mirror,
    pub(crate) cache: Cache,
    pub(crate) traces: Exporter,
    pub(crate) workers: Workers,
    /// Told when the configuration in force was replaced.
    pub(crate) reconfigured: Notify,
    /// Requests under way.
    pub(crate) requests: Gauge,
    pub(crate) ledger: Ledger,
    pub(crate) epoch: String,
    pub(crate) started_ms: u64,
    draining: AtomicBool,
    /// Whether the configuration in force could not be written to disk.
    pub(crate) unkept: AtomicBool,
    /// How many descriptors this process may have.
    pub(crate) descriptors: u64,
    shutdown: watch::Sender<bool>,
}

impl Gateway {
    pub(crate) fn new(log: LogTarget) -> io::Result<Arc<Self>> {
        let registry = Registry::default();
        Ok(Arc::new(Self {
            snapshot: ArcSwap::from_pointee(Snapshot::empty(&registry)),
            replaced: Mutex::default(),
            registry,
            connections: Connections::default(),
            log: AccessLogWriter::new(log),
            mirror: Mirror::new(),
            cache: Cache::default(),
            traces: Exporter::new(),
            workers: Workers::start()?,
            reconfigured: Notify::new(),
            requests: Gauge::default(),
            ledger: Ledger::default(),
            epoch: uuid::Uuid::now_v7().to_string(),
            started_ms: unix_ms(),
            draining: AtomicBool::new(false),
            unkept: AtomicBool::new(false),
            descriptors: raise_descriptors(),
            shutdown: watch::channel(false).0,
        }))
    }

    /// Puts a configuration in force. Requests that are under way keep to theirs.
    pub(crate) fn put_in_force(&self, snapshot: Snapshot) {
        let mut replaced = self.replaced();
        replaced.retain(|one| one.strong_count() > 0);
        let before = self.snapshot.swap(Arc::new(snapshot));
        replaced.push(Arc::downgrade(&before));
        drop(replaced);
        self.reconfigured.notify_one();
    }

    fn replaced(&self) -> MutexGuard<'_, Vec<Weak<Snapshot>>> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision in force, and the oldest that a request keeps to.
    fn revisions(&self) -> (u64, u64) {
        let replaced = self.replaced();
        let now = self.snapshot.load().revision;
        let kept = replaced.iter().filter_map(Weak::upgrade);
        let oldest = kept.map(|one| one.revision).min();
        (now, oldest.map_or(now, |oldest| oldest.min(now)))
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// From now on each answer ends its connection.
    pub(crate) fn begin_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.shutdown.send_replace(true);
    }

    /// Tells Pingora's sessions that this process ends; those, too, that begin when it already does.
    pub(crate) fn shutdown(&self) -> ShutdownWatch {
        let mut shutdown = self.shutdown.subscribe();
        if self.is_draining() {
            shutdown.mark_changed();
        }
        shutdown
    }

    pub(crate) fn tallies(&self) -> Tallies {
        let (revision, oldest_revision) = self.revisions();
        let mut tallies = Tallies {
            epoch: self.epoch.clone(),
            since_ms: self.started_ms,
            now_ms: unix_ms(),
            revision,
            oldest_revision,
            ..Tallies::default()
        };
        self.registry.read(&self.ledger, &mut tallies);
        tallies
    }

    /// Everything about itself but the listeners.
    pub(crate) fn status(&self) -> Status {
        Status {
            program: env!("CARGO_PKG_VERSION").into(),
            revision: self.snapshot.load().revision,
            epoch: self.epoch.clone(),
            started_ms: self.started_ms,
            pid: std::process::id(),
            draining: self.is_draining(),
            listeners: Vec::new(),
            connections: self.connections.count() as u64,
            requests: self.requests.get(),
            unkept: self.unkept.load(Ordering::Relaxed),
        }
    }
}

/// Takes as many descriptors as the system allows; the usual 1024 are few for a gateway.
///
/// - returns: how many it may have now
fn raise_descriptors() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(error) => {
                tracing::debug!(%error, "the limit of descriptors stays as it is");
                soft
            }
        },
        Ok((soft, _)) => soft,
        Err(_) => u64::MAX,
    }
}
