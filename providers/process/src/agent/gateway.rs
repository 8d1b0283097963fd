//! The gateway's process, and the configuration it is given.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use platform_decide::group::GroupId;
use platform_decide::observed::InstanceState;
use platform_decide::traffic::Traffic;
use platform_gateway_api::Config;
use platform_gateway_api::client::{Client, ClientError};
use tokio::sync::{Mutex, watch};

use super::child::{self, Child};
use super::instance::open_log;
use super::state::Agent;
use super::stop;
use crate::gateway_config::{self, Parts, ReadyInstance};
use crate::launch::Launch;
use crate::log::Capture;
use crate::protocol::Fault;
use crate::recorded::{GatewayProgram, InstanceRecord};

/// The service name under which the gateway's output is kept.
const NAME: &str = "gateway";
/// How long a gateway may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a predecessor may take to finish what is under way.
const DRAIN_WITHIN: Duration = Duration::from_secs(45);
/// Changes that come together are pushed together.
const COALESCE: Duration = Duration::from_millis(5);
/// A request that was on its way to an endpoint when that was taken out.
const SETTLE: Duration = Duration::from_millis(50);

/// What is known of the gateway.
pub(super) struct Gateway {
    pub(super) client: Client,
    handover: PathBuf,
    answers: Cell<bool>,
    revision: Cell<u64>,
    /// What it confirmed: the configuration in force.
    in_force: RefCell<Option<Config>>,
    endpoints: RefCell<BTreeSet<(String, u16)>>,
    pushing: Mutex<()>,
    /// Why it did not take its last configuration.
    trouble: RefCell<Option<String>>,
    wanted: watch::Sender<Wanted>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Runs(GatewayProgram),
    Down,
}

impl Gateway {
    pub(super) fn new(sockets: &Path) -> Self {
        Self {
            client: Client::new(sockets.join("gateway.sock")),
            handover: sockets.join("handover.sock"),
            answers: Cell::new(false),
            revision: Cell::new(0),
            in_force: RefCell::default(),
            endpoints: RefCell::default(),
            pushing: Mutex::default(),
            trouble: RefCell::default(),
            wanted: watch::Sender::new(Wanted::Nothing),
        }
    }

