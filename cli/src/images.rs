//! Images: which environments run them, and how their artifacts are made.

use std::collections::BTreeMap;
use std::path::Path;

use platform_blueprint::{Build, Provider, Resolved, ResourceName, SecretName};
use platform_decide::desired::Desired;
use platform_decide::digest::Digest;
use platform_drive::build::{Builder, ImageTarget};
use platform_image::{ImageError, ImageLock, reference};
use platform_secrets::Keyring;

use crate::diagnostic::Diagnostic;
use crate::error::CliError;
use crate::world::World;

/// Where an environment's images go, if it runs images.
pub(crate) fn target(
    world: &World,
    resolved: &Resolved,
    folder: &Path,
) -> Result<Option<ImageTarget>, CliError> {
    if matches!(resolved.environment.provider, Provider::Process(_)) {
        return Ok(None);
    }
    any(world, resolved, folder).map(Some)
}

/// The same for any environment: where images are asked for, they can be made.
pub(crate) fn any(
    world: &World,
    resolved: &Resolved,
    folder: &Path,
) -> Result<ImageTarget, CliError> {
    let (registry, platform) = match &resolved.environment.provider {
        Provider::Process(_) => (&None, &None),
        Provider::Docker(docker) => (&docker.registry, &docker.platform),
        Provider::Kubernetes(kubernetes) => (&kubernetes.registry, &kubernetes.platform),
        Provider::Terraform(terraform) => (&terraform.registry, &None),
    };
    let (commit, repository) = checked_out(folder);
    let mut target = ImageTarget {
        project: Some(resolved.project.name.clone()),
        registry: registry.clone(),
        platform: platform.clone(),
        commit,
        repository,
        ..ImageTarget::default()
    };
    let asked = secrets_of_builds(resolved);
    if builds_dockerfiles(resolved) {
        target.engine = Some(crate::target::image_engine(resolved)?);
    }
    if !asked.is_empty() {
        let file = world.secrets()?;
        target.secrets = file.values(&asked, Keyring::load_or_create)?;
    }
    Ok(target)
}

/// What keeps an image from being made or written.
pub(crate) fn failed(error: &ImageError) -> CliError {
    Diagnostic::error(error.code(), error.to_string())
        .behind(error)
        .maybe_help(error.help())
        .into()
}

/// What builds the project for an environment.
pub(crate) fn builder(
    world: &World,
    resolved: &Resolved,
    folder: &Path,
) -> Result<Builder, CliError> {
    let builder = Builder::new(folder);
    Ok(match target(world, resolved, folder)? {
        Some(target) => builder.with_images(target),
        None => builder,
    })
}

/// The images of an environment's resources, where it runs their servers and they are given without a digest.
pub(crate) fn of_resources(resolved: &Resolved) -> BTreeMap<ResourceName, String> {
    let Provider::Docker(_) = &resolved.environment.provider else {
        return BTreeMap::new();
    };
    let images = resolved.resources.iter().filter_map(|(name, resource)| {
        let image = platform_docker::resource_image(name, resource)?;
        (!image.contains('@')).then(|| (name.clone(), image))
    });
    images.collect()
}

/// The registries that an environment's images are on, each with one of them.
pub(crate) fn registries(resolved: &Resolved) -> BTreeMap<String, String> {
    if matches!(resolved.environment.provider, Provider::Process(_)) {
        return BTreeMap::new();
    }
    let given = resolved
        .services
        .values()
        .filter_map(|service| match &service.build {
            Some(Build::Image(build)) => Some(build.image.to_string()),
            _ => None,
        });
    let servers = resolved.resources.iter().filter_map(|(name, resource)| {
        let on_docker = matches!(resolved.environment.provider, Provider::Docker(_));
        on_docker
            .then(|| platform_docker::resource_image(name, resource))
            .flatten()
    });
    let images = given
        .chain(servers)
        .filter(|image| !reference::is_local(image));
    images
        .filter_map(|image| Some((reference::registry_of(&image).ok()?, image)))
        .collect()
}

/// Has the resources run the images that they are pinned to.
pub(crate) fn pin(
    desired: &mut Desired,
    lock: &ImageLock,
    images: &BTreeMap<ResourceName, String>,
) {
    for (name, image) in images {
        if let Some(wanted) = desired.resources.get_mut(name)
            && lock.digest(image).is_some()
            && let Ok(pinned) = lock.pinned(image).parse()
        {
            wanted.resource.image = Some(pinned);
            wanted.digest = Digest::of_value(&wanted.resource);
        }
    }
}

/// Whether an engine is asked for: to build, or for images that it alone has.
fn builds_dockerfiles(resolved: &Resolved) -> bool {
    resolved
        .services
        .values()
        .any(|service| matches!(service.build, Some(Build::Dockerfile(_) | Build::Image(_))))
        || !of_resources(resolved).is_empty()
}

fn secrets_of_builds(resolved: &Resolved) -> Vec<SecretName> {
    let builds = resolved
        .services
        .values()
        .filter_map(|service| service.build.as_ref());
    let mut names: Vec<SecretName> = builds
        .filter_map(|build| match build {
            Build::Dockerfile(build) => Some(build.secrets.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The commit that is checked out, and the address of the repository without credentials.
fn checked_out(folder: &Path) -> (Option<String>, Option<String>) {
    let Ok(repository) = git2::Repository::discover(folder) else {
        return (None, None);
    };
    let commit = repository
        .head()
        .ok()
        .and_then(|head| Some(head.target()?.to_string()));
    let address = repository
        .find_remote("origin")
        .ok()
        .and_then(|remote| remote.url().map(without_credentials).ok());
    (commit, address)
}

fn without_credentials(address: &str) -> String {
    match address.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}/{path}")
        }
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_gets_into_what_is_written_down() {
        assert_eq!(
            without_credentials("https://me:secret@example.com/a/b"),
            "https://example.com/a/b"
        );
        assert_eq!(
            without_credentials("git@example.com:a/b"),
            "git@example.com:a/b"
        );
    }
}
