//! The blueprint with one environment applied and every default filled in.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Drill, DrillName, Environment, Gateway, NeedName, ProjectName, Resource, ResourceName, Rollout,
    Route, Service, ServiceName,
};

/// The project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Its name.
    pub name: ProjectName,
    /// What it is, in a sentence.
    #[serde(default)]
    pub description: Option<String>,
}

/// Services by name. Copies of the map share them.
pub type Services = BTreeMap<ServiceName, Arc<Service>>;

/// The blueprint with one environment applied and every default filled in:
/// what should run. Its serialisation is stable: fields in the order written
/// here, maps sorted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resolved {
    /// The project.
    pub project: Project,
    /// The environment and its provider.
    pub environment: Environment,
    /// What should run.
    pub services: Services,
    /// What they need.
    pub resources: BTreeMap<ResourceName, Resource>,
    /// What holds for every route.
    pub gateway: Gateway,
    /// Which requests come in.
    pub routes: Vec<Route>,
    /// What holds for a rollout of several services: its order. Each service
    /// carries its own policy.
    pub rollout: Rollout,
    /// Experiments.
    pub drills: BTreeMap<DrillName, Drill>,
}

/// What a service needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Need<'resolved> {
    /// Another service.
    Service(&'resolved ServiceName, &'resolved Service),
    /// A resource.
    Resource(&'resolved ResourceName, &'resolved Resource),
}

impl Resolved {
    /// Finds what a name stands for.
    pub fn need(&self, name: &NeedName) -> Option<Need<'_>> {
        need(&self.services, &self.resources, name)
    }
}

pub(crate) fn need<'resolved>(
    services: &'resolved Services,
    resources: &'resolved BTreeMap<ResourceName, Resource>,
    name: &NeedName,
) -> Option<Need<'resolved>> {
    let service = services.get_key_value(name.as_str());
    service
        .map(|(name, service)| Need::Service(name, service))
        .or_else(|| {
            let (name, resource) = resources.get_key_value(name.as_str())?;
            Some(Need::Resource(name, resource))
        })
}
