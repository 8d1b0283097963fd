//! Resources: their servers as containers, their data as volumes, their credentials with the keeper.

use std::collections::BTreeMap;

use bollard::models::{ContainerCreateBody, ContainerStateStatusEnum, HostConfig};
use bollard::query_parameters::{RemoveVolumeOptions, WaitContainerOptions};
use futures::StreamExt;
use platform_blueprint::{Engine, Health, Period, Resource, ResourceKind, ResourceName};
use platform_decide::desired::DesiredResource;
use platform_decide::observed::ResourceSeen;
use platform_port::{SecretValues, TargetError};
use serde::{Deserialize, Serialize};

use crate::PROVIDER;
use crate::container::{
    attached, bare_volume, checked, errand, hardened, limited, log_config, mark, volume,
};
use crate::engine::{fault, is_missing, unless};
use crate::image::Image;
use crate::inside::{Answer, Ask, HANDED, HANDED_FILE, Handed};
use crate::keeper::{Reach, unexpected};
use crate::names::{KEEP, Names, RESOURCE, Role, SPEC};
use crate::observe::is_crash_looping;
use crate::program::FOLDER;
use crate::server::{Asked, Server};
use crate::site::{Site, is_paused, is_running, label, lock};
use crate::surroundings::Address;
use crate::target::now;

/// The document with the resources as they were asked for.
const WANTED: &str = "docker/resources";
/// Where the data of an embedded engine are found.
const EMBEDDED: &str = "/data";

/// The resources as they were asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) resources: BTreeMap<ResourceName, DesiredResource>,
}

/// Whether a server of ours stands behind it.
pub(crate) fn is_server(resource: &Resource) -> bool {
    resource.external.is_none() && !matches!(resource.engine, Engine::Embedded | Engine::Auto)
}

/// The image that a resource's server is made from; `None` where this provider runs none for it.
pub fn resource_image(name: &ResourceName, resource: &Resource) -> Option<String> {
    if !is_server(resource) {
        return None;
    }
    let given = resource.image.as_ref().map(ToString::to_string);
    given.or_else(|| Some(Server::of(name.as_str(), resource, "")?.image))
}

impl Site {
    /// The resources as they were asked for.
    pub(crate) async fn wanted(&self, reach: Reach) -> Result<Wanted, TargetError> {
        Ok(self.document(WANTED, reach).await?.0)
    }

    /// The credential of a resource, made where there is none.
    async fn credential(&self, name: &ResourceName) -> Result<String, TargetError> {
        if let Some(known) = lock(&self.credentials).get(name.as_str()) {
            return Ok(known.clone());
        }
        let ask = Ask::Credential {
            name: name.to_string(),
        };
        match self.ask(ask, Reach::Make).await? {
            Some(Answer::Credential(text)) => {
                lock(&self.credentials).insert(name.to_string(), text.clone());
                Ok(text)
            }
            other => Err(unexpected("make a credential", other)),
        }
    }

    /// Where a service reaches a resource.
    pub(crate) async fn resource_address(
        &self,
        name: &ResourceName,
        secrets: &SecretValues,
    ) -> Result<Address, TargetError> {
        let action = || format!("find the address of resource `{name}`");
        let wanted = self.wanted(Reach::Make).await?;
        let resource = wanted
            .resources
            .get(name)
            .map(|wanted| &wanted.resource)
            .ok_or_else(|| TargetError::refused(PROVIDER, action(), "it is not there"))?;
        if let Some(external) = &resource.external {
            let value = secrets.get(&external.secret).ok_or_else(|| {
                let unknown = format!("the value of secret `{}` is not known", external.secret);
                TargetError::refused(PROVIDER, action(), unknown)
            })?;
            return Ok(Address::Secret(value.reveal().to_owned()));
        }
        if is_server(resource) {
            let credential = self.credential(name).await?;
            let url = Server::url(resource.engine, name.as_str(), &credential);
            return url
                .map(Address::Secret)
                .ok_or_else(|| no_server(name, resource));
        }
        Ok(embedded(&self.names, name, resource))
    }

