//! The gateway's container, and the configuration it is given.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, PortBinding, PortMap};
use platform_blueprint::{Gateway, ServiceName};
use platform_decide::desired::Ingress;
use platform_decide::group::GroupId;
use platform_decide::traffic::Traffic;
use platform_gateway_api::admin::Status;
use platform_gateway_api::{Config, Tallies};
use platform_port::{Retry, SecretValues, TargetError};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::PROVIDER;
use crate::container::{attached, hardened, log_config, volume, whole_seconds};
use crate::inside::{Answer, Ask, GatewayAsk, SOCKETS};
use crate::keeper::{Reach, unexpected};
use crate::names::{BUILD, KEEP, Role};
use crate::network::Network;
use crate::observe::Found;
use crate::program::{FOLDER, USER};
use crate::site::{Site, is_paused, is_running, label, lock};

/// How long a gateway may take to answer after its start.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long requests are waited for that began before an instance was taken out and may not have chosen one yet.
const SETTLE: Duration = Duration::from_millis(50);
/// How often it is asked whether requests are still on their way to an instance.
const DRAINED_EVERY: Duration = Duration::from_millis(10);
/// Where the gateway keeps its last configuration.
const KEPT: &str = "/state";
/// Where programs of newer builds are put.
pub(crate) const PROGRAMS: &str = "/programs";
/// Where it finds certificates and their keys.
pub(crate) const CERTIFICATES: &str = "/run/certificates";
/// The first port of the internal listeners.
const INTERNAL: u16 = 20_000;
/// The name under which services reach it.
pub(crate) const ALIAS: &str = "gateway";
/// The document with routes, shares and internal ports as they were last asked for.
const ROUTED: &str = "docker/routed";

/// What was last asked of the gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Routed {
    /// Routes and shares.
    pub(crate) traffic: Option<Traffic>,
    /// Ports of the internal listeners. Instances are told them when they start, so they stay.
    pub(crate) ports: BTreeMap<ServiceName, u16>,
    /// The file beside the certificates in which the gateway finds the address of the Redis that it counts through.
    #[serde(default)]
    pub(crate) shared: Option<PathBuf>,
}

/// What the gateway says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) status: Status,
    pub(crate) config: Config,
    pub(crate) tallies: Tallies,
}

/// Where the gateway's ports are published on the engine's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    address: IpAddr,
    ports: Vec<u16>,
    /// Where figures are told, which may be at an address of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    figures: Option<SocketAddr>,
}

impl Published {
    pub(crate) fn of(gateway: &Gateway) -> Self {
        let secured = gateway.tls.as_ref().map(|tls| tls.port.get());
        Self {
            address: gateway.address,
            ports: std::iter::once(gateway.port.get()).chain(secured).collect(),
            figures: gateway
                .metrics
                .as_ref()
                .map(|at| SocketAddr::new(at.address, at.port.get())),
        }
    }

    /// Every address and port that leads to the gateway.
    pub(crate) fn places(&self) -> impl Iterator<Item = SocketAddr> {
        let ports = self.ports.iter();
        ports
            .map(|port| SocketAddr::new(self.address, *port))
            .chain(self.figures)
    }

    fn bindings(&self) -> PortMap {
        let binding = |place: SocketAddr| PortBinding {
            host_ip: Some(place.ip().to_string()),
            host_port: Some(place.port().to_string()),
        };
        self.places()
            .map(|place| (format!("{}/tcp", place.port()), Some(vec![binding(place)])))
            .collect::<HashMap<_, _>>()
    }
}

impl Site {
    /// What was last asked of the gateway.
    pub(crate) async fn routed(&self, reach: Reach) -> Result<Routed, TargetError> {
        Ok(self.document(ROUTED, reach).await?.0)
    }

    /// Ports of the internal listeners of services, given out once and for all.
    pub(crate) async fn internal_ports(
        &self,
        services: impl Iterator<Item = &ServiceName> + Clone + Send,
    ) -> Result<BTreeMap<ServiceName, u16>, TargetError> {
        let give = |routed: &mut Routed| give_ports(routed, services.clone());
        Ok(self.change(ROUTED, give).await?.ports)
    }

