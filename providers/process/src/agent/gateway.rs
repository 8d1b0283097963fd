//! The gateway's process, and the configuration it is given.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use platform_blueprint::SecretName;
use platform_decide::group::GroupId;
use platform_decide::observed::InstanceState;
use platform_decide::traffic::Traffic;
use platform_gateway_api::Config;
use platform_gateway_api::client::{Client, ClientError};
use platform_port::{SecretValue, SecretValues};
use platform_traffic::certificates::one_sided;
use platform_traffic::{Internal, Mutual, Parts, ReadyInstance};
use tokio::sync::{Mutex, watch};

use super::chains::{self, Chains};
use super::state::Agent;
use super::{certificates, gateway_secrets, sealed};
use crate::durable::StateError;
use crate::identity::ProcessIdentity;
use crate::protocol::{Fault, RouteTraffic};
use crate::recorded::GatewayProgram;

/// How long a gateway may take to answer.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a predecessor may take to finish what is under way.
pub(super) const DRAIN_WITHIN: Duration = Duration::from_secs(45);
/// How long a look waits for a gateway that runs. One that hangs is told as one that is not ready.
pub(super) const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// How long one that hangs has to end by itself.
const HANGING: Duration = Duration::from_secs(5);
/// Changes that come together are pushed together.
const COALESCE: Duration = Duration::from_millis(5);
/// How long requests are waited for that began before an endpoint was taken out and may not have chosen one yet.
const SETTLE: Duration = Duration::from_millis(50);
/// How often it is asked whether requests are still on their way to an endpoint.
const DRAINED_EVERY: Duration = Duration::from_millis(10);

/// What is known of the gateway.
pub(super) struct Gateway {
    pub(super) client: Client,
    pub(super) chains: Chains,
    pub(super) handover: PathBuf,
    pub(super) answers: Cell<bool>,
    /// The process that answered last, or that an agent before us left.
    pub(super) process: RefCell<Option<ProcessIdentity>>,
    revision: Cell<u64>,
    /// What it confirmed: the configuration in force.
    pub(super) in_force: RefCell<Option<Config>>,
    pub(super) endpoints: RefCell<BTreeSet<(String, u16)>>,
    pushing: Mutex<()>,
    /// Why it did not take its last configuration.
    trouble: RefCell<Option<String>>,
    pub(super) wanted: watch::Sender<Wanted>,
    /// Gateways that have a successor and still answer what they took.
    pub(super) leaving: Cell<usize>,
}