    /// Creates a resource or brings it to what is asked, keeping its data.
    pub(crate) async fn ensure_resource(
        &self,
        name: &ResourceName,
        wanted: &DesiredResource,
    ) -> Result<(), TargetError> {
        self.ensure_keeper(true).await?;
        let resource = &wanted.resource;
        let note = || {
            self.change(WANTED, |all: &mut Wanted| {
                all.resources.insert(name.clone(), wanted.clone());
            })
        };
        if is_server(resource) {
            // Its container says that it is there, so whoever is killed after that must have noted it before.
            note().await?;
            Box::pin(self.serve(name, wanted)).await
        } else {
            // It may have had a server before.
            self.remove_server(name).await?;
            if resource.external.is_none() && resource.kind != ResourceKind::Redis {
                let data = self.names.data(name.as_str());
                self.volume(&data, self.names.labels(Role::Data)).await?;
                let user = format!("{0}:{0}", crate::program::USER);
                self.own(&data, &user).await?;
            }
            // Here it is the note that says so.
            note().await.map(drop)
        }
    }

    /// Brings the image of a resource's server to the engine.
    pub(crate) async fn fetch_resource(
        &self,
        name: &ResourceName,
        resource: &Resource,
    ) -> Result<(), TargetError> {
        self.engine.answers().await?;
        match resource_image(name, resource) {
            Some(reference) => self.server_image(name, &reference).await.map(drop),
            None => Ok(()),
        }
    }

    async fn server_image(
        &self,
        name: &ResourceName,
        reference: &str,
    ) -> Result<Image, TargetError> {
        self.image(reference).await.map_err(|error| {
            let help = error.help.clone().unwrap_or_default();
            error.with_help(format!(
                "{help}; an image of your own is named with `resources.{name}.image`"
            ))
        })
    }

    async fn serve(
        &self,
        name: &ResourceName,
        wanted: &DesiredResource,
    ) -> Result<(), TargetError> {
        let resource = &wanted.resource;
        let network = self.ensure_network().await?;
        let credential = self.credential(name).await?;
        let server = Server::of(name.as_str(), resource, &credential)
            .ok_or_else(|| no_server(name, resource))?;
        let reference = resource_image(name, resource).ok_or_else(|| no_server(name, resource))?;
        let image = self.server_image(name, &reference).await?;
        let container = self.names.resource(name.as_str());
        let program = self.program()?;
        let user = server.user.unwrap_or(&image.user).to_owned();
        let body = server_body(&ServerParts {
            names: &self.names,
            name,
            wanted,
            server: &server,
            image: &image,
            network: &network.name,
            program: (
                &program.command(FOLDER),
                &self.program_volume(&program.build),
            ),
        });
        if let Some(seen) = self.recalled(&container).await? {
            if !self.is_own(&seen) {
                return Err(crate::site::taken("container", &container));
            }
            let made = crate::facets::Facets::asked(&body);
            let changed = made.differing(&crate::facets::Facets::seen(&seen));
            let same = label(&seen, SPEC) == Some(wanted.digest.as_str()) && changed.is_none();
            if same && is_paused(&seen) {
                let woken = self.engine.docker.unpause_container(&container).await;
                return woken.map_err(|error| fault(format!("wake `{name}`"), error));
            }
            if same && is_crash_looping(&seen, now()) {
                // Whoever deploys again may have mended what ended it: from here on ends are counted anew.
                let grace = i32::try_from(server.stop_seconds).unwrap_or(60);
                self.halt(&container, grace).await?;
                return self.start(&container).await;
            }
            if same && is_running(&seen) {
                return Ok(());
            }
            // What was created and never started may lack its files.
            let status = seen.state.as_ref().and_then(|state| state.status);
            if same && status != Some(ContainerStateStatusEnum::CREATED) {
                return self.start(&container).await;
            }
            let grace = i32::try_from(server.stop_seconds).unwrap_or(60);
            self.remove(&container, Some(grace)).await?;
        }
        let data = self.names.data(name.as_str());
        self.volume(&data, self.names.labels(Role::Data)).await?;
        // Also of a volume that is there: who made it may have been killed before this.
        if server.owned {
            self.own(&data, server.user.unwrap_or("0:0")).await?;
        }
        self.plumbing(&self.names.secrets(name.as_str())).await?;
        self.create(&container, body).await?;
        let handed = Handed {
            variables: BTreeMap::new(),
            files: server.files.clone(),
            token: None,
            authority: None,
        };
        self.hand_over(&container, HANDED_FILE, &user, &handed)
            .await?;
        self.start(&container).await
    }