    /// Asks the gateway.
    pub(crate) async fn gateway(
        &self,
        ask: GatewayAsk,
        reach: Reach,
    ) -> Result<Option<Answer>, TargetError> {
        Ok(self.ask(Ask::Gateway(ask), reach).await?)
    }

    /// What the gateway says of itself; `None` where it does not answer.
    pub(crate) async fn hear(&self) -> Result<Option<Heard>, TargetError> {
        let reach = Reach::IfRunning;
        let (status, config, tallies) = futures::future::try_join3(
            self.gateway(GatewayAsk::Status, reach),
            self.gateway(GatewayAsk::Config, reach),
            self.gateway(GatewayAsk::Tallies, reach),
        )
        .await?;
        match (status, config, tallies) {
            (
                Some(Answer::Status(status)),
                Some(Answer::Config(config)),
                Some(Answer::Tallies(tallies)),
            ) => Ok(Some(Heard {
                status: *status,
                config: *config,
                tallies: *tallies,
            })),
            _ => Ok(None),
        }
    }

    /// Makes sure that a gateway of this build runs.
    pub(crate) async fn ensure_gateway(&self) -> Result<(), TargetError> {
        self.ensure_keeper(true).await?;
        let network = self.ensure_network().await?;
        let routed = self.routed(Reach::Make).await?;
        let settings = routed
            .traffic
            .as_ref()
            .map_or(&self.published, |traffic| &traffic.ingress.gateway);
        self.gateway_container(&network, &Published::of(settings))
            .await
    }

    /// Makes sure that the gateway's container is as asked and runs.
    async fn gateway_container(
        &self,
        network: &Network,
        published: &Published,
    ) -> Result<(), TargetError> {
        Box::pin(self.bring_gateway(network, published)).await
    }

    async fn bring_gateway(
        &self,
        network: &Network,
        published: &Published,
    ) -> Result<(), TargetError> {
        let name = self.names.gateway();
        let program = self.program()?;
        let wanted = serde_json::to_string(published).unwrap_or_default();
        if let Some(seen) = self.inspect(&name).await? {
            if !self.is_own(&seen) {
                return Err(crate::site::taken("container", &name));
            }
            let networks = seen
                .network_settings
                .as_ref()
                .and_then(|all| all.networks.as_ref());
            let same = label(&seen, KEEP) == Some(wanted.as_str())
                && networks.is_some_and(|all| all.contains_key(&network.name));
            let id = seen.id.as_deref().unwrap_or_default();
            let renewed = self.renewed(id).await?;
            let build = renewed.as_deref().or_else(|| label(&seen, BUILD));
            let other = build != Some(program.build.as_str());
            if same && is_running(&seen) {
                // Where a newer program does not take over, the container is made anew.
                if !other || self.renew(id).await.is_ok() {
                    return Ok(());
                }
            } else if same && !other && !is_paused(&seen) {
                self.start(&name).await?;
                return self.answers().await;
            }
            self.remove(&name, Some(self.drain_seconds())).await?;
        }
        for what in ["gateway", "certificates", "programs"] {
            self.plumbing(&self.names.plumbing(what)).await?;
        }
        let mut command = program.command(FOLDER);
        let own = serde_json::to_string(&command).unwrap_or_default();
        let arguments = [
            "inside",
            "front",
            PROGRAMS,
            &own,
            "gateway",
            "--state",
            KEPT,
            "--admin",
            "/run/platform/gateway.sock",
            "--handover",
            "/run/platform/handover.sock",
            "--access-log",
            "stdout",
            "--drain",
            &format!("{}s", self.drain_seconds()),
        ];
        command.extend(arguments.map(str::to_owned));
        let mut labels = self.names.labels(Role::Gateway);
        labels.insert(BUILD.to_owned(), program.build.clone());
        labels.insert(KEEP.to_owned(), wanted);
        let exposed = published
            .places()
            .map(|place| format!("{}/tcp", place.port()));
        let body = ContainerCreateBody {
            hostname: Some(ALIAS.to_owned()),
            image: Some(program.image()),
            entrypoint: Some(command),
            user: Some(format!("{USER}:{USER}")),
            exposed_ports: Some(exposed.collect()),
            stop_timeout: Some(i64::from(self.drain_seconds()) + 5),
            networking_config: Some(attached(&network.name, vec![ALIAS.to_owned()], None)),
            labels: Some(labels),
            host_config: Some(HostConfig {
                network_mode: Some(network.name.clone()),
                port_bindings: Some(published.bindings()),
                mounts: Some(vec![
                    volume(&self.names.plumbing("gateway"), KEPT, false),
                    volume(&self.names.plumbing("run"), SOCKETS, false),
                    volume(&self.names.plumbing("programs"), PROGRAMS, false),
                    volume(&self.names.plumbing("certificates"), CERTIFICATES, false),
                ]),
                log_config: Some(log_config(&platform_blueprint::Logs::default())),
                ..hardened()
            }),
            ..ContainerCreateBody::default()
        };
        self.create_own(&name, body).await?;
        let started = self.start(&name).await;
        if let Err(error) = started {
            // It would hold the name, and the next try should begin anew.
            let _ = self.remove(&name, None).await;
            let said = error.source.to_string();
            return Err(
                if said.contains("address already in use")
                    || said.contains("port is already allocated")
                {
                    error.with_code("preflight::port-taken").with_help(
                        "another program listens there; free the port or set `[gateway] port`",
                    )
                } else {
                    error
                },
            );
        }
        self.answers().await
    }

