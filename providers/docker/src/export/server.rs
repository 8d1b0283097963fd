//! The servers of resources in an exported environment.

use std::collections::BTreeMap;

use platform_blueprint::ResourceName;
use platform_decide::desired::DesiredResource;
use platform_port::TargetError;

use super::{Draft, body, condition, server_image, unknown_image};
use crate::container;
use crate::image::Image;
use crate::inside::{HANDED_FILE, Handed};
use crate::names::Role;
use crate::resource::{ServerParts, embedded, is_server, no_server, server_body};
use crate::server::Server;
use crate::surroundings::Address;

impl Draft<'_> {
    /// Puts a resource's server into the Compose file.
    pub(super) fn resource(
        &mut self,
        name: &ResourceName,
        wanted: &DesiredResource,
    ) -> Result<(), TargetError> {
        let resource = &wanted.resource;
        if !is_server(resource) {
            if let Address::Folder(volume, ..) = embedded(&self.around.names, name, resource)
                && resource.external.is_none()
            {
                let owner = self.owner(name, &volume);
                self.resources
                    .insert(name.clone(), (owner, "service_completed_successfully"));
            }
            return Ok(());
        }
        let credential = self.credential(name)?;
        let server = Server::of(name.as_str(), resource, &credential)
            .ok_or_else(|| no_server(name, resource))?;
        let reference = server_image(wanted, &server);
        let image = match self.around.images.get(&reference) {
            Some(image) => image.clone(),
            None if server.command.is_empty() => usual_start(&server, &reference)
                .ok_or_else(|| unknown_image(name.as_str(), &reference))?,
            None => Image {
                reference: reference.clone(),
                ..Image::default()
            },
        };
        let body = server_body(&ServerParts {
            names: &self.around.names,
            name,
            wanted,
            server: &server,
            image: &image,
            network: &self.network(),
            program: (&self.around.program, &self.program_volume()),
        });
        let mut service = body::service(body, &self.around.names);
        if server.owned {
            let volume = self.around.names.data(name.as_str());
            let owner = self.owner(name, &volume);
            let after = condition("service_completed_successfully");
            service.depends_on.insert(owner, after);
        }
        let handed = Handed {
            variables: BTreeMap::new(),
            files: server.files.clone(),
            token: None,
            authority: None,
        };
        self.put(name.as_str(), service, Some((HANDED_FILE, &handed)));
        self.resources
            .insert(name.clone(), (name.to_string(), "service_healthy"));
        Ok(())
    }

    /// Something that gives a fresh volume to the user our image has. A volume takes over the owner of the folder that it
    /// covers first, so no root is needed for that.
    fn owner(&mut self, name: &ResourceName, volume: &str) -> String {
        let key = self.free(&format!("{name}-volume"));
        let mut entrypoint = self.around.program.clone();
        entrypoint.push("version".to_owned());
        let body = bollard::models::ContainerCreateBody {
            image: Some(self.around.image.clone()),
            entrypoint: Some(entrypoint),
            user: Some(format!("{0}:{0}", crate::program::USER)),
            labels: Some(self.around.names.labels(Role::Plumbing)),
            host_config: Some(bollard::models::HostConfig {
                network_mode: Some("none".to_owned()),
                mounts: Some(vec![container::volume(volume, "/state", false)]),
                restart_policy: Some(bollard::models::RestartPolicy {
                    name: Some(bollard::models::RestartPolicyNameEnum::NO),
                    maximum_retry_count: None,
                }),
                ..container::hardened()
            }),
            ..bollard::models::ContainerCreateBody::default()
        };
        let service = body::service(body, &self.around.names);
        self.volumes(&service);
        self.out.file.services.insert(key.clone(), service);
        key
    }
}

/// What the usual image of a server begins with, where that image is not at hand to be asked.
fn usual_start(server: &Server, reference: &str) -> Option<Image> {
    let (entrypoint, command): (&[&str], &[&str]) = match server.title.split(' ').next()? {
        "PostgreSQL" => (&["docker-entrypoint.sh"], &["postgres"]),
        "NATS" => (&["nats-server"], &[]),
        "S3" => (&["minio"], &[]),
        _ => return None,
    };
    let owned = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    Some(Image {
        reference: reference.to_owned(),
        user: String::new(),
        command: [owned(entrypoint), owned(command)].concat(),
        entrypoint: owned(entrypoint),
    })
}
