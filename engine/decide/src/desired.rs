//! What an environment should run, from a resolved blueprint and the keys of its builds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use platform_blueprint::{
    Analysis, EnvironmentName, Gateway, NeedName, OptIn, ProjectName, Protocol, Resolved, Resource,
    ResourceName, Rollout, Route, SecretName, Service, ServiceKind, ServiceName, Tls,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::group::{Artifact, Need, ServiceSpec};
use crate::release::Release;

/// Routes and the gateway's settings, as the blueprint has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ingress {
    /// Listener, protection and identity settings.
    pub gateway: Gateway,
    /// Routes, in the order of the blueprint.
    pub routes: Vec<Route>,
    /// What the gateway needs to know of each service that has a port.
    pub services: BTreeMap<ServiceName, Upstream>,
    /// Version of each secret that the gateway is handed: keys of certificates, hashes of API keys, the address of a
    /// Redis that somebody else runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretName, u32>,
    /// What the files of authorities hold that `gateway` and services name, PEM by the name of the file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub authorities: BTreeMap<String, String>,
    /// Digest of what each file of certificates held that `gateway.tls` names, by the name of the file. The gateway is
    /// handed what a file holds when it is, as a chain is of use with the key of today alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates: BTreeMap<String, Digest>,
}

impl Ingress {
    /// The authorities that are believed of whom the gateway asks over TLS, PEM.
    ///
    /// - `file`: as the blueprint names it
    pub fn authority(&self, file: Option<&str>) -> Option<&str> {
        self.authorities.get(file?).map(String::as_str)
    }
}

/// What the gateway needs to know of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Upstream {
    /// Others need it, so the gateway listens for it inside the environment.
    pub internal: bool,
    /// What the service speaks.
    pub protocol: Protocol,
    /// Balancing, bulkhead, breaker.
    pub traffic: platform_blueprint::Traffic,
    /// By which header or cookie a request asks for the new version.
    pub opt_in: OptIn,
    /// Above which time a good answer counts as slow, in milliseconds.
    pub slow_after: u64,
}

/// A resource as it should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DesiredResource {
    /// As resolved for the environment.
    pub resource: Resource,
    /// Digest of `resource`, carried as a label by what runs.
    pub digest: Digest,
}

/// A service as it should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DesiredService {
    /// What each instance runs.
    pub spec: ServiceSpec,
    /// Digest of the spec.
    pub digest: Digest,
    /// How many instances.
    pub replicas: u32,
    /// How a change of it is rolled out.
    pub rollout: Rollout,
}

impl DesiredService {
    /// Whether it runs to its end instead of serving.
    pub fn is_job(&self) -> bool {
        self.spec.service.kind == ServiceKind::Job
    }
}

/// Everything an environment should run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Desired {
    /// The project.
    pub project: ProjectName,
    /// The environment.
    pub environment: EnvironmentName,
    /// Services by name.
    pub services: BTreeMap<ServiceName, DesiredService>,
    /// Resources by name.
    pub resources: BTreeMap<ResourceName, DesiredResource>,
    /// Routes and settings.
    pub ingress: Ingress,
}

/// Something the desired state cannot be made without.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No artifact was given for a service.
    #[error("no artifact is known for service `{0}`")]
    Artifact(ServiceName),
    /// A secret that a service is handed has not been set.
    #[error("secret `{secret}`, which service `{service}` is handed, is not set")]
    Secret {
        /// The service that asks for it.
        service: ServiceName,
        /// The secret.
        secret: SecretName,
    },
    /// A secret that the gateway is handed has not been set.
    #[error("secret `{0}`, which the gateway is handed, is not set")]
    GatewaySecret(SecretName),
    /// A secret that a rollout asks for figures with has not been set.
    #[error("secret `{0}`, which a gate or a metric of a rollout is asked with, is not set")]
    RolloutSecret(SecretName),
}

