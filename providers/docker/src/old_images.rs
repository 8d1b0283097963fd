//! Images that nobody asks for any more: of releases long past, of builds of our own program, of projects that are taken away.

use std::collections::BTreeSet;

use bollard::errors::Error;
use bollard::models::{ContainerSummary, ImageSummary, Volume};
use bollard::query_parameters::{
    ListContainersOptions, ListImagesOptions, ListVolumesOptions, RemoveImageOptions,
};
use futures::future::try_join3;
use platform_blueprint::ServiceName;
use platform_decide::group::Place;
use platform_decide::release::Release;
use platform_image::reference::{self, LOCAL};
use platform_port::TargetError;

use crate::engine::{fault, is_conflict, is_missing, unless, words};
use crate::names::{BUILD, ENVIRONMENT, PROJECT, SERVICE};
use crate::program::{REPOSITORY, exported_tag};
use crate::site::Site;

/// How an engine names what has no name.
const NAMELESS: &str = "<none>";
/// Between an environment and a build, in the name of the volume of our own program.
const PROGRAM_VOLUME: &str = "_platform_program-";
/// The end of the name of the volume with an environment's documents.
const STATE_VOLUME: &str = "_platform_state";

/// What an engine has, of whomever.
pub(crate) struct Everything {
    pub(crate) containers: Vec<ContainerSummary>,
    /// Those of our environments.
    pub(crate) volumes: Vec<Volume>,
    images: Vec<ImageSummary>,
}

impl Everything {
    /// Images that no container was made from. The engine itself would keep the others, but not all of their names.
    fn unused(&self) -> impl Iterator<Item = &ImageSummary> {
        let containers = self.containers.iter();
        let used: BTreeSet<&str> = containers
            .filter_map(|one| one.image_id.as_deref())
            .collect();
        let images = self.images.iter();
        images.filter(move |image| !used.contains(image.id.as_str()))
    }

    /// Builds of our own program that some environment's containers may be made from.
    fn builds(&self) -> BTreeSet<&str> {
        let names = self.volumes.iter();
        names
            .filter_map(|volume| Some(volume.name.rsplit_once(PROGRAM_VOLUME)?.1))
            .collect()
    }
}

impl Site {
    /// Lists what the engine has, of whomever.
    pub(crate) async fn everything(&self) -> Result<Everything, TargetError> {
        self.engine.answers().await?;
        let docker = &self.engine.docker;
        let containers = async {
            let options = ListContainersOptions {
                all: true,
                ..ListContainersOptions::default()
            };
            let listed = docker.list_containers(Some(options)).await;
            listed.map_err(|error| fault("look at the containers", error))
        };
        let volumes = async {
            let options = ListVolumesOptions {
                filters: Some([("label".to_owned(), vec![PROJECT.to_owned()])].into()),
            };
            let listed = docker.list_volumes(Some(options)).await;
            let listed = listed.map_err(|error| fault("look at the volumes", error))?;
            Ok(listed.volumes.unwrap_or_default())
        };
        let images = async {
            let listed = docker.list_images(None::<ListImagesOptions>).await;
            listed.map_err(|error| fault("look at the images", error))
        };
        let (containers, volumes, images) = try_join3(containers, volumes, images).await?;
        Ok(Everything {
            containers,
            volumes,
            images,
        })
    }

    /// Removes images of our own program that no container is made from and no environment needs.
    pub(crate) async fn tidy_programs(&self, seen: &Everything) -> Result<(), TargetError> {
        let builds = seen.builds();
        for image in seen.unused() {
            let names = unwanted_program(image, &builds);
            self.remove_names(names).await?;
        }
        Ok(())
    }

    /// Removes the names that exported files of this environment had for our own program, but this one.
    pub(crate) async fn tidy_exports(&self, but: Option<&str>) -> Result<(), TargetError> {
        let seen = self.everything().await?;
        let end = format!("{REPOSITORY}:{}", exported_tag("", &self.names));
        let Some((place, end)) = end.split_once(':') else {
            return Ok(());
        };
        // By name: other environments run the same image under another.
        let containers = seen.containers.iter();
        let used: BTreeSet<&str> = containers.filter_map(|one| one.image.as_deref()).collect();
        for image in &seen.images {
            let names = image.repo_tags.iter().map(String::as_str);
            let old = names.filter(|name| {
                let tag = name.strip_prefix(place);
                let is_old = tag.is_some_and(|tag| tag.ends_with(end)) && Some(*name) != but;
                is_old && !used.contains(name)
            });
            self.remove_names(old.collect()).await?;
        }
        Ok(())
    }

