//! The gateway of an exported environment: its container, and its configuration as a file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use bollard::models::{ContainerCreateBody, HostConfig};
use platform_compose::model::PortForm;
use platform_decide::digest::Digest;
use platform_decide::group::{GroupSpec, Need};
use platform_decide::traffic::{Split, Traffic};
use platform_gateway_api::Config;
use platform_port::TargetError;
use platform_traffic::certificates::{authority_files, copied_file};
use platform_traffic::{Internal, Parts, ReadyInstance};

use super::{Draft, ExportedFile, body, endpoint, group, mount};
use crate::PROVIDER;
use crate::container::{attached, hardened, log_config, volume, whole_seconds};
use crate::gateway::{CERTIFICATES, Published};
use crate::keep::Keep;
use crate::names::Role;
use crate::program::{FOLDER, USER};
use crate::surroundings::Address;

/// Where it finds its configuration.
const CONFIG: &str = "/run/gateway.json";
/// The label with the digest of that, so that another configuration is another container.
const DIGEST: &str = "platform.config";
/// Addresses that Docker gives to networks unless told otherwise.
const BRIDGES: &str = "172.16.0.0/12";

impl Draft<'_> {
    /// Puts the gateway into the Compose file.
    pub(super) fn gateway(&mut self) -> Result<(), TargetError> {
        let shared = self.shared()?;
        let config = self.config(shared.as_ref().map(|(file, _)| file.as_path()));
        let text = serde_json::to_vec_pretty(&config).unwrap_or_default();
        let settings = &self.asked.desired.ingress.gateway;
        let drain = whole_seconds(settings.drain).min(120);
        let mut entrypoint = self.around.program.clone();
        let arguments = [
            "gateway",
            "--config",
            CONFIG,
            "--access-log",
            "stdout",
            "--drain",
            &format!("{drain}s"),
        ];
        entrypoint.extend(arguments.map(str::to_owned));
        let mut labels = self.around.names.labels(Role::Gateway);
        labels.insert(DIGEST.to_owned(), Digest::of(&text).to_string());
        let body = ContainerCreateBody {
            hostname: Some(self.gateway.clone()),
            image: Some(self.around.image.clone()),
            entrypoint: Some(entrypoint),
            user: Some(format!("{USER}:{USER}")),
            stop_timeout: i64::try_from(drain + 5).ok(),
            networking_config: Some(attached(&self.network(), vec![self.gateway.clone()], None)),
            labels: Some(labels),
            host_config: Some(HostConfig {
                // Its own image fills the volume in which the others find our program.
                mounts: Some(vec![volume(&self.program_volume(), FOLDER, false)]),
                log_config: Some(log_config(&platform_blueprint::Logs::default())),
                init: Some(self.around.init),
                ..hardened()
            }),
            ..ContainerCreateBody::default()
        };
        let mut service = body::service(body, &self.around.names);
        for place in Published::of(settings).places() {
            let published = format!("{place}:{}", place.port());
            service.ports.push(PortForm::Short(published.into()));
        }
        let file = "gateway.json".to_owned();
        let source = format!("{}/{file}", self.asked.folder);
        service.volumes.push(mount(&source, CONFIG, "bind"));
        self.out.files.insert(file, ExportedFile(text));
        self.certificates(&mut service)?;
        if let Some((file, address)) = shared {
            let (name, target) = ("gateway-shared", file.display().to_string());
            self.secret_file(&mut service, name, name, &target, address.into_bytes());
        }
        let key = self.gateway.clone();
        self.put(&key, service, None);
        Ok(())
    }

    /// Certificates and their keys.
    fn certificates(
        &mut self,
        service: &mut platform_compose::model::Service,
    ) -> Result<(), TargetError> {
        let ingress = &self.asked.desired.ingress;
        let authorities = authority_files(Path::new(CERTIFICATES), ingress);
        for (number, (file, text)) in authorities.into_iter().enumerate() {
            let (name, target) = (
                format!("gateway-authorities-{}", number + 1),
                file.display().to_string(),
            );
            self.secret_file(
                service,
                &name,
                &format!("{name}.pem"),
                &target,
                text.into_bytes(),
            );
        }
        let Some(tls) = &ingress.gateway.tls else {
            return Ok(());
        };
        let copied = |name: &str| {
            let file = copied_file(Path::new(CERTIFICATES), name);
            file.display().to_string()
        };
        if let Some(authority) = &tls.client_ca {
            let text = self.certificate(authority)?;
            let target = copied(authority);
            let name = "gateway-client-authority";
            self.secret_file(service, name, &format!("{name}.pem"), &target, text);
        }
        if tls.local_ca {
            for file in crate::local_authority::files(self.around.root)? {
                let name = if file.is_key {
                    "gateway-authority-key"
                } else {
                    "gateway-authority"
                };
                let target = format!("{CERTIFICATES}/{}", file.path);
                let text = file.text.reveal().as_bytes().to_vec();
                self.secret_file(service, name, &format!("{name}.pem"), &target, text);
            }
        }
        for (number, one) in tls.certificates.iter().enumerate() {
            let text = self.certificate(&one.certificate)?;
            let target = copied(&one.certificate);
            let name = format!("gateway-certificate-{}", number + 1);
            self.secret_file(service, &name, &format!("{name}.pem"), &target, text);
            let key = platform_traffic::key_file(Path::new(CERTIFICATES), ingress, &one.key);
            if let (Some(target), Some(value)) = (key, self.asked.secrets.get(&one.key)) {
                let name = format!("gateway-key-{}", number + 1);
                let text = value.reveal().as_bytes().to_vec();
                let target = target.display().to_string();
                self.secret_file(service, &name, &format!("{name}.pem"), &target, text);
            }
        }
        Ok(())
    }

    /// A file of certificates beside the blueprint.
    fn certificate(&self, name: &str) -> Result<Vec<u8>, TargetError> {
        let path = self.around.root.join(name);
        std::fs::read(&path).map_err(|error| {
            let action = format!("read certificate `{}`", path.display());
            TargetError::refused(PROVIDER, action, error)
        })
    }

    /// The file with the address of the Redis of `gateway.shared`, and the address; nothing where no server stands behind it.
    fn shared(&mut self) -> Result<Option<(PathBuf, String)>, TargetError> {
        let desired = self.asked.desired;
        let name = desired.ingress.gateway.shared.as_ref();
        let Some((name, wanted)) = name.and_then(|name| desired.resources.get_key_value(name))
        else {
            return Ok(None);
        };
        let need = Need::Resource {
            name: name.clone(),
            resource: wanted.resource.kind,
        };
        let Address::Secret(address) = self.address(&need)? else {
            return Ok(None);
        };
        let (folder, ingress) = (Path::new(CERTIFICATES), &desired.ingress);
        let file = platform_traffic::shared_file(folder, ingress, &wanted.resource, &address);
        Ok(file.map(|file| (file, address)))
    }

    /// The gateway's whole configuration: every service with all of its instances.
    ///
    /// - `shared`: where it finds the address of the Redis that it counts through
    fn config(&self, shared: Option<&Path>) -> Config {
        let desired = self.asked.desired;
        let mut groups = BTreeSet::new();
        let mut ready = Vec::new();
        let mut http2 = BTreeSet::new();
        let mut one_sided = BTreeMap::new();
        let mut checks = BTreeMap::new();
        let mut splits = BTreeMap::new();
        for (name, wanted) in &desired.services {
            let group = group(name, wanted);
            splits.insert(name.clone(), Split::all(group.id.clone()));
            let Some(port) = wanted.spec.service.port else {
                continue;
            };
            let keep = Keep::of(&group);
            let mut check = keep.check();
            check
                .paths
                .insert(group.id.lane(), keep.path.unwrap_or_default());
            checks.insert(name.clone(), check);
            if keep.protocol.is_http2() {
                http2.insert(group.id.clone());
            }
            if let Some(tls) = keep.tls {
                one_sided.insert(group.id.clone(), tls);
            }
            for number in 1..=wanted.replicas {
                ready.push(instance(&group, number, port.get()));
            }
            groups.insert(group.id);
        }
        let traffic = Traffic {
            ingress: desired.ingress.clone(),
            splits,
        };
        let ports = self.ports.ports.iter();
        let internal = ports
            .map(|(name, port)| (name.clone(), Internal::everywhere(*port)))
            .collect();
        let mut config = platform_traffic::join(&Parts {
            traffic: Some(&traffic),
            groups: &groups,
            ready: &ready,
            internal: &internal,
            http2: &http2,
            one_sided: &one_sided,
            public: Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            checks: &checks,
            mutual: None,
            secrets: self.asked.secrets,
            secret_files: Path::new(CERTIFICATES),
            shared,
            root: None,
            project: desired.project.as_str(),
        });
        config.shared_addresses = vec![BRIDGES.to_owned()];
        config.revision = 1;
        config
    }
}

fn instance(group: &GroupSpec, number: u32, port: u16) -> ReadyInstance {
    let (name, address) = endpoint(&group.id, number, port);
    ReadyInstance {
        group: group.id.clone(),
        name,
        address,
        zone: group.zone(number).cloned(),
    }
}
