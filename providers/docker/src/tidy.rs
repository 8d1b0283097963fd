//! What nobody asks for any more: left by runs that were killed, by builds of ours that are gone, by releases long past.

use std::collections::BTreeSet;

use bollard::models::{ContainerSummary, ImageSummary, Volume};
use bollard::query_parameters::{
    ListImagesOptions, ListVolumesOptions, RemoveImageOptions, RemoveVolumeOptions,
};
use futures::future::try_join4;
use platform_blueprint::ServiceName;
use platform_decide::group::Place;
use platform_decide::release::Release;
use platform_image::reference::{self, LOCAL};
use platform_port::TargetError;

use crate::engine::{fault, is_conflict, is_missing, unless};
use crate::names::{ENVIRONMENT, GROUP, PROJECT, RESOURCE, Role};
use crate::site::{Site, is_of};

impl Site {
    /// Removes what nobody asks for any more. Whoever calls holds the environment's lock, and sets nothing up meanwhile.
    ///
    /// - `releases`: those that may still be asked for
    pub(crate) async fn tidy(&self, releases: &[Release]) -> Result<(), TargetError> {
        let (containers, volumes, everywhere, images) = try_join4(
            self.containers(),
            self.volumes(),
            self.volumes_of_all(),
            self.images(),
        )
        .await?;
        // They prepare a volume and end; whoever waited for this one was killed.
        for one in containers.iter().filter(|one| is_of(one, Role::Plumbing)) {
            self.remove(one.id.as_deref().unwrap_or_default(), None)
                .await?;
        }
        let kept: BTreeSet<String> = containers
            .iter()
            .filter_map(owner)
            .map(|owner| self.names.secrets(owner))
            .collect();
        let program = self.program()?;
        let own = self.program_volume(&program.build);
        let (secrets, programs) = (self.names.secrets(""), self.names.plumbing("program-"));
        for volume in volumes {
            let name = &volume.name;
            let of_nobody = name.starts_with(&secrets) && !kept.contains(name);
            let of_another = name.starts_with(&programs) && *name != own;
            if of_nobody || of_another {
                let options = None::<RemoveVolumeOptions>;
                let removed = self.engine.docker.remove_volume(name, options).await;
                // What is in use is needed, and refused.
                unless(|error| is_missing(error) || is_conflict(error), removed)
                    .map_err(|error| fault(format!("remove volume `{name}`"), error))?;
            }
        }
        let builds = everywhere
            .iter()
            .filter_map(|volume| volume.name.rsplit_once("_platform_program-"))
            .map(|(_, build)| build.to_owned())
            .collect();
        program.sweep(&self.engine, &images, &builds).await;
        self.tidy_images(releases, &images, &containers, &everywhere)
            .await
    }

    /// Images of the engine.
    async fn images(&self) -> Result<Vec<ImageSummary>, TargetError> {
        let images = self.engine.docker.list_images(None::<ListImagesOptions>);
        images
            .await
            .map_err(|error| fault("look at the images", error))
    }

    /// Volumes of every environment of every project on the engine.
    async fn volumes_of_all(&self) -> Result<Vec<Volume>, TargetError> {
        let options = ListVolumesOptions {
            filters: Some([("label".to_owned(), vec![PROJECT.to_owned()])].into()),
        };
        let listed = self.engine.docker.list_volumes(Some(options)).await;
        let listed = listed.map_err(|error| fault("look at the volumes", error))?;
        Ok(listed.volumes.unwrap_or_default())
    }

    /// Removes images that were built for this project and that no release asks for.
    async fn tidy_images(
        &self,
        releases: &[Release],
        images: &[ImageSummary],
        containers: &[ContainerSummary],
        volumes: &[Volume],
    ) -> Result<(), TargetError> {
        let project = self.names.project.as_str();
        let others = others(volumes, project, self.names.environment.as_str());
        if others.contains(project) {
            // What another environment of the project may go back to, its own keeper alone knows.
            return Ok(());
        }
        let services = releases.iter().flat_map(|release| release.services.keys());
        let services: BTreeSet<&ServiceName> = services.collect();
        let repositories = services
            .into_iter()
            .map(|service| reference::repository(project, service.as_str()))
            // A name may be read in two ways: service `b-c` of project `a`, or service `c` of project `a-b`.
            .filter(|own| {
                !others
                    .iter()
                    .any(|other| own.starts_with(&format!("{other}-")))
            });
        let places: BTreeSet<String> = repositories
            .flat_map(|own| {
                let registry = self.settings.registry.as_deref();
                let registry = registry.map(|host| host.trim_end_matches('/'));
                let hosts = [Some(LOCAL), registry].into_iter().flatten();
                hosts
                    .map(|host| format!("{host}/{own}"))
                    .collect::<Vec<_>>()
            })
            .collect();
        let wanted: BTreeSet<&str> = releases
            .iter()
            .flat_map(|release| release.services.values())
            .filter_map(|placed| match &placed.spec.artifact.place {
                Place::Image { reference } => Some(reference.as_str()),
                Place::Folder { .. } | Place::Installed => None,
            })
            .chain(containers.iter().filter_map(|one| one.image.as_deref()))
            .collect();
        let used = containers.iter().filter_map(|one| one.image_id.as_deref());
        let used: BTreeSet<&str> = used.collect();
        for image in images {
            if used.contains(image.id.as_str()) {
                continue;
            }
            for name in unwanted(image, &places, &wanted) {
                let gentle = RemoveImageOptions::default();
                let removed = self.engine.docker.remove_image(name, Some(gentle), None);
                // Somebody else may use it, or be removing it just now.
                let removed = removed.await.map(drop);
                unless(|error| is_missing(error) || is_conflict(error), removed)
                    .map_err(|error| fault(format!("remove image `{name}`"), error))?;
            }
        }
        Ok(())
    }
}