impl Desired {
    /// Makes the desired state of one environment.
    ///
    /// - `artifacts`: what each service's build yields, by service
    /// - `secrets`: the version of each secret that is set
    ///
    /// # Errors
    ///
    /// Everything that is [`Missing`], not only the first.
    pub fn new(
        resolved: &Resolved,
        artifacts: &BTreeMap<ServiceName, Artifact>,
        secrets: &BTreeMap<SecretName, u32>,
    ) -> Result<Self, Vec<Missing>> {
        let mut missing = Vec::new();
        let mut services = BTreeMap::new();
        for (name, service) in &resolved.services {
            let Some(artifact) = artifacts.get(name) else {
                missing.push(Missing::Artifact(name.clone()));
                continue;
            };
            let mut versions = BTreeMap::new();
            for secret in secrets_of(resolved, service) {
                match secrets.get(secret) {
                    Some(version) => {
                        versions.insert(secret.clone(), *version);
                    }
                    None => missing.push(Missing::Secret {
                        service: name.clone(),
                        secret: secret.clone(),
                    }),
                }
            }
            let needs = needs_of(resolved, service);
            let spec = ServiceSpec {
                service: Arc::clone(service),
                artifact: artifact.clone(),
                needs,
                secrets: versions,
                authority: None,
            };
            services.insert(
                name.clone(),
                DesiredService {
                    digest: spec.digest(),
                    spec,
                    replicas: service.replicas,
                    rollout: service.rollout.clone(),
                },
            );
        }
        let mut handed = BTreeMap::new();
        for secret in secrets_of_gateway(resolved) {
            match secrets.get(secret) {
                Some(version) => {
                    handed.insert(secret.clone(), *version);
                }
                None => missing.push(Missing::GatewaySecret(secret.clone())),
            }
        }
        for secret in secrets_of_rollouts(resolved) {
            if !secrets.contains_key(secret) {
                missing.push(Missing::RolloutSecret(secret.clone()));
            }
        }
        if !missing.is_empty() {
            return Err(missing);
        }
        let resources = resolved
            .resources
            .iter()
            .map(|(name, resource)| {
                let desired = DesiredResource {
                    resource: resource.clone(),
                    digest: digest_of(resource),
                };
                (name.clone(), desired)
            })
            .collect();
        Ok(Self {
            project: resolved.project.name.clone(),
            environment: resolved.environment.name.clone(),
            services,
            resources,
            ingress: ingress_of(resolved, handed),
        })
    }

    /// The same, believing in authorities.
    ///
    /// - `texts`: what the files hold that the blueprint names, PEM by the name of the file
    #[must_use]
    pub fn with_authorities(mut self, texts: &BTreeMap<String, String>) -> Self {
        let gateway = &self.ingress.gateway;
        let jwt = gateway.jwt.iter().filter_map(|jwt| jwt.ca.as_ref());
        let otlp = gateway.otlp.iter().filter_map(|otlp| otlp.ca.as_ref());
        let services = self.services.values();
        let services = services.filter_map(|one| one.spec.service.tls.as_ref()?.ca.as_ref());
        self.ingress.authorities = jwt
            .chain(otlp)
            .chain(services)
            .filter_map(|file| Some((file.clone(), texts.get(file)?.clone())))
            .collect();
        for service in self.services.values_mut() {
            let tls = service.spec.service.tls.as_ref();
            if let Some(file) = tls.and_then(|tls| tls.ca.as_ref()) {
                service.spec.authority = texts.get(file).cloned();
                service.digest = service.spec.digest();
            }
        }
        self
    }

    /// The same with today's files of certificates: what comes back from an old release is shown with those that are there now.
    ///
    /// A file that has no digest here keeps the one it had.
    ///
    /// - `digests`: by the name of the file
    #[must_use]
    pub fn with_certificates(mut self, digests: &BTreeMap<String, Digest>) -> Self {
        let ingress = &mut self.ingress;
        let named = ingress.gateway.tls.iter().flat_map(Tls::files);
        let named = named.filter_map(|file| {
            let digest = digests.get(file).or_else(|| ingress.certificates.get(file));
            Some((file.to_owned(), digest?.clone()))
        });
        ingress.certificates = named.collect();
        self
    }

    /// The same with today's secrets: what comes back from an old release is handed the values that are set now.
    ///
    /// A secret that is not set any more keeps its old version, and handing it over will fail with its name.
    #[must_use]
    pub fn with_secrets(mut self, versions: &BTreeMap<SecretName, u32>) -> Self {
        for service in self.services.values_mut() {
            for (name, version) in &mut service.spec.secrets {
                if let Some(now) = versions.get(name) {
                    *version = *now;
                }
            }
            service.digest = service.spec.digest();
        }
        for (name, version) in &mut self.ingress.secrets {
            if let Some(now) = versions.get(name) {
                *version = *now;
            }
        }
        self
    }