    /// Removes a resource's server, whatever it is called by now.
    async fn remove_server(&self, name: &ResourceName) -> Result<(), TargetError> {
        let container = self.names.resource(name.as_str());
        self.recalled(&container).await?;
        self.remove(&container, Some(60)).await
    }

    /// Gives a fresh volume to a user, by a container that does nothing else.
    async fn own(&self, volume_name: &str, user: &str) -> Result<(), TargetError> {
        let action = || format!("prepare volume `{volume_name}`");
        let container = format!("{volume_name}_owner");
        let may = HostConfig {
            mounts: Some(vec![bare_volume(volume_name, "/volume", false)]),
            cap_add: Some(vec!["CHOWN".to_owned()]),
            ..errand()
        };
        let body = self.errand(&["own", user, "/volume"], may)?;
        self.create_own(&container, body).await?;
        self.start(&container).await?;
        let options = None::<WaitContainerOptions>;
        let mut waiting = self.engine.docker.wait_container(&container, options);
        let ended = waiting.next().await;
        self.remove(&container, None).await?;
        match ended {
            Some(Err(error)) => Err(fault(action(), error)),
            _ => Ok(()),
        }
    }

    /// Stops a resource's server; its data go only where that is asked.
    pub(crate) async fn remove_resource(
        &self,
        name: &ResourceName,
        remove_data: bool,
    ) -> Result<(), TargetError> {
        self.remove_server(name).await?;
        self.remove_volume(&self.names.secrets(name.as_str()))
            .await?;
        self.change(WANTED, |all: &mut Wanted| {
            all.resources.remove(name);
        })
        .await?;
        if remove_data {
            self.remove_volume(&self.names.data(name.as_str())).await?;
            lock(&self.credentials).remove(name.as_str());
            let ask = Ask::Forget {
                name: name.to_string(),
            };
            self.ask(ask, Reach::IfKept).await?;
        }
        Ok(())
    }

    /// Removes a volume of ours. Safe to repeat; somebody else's stays as it is.
    pub(crate) async fn remove_volume(&self, name: &str) -> Result<(), TargetError> {
        let docker = &self.engine.docker;
        match docker.inspect_volume(name).await {
            Ok(seen) if self.names.own(&seen.labels) => {}
            Ok(_) => return Ok(()),
            Err(error) if is_missing(&error) => return Ok(()),
            Err(error) => return Err(fault(format!("look at volume `{name}`"), error)),
        }
        let removed = docker
            .remove_volume(name, None::<RemoveVolumeOptions>)
            .await;
        unless(is_missing, removed).map_err(|error| fault(format!("remove volume `{name}`"), error))
    }
}

/// Where an embedded engine keeps what it is given.
pub(crate) fn embedded(names: &Names, name: &ResourceName, resource: &Resource) -> Address {
    let folder = format!("{EMBEDDED}/{name}");
    let url = match resource.kind {
        ResourceKind::Postgres => format!("sqlite:{folder}/{name}.db"),
        ResourceKind::Redis => return Address::Plain("memory:".to_owned()),
        ResourceKind::Nats => format!("queue:{folder}"),
        ResourceKind::ObjectStore | ResourceKind::Search => format!("file:{folder}"),
    };
    Address::Folder(names.data(name.as_str()), folder, url)
}

/// What the container of a resource's server is made from.
pub(crate) struct ServerParts<'a> {
    pub(crate) names: &'a Names,
    pub(crate) name: &'a ResourceName,
    pub(crate) wanted: &'a DesiredResource,
    pub(crate) server: &'a Server,
    pub(crate) image: &'a Image,
    pub(crate) network: &'a str,
    /// The words that start our own program from its volume, and that volume.
    pub(crate) program: (&'a [String], &'a str),
}

