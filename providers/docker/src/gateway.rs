//! The gateway, and the configuration it is given.

mod container;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::try_join;
use platform_blueprint::{ServiceName, Tls};
use platform_decide::desired::Ingress;
use platform_decide::group::GroupId;
use platform_decide::traffic::Traffic;
use platform_gateway_api::admin::Status;
use platform_gateway_api::{Config, Tallies};
use platform_port::{Retry, SecretValues, TargetError};
use platform_traffic::certificates::{authority_files, copied_file};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::PROVIDER;
use crate::handed_files::HandedFile;
use crate::inside::{Answer, Ask, GatewayAsk};
use crate::keeper::{Reach, unexpected};
use crate::network::Network;
use crate::observe::Found;
use crate::program::USER;
use crate::site::{Site, is_running, lock};

pub(crate) use container::{Published, amiss};

/// How long a gateway may take to answer after its start.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How often a gateway that is started is asked.
const LOOK: Duration = Duration::from_millis(30);
/// How long a look waits for a gateway that runs. One that hangs is told as one that is not ready.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
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

/// What comes of asking the gateway.
#[derive(Debug)]
pub(crate) enum Hearing {
    /// It answered.
    Heard(Box<Heard>),
    /// It runs and said nothing for as long as it was asked.
    Hangs,
    /// Nobody listens there, as while it starts.
    Nobody,
}

impl Hearing {
    /// What it says of itself, where it answered.
    pub(crate) fn heard(&self) -> Option<&Heard> {
        match self {
            Self::Heard(heard) => Some(heard),
            Self::Hangs | Self::Nobody => None,
        }
    }
}

/// How much the gateway is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Services and their instances.
    Instances,
    /// Also routes and whatever needs secrets.
    Whole,
    /// The same, even if nothing of it differs: with the revision it confirms that it has read certificates again.
    Anew,
}

