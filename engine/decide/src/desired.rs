//! What an environment should run, from a resolved blueprint and the keys of its builds.

mod ingress;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use platform_blueprint::{
    EnvironmentName, ProjectName, Resolved, Resource, ResourceName, Rollout, Route, SecretName,
    Service, ServiceKind, ServiceName, Tls,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::ingress::ingress_of;
use crate::digest::Digest;
use crate::group::{Artifact, Need, ServiceSpec};
use crate::release::Release;

pub use ingress::{Ingress, Upstream, secrets_of_gateway};

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

/// The secrets that rollouts ask gates and for figures with, each once. Nobody else is handed them.
pub fn secrets_of_rollouts(resolved: &Resolved) -> BTreeSet<&SecretName> {
    let services = resolved.services.values();
    services
        .flat_map(|service| service.rollout.secrets())
        .collect()
}

#[cfg(test)]
mod tests;