    /// Only the named services as they should be, and every other as the release that serves has it.
    ///
    /// A service that neither names is left out, with the routes that lead to it.
    #[must_use]
    pub fn only(mut self, named: &BTreeSet<ServiceName>, current: Option<&Release>) -> Self {
        let before = current.map(Self::of_release);
        let mut before = before.map(|b| b.services).unwrap_or_default();
        self.services = self
            .services
            .into_iter()
            .filter_map(|(name, service)| {
                if named.contains(&name) {
                    return Some((name, service));
                }
                let served = before.remove(&name)?;
                Some((name, served))
            })
            .collect();
        let services = &self.services;
        let known = |route: &Route| {
            let service = route.service.as_ref();
            service.is_none_or(|service| services.contains_key(service))
        };
        self.ingress.routes.retain(known);
        self.ingress
            .services
            .retain(|name, _| services.contains_key(name));
        self
    }

    /// What a release asked for, to bring it back.
    pub fn of_release(release: &Release) -> Self {
        let services = release
            .services
            .iter()
            .map(|(name, placed)| {
                let service = DesiredService {
                    spec: placed.spec.clone(),
                    digest: placed.digest.clone(),
                    replicas: placed.replicas,
                    rollout: placed.spec.service.rollout.clone(),
                };
                (name.clone(), service)
            })
            .collect();
        Self {
            project: release.project.clone(),
            environment: release.environment.clone(),
            services,
            resources: release.resources.clone(),
            ingress: release.ingress.clone(),
        }
    }
}

fn needs_of(resolved: &Resolved, service: &Service) -> Vec<Need> {
    service
        .needs
        .iter()
        .filter_map(|need| resolved.need(need))
        .map(|need| match need {
            platform_blueprint::Need::Service(name, _) => Need::Service { name: name.clone() },
            platform_blueprint::Need::Resource(name, resource) => Need::Resource {
                name: name.clone(),
                resource: resource.kind,
            },
        })
        .collect()
}

/// The secrets that a service is handed, each once: those of its variables, and the addresses of servers it needs that
/// somebody else runs.
fn secrets_of<'a>(resolved: &'a Resolved, service: &'a Service) -> BTreeSet<&'a SecretName> {
    let variables = service.env.values();
    let variables = variables.filter_map(|value| value.secret().map(|reference| &reference.secret));
    let needs = service
        .needs
        .iter()
        .filter_map(|need| match resolved.need(need)? {
            platform_blueprint::Need::Resource(_, resource) => address_of(resource),
            platform_blueprint::Need::Service(..) => None,
        });
    variables.chain(needs).collect()
}

/// What a resource is known by: how long its server may take to answer changes nothing of it.
fn digest_of(resource: &Resource) -> Digest {
    Digest::of_value(&Resource {
        start_within: None,
        ..resource.clone()
    })
}

/// The secret that holds the address of a server which somebody else runs.
fn address_of(resource: &Resource) -> Option<&SecretName> {
    resource.external.as_ref().map(|external| &external.secret)
}

/// The secrets that the gateway is handed, each once.
pub fn secrets_of_gateway(resolved: &Resolved) -> BTreeSet<&SecretName> {
    let gateway = &resolved.gateway;
    let certificates = gateway.tls.iter().flat_map(|tls| &tls.certificates);
    let keys = certificates.map(|certificate| &certificate.key);
    let shared = gateway.shared.as_ref();
    let shared = shared.and_then(|name| address_of(resolved.resources.get(name)?));
    keys.chain(gateway.api_keys.iter().map(|list| &list.keys))
        .chain(shared)
        .collect()
}

/// The secrets that rollouts ask gates and for figures with, each once. Nobody else is handed them.
pub fn secrets_of_rollouts(resolved: &Resolved) -> BTreeSet<&SecretName> {
    let services = resolved.services.values();
    services
        .flat_map(|service| service.rollout.secrets())
        .collect()
}

