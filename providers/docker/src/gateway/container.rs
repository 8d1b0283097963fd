//! The gateway's container: published where it is asked for, and replaced only by one that has started.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, ContainerUpdateBody,
    HostConfig, PortBinding, PortMap,
};
use futures::future::{join, try_join};
use platform_blueprint::Gateway;
use platform_port::{Retry, TargetError};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{ALIAS, ANSWER_WITHIN, CERTIFICATES, KEPT, LOOK, PROGRAMS};
use crate::container::{attached, hardened, log_config, volume, whole_seconds};
use crate::engine::fault;
use crate::facets::Facets;
use crate::inside::{Answer, GatewayAsk, SOCKETS};
use crate::keeper::{Reach, unexpected};
use crate::names::{BUILD, KEEP, MADE, Names, Role};
use crate::network::Network;
use crate::observe::{ended, renamed};
use crate::program::{FOLDER, Program, USER};
use crate::site::{Site, is_running, label};

/// How long one that hangs has to end by itself.
const HANGING_SECONDS: i32 = 5;
/// Nobody can listen where the gateway is asked to.
const PORT_TAKEN: &str = "preflight::port-taken";
const ADDRESS_UNKNOWN: &str = "preflight::address-unknown";

/// Where the gateway's ports are published on the engine's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) address: IpAddr,
    pub(crate) ports: Vec<u16>,
    /// Where figures are told, which may be at an address of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) figures: Option<SocketAddr>,
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

    /// Where a container was published when it was made.
    pub(crate) fn by(seen: &ContainerInspectResponse) -> Option<Self> {
        serde_json::from_str(label(seen, KEEP)?).ok()
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

/// How the gateway's container was changed by hand.
fn changed(seen: &ContainerInspectResponse) -> Option<String> {
    let made = label(seen, MADE).and_then(Facets::noted)?;
    made.differing(&Facets::seen(seen))
}

/// Why the gateway's container is to be put right, in words. What the engine is about to start again is not.
pub(crate) fn amiss(seen: &ContainerInspectResponse, names: &Names) -> Option<String> {
    let status = seen.state.as_ref().and_then(|state| state.status);
    match status {
        Some(ContainerStateStatusEnum::PAUSED) => Some("it is paused".to_owned()),
        Some(
            status @ (ContainerStateStatusEnum::EXITED
            | ContainerStateStatusEnum::DEAD
            | ContainerStateStatusEnum::CREATED),
        ) => Some(format!("its container is {status}; {}", ended(seen))),
        _ => changed(seen)
            .or_else(|| renamed(seen, names))
            .map(|changed| format!("it was {changed}")),
    }
}

/// Says of what could not be started why nobody can listen there, where that is why.
fn unbindable(error: TargetError) -> TargetError {
    let said = error.source.to_string();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["address already in use", "port is already allocated"]) {
        error
            .with_code(PORT_TAKEN)
            .with_help("another program listens there; free the port or set `[gateway] port`")
    } else if says(&["cannot assign requested address"]) {
        error
            .with_code(ADDRESS_UNKNOWN)
            .with_help("the engine's machine does not have the address; set `[gateway] address`")
    } else {
        error
    }
}

impl Site {
    /// Makes sure that a gateway of this build runs.
    ///
    /// One that runs stays where it is published until it is given routes that say otherwise.
    pub(crate) async fn ensure_gateway(&self) -> Result<(), TargetError> {
        let name = self.names.gateway();
        // What is begun with the keeper comes to its end, whatever is found of the gateway.
        let looks = try_join(self.ensure_network(), self.recalled(&name));
        let (kept, looked) = join(self.ensure_keeper(true), looks).await;
        kept?;
        let (network, seen) = looked?;
        let here = seen.filter(is_running).as_ref().and_then(Published::by);
        if let Some(here) = here {
            return self.gateway_container(&network, &here).await;
        }
        let asked = Published::of(&self.published);
        let begun = self.gateway_container(&network, &asked).await;
        match begun {
            // The way back to a release leads where that one listened.
            Err(error) if [PORT_TAKEN, ADDRESS_UNKNOWN].contains(&error.code) => {
                let routed = self.routed(Reach::Make).await?.traffic;
                let before = routed.map(|traffic| Published::of(&traffic.ingress.gateway));
                match before.filter(|before| *before != asked) {
                    Some(before) => self.gateway_container(&network, &before).await,
                    None => Err(error),
                }
            }
            done => done,
        }
    }

    /// Makes sure that the gateway's container is as asked and runs.
    pub(super) async fn gateway_container(
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
        let (name, next) = (self.names.gateway(), self.names.next_gateway());
        let program = self.program()?;
        let (left, mut before) = try_join(self.inspect(&next), self.inspect(&name)).await?;
        if left.is_some_and(|left| self.is_own(&left)) {
            Box::pin(self.finish_replacing(before.is_some())).await?;
            before = self.inspect(&name).await?;
        }
        if let Some(seen) = &before {
            if !self.is_own(seen) {
                return Err(crate::site::taken("container", &name));
            }
            if Box::pin(self.keep_gateway(seen, network, published)).await? {
                return Ok(());
            }
        }
        for what in ["gateway", "certificates", "programs"] {
            self.plumbing(&self.names.plumbing(what)).await?;
        }
        let body = self.gateway_body(&program, network, published);
        let Some(before) = before else {
            self.create_own(&name, body).await?;
            if let Err(error) = self.start(&name).await {
                // It would hold the name, and the next try should begin anew.
                let _ = self.remove(&name, None).await;
                return Err(unbindable(error));
            }
            return self.answers().await;
        };
        // Both may want the same ports, so the one before stops; it is there until the other has started.
        self.create_own(&next, body).await?;
        self.halt(&name, self.drain_seconds()).await?;
        let begun = async {
            self.start(&next).await.map_err(unbindable)?;
            self.answers().await
        };
        if let Err(error) = begun.await {
            let back = async {
                self.remove(&next, None).await?;
                if is_running(&before) {
                    self.start(&name).await?;
                    self.answers().await?;
                }
                Ok::<(), TargetError>(())
            };
            if let Err(error) = back.await {
                tracing::warn!(%error, "the gateway before was not started again");
            }
            return Err(error);
        }
        self.remove(&name, None).await?;
        self.rename(&next, &name).await
    }

