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
        Provider::Docker(settings) => Ok(Arc::new(DockerTarget::new(
            platform_docker::TargetOptions {
                project: resolved.project.name.clone(),
                environment: resolved.environment.name.clone(),
                settings: settings.clone(),
                root: folder.to_owned(),
                gateway: resolved.gateway.clone(),
                program: None,
            },
        )?)),
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

/// The engine that builds Dockerfiles for an environment: its own, else the one that `DOCKER_HOST` names.
pub(crate) fn image_engine(resolved: &Resolved) -> Result<Arc<dyn ImageEngine>, CliError> {
    let settings = match &resolved.environment.provider {
        Provider::Docker(settings) => settings.clone(),
        _ => DockerSettings::default(),
    };
    Ok(Arc::new(DockerImages::new(&settings)?))
}
