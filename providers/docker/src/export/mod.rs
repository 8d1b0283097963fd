//! The environment as a Compose file that runs the same system: made of the very bodies that containers are created with.
//!
//! Nobody of ours is there when Compose starts what is in it. So what is secret lies in files beside the Compose file, which are mounted where
//! an instance looks for what is handed to it; the gateway is given its whole configuration as a file; and every instance has a
//! name of its own on the network, by which the gateway finds it.

mod body;
mod gateway;
mod instance;
mod server;

use std::collections::{BTreeMap, BTreeSet};

use platform_blueprint::{ResourceName, ServiceName};
use platform_compose::File;
use platform_compose::model::{Dependency, Mount, MountForm, Service, Source, Volume};
use platform_decide::desired::{Desired, DesiredResource, DesiredService};
use platform_decide::group::{GroupId, GroupSpec, Need, Place};
use platform_decide::release::ReleaseNumber;
use platform_image::reference;
use platform_port::{SecretValues, TargetError};

use crate::PROVIDER;
use crate::gateway::{ALIAS, Routed, give_ports};
use crate::image::Image;
use crate::inside::{HANDED, Handed};
use crate::keeper::program_volume;
use crate::names::{Names, alias, instance_name};
use crate::program::FOLDER;
use crate::resource::{embedded, is_server, no_server};
use crate::server::Server;
use crate::surroundings::Address;
use crate::target::DockerTarget;

/// What is to be exported.
pub struct ExportAsked<'a> {
    /// What should run.
    pub desired: &'a Desired,
    /// Values of the secrets that services and the gateway are handed.
    pub secrets: &'a SecretValues,
    /// Credentials of resources, as an earlier export made them.
    pub credentials: &'a BTreeMap<String, String>,
    /// The folder of the files beside the Compose file, as that names it: `./compose.files`.
    pub folder: &'a str,
}

/// An environment as a Compose file.
#[derive(Debug, Clone, Default)]
pub struct Exported {
    /// The Compose file.
    pub file: File,
    /// What it refers to, by path in the folder beside it. Holds secrets; never printed.
    pub files: BTreeMap<String, ExportedFile>,
    /// Credentials of resources, the new ones among them.
    pub credentials: BTreeMap<String, String>,
    /// Images that the engine does not have, so that nothing is known of their users and commands.
    pub unknown: BTreeSet<String>,
}

/// A file beside the Compose file.
#[derive(Clone, PartialEq, Eq)]
pub struct ExportedFile(pub Vec<u8>);

impl std::fmt::Debug for ExportedFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// What is known besides what was asked.
struct Around<'a> {
    names: Names,
    /// The reference of our own program's image.
    image: String,
    /// The words that start it where it is found in other containers.
    program: Vec<String>,
    /// Names its build.
    build: String,
    /// Whether the engine has a first process for containers.
    init: bool,
    /// Images by the name under which they are asked for; those the engine has.
    images: BTreeMap<String, Image>,
    root: &'a std::path::Path,
}

impl DockerTarget {
    /// Describes the environment as a Compose file, and brings those images to the engine that no registry has.
    ///
    /// # Errors
    ///
    /// If an image cannot be brought there, or what is asked for cannot run there.
    pub async fn export(&self, asked: &ExportAsked<'_>) -> Result<Exported, TargetError> {
        let site = &self.site;
        let program = site.program()?;
        let image = program.export(&site.engine, &site.names).await?;
        site.tidy_exports(Some(&image)).await?;
        let mut images = BTreeMap::new();
        for (name, service) in &asked.desired.services {
            let spec = &service.spec;
            let found = match &spec.artifact.place {
                Place::Image { reference } if !reference::is_local(reference) => {
                    site.find_image(reference).await?
                }
                _ => Some(site.image_of(name, spec).await?),
            };
            images.extend(found.map(|image| (name.to_string(), image)));
        }
        for (name, wanted) in &asked.desired.resources {
            if let Some(server) = Server::of(name.as_str(), &wanted.resource, "") {
                let reference = server_image(wanted, &server);
                let found = site.find_image(&reference).await?;
                images.extend(found.map(|image| (reference, image)));
            }
        }
        let around = Around {
            names: site.names.clone(),
            image,
            program: program.command(FOLDER),
            build: program.build.clone(),
            init: site.has_init().await?,
            images,
            root: &site.root,
        };
        export(asked, &around)
    }
}