    /// Whether the gateway's container is as asked, and runs by now.
    async fn keep_gateway(
        &self,
        seen: &ContainerInspectResponse,
        network: &Network,
        published: &Published,
    ) -> Result<bool, TargetError> {
        let networks = seen.network_settings.as_ref();
        let networks = networks.and_then(|all| all.networks.as_ref());
        let reached = networks.is_some_and(|all| all.contains_key(&network.name));
        if Published::by(seen).as_ref() != Some(published) || !reached {
            return Ok(false);
        }
        let name = self.names.gateway();
        if let Some(made) = label(seen, MADE).and_then(Facets::noted) {
            let now = Facets::seen(seen);
            if made.is_policy_alone(&now) {
                // The one thing that is put right without a gap.
                let asked = ContainerUpdateBody {
                    restart_policy: hardened().restart_policy,
                    ..ContainerUpdateBody::default()
                };
                let updated = self.engine.docker.update_container(&name, asked).await;
                updated.map_err(|error| fault(format!("update container `{name}`"), error))?;
            } else if made != now {
                return Ok(false);
            }
        }
        let id = seen.id.as_deref().unwrap_or_default();
        let running = is_running(seen);
        let answers = async {
            if running {
                Some(self.answers().await)
            } else {
                None
            }
        };
        let (renewed, answered) = join(self.renewed(id), answers).await;
        let renewed = renewed?;
        let build = renewed.as_deref().or_else(|| label(seen, BUILD));
        let other = build != Some(self.program()?.build.as_str());
        let paused = seen.state.as_ref().and_then(|state| state.paused) == Some(true);
        if paused {
            self.wake_container(&name).await?;
        } else if !running {
            if other {
                return Ok(false);
            }
            self.start(&name).await.map_err(unbindable)?;
        }
        let answered = match answered {
            Some(answered) => answered,
            None => self.answers().await,
        };
        match answered {
            // Where a newer program does not take over, the container is made anew.
            Ok(()) => Ok(!other || self.renew(id).await.is_ok()),
            Err(_) if other => Ok(false),
            Err(_) => self.wake_hanging(&name).await,
        }
    }

    /// Starts one anew that runs and has said nothing for all of its time; whether it answers then.
    async fn wake_hanging(&self, name: &str) -> Result<bool, TargetError> {
        tracing::warn!(name, "the gateway does not answer and is started anew");
        // It most likely hears no word to stop.
        let grace = self.drain_seconds().min(HANGING_SECONDS);
        self.halt(name, grace).await?;
        self.start(name).await.map_err(unbindable)?;
        match self.answers().await {
            Ok(()) => Ok(true),
            // It is told here, and by name. It had its time twice, so it is not asked again.
            Err(error) => Err(TargetError {
                retry: Retry::Never,
                ..error
            }),
        }
    }

    /// Ends what a run that was killed had begun: the gateway has its own name again, and there is one.
    ///
    /// - `is_there`: one that has the gateway's name
    async fn finish_replacing(&self, is_there: bool) -> Result<(), TargetError> {
        let (name, next) = (self.names.gateway(), self.names.next_gateway());
        if is_there {
            self.remove(&next, None).await
        } else {
            self.rename(&next, &name).await
        }
    }

    fn gateway_body(
        &self,
        program: &Program,
        network: &Network,
        published: &Published,
    ) -> ContainerCreateBody {
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
        let wanted = serde_json::to_string(published).unwrap_or_default();
        labels.insert(KEEP.to_owned(), wanted);
        let exposed = published
            .places()
            .map(|place| format!("{}/tcp", place.port()));
        let mut body = ContainerCreateBody {
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
        let made = Facets::asked(&body).note();
        if let Some(labels) = &mut body.labels {
            labels.insert(MADE.to_owned(), made);
        }
        body
    }

    fn drain_seconds(&self) -> i32 {
        let seconds = whole_seconds(self.published.drain);
        i32::try_from(seconds.min(120)).unwrap_or(30)
    }

    pub(super) async fn answers(&self) -> Result<(), TargetError> {
        let begun = Instant::now();
        let name = self.names.gateway();
        loop {
            let answer = self.gateway(GatewayAsk::Status, Reach::Make).await?;
            match answer {
                Some(Answer::Status(_)) => return Ok(()),
                other if begun.elapsed() > ANSWER_WITHIN => {
                    let error = unexpected("start the gateway", other);
                    return Err(error
                        .with_code("gateway::silent")
                        .with_help(format!(
                            "`docker logs {name}` shows what it wrote, `docker restart {name}` starts it anew"
                        )));
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }
}