/// What the gateway says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) status: Status,
    pub(crate) config: Config,
    pub(crate) tallies: Tallies,
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

    /// What the gateway says of itself, if it does soon.
    pub(crate) async fn hear(&self) -> Result<Hearing, TargetError> {
        let reach = Reach::IfRunning;
        let asked = futures::future::try_join3(
            self.gateway(GatewayAsk::Status, reach),
            self.gateway(GatewayAsk::Config, reach),
            self.gateway(GatewayAsk::Tallies, reach),
        );
        let Ok(answered) = tokio::time::timeout(HEARD_WITHIN, asked).await else {
            return Ok(Hearing::Hangs);
        };
        let (status, config, tallies) = answered?;
        match (status, config, tallies) {
            (
                Some(Answer::Status(status)),
                Some(Answer::Config(config)),
                Some(Answer::Tallies(tallies)),
            ) => Ok(Hearing::Heard(Box::new(Heard {
                status: *status,
                config: *config,
                tallies: *tallies,
            }))),
            _ => Ok(Hearing::Nobody),
        }
    }

    /// Routes and shares as asked; returns once they are confirmed.
    pub(crate) async fn route(
        &self,
        traffic: &Traffic,
        secrets: &SecretValues,
    ) -> Result<(), TargetError> {
        let name = self.names.gateway();
        let (gateway, network) = try_join(self.inspect(&name), self.network()).await?;
        if gateway.is_none() {
            return Err(TargetError::refused(
                PROVIDER,
                "route traffic",
                "no gateway runs here yet",
            )
            .with_code("gateway::not-running"));
        }
        let network = match network {
            Some(network) => network,
            None => self.ensure_network().await?,
        };
        lock(&self.gateway_secrets).clone_from(secrets);
        let shared = self.shared(&traffic.ingress, secrets).await?;
        // What cannot be listened at is not noted, or everybody after would try it again.
        self.gateway_container(&network, &Published::of(&traffic.ingress.gateway))
            .await?;
        let routed = self
            .change(ROUTED, |routed: &mut Routed| {
                give_ports(routed, traffic.ingress.services.keys());
                routed.traffic = Some(traffic.clone());
                routed.shared = shared.as_ref().map(|shared| shared.file.clone());
            })
            .await?;
        self.certify(&traffic.ingress, secrets).await?;
        if let Some(shared) = &shared {
            self.hand_shared(shared).await?;
        }
        let secured = traffic.ingress.gateway.tls.is_some();
        let whole = if secured { Told::Anew } else { Told::Whole };
        self.push(&network, &routed, whole).await
    }

    /// Brings certificates and their keys to the gateway.
    async fn certify(&self, ingress: &Ingress, secrets: &SecretValues) -> Result<(), TargetError> {
        let authorities = authority_files(Path::new(""), ingress).into_iter();
        let mut files: Vec<_> = authorities
            .map(|(file, text)| (file.display().to_string(), 0o444, 0, text.into_bytes()))
            .collect();
        let certificates = ingress.gateway.tls.as_ref();
        files.extend(self.shown(certificates, ingress, secrets)?);
        if files.is_empty() {
            return Ok(());
        }
        self.upload(&self.names.gateway(), CERTIFICATES, &files)
            .await
    }

    /// The certificates that clients are shown, and their keys.
    fn shown(
        &self,
        tls: Option<&Tls>,
        ingress: &Ingress,
        secrets: &SecretValues,
    ) -> Result<Vec<HandedFile>, TargetError> {
        let mut files = Vec::new();
        let Some(tls) = tls else {
            return Ok(files);
        };
        for name in tls.files() {
            let path = self.root.join(name);
            let text = std::fs::read(&path).map_err(|error| {
                let action = format!("read certificate `{}`", path.display());
                TargetError::refused(PROVIDER, action, error)
            })?;
            let file = copied_file(Path::new(""), name);
            files.push((file.display().to_string(), 0o444, 0, text));
        }
        if tls.local_ca {
            for file in crate::local_authority::files(&self.root)? {
                let (mode, owner) = if file.is_key {
                    (0o400, USER)
                } else {
                    (0o444, 0)
                };
                let text = file.text.reveal().as_bytes().to_vec();
                files.push((file.path, mode, owner, text));
            }
        }
        for one in &tls.certificates {
            let key = platform_traffic::key_file(Path::new(""), ingress, &one.key);
            if let (Some(file), Some(value)) = (key, secrets.get(&one.key)) {
                let name = file.display().to_string();
                files.push((name, 0o400, USER, value.reveal().as_bytes().to_vec()));
            }
        }
        Ok(files)
    }

    /// Tells the gateway of instances that came or went. Nothing is to be told while it does not run.
    pub(crate) async fn refresh(&self) -> Result<(), TargetError> {
        let name = self.names.gateway();
        let looks = try_join(self.inspect(&name), self.network());
        let (gateway, network) = looks.await?;
        if !gateway.as_ref().is_some_and(is_running) {
            return Ok(());
        }
        let Some(network) = network else {
            return Ok(());
        };
        let routed = self.routed(Reach::Make).await?;
        self.push(&network, &routed, Told::Instances).await
    }

    /// Gives the gateway what is wanted now, where that differs from what it has.
    async fn push(
        &self,
        network: &Network,
        routed: &Routed,
        told: Told,
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
                .filter_map(|one| Found::listed(one, &network.name, &self.names))
                .collect();
            if crate::certificates::mutual(&found).is_some() {
                self.certify_gateway(routed).await?;
            }
            let secrets = lock(&self.gateway_secrets).clone();
            let leaving = self.leaving().clone();
            let joined =
                crate::routing::join(network, routed, &found, &leaving, &secrets, &self.names);
            let mut wanted = match told {
                Told::Whole | Told::Anew => joined,
                Told::Instances => Config {
                    services: joined.services,
                    ..in_force.clone()
                },
            };
            wanted.revision = in_force.revision;
            if wanted == in_force && told != Told::Anew {
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