    fn drain_seconds(&self) -> i32 {
        let seconds = whole_seconds(self.published.drain);
        i32::try_from(seconds.min(120)).unwrap_or(30)
    }

    async fn answers(&self) -> Result<(), TargetError> {
        let begun = Instant::now();
        loop {
            let answer = self.gateway(GatewayAsk::Status, Reach::Make).await?;
            match answer {
                Some(Answer::Status(_)) => return Ok(()),
                other if begun.elapsed() > ANSWER_WITHIN => {
                    let error = unexpected("start the gateway", other);
                    return Err(error
                        .with_code("gateway::silent")
                        .with_help("run `platform logs --service gateway`"));
                }
                _ => tokio::time::sleep(Duration::from_millis(30)).await,
            }
        }
    }

    /// Routes and shares as asked; returns once they are confirmed.
    pub(crate) async fn route(
        &self,
        traffic: &Traffic,
        secrets: &SecretValues,
    ) -> Result<(), TargetError> {
        if self.inspect(&self.names.gateway()).await?.is_none() {
            return Err(TargetError::refused(
                PROVIDER,
                "route traffic",
                "no gateway runs here yet",
            )
            .with_code("gateway::not-running"));
        }
        let network = self.ensure_network().await?;
        lock(&self.gateway_secrets).clone_from(secrets);
        let shared = self.shared(&traffic.ingress, secrets).await?;
        let routed = self
            .change(ROUTED, |routed: &mut Routed| {
                give_ports(routed, traffic.ingress.services.keys());
                routed.traffic = Some(traffic.clone());
                routed.shared = shared.as_ref().map(|shared| shared.file.clone());
            })
            .await?;
        self.gateway_container(&network, &Published::of(&traffic.ingress.gateway))
            .await?;
        self.certify(&traffic.ingress, secrets).await?;
        if let Some(shared) = &shared {
            self.hand_shared(shared).await?;
        }
        self.push(&network, &routed, true).await
    }

    /// Brings certificates and their keys to the gateway.
    async fn certify(&self, ingress: &Ingress, secrets: &SecretValues) -> Result<(), TargetError> {
        let Some(tls) = &ingress.gateway.tls else {
            return Ok(());
        };
        let mut files = Vec::new();
        for one in &tls.certificates {
            let path = self.root.join(&one.certificate);
            let text = std::fs::read(&path).map_err(|error| {
                let action = format!("read certificate `{}`", path.display());
                TargetError::refused(PROVIDER, action, error)
            })?;
            files.push((certificate_file(&one.certificate), 0o444, 0, text));
            let key = platform_traffic::key_file(Path::new(""), ingress, &one.key);
            if let (Some(file), Some(value)) = (key, secrets.get(&one.key)) {
                let name = file.display().to_string();
                files.push((name, 0o400, USER, value.reveal().as_bytes().to_vec()));
            }
        }
        self.upload(&self.names.gateway(), CERTIFICATES, &files)
            .await
    }

