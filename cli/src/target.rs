//! The one place that knows which adapters exist.

use std::path::Path;
use std::sync::Arc;

use platform_blueprint::{DockerSettings, Provider, Resolved};
use platform_docker::{DockerImages, DockerTarget};
use platform_port::{ImageEngine, Target};
use platform_process::{ProcessTarget, TargetOptions};

use crate::error::CliError;

/// The target of an environment of the project in `folder`.
pub(crate) fn of(resolved: &Resolved, folder: &Path) -> Result<Arc<dyn Target>, CliError> {
    match &resolved.environment.provider {
        Provider::Process(_) => Ok(Arc::new(ProcessTarget::new(TargetOptions {
            project: resolved.project.name.clone(),
            environment: resolved.environment.name.clone(),
            root: folder.to_owned(),
            state: None,
            program: None,
        }))),
        Provider::Docker(_) => Ok(Arc::new(containers(resolved, folder)?)),
        other => {
            let kind = other.kind().as_str();
            Err(CliError::new(
                "provider::not-available",
                format!(
                    "environment `{}` is on provider `{kind}`, which this `platform` does not carry",
                    resolved.environment.name
                ),
            )
            .help("name an environment on another provider with `-e`; `platform version` lists what is carried"))
        }
    }
}

/// An environment as containers: on its own engine, else on the one that `DOCKER_HOST` names.
pub(crate) fn containers(resolved: &Resolved, folder: &Path) -> Result<DockerTarget, CliError> {
    let options = platform_docker::TargetOptions {
        project: resolved.project.name.clone(),
        environment: resolved.environment.name.clone(),
        settings: engine_settings(resolved),
        root: folder.to_owned(),
        gateway: resolved.gateway.clone(),
        program: None,
    };
    Ok(DockerTarget::new(options)?)
}

fn engine_settings(resolved: &Resolved) -> DockerSettings {
    match &resolved.environment.provider {
        Provider::Docker(settings) => settings.clone(),
        _ => DockerSettings::default(),
    }
}

/// The engine that builds Dockerfiles for an environment: its own, else the one that `DOCKER_HOST` names.
pub(crate) fn image_engine(resolved: &Resolved) -> Result<Arc<dyn ImageEngine>, CliError> {
    Ok(Arc::new(DockerImages::new(&engine_settings(resolved))?))
}
