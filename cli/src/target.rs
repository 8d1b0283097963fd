//! The one place that knows which adapters exist.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use platform_blueprint::{
    DockerSettings, Environment, EnvironmentName, ProcessSettings, Project, ProjectName, Provider,
    Resolved, Rollout, Services,
};
use platform_docker::{DockerImages, DockerTarget};
use platform_drive::releases::History;
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

/// What was deployed from `folder` last, as local processes: in the environment asked for, else in `local`, else in the only one.
/// `None` where nothing tells. Whether the environment is protected was not recorded, so it counts as such.
pub(crate) async fn deployed_last(
    folder: &Path,
    asked: Option<&EnvironmentName>,
) -> Option<Resolved> {
    let environment = match asked {
        Some(asked) => asked.clone(),
        None => environment_of(folder)?,
    };
    let target = ProcessTarget::new(TargetOptions {
        // Where its documents are does not depend on what it is called.
        project: ProjectName::new("unknown").ok()?,
        environment: environment.clone(),
        root: folder.to_owned(),
        state: None,
        program: None,
    });
    let history = History::read(target.store()).await.ok()?;
    let release = history.current.or(history.unfinished)?;
    Some(Resolved {
        project: Project {
            name: release.project,
            description: None,
        },
        environment: Environment {
            name: environment,
            protected: true,
            provider: Provider::Process(ProcessSettings::default()),
        },
        services: Services::default(),
        resources: BTreeMap::new(),
        gateway: release.ingress.gateway,
        routes: Vec::new(),
        rollout: Rollout::default(),
        drills: BTreeMap::new(),
    })
}

/// `local` where it has documents, else the only environment that has.
fn environment_of(folder: &Path) -> Option<EnvironmentName> {
    let entries = fs::read_dir(folder.join(".platform")).ok()?.flatten();
    let mut found: Vec<EnvironmentName> = entries
        .filter(|entry| entry.path().join("store").is_dir())
        .filter_map(|entry| EnvironmentName::new(entry.file_name().to_str()?).ok())
        .collect();
    match found.iter().position(|name| name.as_str() == "local") {
        Some(local) => Some(found.swap_remove(local)),
        None if found.len() == 1 => found.pop(),
        None => None,
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