    /// Tells the gateway of instances that came or went. Nothing is to be told while it does not run.
    pub(crate) async fn refresh(&self) -> Result<(), TargetError> {
        let name = self.names.gateway();
        let looks = futures::future::try_join(self.inspect(&name), self.network());
        let (gateway, network) = looks.await?;
        if !gateway.as_ref().is_some_and(is_running) {
            return Ok(());
        }
        let Some(network) = network else {
            return Ok(());
        };
        let routed = self.routed(Reach::Make).await?;
        self.push(&network, &routed, false).await
    }

    /// Gives the gateway what is wanted now, where that differs from what it has.
    ///
    /// - `whole`: also routes and whatever needs secrets; else services and their instances alone
    async fn push(
        &self,
        network: &Network,
        routed: &Routed,
        whole: bool,
    ) -> Result<(), TargetError> {
        let _one_at_a_time = self.pushing.lock().await;
        let action = "route traffic";
        for _ in 0..5 {
            let in_force = match self.gateway(GatewayAsk::Config, Reach::Make).await? {
                Some(Answer::Config(config)) => *config,
                Some(Answer::Silent(_)) => {
                    self.answers().await?;
                    continue;
                }
                other => return Err(unexpected(action, other)),
            };
            let listed = self.containers().await?;
            let found = listed.iter();
            let found: Vec<Found> = found
                .filter_map(|one| Found::listed(one, &network.name))
                .collect();
            if crate::certificates::mutual(&found).is_some() {
                self.certify_gateway(routed).await?;
            }
            let secrets = lock(&self.gateway_secrets).clone();
            let leaving = self.leaving().clone();
            let joined =
                crate::routing::join(network, routed, &found, &leaving, &secrets, &self.names);
            let mut wanted = if whole {
                joined
            } else {
                Config {
                    services: joined.services,
                    ..in_force.clone()
                }
            };
            wanted.revision = in_force.revision;
            if wanted == in_force {
                return Ok(());
            }
            wanted.revision += 1;
            match self
                .gateway(GatewayAsk::Put(Box::new(wanted)), Reach::Make)
                .await?
            {
                Some(Answer::Revision(_)) => return Ok(()),
                // Somebody else pushed in between: look again.
                Some(Answer::Refused(reasons))
                    if reasons.iter().any(|reason| reason.path == "revision") => {}
                Some(Answer::Refused(reasons)) => {
                    let words: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                    return Err(TargetError::refused(PROVIDER, action, words.join("; "))
                        .with_code("gateway::refused"));
                }
                Some(Answer::Silent(_)) => self.answers().await?,
                other => return Err(unexpected(action, other)),
            }
        }
        Err(TargetError {
            retry: Retry::Later,
            ..TargetError::refused(PROVIDER, action, "somebody else keeps changing the gateway")
        })
    }

    /// Waits until no request is on its way to instances any more, for `within` at the most.
    pub(crate) async fn drained(&self, group: &GroupId, instances: &[String], within: Duration) {
        let begun = Instant::now();
        // Whatever is in force now has them no more.
        let mut without = None;
        while begun.elapsed() < within.max(SETTLE) {
            let Ok(Some(Answer::Tallies(tallies))) =
                self.gateway(GatewayAsk::Tallies, Reach::IfRunning).await
            else {
                return;
            };
            let own = tallies.services.get(group.service.as_str());
            let under_way = instances
                .iter()
                .filter_map(|name| own?.endpoints.get(name))
                .any(|endpoint| endpoint.in_flight > 0);
            let without = *without.get_or_insert(tallies.revision);
            let settled = tallies.oldest_revision >= without || begun.elapsed() >= SETTLE;
            if settled && !under_way {
                return;
            }
            tokio::time::sleep(DRAINED_EVERY).await;
        }
    }
}

pub(crate) fn certificate_file(path: &str) -> String {
    path.trim_start_matches("./")
        .trim_start_matches('/')
        .to_owned()
}

pub(crate) fn give_ports<'a>(routed: &mut Routed, services: impl Iterator<Item = &'a ServiceName>) {
    for name in services {
        if !routed.ports.contains_key(name) {
            let taken: BTreeSet<u16> = routed.ports.values().copied().collect();
            if let Some(free) = (INTERNAL..u16::MAX).find(|port| !taken.contains(port)) {
                routed.ports.insert(name.clone(), free);
            }
        }
    }
}