    /// Removes what was built for this project, unless another environment of it is on the engine: what that may go back to, its
    /// own keeper alone knows.
    pub(crate) async fn remove_built(&self, seen: &Everything) -> Result<(), TargetError> {
        let project = self.names.project.as_str();
        if others(&seen.volumes, project, self.names.environment.as_str()).contains(project) {
            return Ok(());
        }
        for image in seen.unused() {
            self.remove_names(built_for(image, project)).await?;
        }
        Ok(())
    }

    /// Removes images that were built for this project and that no release asks for.
    ///
    /// - `releases`: those that may still be asked for
    pub(crate) async fn tidy_built(
        &self,
        releases: &[Release],
        seen: &Everything,
    ) -> Result<(), TargetError> {
        let project = self.names.project.as_str();
        let others = others(&seen.volumes, project, self.names.environment.as_str());
        if others.contains(project) {
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
        let containers = seen.containers.iter();
        let wanted: BTreeSet<&str> = releases
            .iter()
            .flat_map(|release| release.services.values())
            .filter_map(|placed| match &placed.spec.artifact.place {
                Place::Image { reference } => Some(reference.as_str()),
                Place::Folder { .. } | Place::Installed => None,
            })
            .chain(containers.filter_map(|one| one.image.as_deref()))
            .collect();
        for image in seen.unused() {
            self.remove_names(unwanted(image, &places, &wanted)).await?;
        }
        Ok(())
    }

    /// Takes names from images; with its last name an image goes.
    async fn remove_names(&self, names: Vec<&str>) -> Result<(), TargetError> {
        for name in names {
            // Without force: what a container was made from stays.
            let gentle = RemoveImageOptions::default();
            let removed = self.engine.docker.remove_image(name, Some(gentle), None);
            let removed = removed.await.map(drop);
            // Somebody else may use it, or be removing it just now.
            unless(|error| is_lost(error) || is_conflict(error), removed)
                .map_err(|error| fault(format!("remove image `{name}`"), error))?;
        }
        Ok(())
    }
}

/// Whether an image went before it was removed. An engine asked for one while another request removes it says so in its own way.
fn is_lost(error: &Error) -> bool {
    is_missing(error) || words(error).contains("unrecognized image ID")
}

/// Every name of an image; none of one that has lost them all.
fn names(image: &ImageSummary) -> Vec<&str> {
    let names = image.repo_tags.iter().chain(&image.repo_digests);
    let names = names.map(String::as_str);
    names.filter(|name| !name.starts_with(NAMELESS)).collect()
}

/// A name without tag and digest.
fn place(name: &str) -> &str {
    match name.split_once('@') {
        Some((place, _)) => place,
        None => reference::name_and_tag(name).0,
    }
}

/// What to remove so that an image of our own program goes: nothing where it is needed, or is somebody else's.
///
/// - `builds`: those that environments need
fn unwanted_program<'a>(image: &'a ImageSummary, builds: &BTreeSet<&str>) -> Vec<&'a str> {
    let Some(build) = image.labels.get(BUILD) else {
        return Vec::new();
    };
    let names = names(image);
    // Another that came at the same moment, or later, took its name: nobody can ask for it any more.
    if names.is_empty() {
        return vec![image.id.as_str()];
    }
    let own = format!("{REPOSITORY}:{build}");
    // An exported file, or a person, has another name for it.
    if builds.contains(build.as_str()) || names.iter().any(|name| *name != own) {
        return Vec::new();
    }
    names
}

/// The names under which an image is here for a project, or what it is known by where it has none.
fn built_for<'a>(image: &'a ImageSummary, project: &str) -> Vec<&'a str> {
    let label = |name: &str| image.labels.get(name).map(String::as_str);
    let (Some(owner), Some(service)) = (label(PROJECT), label(SERVICE)) else {
        return Vec::new();
    };
    if owner != project {
        return Vec::new();
    }
    let names = names(image);
    if names.is_empty() {
        return vec![image.id.as_str()];
    }
    let own = reference::repository(project, service);
    // Services of one program share an image, which has the labels of the one that was built first.
    let shared = format!("{LOCAL}/{project}-");
    let mut ours = names;
    // What somebody made from it has its labels and another name.
    ours.retain(|name| name.starts_with(&shared) || place(name).rsplit('/').next() == Some(&own));
    ours
}

/// The names under which an image is here for nobody: none where one of its names is wanted.
///
/// - `places`: where images of the project are, without tag and digest
fn unwanted<'a>(
    image: &'a ImageSummary,
    places: &BTreeSet<String>,
    wanted: &BTreeSet<&str>,
) -> Vec<&'a str> {
    let mut names = names(image);
    if names.iter().any(|name| wanted.contains(name)) {
        return Vec::new();
    }
    names.retain(|name| places.contains(place(name)));
    names
}