/// The names under which an image is here for nobody: none where one of its names is wanted.
///
/// - `places`: where images of the project are, without tag and digest
fn unwanted<'a>(
    image: &'a ImageSummary,
    places: &BTreeSet<String>,
    wanted: &BTreeSet<&str>,
) -> Vec<&'a str> {
    let digests = image.repo_digests.iter();
    let names: Vec<&str> = image
        .repo_tags
        .iter()
        .chain(digests)
        .map(String::as_str)
        .collect();
    if names.iter().any(|name| wanted.contains(name)) {
        return Vec::new();
    }
    let place = |name: &str| match name.split_once('@') {
        Some((place, _)) => place.to_owned(),
        None => reference::name_and_tag(name).0.to_owned(),
    };
    names
        .into_iter()
        .filter(|name| places.contains(&place(name)))
        .collect()
}

/// Projects with environments on the engine that are not this one.
fn others(volumes: &[Volume], project: &str, environment: &str) -> BTreeSet<String> {
    let label = |volume: &Volume, name: &str| volume.labels.get(name).cloned();
    let seen = volumes
        .iter()
        .filter_map(|volume| Some((label(volume, PROJECT)?, label(volume, ENVIRONMENT)?)));
    let mut seen: BTreeSet<(String, String)> = seen.collect();
    seen.remove(&(project.to_owned(), environment.to_owned()));
    seen.into_iter().map(|(project, _)| project).collect()
}

/// The group or the resource that a container is of.
fn owner(one: &ContainerSummary) -> Option<&str> {
    let labels = one.labels.as_ref()?;
    let owner = labels.get(GROUP).or_else(|| labels.get(RESOURCE));
    owner.map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_name_wants_keeps_the_others() {
        let check = |tags: &[&str], digests: &[&str], gone: &[&str]| {
            let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let image = ImageSummary {
                repo_tags: own(tags),
                repo_digests: own(digests),
                ..ImageSummary::default()
            };
            let places = ["platform.local/shop-api", "127.0.0.1:5000/me/shop-api"];
            let places = places.map(str::to_owned).into();
            let wanted = [
                "platform.local/shop-api:sha256-a",
                "127.0.0.1:5000/me/shop-api@sha256:a",
            ];
            assert_eq!(unwanted(&image, &places, &wanted.into()), gone);
        };
        check(
            &[
                "platform.local/shop-api:sha256-a",
                "platform.local/shop-api:key-1",
            ],
            &[],
            &[],
        );
        let old = [
            "platform.local/shop-api:sha256-b",
            "platform.local/shop-api:key-2",
        ];
        check(&old, &[], &old);
        check(&[], &["127.0.0.1:5000/me/shop-api@sha256:a"], &[]);
        let old = ["127.0.0.1:5000/me/shop-api@sha256:b"];
        check(&[], &old, &old);
        check(
            &["platform.local/shop-api-2:sha256-b", "debian:12"],
            &["debian@sha256:b"],
            &[],
        );
    }

    #[test]
    fn other_environments_are_known_by_their_volumes() {
        let volume = |project: &str, environment: &str| Volume {
            labels: [(PROJECT, project), (ENVIRONMENT, environment)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Volume::default()
        };
        let all = [
            volume("shop", "docker"),
            volume("shop", "staging"),
            volume("board", "docker"),
        ];
        assert_eq!(others(&all[..1], "shop", "docker"), BTreeSet::new());
        let found: Vec<String> = others(&all, "shop", "docker").into_iter().collect();
        assert_eq!(found, ["board", "shop"]);
    }
}