fn server_image(wanted: &DesiredResource, server: &Server) -> String {
    let given = wanted.resource.image.as_ref().map(ToString::to_string);
    given.unwrap_or_else(|| server.image.clone())
}

/// Describes what was asked for.
fn export(asked: &ExportAsked<'_>, around: &Around<'_>) -> Result<Exported, TargetError> {
    let mut draft = Draft {
        asked,
        around,
        taken: BTreeSet::new(),
        gateway: String::new(),
        ports: Routed::default(),
        out: Exported {
            credentials: asked.credentials.clone(),
            ..Exported::default()
        },
        keys: BTreeMap::new(),
        resources: BTreeMap::new(),
    };
    // Names of services and resources are those that people know, and may be that of the gateway.
    let names = asked.desired.services.keys().map(ServiceName::as_str);
    draft.taken = names
        .chain(asked.desired.resources.keys().map(ResourceName::as_str))
        .map(str::to_owned)
        .collect();
    draft.gateway = draft.free(ALIAS);
    give_ports(&mut draft.ports, asked.desired.ingress.services.keys());
    for (name, service) in &asked.desired.services {
        let keys = draft.instance_keys(name, service.replicas);
        draft.keys.insert(name.clone(), keys);
    }
    for (name, wanted) in &asked.desired.resources {
        draft.resource(name, wanted)?;
    }
    for (name, service) in &asked.desired.services {
        draft.service(name, service)?;
    }
    draft.gateway()?;
    Ok(draft.out)
}

/// A Compose file in the making.
struct Draft<'a> {
    asked: &'a ExportAsked<'a>,
    around: &'a Around<'a>,
    /// Names in the Compose file that are spoken for.
    taken: BTreeSet<String>,
    /// What the gateway is called in the Compose file, and on its network.
    gateway: String,
    /// Ports of the gateway's internal listeners.
    ports: Routed,
    out: Exported,
    /// What instances are called in the Compose file.
    keys: BTreeMap<ServiceName, Vec<String>>,
    /// How a resource must be before it is used: what to wait for, until what.
    resources: BTreeMap<ResourceName, (String, &'static str)>,
}

