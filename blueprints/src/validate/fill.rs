//! Defaults that depend on the environment or on other settings.

use crate::{Engine, Provider, ProviderKind, Resolved};

/// Fills in what an environment decides, so that nobody downstream has to.
pub(crate) fn fill(resolved: &mut Resolved) {
    let embedded = resolved.environment.provider.kind() == ProviderKind::Process;
    for resource in resolved.resources.values_mut() {
        if resource.engine == Engine::Auto {
            resource.engine = match resource.kind.engines() {
                _ if embedded && resource.external.is_none() => Engine::Embedded,
                [usual, ..] => *usual,
                [] => Engine::Embedded,
            };
        }
        if resource.engine == Engine::Embedded {
            // A stand-in has nobody to follow it.
            resource.standbys = 0;
            resource.synchronous = false;
        }
    }
    if !resolved.environment.provider.kind().has_several_machines() {
        // A machine listens at an address once.
        resolved.gateway.replicas = 1;
    }
    for route in &mut resolved.routes {
        route.max_body.get_or_insert(resolved.gateway.limits.body);
    }
    for drill in resolved.drills.values_mut() {
        let objectives = resolved
            .resources
            .get(drill.target.as_str())
            .map(|resource| resource.objectives)
            .unwrap_or_default();
        let own = &mut drill.objectives;
        own.recovery_time = own.recovery_time.or(objectives.recovery_time);
        own.recovery_point = own.recovery_point.or(objectives.recovery_point);
        if drill.steady.route.is_none() {
            drill.steady.route = resolved
                .routes
                .first()
                .map(|route| route.path.as_str().to_owned());
        }
    }
    let name = format!("{}-{}", resolved.project.name, resolved.environment.name);
    match &mut resolved.environment.provider {
        Provider::Kubernetes(settings) => {
            settings.namespace.get_or_insert(name);
        }
        Provider::Terraform(settings) => {
            settings.workspace.get_or_insert(name);
        }
        Provider::Process(_) | Provider::Docker(_) => {}
    }
}