/// Why the gateway was not given what is wanted.
#[derive(Debug, thiserror::Error)]
pub(super) enum PushError {
    /// It did not take it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A key could not be put where the gateway reads it.
    #[error("cannot write a key for the gateway: {0}")]
    Key(#[from] std::io::Error),
    /// A chain could not be copied for it.
    #[error(transparent)]
    Chain(#[from] StateError),
    /// No certificate could be signed.
    #[error("{0}")]
    Certificate(String),
    /// A secret is not known, as after a restart without the identity it was sealed for.
    #[error("the value of secret `{0}` is not known; deploy again")]
    Unknown(SecretName),
}

/// What was wanted before.
struct Before {
    traffic: Option<Traffic>,
    secrets: SecretValues,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    Runs(GatewayProgram),
    Down,
}

impl Gateway {
    pub(super) fn new(sockets: &Path) -> Self {
        Self {
            client: Client::new(sockets.join("gateway.sock")),
            chains: Chains::default(),
            handover: sockets.join("handover.sock"),
            answers: Cell::new(false),
            process: RefCell::default(),
            revision: Cell::new(0),
            in_force: RefCell::default(),
            endpoints: RefCell::default(),
            pushing: Mutex::default(),
            trouble: RefCell::default(),
            wanted: watch::Sender::new(Wanted::Nothing),
            leaving: Cell::new(0),
        }
    }

    /// Whether it answers.
    pub(super) fn answers(&self) -> bool {
        self.answers.get()
    }

    /// Whether it takes questions without an answer. It is asked, for so long at the most.
    pub(super) async fn hangs(&self, within: Duration) -> bool {
        let asked =
            async { while let Err(ClientError::Silent { .. }) = self.client.status().await {} };
        let is_there = self.process.borrow().is_some();
        is_there && tokio::time::timeout(within, asked).await.is_err()
    }

    /// Ends one that hangs, and waits until that is seen; whoever supervises it starts another.
    pub(super) async fn end_hanging(&self, agent: &Agent) {
        if !self.hangs(ANSWER_WITHIN).await {
            return;
        }
        let Some(process) = self.process.borrow_mut().take() else {
            return;
        };
        tracing::error!("the gateway does not answer and is started anew");
        // It most likely hears no word to stop.
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            process.signal(signal);
            let is_gone = || !self.answers() && !process.alive();
            if agent.wait_until(HANGING, is_gone).await {
                return;
            }
        }
    }

    /// The revision that it confirmed.
    pub(super) fn revision(&self) -> u64 {
        self.revision.get()
    }

    /// Whether it sends requests to an instance.
    pub(super) fn confirmed(&self, instance: &str, port: u16) -> bool {
        self.endpoints
            .borrow()
            .iter()
            .any(|(name, own)| name == instance && *own == port)
    }

    /// Why an instance that is ready is not confirmed, in words.
    pub(super) fn why_unconfirmed(&self) -> String {
        match &*self.trouble.borrow() {
            Some(trouble) => format!("it is ready, but {trouble}"),
            None => "it is ready; waiting for the gateway to confirm it".to_owned(),
        }
    }

    /// Has a gateway of this program run.
    pub(super) fn want(&self, program: GatewayProgram) {
        self.wanted.send_if_modified(|wanted| {
            let fresh = Wanted::Runs(program);
            let differs = *wanted != fresh;
            *wanted = fresh;
            differs
        });
    }

    /// Has none run.
    pub(super) async fn down(&self, agent: &Agent) {
        if *self.wanted.borrow() == Wanted::Nothing {
            return;
        }
        self.wanted.send_replace(Wanted::Down);
        let down = || *self.wanted.borrow() == Wanted::Nothing;
        agent.wait_until(DRAIN_WITHIN, down).await;
    }

    pub(super) fn take_in(&self, config: &Config) {
        let endpoints = config
            .services
            .values()
            .flat_map(|service| service.versions.values())
            .flat_map(|version| &version.endpoints)
            .filter_map(|endpoint| {
                let (_, port) = endpoint.address.rsplit_once(':')?;
                Some((endpoint.id.clone(), port.parse().ok()?))
            })
            .collect();
        self.revision.set(config.revision);
        *self.endpoints.borrow_mut() = endpoints;
        *self.in_force.borrow_mut() = Some(config.clone());
    }

    /// Gives the gateway what is wanted now, if that differs from what it has.
    pub(super) async fn push(&self, agent: &Agent) -> Result<(), PushError> {
        self.tell(agent, false).await
    }

    /// The same.
    ///
    /// - `anew`: even if nothing differs; with the revision it confirms that it has read certificates again
    async fn tell(&self, agent: &Agent, anew: bool) -> Result<(), PushError> {
        let _one_at_a_time = self.pushing.lock().await;
        if !self.answers() {
            return Ok(());
        }
        let ingress = {
            let kept = agent.kept.borrow();
            kept.traffic.as_ref().map(|traffic| traffic.ingress.clone())
        };
        if let Some(ingress) = &ingress {
            let known = |name: &&SecretName| agent.secrets.borrow().gateway.contains_key(*name);
            if let Some(unknown) = ingress.secrets.keys().find(|name| !known(name)) {
                return Err(PushError::Unknown(unknown.clone()));
            }
        }
        let shown = certificates::shown(agent).map_err(PushError::Certificate)?;
        let shared = ingress.as_ref();
        let shared = shared.and_then(|ingress| gateway_secrets::shared(agent, ingress));
        let mut files = shown
            .as_ref()
            .map_or(Vec::new(), |shown| shown.files.clone());
        files.extend(shared.clone());
        files.extend(certificates::authorities(agent));
        files.extend(
            ingress
                .iter()
                .flat_map(|ingress| gateway_secrets::authorities(agent, ingress)),
        );
        gateway_secrets::write(agent, ingress.as_ref(), &files)?;
        let mutual = shown.as_ref().map(|shown| &shown.mutual);
        let shared = shared.as_ref().map(|(file, _)| file.as_path());
        let copies = chains::copies(agent, ingress.as_ref())?;
        let mut config = wanted_config(agent, mutual, shared);
        chains::stand_in(&mut config, &copies);
        let in_force = self.in_force.borrow().clone();
        if let Some(in_force) = in_force {
            // Nobody has said yet what is wanted of a gateway that was found at work.
            if agent.kept.borrow().traffic.is_none() && !in_force.services.is_empty() {
                return Ok(());
            }
            config.revision = in_force.revision;
            if config == in_force && !anew {
                return Ok(());
            }
        }
        config.revision = self.revision() + 1;
        self.client.put_config(&config).await?;
        self.take_in(&config);
        gateway_secrets::prune(agent, ingress.as_ref(), &files);
        chains::prune(agent, &copies);
        agent.touch();
        Ok(())
    }

    /// Routes and shares as asked; returns once they are confirmed, or says why they are not.
    pub(super) async fn route(&self, agent: &Agent, asked: RouteTraffic) -> Result<(), Fault> {
        if agent.kept.borrow().gateway.is_none() {
            return Err(Fault::new(
                "gateway::not-running",
                "no gateway runs here yet",
            ));
        }
        let values: SecretValues = asked
            .secrets
            .into_iter()
            .map(|(name, value)| (name, SecretValue::new(value)))
            .collect();
        let ingress = &asked.traffic.ingress;
        gateway_secrets::check(ingress, &values)?;
        let secured = ingress.gateway.tls.is_some();
        let before = Before {
            traffic: agent.kept.borrow_mut().traffic.replace(asked.traffic),
            secrets: std::mem::replace(&mut agent.secrets.borrow_mut().gateway, values),
        };
        agent.certificates.look();
        let taken = self.take(agent, secured).await;
        let changed = agent.secrets.borrow().gateway != before.secrets;
        match taken {
            Ok(()) if changed => sealed::save(agent),
            Ok(()) => Ok(()),
            Err(fault) => {
                agent.kept.borrow_mut().traffic = before.traffic;
                agent.secrets.borrow_mut().gateway = before.secrets;
                Err(fault)
            }
        }
    }

    /// Waits until the gateway has confirmed what is wanted now.
    ///
    /// - `anew`: also that it has read certificates again
    async fn take(&self, agent: &Agent, anew: bool) -> Result<(), Fault> {
        for _ in 0..3 {
            if !agent.wait_until(ANSWER_WITHIN, || self.answers()).await {
                break;
            }
            match self.tell(agent, anew).await {
                Ok(()) if self.answers() => {
                    agent.touch();
                    return Ok(agent.keep().await?);
                }
                Err(PushError::Client(error @ ClientError::Refused(_))) => {
                    return Err(Fault::new("gateway::refused", error.to_string()));
                }
                // It may have died just now; its successor will be asked.
                Ok(()) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        Err(Fault::new("gateway::silent", "the gateway does not answer")
            .with_help("run `platform logs --service gateway`"))
    }

    /// Waits until no request is on its way to an instance any more, and none can be sent by a gateway that was replaced:
    /// it knows the instances of its time alone.
    pub(super) async fn drain(
        &self,
        agent: &Agent,
        group: &GroupId,
        instance: &str,
        within: Duration,
    ) {
        if agent.kept.borrow().gateway.is_none() || !self.answers() {
            return;
        }
        let begun = Instant::now();
        let taken_out = || {
            !self.answers()
                || !self
                    .endpoints
                    .borrow()
                    .iter()
                    .any(|(name, _)| name == instance)
        };
        agent.wait_until(Duration::from_secs(5), taken_out).await;
        agent.wait_until(within, || self.leaving.get() == 0).await;
        let taken_out = Instant::now();
        let without = self.revision();
        while begun.elapsed() < within || taken_out.elapsed() < SETTLE {
            let Ok(tallies) = self.client.tallies().await else {
                return;
            };
            let under_way = tallies
                .services
                .get(group.service.as_str())
                .and_then(|service| service.endpoints.get(instance))
                .map_or(0, |endpoint| endpoint.in_flight);
            let settled = tallies.oldest_revision >= without || taken_out.elapsed() >= SETTLE;
            if settled && under_way == 0 {
                return;
            }
            tokio::time::sleep(DRAINED_EVERY).await;
        }
    }
}

/// The configuration that is wanted now; its revision is left at 0.
///
/// - `mutual`: how those groups are asked that speak mtls
/// - `shared`: the file with the address of the Redis through which gateways count together
fn wanted_config(agent: &Agent, mutual: Option<&Mutual>, shared: Option<&Path>) -> Config {
    let kept = agent.kept.borrow();
    let groups: BTreeSet<GroupId> = kept
        .groups
        .values()
        .chain(kept.leaving.values())
        .filter(|group| group.spec.service.port.is_some())
        .map(|group| group.id.clone())
        .collect();
    let all = kept.groups.values().chain(kept.leaving.values());
    let http2 = all.clone();
    let http2 = http2
        .filter(|group| group.spec.service.protocol.is_http2())
        .map(|group| group.id.clone())
        .collect();
    let folder = gateway_secrets::folder(agent);
    let one_sided = all
        .filter_map(|group| {
            let tls = one_sided(&folder, &group.id.service, &group.spec)?;
            Some((group.id.clone(), tls))
        })
        .collect();
    let mut ready: Vec<ReadyInstance> = agent
        .instances
        .borrow()
        .values()
        .filter(|instance| instance.state() == InstanceState::Ready)
        .filter_map(|instance| {
            Some(ReadyInstance {
                group: instance.group.clone(),
                name: instance.name.clone(),
                address: format!("127.0.0.1:{}", instance.record().port?),
                zone: instance.zone.clone(),
            })
        })
        .collect();
    ready.sort();
    let mut internal = BTreeMap::new();
    if let Some(traffic) = &kept.traffic {
        for name in traffic.ingress.services.keys() {
            match agent.lasting_port(&Agent::internal_port_name(name.as_str())) {
                Ok(port) => {
                    internal.insert(name.clone(), Internal::loopback(port));
                }
                Err(error) => tracing::error!(service = %name, error, "no internal listener"),
            }
        }
    }
    platform_traffic::join(&Parts {
        traffic: kept.traffic.as_ref(),
        groups: &groups,
        ready: &ready,
        internal: &internal,
        http2: &http2,
        one_sided: &one_sided,
        public: None,
        // The agent asks them itself.
        checks: &BTreeMap::new(),
        mutual,
        secrets: &agent.secrets.borrow().gateway,
        secret_files: &folder,
        shared,
        root: Some(&agent.options.root),
        project: &agent.options.project,
    })
}

/// Pushes whatever changes.
pub(super) async fn pushing(agent: Rc<Agent>) {
    let mut changes = agent.changes();
    loop {
        let pushed = agent.gateway.push(&agent).await;
        *agent.gateway.trouble.borrow_mut() = pushed.as_ref().err().map(ToString::to_string);
        if let Err(error) = pushed {
            tracing::warn!(%error, "the gateway did not take its configuration");
            tokio::time::sleep(Duration::from_millis(100)).await;
            if matches!(error, PushError::Client(ref error) if !matches!(error, ClientError::Refused(_)))
            {
                continue;
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(COALESCE).await;
        changes.mark_unchanged();
    }
}