impl Draft<'_> {
    /// A name in the Compose file that nobody has.
    fn free(&mut self, wanted: &str) -> String {
        let others = (2_u32..).map(|number| format!("{wanted}-{number}"));
        let mut names = std::iter::once(wanted.to_owned()).chain(others);
        let free = names.find(|name| self.taken.insert(name.clone()));
        free.unwrap_or_else(|| wanted.to_owned())
    }

    /// Instances of a service: `orders`, or `orders-1` and `orders-2`.
    fn instance_keys(&mut self, name: &ServiceName, replicas: u32) -> Vec<String> {
        if replicas == 1 {
            return vec![name.to_string()];
        }
        (1..=replicas)
            .map(|number| self.free(&format!("{name}-{number}")))
            .collect()
    }

    fn credential(&mut self, name: &ResourceName) -> Result<String, TargetError> {
        if let Some(known) = self.out.credentials.get(name.as_str()) {
            return Ok(known.clone());
        }
        let made = crate::inside::new_credential().map_err(|error| {
            TargetError::refused(PROVIDER, format!("make a credential for `{name}`"), error)
        })?;
        self.out.credentials.insert(name.to_string(), made.clone());
        Ok(made)
    }

    fn network(&self) -> String {
        self.around.names.network()
    }

    fn program_volume(&self) -> String {
        program_volume(&self.around.names, &self.around.build)
    }

    /// Puts a container into the Compose file, with what it is handed in the file that it looks for.
    fn put(&mut self, key: &str, mut service: Service, handed: Option<(&str, &Handed)>) {
        // What is handed comes as a file and not in a volume.
        service
            .volumes
            .retain(|mount| !matches!(mount, MountForm::Full(mount) if mount.target == HANDED));
        if let Some((name, handed)) = handed {
            let text = serde_json::to_vec(handed).unwrap_or_default();
            let target = format!("{HANDED}/{name}");
            self.secret_file(&mut service, key, &format!("{key}.json"), &target, text);
            // Its image fills the volume with our program, from which that is taken.
            let after = service.depends_on.entry(self.gateway.clone());
            after.or_insert_with(|| condition("service_started"));
        }
        self.volumes(&service);
        self.out.file.services.insert(key.to_owned(), service);
    }

    /// Has a service find a file that is secret.
    fn secret_file(
        &mut self,
        service: &mut Service,
        name: &str,
        path: &str,
        target: &str,
        text: Vec<u8>,
    ) {
        let path = format!("secrets/{path}");
        let source = Source {
            file: Some(format!("{}/{path}", self.asked.folder)),
            ..Source::default()
        };
        self.out.file.secrets.insert(name.to_owned(), source);
        self.out.files.insert(path, ExportedFile(text));
        service.secrets.push(body::grant(name, target));
    }

    /// Declares the volumes that a service sees.
    fn volumes(&mut self, service: &Service) {
        for mount in &service.volumes {
            if let MountForm::Full(mount) = mount
                && mount.kind == "volume"
                && let Some(source) = &mount.source
            {
                let volumes = &mut self.out.file.volumes;
                volumes.entry(source.clone()).or_insert(None::<Volume>);
            }
        }
    }

    fn address(&mut self, need: &Need) -> Result<Address, TargetError> {
        Ok(match need {
            Need::Service { name } => {
                let port = self.ports.ports.get(name).copied().unwrap_or_default();
                Address::Plain(format!("http://{}:{port}", self.gateway))
            }
            Need::Resource { name, .. } => {
                let action = || format!("find the address of resource `{name}`");
                let wanted = self.asked.desired.resources.get(name).ok_or_else(|| {
                    TargetError::refused(PROVIDER, action(), "the blueprint does not have it")
                })?;
                let resource = &wanted.resource;
                if let Some(external) = &resource.external {
                    let value = self.asked.secrets.get(&external.secret).ok_or_else(|| {
                        let why = format!("the value of secret `{}` is not known", external.secret);
                        TargetError::refused(PROVIDER, action(), why)
                    })?;
                    Address::Secret(value.reveal().to_owned())
                } else if is_server(resource) {
                    let credential = self.credential(name)?;
                    Server::url(resource.engine, name.as_str(), &credential)
                        .map(Address::Secret)
                        .ok_or_else(|| no_server(name, resource))?
                } else {
                    embedded(&self.around.names, name, resource)
                }
            }
        })
    }
}

fn condition(until: &str) -> Dependency {
    Dependency {
        condition: Some(until.to_owned()),
        ..Dependency::default()
    }
}

/// The instances that a service has in a Compose file: those of a first release.
fn group(name: &ServiceName, wanted: &DesiredService) -> GroupSpec {
    GroupSpec {
        id: GroupId::main(name.clone(), ReleaseNumber(1)),
        replicas: wanted.replicas,
        spec: wanted.spec.clone(),
        digest: wanted.digest.clone(),
    }
}

fn unknown_image(what: &str, reference: &str) -> TargetError {
    let why = format!(
        "what image `{reference}` runs by itself is not known, as the engine does not have it, and `{what}` is handed something in secret before that"
    );
    TargetError::refused(PROVIDER, format!("export `{what}`"), why)
        .with_code("export::image-unknown")
        .with_help(format!(
            "run `docker pull {reference}` and export again, or give it a `command`"
        ))
}

/// The name of an instance on the network, and where the gateway reaches it.
fn endpoint(group: &GroupId, number: u32, port: u16) -> (String, String) {
    let address = format!("{}:{port}", alias(group, number));
    (instance_name(group, number), address)
}

fn mount(source: &str, target: &str, kind: &str) -> MountForm {
    MountForm::Full(Box::new(Mount {
        kind: kind.to_owned(),
        source: Some(source.to_owned()),
        target: target.to_owned(),
        read_only: kind == "bind",
        ..Mount::default()
    }))
}