    /// Whether it answers.
    pub(super) fn answers(&self) -> bool {
        self.answers.get()
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

    fn take_in(&self, config: &Config) {
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
    pub(super) async fn push(&self, agent: &Agent) -> Result<(), ClientError> {
        let _one_at_a_time = self.pushing.lock().await;
        if !self.answers() {
            return Ok(());
        }
        let mut config = wanted_config(agent);
        let in_force = self.in_force.borrow().clone();
        if let Some(in_force) = in_force {
            config.revision = in_force.revision;
            if config == in_force {
                return Ok(());
            }
        }
        config.revision = self.revision() + 1;
        self.client.put_config(&config).await?;
        self.take_in(&config);
        agent.touch();
        Ok(())
    }

    /// Routes and shares as asked; returns once they are confirmed, or says why they are not.
    pub(super) async fn route(&self, agent: &Agent, traffic: Traffic) -> Result<(), Fault> {
        if agent.kept.borrow().gateway.is_none() {
            return Err(Fault::new(
                "gateway::not-running",
                "no gateway runs here yet",
            ));
        }
        let before = agent.kept.borrow_mut().traffic.replace(traffic);
        for _ in 0..3 {
            if !agent.wait_until(ANSWER_WITHIN, || self.answers()).await {
                break;
            }
            match self.push(agent).await {
                Ok(()) if self.answers() => {
                    agent.touch();
                    return Ok(agent.keep().await?);
                }
                Err(ClientError::Refused(reasons)) => {
                    agent.kept.borrow_mut().traffic = before;
                    let error = ClientError::Refused(reasons);
                    return Err(Fault::new("gateway::refused", error.to_string()));
                }
                // It may have died just now; its successor will be asked.
                Ok(()) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        agent.kept.borrow_mut().traffic = before;
        Err(Fault::new("gateway::silent", "the gateway does not answer")
            .with_help("run `platform logs --service gateway`"))
    }

    /// Waits until no request is on its way to an instance any more.
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
        tokio::time::sleep(SETTLE).await;
        while begun.elapsed() < within {
            let Ok(tallies) = self.client.tallies().await else {
                return;
            };
            let under_way = tallies
                .services
                .get(group.service.as_str())
                .and_then(|service| service.endpoints.get(instance))
                .map_or(0, |endpoint| endpoint.in_flight);
            if under_way == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The configuration that is wanted now; its revision is left at 0.
fn wanted_config(agent: &Agent) -> Config {
    let kept = agent.kept.borrow();
    let groups: BTreeSet<GroupId> = kept
        .groups
        .values()
        .chain(kept.leaving.values())
        .filter(|group| group.spec.service.port.is_some())
        .map(|group| group.id.clone())
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
                port: instance.record().port?,
            })
        })
        .collect();
    ready.sort();
    let mut internal = BTreeMap::new();
    if let Some(traffic) = &kept.traffic {
        for name in traffic.ingress.services.keys() {
            match agent.lasting_port(&Agent::internal_port_name(name.as_str())) {
                Ok(port) => {
                    internal.insert(name.clone(), port);
                }
                Err(error) => tracing::error!(service = %name, error, "no internal listener"),
            }
        }
    }
    gateway_config::join(&Parts {
        traffic: kept.traffic.as_ref(),
        groups: &groups,
        ready: &ready,
        internal: &internal,
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
            if !matches!(error, ClientError::Refused(_)) {
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

/// One process of the gateway.
struct Running {
    name: String,
    build: String,
    child: Child,
    capture: Capture,
}

impl Running {
    async fn clear_up(self, agent: &Agent) {
        stop::end_members(agent, &self.name, Some(&self.child.identity)).await;
        self.capture.finish().await;
        let _ = fs::remove_dir_all(agent.layout.instance(&self.name));
    }

    /// Waits for the end of one that has a successor, but not for ever.
    async fn finish(self, agent: &Agent) {
        if tokio::time::timeout(DRAIN_WITHIN, self.child.ended())
            .await
            .is_err()
        {
            tracing::warn!(
                name = self.name,
                "the gateway before did not end and is killed"
            );
        }
        self.clear_up(agent).await;
    }
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("gateway.")?.parse().ok()
}

/// Processes of the gateway that an agent before us started, the newest last.
fn found(agent: &Rc<Agent>) -> Vec<Running> {
    let mut names = InstanceRecord::names(&agent.layout);
    names.retain(|name| number_of(name).is_some());
    names.sort_by_key(|name| number_of(name));
    let mut running = Vec::new();
    for name in names {
        let record = InstanceRecord::load(&agent.layout, &name).unwrap_or_default();
        let child = record
            .process
            .and_then(|identity| Child::adopt(&identity, agent.layout.exits()));
        let opened = child.map(|child| (child, open_log(agent, NAME, &name, &logs())));
        match opened {
            Some((child, Ok((_, capture)))) => running.push(Running {
                build: record.build.unwrap_or_default(),
                name,
                child,
                capture,
            }),
            _ => {
                let _ = fs::remove_dir_all(agent.layout.instance(&name));
            }
        }
    }
    running
}

fn logs() -> platform_blueprint::Logs {
    platform_blueprint::Logs::default()
}

/// Keeps a gateway running while one is wanted.
pub(super) async fn supervise(agent: Rc<Agent>) {
    let mut wanted = agent.gateway.wanted.subscribe();
    let mut older = found(&agent);
    let mut current = older.pop();
    for before in older {
        let agent = Rc::clone(&agent);
        tokio::task::spawn_local(async move { before.finish(&agent).await });
    }
    if let Some(running) = &current {
        tracing::info!(name = running.name, "adopted the gateway");
        answer(&agent, running).await;
    }
    let mut quick_ends = 0;
    loop {
        let now = wanted.borrow_and_update().clone();
        match (now, current.take()) {
            (Wanted::Nothing, None) => {
                if wanted.changed().await.is_err() {
                    return;
                }
            }
            (Wanted::Nothing, Some(running)) => {
                current = Some(running);
                if wanted.changed().await.is_err() {
                    return;
                }
            }
            (Wanted::Down, running) => {
                if let Some(running) = running {
                    end(&agent, running).await;
                }
                agent.gateway.wanted.send_replace(Wanted::Nothing);
                agent.touch();
            }
            (Wanted::Runs(program), before) => {
                if before
                    .as_ref()
                    .is_none_or(|running| running.build != program.build)
                {
                    current = replace(&agent, &program, before).await;
                } else {
                    current = before;
                }
                let Some(running) = &current else {
                    quick_ends += 1;
                    pause(quick_ends, &mut wanted).await;
                    continue;
                };
                let begun = Instant::now();
                tokio::select! {
                    end = running.child.ended() => {
                        tracing::error!(%end, "the gateway ended; starting it again");
                        agent.gateway.answers.set(false);
                        agent.touch();
                        if let Some(running) = current.take() {
                            running.clear_up(&agent).await;
                        }
                        if begun.elapsed() < Duration::from_secs(5) {
                            quick_ends += 1;
                            pause(quick_ends, &mut wanted).await;
                        } else {
                            quick_ends = 0;
                        }
                    }
                    changed = wanted.changed() => if changed.is_err() { return },
                }
            }
        }
    }
}

/// At once the first time, then ever later.
async fn pause(quick_ends: u32, wanted: &mut watch::Receiver<Wanted>) {
    if quick_ends < 2 {
        return;
    }
    let pause = Duration::from_millis(50_u64 << quick_ends.min(7));
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        _ = wanted.changed() => wanted.mark_changed(),
    }
}

async fn end(agent: &Agent, running: Running) {
    agent.gateway.answers.set(false);
    let signal = Signal::SIGTERM;
    {
        let ended = running.child.ended();
        tokio::pin!(ended);
        stop::end(
            agent,
            &running.name,
            &running.child,
            &mut ended,
            signal,
            DRAIN_WITHIN,
        )
        .await;
    }
    agent.gateway.endpoints.borrow_mut().clear();
    *agent.gateway.in_force.borrow_mut() = None;
    running.clear_up(agent).await;
}

/// Starts a gateway that takes over from the one before, if there is one.
async fn replace(
    agent: &Rc<Agent>,
    program: &GatewayProgram,
    before: Option<Running>,
) -> Option<Running> {
    let last = before
        .as_ref()
        .and_then(|before| number_of(&before.name))
        .unwrap_or(0);
    let name = format!("{NAME}.{}", last + 1);
    let fresh = match start(agent, program, name.clone()) {
        Ok(fresh) => fresh,
        Err(error) => {
            tracing::error!(error, "cannot start the gateway");
            return before;
        }
    };
    let answered = answer(agent, &fresh).await;
    match before {
        Some(before) if answered => {
            let agent = Rc::clone(agent);
            tokio::task::spawn_local(async move { before.finish(&agent).await });
            Some(fresh)
        }
        Some(before) => {
            tracing::error!("the new gateway did not take over; the one before goes on");
            stop::end_members(agent, &fresh.name, Some(&fresh.child.identity)).await;
            fresh.clear_up(agent).await;
            agent.gateway.answers.set(true);
            Some(Running {
                // Not tried again until another build comes.
                build: program.build.clone(),
                ..before
            })
        }
        None => Some(fresh),
    }
}

fn start(agent: &Rc<Agent>, program: &GatewayProgram, name: String) -> Result<Running, String> {
    let (pipes, capture) = open_log(agent, NAME, &name, &logs())?;
    let state = agent.layout.gateway();
    let text = |path: &Path| path.display().to_string();
    let mut environment = agent.inherited.clone();
    environment.insert(
        crate::process_table::STATE_VARIABLE.to_owned(),
        agent.layout.tag().to_owned(),
    );
    environment.insert(
        crate::process_table::INSTANCE_VARIABLE.to_owned(),
        name.clone(),
    );
    let launch = Launch {
        program: program.program.clone(),
        arguments: vec![
            NAME.to_owned(),
            "--state".to_owned(),
            text(&state),
            "--admin".to_owned(),
            text(agent.gateway.client.socket()),
            "--handover".to_owned(),
            text(&agent.gateway.handover),
            "--access-log".to_owned(),
            "stdout".to_owned(),
        ],
        environment,
        folder: PathBuf::from("/"),
        stdin: None,
        stdout: pipes.stdout,
        stderr: pipes.stderr,
        control_groups: Vec::new(),
        user: None,
        // A gateway holds two connections for each request.
        open_files: u64::MAX,
    };
    let prepared = child::prepare(agent.layout.tag(), &name, agent.layout.exits())
        .map_err(|error| error.to_string())?;
    let record = InstanceRecord {
        process: Some(prepared.identity.clone()),
        build: Some(program.build.clone()),
        started_at: Some(crate::log::now()),
        ..InstanceRecord::default()
    };
    record
        .save(&agent.layout, &name)
        .map_err(|error| error.to_string())?;
    let child = prepared
        .launch(&launch)
        .map_err(|error| error.to_string())?;
    Ok(Running {
        name,
        build: program.build.clone(),
        child,
        capture,
    })
}

/// Waits until this very process answers, and takes its configuration in.
async fn answer(agent: &Agent, running: &Running) -> bool {
    let gateway = &agent.gateway;
    let asking = async {
        loop {
            if let Ok(status) = gateway.client.status().await
                && i32::try_from(status.pid) == Ok(running.child.identity.pid)
                && let Ok(config) = gateway.client.config().await
            {
                gateway.take_in(&config);
                gateway.answers.set(true);
                agent.touch();
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        answered = asking => answered,
        _ = running.child.ended() => false,
        () = tokio::time::sleep(ANSWER_WITHIN) => false,
    }
}