/// Projects with environments on the engine that are not this one. Of an environment that is gone, its data may be left alone.
fn others(volumes: &[Volume], project: &str, environment: &str) -> BTreeSet<String> {
    let kept = volumes
        .iter()
        .filter(|volume| volume.name.ends_with(STATE_VOLUME));
    let seen = kept.filter_map(|volume| {
        let label = |name: &str| volume.labels.get(name).map(String::as_str);
        Some((label(PROJECT)?, label(ENVIRONMENT)?))
    });
    seen.filter(|seen| *seen != (project, environment))
        .map(|(project, _)| project.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tags: &[&str], digests: &[&str], labels: &[(&str, &str)]) -> ImageSummary {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let labels = labels.iter();
        ImageSummary {
            id: "sha256:id".to_owned(),
            repo_tags: own(tags),
            repo_digests: own(digests),
            labels: labels
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..ImageSummary::default()
        }
    }

    #[test]
    fn what_one_name_wants_keeps_the_others() {
        let check = |tags: &[&str], digests: &[&str], gone: &[&str]| {
            let places = ["platform.local/shop-api", "127.0.0.1:5000/me/shop-api"];
            let places = places.map(str::to_owned).into();
            let wanted = [
                "platform.local/shop-api:sha256-a",
                "127.0.0.1:5000/me/shop-api@sha256:a",
            ];
            let image = image(tags, digests, &[]);
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
    fn our_own_program_goes_where_nobody_needs_it() {
        let check = |tags: &[&str], labels: &[(&str, &str)], gone: &[&str]| {
            let image = image(tags, &["<none>@<none>"], labels);
            assert_eq!(unwanted_program(&image, &BTreeSet::from(["used"])), gone);
        };
        let own = |build: &'static str| [(BUILD, build)];
        check(&["platform.local/platform:used"], &own("used"), &[]);
        let old = ["platform.local/platform:old"];
        check(&old, &own("old"), &old);
        check(&["<none>:<none>"], &own("used"), &["sha256:id"]);
        check(&[], &own("used"), &["sha256:id"]);
        check(&["<none>:<none>"], &[], &[]);
        let exported = "platform.local/platform:old-shop_docker";
        check(&[old[0], exported], &own("old"), &[]);
        check(&["somebody/else:old"], &own("old"), &[]);
    }

    #[test]
    fn an_image_that_somebody_else_removes_is_lost() {
        let check = |status_code: u16, message: &str, lost: bool| {
            let message = message.to_owned();
            let error = Error::DockerResponseServerError {
                status_code,
                message,
            };
            assert_eq!(is_lost(&error), lost);
        };
        check(404, "No such image: x", true);
        check(500, "unrecognized image ID sha256:d5e9", true);
        check(500, "no space left on device", false);
    }

    #[test]
    fn what_was_built_for_a_project_is_known_by_its_labels() {
        let check = |tags: &[&str], labels: &[(&str, &str)], gone: &[&str]| {
            let image = image(tags, &["ghcr.io/me/a-b-c@sha256:a"], labels);
            assert_eq!(built_for(&image, "a"), gone);
        };
        let own = [(PROJECT, "a"), (SERVICE, "b-c")];
        let (here, there) = ("platform.local/a-b-c:key-1", "ghcr.io/me/a-b-c@sha256:a");
        check(&[here, "mine:1"], &own, &[here, there]);
        // Another service of the same program.
        let twin = "platform.local/a-twin:key-1";
        check(&[here, twin], &own, &[here, twin, there]);
        check(&[here], &[(PROJECT, "a-b"), (SERVICE, "c")], &[]);
        check(&[here], &[], &[]);
    }

    #[test]
    fn other_environments_are_known_by_their_state() {
        let volume = |project: &str, environment: &str, what: &str| Volume {
            name: format!("{project}_{environment}_{what}"),
            labels: [(PROJECT, project), (ENVIRONMENT, environment)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Volume::default()
        };
        let all = [
            volume("shop", "docker", "platform_state"),
            volume("shop", "gone", "platform_credentials"),
            volume("shop", "staging", "platform_state"),
            volume("board", "docker", "platform_state"),
        ];
        assert_eq!(others(&all[..2], "shop", "docker"), BTreeSet::new());
        let found: Vec<String> = others(&all, "shop", "docker").into_iter().collect();
        assert_eq!(found, ["board", "shop"]);
    }
}
