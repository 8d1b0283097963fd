//! Everything one agent holds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use platform_blueprint::ResourceName;
use platform_decide::group::GroupId;
use platform_port::SecretValues;
use tokio::sync::watch;

use super::certificates::Certificates;
use super::gateway::Gateway;
use super::instance::Instance;
use super::resource::Server;
use crate::control_group::ControlGroups;
use crate::durable::{self, StateError};
use crate::layout::Layout;
use crate::options::AgentOptions;
use crate::ports::{self, LastingPorts};
use crate::recorded::Kept;

/// Values of secrets, by whom they were handed for.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// By group.
    pub(super) groups: BTreeMap<GroupId, SecretValues>,
    /// The gateway's.
    pub(super) gateway: SecretValues,
    /// What the environment's own authority signs with, once there is one.
    pub(super) authority: SecretValues,
}

/// One agent.
pub(super) struct Agent {
    pub(super) options: AgentOptions,
    pub(super) layout: Layout,
    /// The build of this very program.
    pub(super) build: String,
    pub(super) kept: RefCell<Kept>,
    pub(super) secrets: RefCell<Secrets>,
    pub(super) secret_files: PathBuf,
    pub(super) instances: RefCell<BTreeMap<String, Rc<Instance>>>,
    pub(super) servers: RefCell<BTreeMap<ResourceName, Rc<Server>>>,
    pub(super) gateway: Gateway,
    pub(super) certificates: Certificates,
    pub(super) ports: RefCell<LastingPorts>,
    pub(super) control_groups: ControlGroups,
    pub(super) inherited: BTreeMap<String, String>,
    pub(super) open_files: u64,
    pub(super) notes: RefCell<Vec<String>>,
    changes: watch::Sender<u64>,
    /// Numbers of what is to be written down and of what has been.
    to_keep: watch::Sender<u64>,
    kept_so_far: watch::Sender<u64>,
    keep_failed: RefCell<Option<StateError>>,
    pub(super) end: watch::Sender<Option<End>>,
    pub(super) stopping: Cell<bool>,
    /// When it began; health checks keep time by it.
    pub(super) begun: Instant,
}

/// How the agent is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Everything is down.
    Stopped,
    /// Everything goes on without it.
    Left,
}

/// What an agent is made with.
pub(super) struct Found {
    pub(super) options: AgentOptions,
    pub(super) layout: Layout,
    pub(super) sockets: PathBuf,
    pub(super) secret_files: PathBuf,
    pub(super) kept: Kept,
    pub(super) secrets: Secrets,
    pub(super) notes: Vec<String>,
    pub(super) open_files: u64,
}

impl Agent {
    pub(super) fn new(found: Found) -> Rc<Self> {
        let ports = LastingPorts::load(&found.layout.ports());
        let control_groups = ControlGroups::find(found.layout.tag());
        let build = std::env::current_exe()
            .map(|program| crate::build_id::build_id(&program))
            .unwrap_or_default();
        Rc::new(Self {
            gateway: Gateway::new(&found.sockets),
            certificates: Certificates::default(),
            options: found.options,
            layout: found.layout,
            build,
            kept: RefCell::new(found.kept),
            secrets: RefCell::new(found.secrets),
            secret_files: found.secret_files,
            instances: RefCell::default(),
            servers: RefCell::default(),
            ports: RefCell::new(ports),
            control_groups,
            inherited: crate::surroundings::inherited(),
            open_files: found.open_files,
            notes: RefCell::new(found.notes),
            changes: watch::Sender::new(1),
            to_keep: watch::Sender::new(0),
            kept_so_far: watch::Sender::new(0),
            keep_failed: RefCell::new(None),
            end: watch::Sender::new(None),
            stopping: Cell::new(false),
            begun: Instant::now(),
        })
    }

    /// Says that something which can be observed has changed.
    pub(super) fn touch(&self) {
        self.changes.send_modify(|number| *number += 1);
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Waits until `found` holds, looking again at each change; `false` when time is up.
    pub(super) async fn wait_until(&self, within: Duration, found: impl Fn() -> bool) -> bool {
        let mut changes = self.changes();
        let waiting = async {
            loop {
                changes.mark_unchanged();
                if found() {
                    return;
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(within, waiting).await.is_ok()
    }

    /// Writes down what is kept; returns once it is safe.
    ///
    /// Requests that come at the same time share a write.
    ///
    /// # Errors
    ///
    /// If the folder takes no writes.
    pub(super) async fn keep(&self) -> Result<(), StateError> {
        let mut done = self.kept_so_far.subscribe();
        let mut mine = 0;
        self.to_keep.send_modify(|number| {
            *number += 1;
            mine = *number;
        });
        let _ = done.wait_for(|number| *number >= mine).await;
        match self.keep_failed.borrow_mut().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// The loop behind [`Agent::keep`].
    pub(super) async fn keeping(self: Rc<Self>) {
        let mut to_keep = self.to_keep.subscribe();
        while to_keep.changed().await.is_ok() {
            let number = *to_keep.borrow_and_update();
            let kept = self.kept.borrow().clone();
            let path = self.layout.desired();
            let written = tokio::task::spawn_blocking(move || durable::keep(&path, &kept)).await;
            if let Ok(Err(error)) = written {
                tracing::error!(%error, "cannot write down what to keep up");
                *self.keep_failed.borrow_mut() = Some(error);
            }
            self.kept_so_far.send_replace(number);
        }
    }

    /// A free port for an instance, which nobody else of the environment has.
    pub(super) fn pick_port(&self) -> Option<u16> {
        let instances = self.instances.borrow();
        let lasting = self.ports.borrow();
        ports::pick(|port| {
            lasting.holds(port)
                || instances
                    .values()
                    .any(|instance| instance.record().port == Some(port))
        })
    }

    /// The port of `name` that stays the same.
    ///
    /// # Errors
    ///
    /// If there is none, or it cannot be written down.
    pub(super) fn lasting_port(&self, name: &str) -> Result<u16, String> {
        let instances = self.instances.borrow();
        let taken = |port| {
            instances
                .values()
                .any(|other| other.record().port == Some(port))
        };
        match self.ports.borrow_mut().of(name, taken) {
            Ok(Some(port)) => Ok(port),
            Ok(None) => Err("no free port was found".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The name of the internal listener's port of a service.
    pub(super) fn internal_port_name(service: &str) -> String {
        format!("service:{service}")
    }
}
