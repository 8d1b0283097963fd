//! The target as the command line holds it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, Volume};
use futures::future::try_join_all;
use futures::stream::BoxStream;
use platform_blueprint::{DockerSettings, EnvironmentName, Gateway, ProjectName, ResourceName};
use platform_decide::desired::{Desired, DesiredResource};
use platform_decide::group::{GroupId, GroupSpec};
use platform_decide::observed::{GatewaySeen, Observed};
use platform_decide::release::Release;
use platform_decide::traffic::Traffic;
use platform_port::{
    Attachment, ExecRequest, Finding, LogLine, LogQuery, SecretValues, Store, Tallies, Target,
    TargetError, TargetInfo,
};

use crate::PROVIDER;
use crate::access::server_port;
use crate::engine::{self, Engine, fault};
use crate::gateway::Hearing;
use crate::inside::{Answer, Ask, GatewayAsk};
use crate::keeper::{Reach, unexpected};
use crate::names::{KEEP, Names, RESOURCE, ROLE, Role};
use crate::observe;
use crate::resource::unserved;
use crate::site::{Site, is_of, label, lock, name};
use crate::store::KeeperStore;

/// What a target is made with.
#[derive(Debug, Clone)]
pub struct TargetOptions {
    /// The project.
    pub project: ProjectName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The engine, as the environment has it.
    pub settings: DockerSettings,
    /// The folder of the blueprint, absolute.
    pub root: PathBuf,
    /// The gateway's settings: where it is published before it is given routes.
    pub gateway: Gateway,
    /// The program that runs as gateway and keeper; this very one unless given.
    pub program: Option<PathBuf>,
}

/// One environment of one project as containers of an engine.
pub struct DockerTarget {
    pub(crate) site: Arc<Site>,
    store: KeeperStore,
}