/// Asks for the container of a resource's server.
pub(crate) fn server_body(parts: &ServerParts<'_>) -> ContainerCreateBody {
    let &ServerParts {
        names,
        name,
        wanted,
        server,
        image,
        network,
        program: (ours, volume_name),
    } = parts;
    let mut labels = names.labels(Role::Resource);
    labels.insert(RESOURCE.to_owned(), name.to_string());
    labels.insert(SPEC.to_owned(), wanted.digest.to_string());
    labels.insert(KEEP.to_owned(), server.title.clone());
    let mut entrypoint = ours.to_vec();
    entrypoint.extend(["inside", "run"].map(str::to_owned));
    if !server.command.is_empty() {
        entrypoint.extend(server.command.clone());
    } else if !server.arguments.is_empty() {
        entrypoint.extend(image.entrypoint.iter().chain(&server.arguments).cloned());
    } else {
        entrypoint.extend(image.command.clone());
    }
    let test = match &server.health {
        Asked::Command(command) => command.clone(),
        Asked::Http(address, path) => {
            let asked = ["inside", "reach", address, path].map(str::to_owned);
            ours.iter().cloned().chain(asked).collect()
        }
        Asked::Bucket(address, name) => {
            let asked = ["inside", "bucket", address, name].map(str::to_owned);
            ours.iter().cloned().chain(asked).collect()
        }
    };
    let health = Health {
        interval: Period::from_secs(1),
        timeout: Period::from_secs(5),
        start_within: Period::from_secs(60),
        failures: 3,
        ..Health::default()
    };
    let limits = platform_blueprint::Limits {
        memory: wanted.resource.memory,
        cpu: None,
    };
    let memory = |folder: &&str| {
        let options = "rw,nosuid,nodev,size=16m,mode=1777".to_owned();
        ((*folder).to_owned(), options)
    };
    let tmpfs = server.memory.iter().map(memory);
    let mut host = limited(hardened(), &limits);
    host.tmpfs.get_or_insert_default().extend(tmpfs);
    let mut body = ContainerCreateBody {
        hostname: Some(name.to_string()),
        image: Some(image.reference.clone()),
        entrypoint: Some(entrypoint),
        cmd: Some(Vec::new()),
        user: server.user.map(str::to_owned),
        env: Some(
            server
                .variables
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        ),
        stop_signal: Some(server.stop_signal.to_owned()),
        stop_timeout: Some(server.stop_seconds),
        healthcheck: Some(checked(test, &health)),
        networking_config: Some(attached(network, vec![name.to_string()], None)),
        labels: Some(labels),
        host_config: Some(HostConfig {
            network_mode: Some(network.to_owned()),
            mounts: Some(vec![
                volume(&names.data(name.as_str()), server.data, false),
                bare_volume(&names.secrets(name.as_str()), HANDED, false),
                bare_volume(volume_name, FOLDER, true),
            ]),
            log_config: Some(log_config(&platform_blueprint::Logs::default())),
            ..host
        }),
        ..ContainerCreateBody::default()
    };
    mark(&mut body);
    body
}

/// Resources without a server, as they are seen: they are there as soon as they are asked for.
pub(crate) fn unserved(wanted: &Wanted) -> BTreeMap<ResourceName, ResourceSeen> {
    wanted
        .resources
        .iter()
        .filter(|(_, wanted)| !is_server(&wanted.resource))
        .map(|(name, wanted)| {
            let external = wanted.resource.external.is_some();
            let seen = ResourceSeen {
                digest: wanted.digest.clone(),
                ready: true,
                engine: if external { "elsewhere" } else { "embedded" }.to_owned(),
                address: None,
                reason: None,
                crash_looping: false,
            };
            (name.clone(), seen)
        })
        .collect()
}

pub(crate) fn no_server(name: &ResourceName, resource: &Resource) -> TargetError {
    let why = format!(
        "provider `docker` runs no server of engine `{}`",
        resource.engine.as_str()
    );
    TargetError::refused(PROVIDER, format!("create resource `{name}`"), why)
        .with_code("resource::engine-missing")
        .with_help("name one that runs elsewhere with `external = { secret = \"…\" }`")
}