fn ingress_of(resolved: &Resolved, secrets: BTreeMap<SecretName, u32>) -> Ingress {
    let needed: BTreeSet<&str> = resolved
        .services
        .values()
        .flat_map(|service| service.needs.iter().map(NeedName::as_str))
        .collect();
    let usual = Analysis::default();
    let services = resolved
        .services
        .iter()
        .filter(|(_, service)| service.port.is_some())
        .map(|(name, service)| {
            let analysis = service.rollout.analysis.as_ref();
            let slow_after = analysis.map_or(usual.slow_after, |own| own.slow_after);
            let slow_after = slow_after.duration().as_millis();
            let upstream = Upstream {
                internal: needed.contains(name.as_str()),
                protocol: service.protocol,
                traffic: service.traffic.clone(),
                opt_in: service.rollout.opt_in.clone(),
                slow_after: u64::try_from(slow_after).unwrap_or(u64::MAX),
            };
            (name.clone(), upstream)
        })
        .collect();
    Ingress {
        gateway: resolved.gateway.clone(),
        routes: resolved.routes.clone(),
        services,
        secrets,
        authorities: BTreeMap::new(),
        certificates: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::group::Place;

    const SECURED: &str = r#"
        [project]
        name = "shop"
        [services.web]
        command = ["web"]
        port = 8081
        [gateway]
        tls = { certificates = [{ certificate = "shop.pem", key = "shop-key" }] }
        api_keys = { keys = "partners" }
    "#;

    #[test]
    fn the_gateway_is_handed_its_secrets_by_version() {
        let blueprint = platform_blueprint::Blueprint::parse(SECURED, "platform.toml");
        let blueprint = blueprint.unwrap().blueprint;
        let resolved = blueprint.resolve(None).unwrap();
        let artifact = Artifact {
            key: Digest::of(b"web"),
            place: Place::Installed,
        };
        let artifacts = BTreeMap::from([("web".parse().unwrap(), artifact)]);
        let [key, list]: [SecretName; 2] = ["shop-key", "partners"].map(|n| n.parse().unwrap());
        let set = BTreeMap::from([(key.clone(), 2)]);
        assert_eq!(
            Desired::new(&resolved, &artifacts, &set),
            Err(vec![Missing::GatewaySecret(list.clone())])
        );
        let set = BTreeMap::from([(key.clone(), 2), (list.clone(), 1)]);
        let desired = Desired::new(&resolved, &artifacts, &set).unwrap();
        assert_eq!(desired.ingress.secrets, set);
        let newer = BTreeMap::from([(key, 3), (list, 1)]);
        assert_eq!(desired.with_secrets(&newer).ingress.secrets, newer);
    }

    #[test]
    fn certificates_are_those_of_today_and_only_those_that_are_named() {
        let text = SECURED.replace("    api_keys = { keys = \"partners\" }\n", "");
        let blueprint = platform_blueprint::Blueprint::parse(&text, "platform.toml");
        let resolved = blueprint.unwrap().blueprint.resolve(None).unwrap();
        let artifact = Artifact {
            key: Digest::of(b"web"),
            place: Place::Installed,
        };
        let artifacts = BTreeMap::from([("web".parse().unwrap(), artifact)]);
        let set = BTreeMap::from([("shop-key".parse().unwrap(), 1)]);
        let desired = Desired::new(&resolved, &artifacts, &set).unwrap();
        let check = |desired: Desired, now: &[(&str, &str)], expected: &[(&str, &str)]| {
            let digests = |texts: &[(&str, &str)]| -> BTreeMap<String, Digest> {
                let one =
                    |(file, text): &(&str, &str)| ((*file).to_owned(), Digest::of(text.as_bytes()));
                texts.iter().map(one).collect()
            };
            let desired = desired.with_certificates(&digests(now));
            assert_eq!(desired.ingress.certificates, digests(expected));
            desired
        };
        let first = [("shop.pem", "first")];
        let desired = check(desired, &[first[0], ("other.pem", "other")], &first);
        // Nobody knows what it holds while it is gone.
        let desired = check(desired, &[], &first);
        check(desired, &[("shop.pem", "next")], &[("shop.pem", "next")]);
    }

    #[test]
    fn the_gateway_believes_what_its_files_hold() {
        let text = SECURED.replace(
            "api_keys = { keys = \"partners\" }",
            "otlp = { url = \"https://collector.example\", ca = \"collector.pem\" }",
        );
        let blueprint = platform_blueprint::Blueprint::parse(&text, "platform.toml");
        let resolved = blueprint.unwrap().blueprint.resolve(None).unwrap();
        let artifact = Artifact {
            key: Digest::of(b"web"),
            place: Place::Installed,
        };
        let artifacts = BTreeMap::from([("web".parse().unwrap(), artifact)]);
        let set = BTreeMap::from([("shop-key".parse().unwrap(), 1)]);
        let desired = Desired::new(&resolved, &artifacts, &set).unwrap();
        let texts =
            ["collector.pem", "other.pem"].map(|file| (file.to_owned(), format!("of {file}")));
        let desired = desired.with_authorities(&texts.into());
        let ingress = &desired.ingress;
        assert_eq!(
            ingress.authority(Some("collector.pem")),
            Some("of collector.pem")
        );
        assert_eq!(ingress.authorities.len(), 1);
        assert_eq!(ingress.authority(None), None);
    }

    const MEASURED: &str = r#"
        [project]
        name = "shop"
        [services.web]
        command = ["web"]
        port = 8081
        [[rollout.analysis.metrics]]
        name = "heap"
        query = "heap"
        prometheus = "https://metrics.example"
        headers = { Authorization = { secret = "metrics" }, X-Scope-OrgID = "shop" }
    "#;

    #[test]
    fn the_secret_that_a_metric_is_asked_for_with_has_to_be_set_and_is_handed_to_nobody() {
        let blueprint = platform_blueprint::Blueprint::parse(MEASURED, "platform.toml");
        let resolved = blueprint.unwrap().blueprint.resolve(None).unwrap();
        let artifact = Artifact {
            key: Digest::of(b"web"),
            place: Place::Installed,
        };
        let artifacts = BTreeMap::from([("web".parse().unwrap(), artifact)]);
        let secret: SecretName = "metrics".parse().unwrap();
        assert_eq!(
            Desired::new(&resolved, &artifacts, &BTreeMap::new()),
            Err(vec![Missing::RolloutSecret(secret.clone())])
        );
        let set = BTreeMap::from([(secret, 1)]);
        let desired = Desired::new(&resolved, &artifacts, &set).unwrap();
        assert!(desired.ingress.secrets.is_empty());
        assert!(desired.services["web"].spec.secrets.is_empty());
    }

    const ELSEWHERE: &str = r#"
        [project]
        name = "shop"
        [services.web]
        command = ["web"]
        port = 8081
        needs = ["counts"]
        [services.about]
        command = ["about"]
        [resources.counts]
        kind = "redis"
        external = { secret = "counts-address" }
        [gateway]
        shared = "counts"
    "#;

    #[test]
    fn the_address_of_a_server_elsewhere_is_handed_to_who_needs_it_and_to_the_gateway() {
        let blueprint = platform_blueprint::Blueprint::parse(ELSEWHERE, "platform.toml");
        let resolved = blueprint.unwrap().blueprint.resolve(None).unwrap();
        let artifact = |name: &ServiceName| Artifact {
            key: Digest::of(name.as_str().as_bytes()),
            place: Place::Installed,
        };
        let artifacts = resolved.services.keys();
        let artifacts = artifacts
            .map(|name| (name.clone(), artifact(name)))
            .collect();
        let secret: SecretName = "counts-address".parse().unwrap();
        let missing = Desired::new(&resolved, &artifacts, &BTreeMap::new()).unwrap_err();
        let service = "web".parse().unwrap();
        let expected = [
            Missing::Secret {
                service,
                secret: secret.clone(),
            },
            Missing::GatewaySecret(secret.clone()),
        ];
        assert_eq!(missing, expected);
        let set = BTreeMap::from([(secret, 4)]);
        let desired = Desired::new(&resolved, &artifacts, &set).unwrap();
        let handed = |name: &str| &desired.services[name].spec.secrets;
        assert_eq!((handed("web"), &desired.ingress.secrets), (&set, &set));
        assert_eq!(handed("about"), &BTreeMap::new());
    }

    #[test]
    fn how_long_a_server_may_take_changes_nothing_of_it() {
        let digest = |more: &str| {
            let text =
                format!("[project]\nname = \"shop\"\n[resources.db]\nkind = \"postgres\"\n{more}");
            let blueprint = platform_blueprint::Blueprint::parse(&text, "platform.toml");
            let resolved = blueprint.unwrap().blueprint.resolve(None).unwrap();
            let desired = Desired::new(&resolved, &BTreeMap::new(), &BTreeMap::new()).unwrap();
            let wanted = &desired.resources["db"];
            (wanted.digest.clone(), wanted.resource.start_within)
        };
        let (usual, none) = digest("");
        let (patient, within) = digest("start_within = \"10m\"");
        assert_eq!((usual.clone(), none), (patient, None));
        assert_eq!(within.unwrap().duration().as_secs(), 600);
        assert_ne!(digest("memory = \"64MiB\"").0, usual);
    }
}
