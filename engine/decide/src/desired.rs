//! What an environment should run, from a resolved blueprint and the keys of its builds.

use std::collections::BTreeMap;

use platform_blueprint::{
    EnvironmentName, Gateway, ProjectName, Resolved, Resource, ResourceName, Rollout, Route,
    SecretName, ServiceKind, ServiceName,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::group::{Artifact, Need, ServiceSpec};

/// Routes and the gateway's settings, as the blueprint has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ingress {
    /// Listener, protection and identity settings.
    pub gateway: Gateway,
    /// Routes, in the order of the blueprint.
    pub routes: Vec<Route>,
    /// Services that others need, which the gateway listens for inside the environment.
    pub internal: Vec<ServiceName>,
    /// Above which time an answer counts as slow, per service, in milliseconds.
    pub slow_after: BTreeMap<ServiceName, u64>,
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
    pub replicas: u16,
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
            for secret in service.secrets() {
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
            let spec = ServiceSpec {
                service: service.clone(),
                artifact: artifact.clone(),
                needs: needs_of(resolved, name),
                secrets: versions,
            };
            services.insert(
                name.clone(),
                DesiredService {
                    digest: spec.digest(),
                    spec,
                    replicas: service.replicas,
                    rollout: resolved.rollout_of(name).clone(),
                },
            );
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
                    digest: Digest::of_value(resource),
                };
                (name.clone(), desired)
            })
            .collect();
        Ok(Self {
            project: resolved.project.clone(),
            environment: resolved.environment.name.clone(),
            services,
            resources,
            ingress: ingress_of(resolved),
        })
    }

    /// Digests everything that is desired.
    pub fn digest(&self) -> Digest {
        Digest::of_value(self)
    }
}

fn needs_of(resolved: &Resolved, service: &ServiceName) -> Vec<Need> {
    resolved.services[service]
        .needs
        .iter()
        .filter_map(|need| {
            let as_service = resolved
                .services
                .get_key_value(need.as_str())
                .map(|(name, _)| Need::Service { name: name.clone() });
            as_service.or_else(|| {
                resolved
                    .resources
                    .get_key_value(need.as_str())
                    .map(|(name, resource)| Need::Resource {
                        name: name.clone(),
                        resource: resource.kind,
                    })
            })
        })
        .collect()
}

fn ingress_of(resolved: &Resolved) -> Ingress {
    let mut internal: Vec<ServiceName> = resolved
        .services
        .keys()
        .flat_map(|name| needs_of(resolved, name))
        .filter_map(|need| match need {
            Need::Service { name } if resolved.services[&name].port.is_some() => Some(name),
            _ => None,
        })
        .collect();
    internal.sort();
    internal.dedup();
    let slow_after = resolved
        .services
        .keys()
        .map(|name| {
            let slow_after = resolved.rollout_of(name).analysis.slow_after.as_duration();
            (name.clone(), u64::try_from(slow_after.as_millis()).unwrap_or(u64::MAX))
        })
        .collect();
    Ingress {
        gateway: resolved.gateway.clone(),
        routes: resolved.routes.clone(),
        internal,
        slow_after,
    }
}