impl DockerTarget {
    /// Makes a target. Touches nothing and asks nothing.
    ///
    /// # Errors
    ///
    /// If the engine's address cannot be used.
    pub fn new(options: TargetOptions) -> Result<Self, TargetError> {
        let program = options
            .program
            .or_else(|| std::env::current_exe().ok())
            .unwrap_or_else(|| "/proc/self/exe".into());
        let engine = Engine::connect(&options.settings)?;
        let names = Names {
            project: options.project,
            environment: options.environment,
        };
        let site = Arc::new(Site::new(
            engine,
            names,
            options.settings,
            options.root,
            options.gateway,
            program,
        ));
        Ok(Self {
            store: KeeperStore::new(Arc::clone(&site)),
            site,
        })
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

impl Site {
    /// Looks at everything of the environment's.
    pub(crate) async fn observe(&self) -> Result<Observed, TargetError> {
        Box::pin(self.look()).await
    }

    async fn look(&self) -> Result<Observed, TargetError> {
        self.news.look();
        let (listed, network, wanted, routed) = futures::future::try_join4(
            self.containers(),
            self.network(),
            self.wanted(Reach::IfRunning),
            self.routed(Reach::IfRunning),
        )
        .await?;
        let network = network.unwrap_or_else(|| crate::network::Network {
            name: String::new(),
            subnet: None,
        });
        let of = |wanted: Role| listed.iter().filter(move |one| is_of(one, wanted));
        let next = self.names.next_gateway();
        let is_next = |one: &&ContainerSummary| {
            let mut names = one.names.iter().flatten();
            names.any(|name| name.trim_start_matches('/') == next)
        };
        let gateway = of(Role::Gateway).find(|one| !is_next(one));
        // One that is paused would keep whoever asks waiting.
        let answers =
            |one: &ContainerSummary| one.state == Some(ContainerSummaryStateEnum::RUNNING);
        let hear = async {
            if gateway.is_some_and(answers) {
                self.hear().await
            } else {
                Ok(Hearing::Nobody)
            }
        };
        let front = async {
            match gateway.and_then(|one| one.id.as_deref()) {
                Some(id) => self.inspect(id).await,
                None => Ok(None),
            }
        };
        let servers = of(Role::Resource).filter_map(|one| one.id.as_deref());
        let servers = try_join_all(servers.map(|id| self.inspect(id)));
        let found = self.found_among(&listed, &network.name);
        let (mut found, heard, front, servers) =
            futures::future::try_join4(found, hear, front, servers).await?;
        self.recall_starved(&mut found).await;
        let mut resources = unserved(&wanted);
        for seen in servers.into_iter().flatten() {
            let engine = label(&seen, KEEP).unwrap_or_default().to_owned();
            let own: Option<ResourceName> =
                label(&seen, RESOURCE).and_then(|name| name.parse().ok());
            if let Some(own) = own {
                let host = name(&seen);
                let address = match server_port(&wanted, own.as_str()) {
                    Some(port) => format!("{host}:{port}"),
                    None => host.to_owned(),
                };
                resources.extend(
                    observe::resource(&seen, &self.names, &engine, address, now())
                        .map(|seen| (own, seen)),
                );
            }
        }
        let leaving = self.leaving().clone();
        let tallies = heard.heard().map(|heard| &heard.tallies);
        let stays = |one: &&observe::Found| !leaving.contains(&one.name());
        let untold = tallies.is_some_and(|tallies| {
            let mut staying = found.iter().filter(stays);
            staying.any(|one| one.is_untold(tallies))
        });
        self.news.found(tallies, untold);
        Ok(Observed {
            groups: observe::groups(&found, &leaving, tallies, now()),
            resources,
            gateway: front.map(|front| {
                crate::routing::seen(
                    &network,
                    &routed,
                    &found,
                    (&front, &heard),
                    &self.published,
                    &self.names,
                )
            }),
            noticed: lock(&self.noticed).clone(),
        })
    }

    /// Removes every container but the keeper.
    async fn clear(&self) -> Result<(), TargetError> {
        // The gateway goes last, so that what is under way is answered.
        let listed = self.containers().await?;
        let of = |wanted: Role| {
            let own = listed.iter().filter(move |one| is_of(one, wanted));
            own.filter_map(|one| one.id.clone())
        };
        let gateway: Vec<String> = of(Role::Gateway).collect();
        for id in gateway {
            self.remove(&id, Some(30)).await?;
        }
        let services = of(Role::Service).map(|id| async move { self.remove_gently(&id).await });
        try_join_all(services).await?;
        let others = of(Role::Resource).chain(of(Role::Plumbing));
        let others = others.map(|id| async move { self.remove(&id, Some(60)).await });
        try_join_all(others).await?;
        Ok(())
    }

    /// Stops a container within its own grace period and removes it.
    async fn remove_gently(&self, id: &str) -> Result<(), TargetError> {
        let seen = self.inspect(id).await?;
        let grace = seen
            .as_ref()
            .and_then(|seen| seen.config.as_ref()?.stop_timeout)
            .and_then(|seconds| i32::try_from(seconds).ok());
        self.remove(id, Some(grace.unwrap_or(10))).await
    }

    /// Removes everything that carries the environment's labels.
    async fn destroy(&self, remove_data: bool) -> Result<(), TargetError> {
        // The lease is renewed meanwhile, and must not bring the keeper back.
        self.destroyed.store(true, Ordering::SeqCst);
        drop(self.laying.lock().await);
        self.clear().await?;
        self.hang_up().await;
        for one in self.containers().await? {
            self.remove(one.id.as_deref().unwrap_or_default(), None)
                .await?;
        }
        let docker = &self.engine.docker;
        let volumes = self.volumes().await?;
        let is_data = |volume: &Volume| {
            volume.labels.get(ROLE).map(String::as_str) == Some(Role::Data.as_str())
        };
        // Credentials are data, too, but only for as long as there is something that they open.
        let credentials = self.names.plumbing("credentials");
        let stays = |volume: &&Volume| is_data(volume) && volume.name != credentials;
        let keep = !remove_data && volumes.iter().any(|volume| stays(&volume));
        for volume in &volumes {
            if !(keep && is_data(volume)) {
                self.remove_volume(&volume.name).await?;
            }
        }
        let options = bollard::query_parameters::ListNetworksOptions {
            filters: Some(self.names.filter()),
        };
        let networks = docker.list_networks(Some(options)).await;
        for network in networks.map_err(|error| fault("look at the networks", error))? {
            self.end_network(&network.id.unwrap_or_default()).await?;
        }
        crate::site::lock(&self.credentials).clear();
        // After the volumes: of two environments that are taken away at once, the later finds nobody.
        self.tidy_exports(None).await?;
        let seen = self.everything().await?;
        self.tidy_programs(&seen).await?;
        self.remove_built(&seen).await
    }
}

#[async_trait]
impl Target for DockerTarget {
    fn info(&self) -> TargetInfo {
        TargetInfo {
            provider: PROVIDER.to_owned(),
            place: self.site.engine.place.clone(),
            version: None,
        }
    }

    async fn preflight(&self, desired: &Desired) -> Result<Vec<Finding>, TargetError> {
        self.site.preflight(desired).await
    }

    async fn doctor(&self) -> Vec<Finding> {
        self.site.doctor().await
    }

    async fn observe(&self) -> Result<Observed, TargetError> {
        self.site.observe().await
    }

    async fn changed(&self, at_most: Duration) {
        self.site.changed(at_most).await;
    }

    async fn fetch_resource(
        &self,
        name: &ResourceName,
        resource: &DesiredResource,
    ) -> Result<(), TargetError> {
        self.site.fetch_resource(name, &resource.resource).await
    }

    async fn ensure_resource(
        &self,
        name: &ResourceName,
        resource: &DesiredResource,
    ) -> Result<(), TargetError> {
        self.site.ensure_resource(name, resource).await
    }

    async fn remove_resource(
        &self,
        name: &ResourceName,
        remove_data: bool,
    ) -> Result<(), TargetError> {
        self.site.remove_resource(name, remove_data).await
    }

    async fn ensure_gateway(&self) -> Result<(), TargetError> {
        self.site.ensure_gateway().await
    }

    async fn route(&self, traffic: &Traffic, secrets: &SecretValues) -> Result<(), TargetError> {
        self.site.route(traffic, secrets).await
    }

    async fn fetch_group(&self, group: &GroupSpec) -> Result<(), TargetError> {
        self.site.engine.answers().await?;
        let image = self.site.image_of(&group.id.service, &group.spec).await;
        image
            .map(drop)
            .map_err(|error| error.about(group.id.clone()))
    }

    async fn ensure_group(
        &self,
        group: &GroupSpec,
        secrets: &SecretValues,
    ) -> Result<(), TargetError> {
        self.site
            .ensure_group(group, secrets)
            .await
            .map_err(|error| error.about(group.id.clone()))
    }

    async fn prepare_group(
        &self,
        group: &GroupSpec,
        secrets: &SecretValues,
    ) -> Result<(), TargetError> {
        self.site
            .prepare_group(group, secrets)
            .await
            .map_err(|error| error.about(group.id.clone()))
    }

    async fn remove_group(&self, group: &GroupId) -> Result<(), TargetError> {
        self.site
            .remove_group(group)
            .await
            .map_err(|error| error.about(group.clone()))
    }

    async fn tidy(&self, releases: &[Release]) -> Result<(), TargetError> {
        self.site.tidy(releases).await
    }

    async fn stop(&self) -> Result<(), TargetError> {
        self.site.clear().await
    }

    async fn destroy(&self, remove_data: bool) -> Result<(), TargetError> {
        self.site.destroy(remove_data).await
    }

    async fn tallies(&self) -> Result<Tallies, TargetError> {
        let ask = Ask::Gateway(GatewayAsk::Tallies);
        let counted = match self.site.ask(ask, Reach::IfRunning).await? {
            Some(Answer::Tallies(counted)) => *counted,
            other => {
                let error = unexpected("read the gateway's counts", other);
                return Err(error.with_code("gateway::silent"));
            }
        };
        Ok(platform_traffic::tallies(&counted))
    }

    async fn logs(
        &self,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine, TargetError>>, TargetError> {
        self.site.logs(query).await
    }

    async fn exec(&self, request: &ExecRequest) -> Result<Attachment, TargetError> {
        self.site.exec(request).await
    }

    async fn connect(&self, name: &str, port: Option<u16>) -> Result<Attachment, TargetError> {
        self.site.connect(name, port).await
    }

    fn is_here(&self) -> bool {
        // Behind any other address there may be a tunnel.
        self.site.engine.place.starts_with("unix://")
    }

    async fn connect_gateway(&self, gateway: &GatewaySeen) -> Result<Attachment, TargetError> {
        self.site.connect_gateway(gateway).await
    }

    fn store(&self) -> &dyn Store {
        &self.store
    }
}

/// The address of the engine of some settings, for people.
pub fn engine_place(settings: &DockerSettings) -> String {
    engine::place(settings)
}
