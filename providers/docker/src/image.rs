//! The image an instance runs: had, loaded or pulled.

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ImageInspect};
use bollard::query_parameters::{CreateImageOptions, ImportImageOptions, TagImageOptions};
use platform_blueprint::ServiceName;
use platform_decide::group::{Place, ServiceSpec};
use platform_image::{ImageStore, reference};
use platform_port::{Retry, TargetError};

use crate::PROVIDER;
use crate::builds::credentials;
use crate::engine::{QUIET, fault, heard, is_missing, is_unreadable, words};
use crate::names::Role;
use crate::site::{NO_IMAGE, Site};

/// Where builds leave images, below the project's folder.
const IMAGES: &str = ".platform/images";

/// What an engine says of an image that names no command, where nobody else does.
const NO_COMMAND: &str = "no command specified";

/// An image that the engine has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) reference: String,
    /// The user it names, if it names one.
    pub(crate) user: String,
    /// What it runs by itself.
    pub(crate) command: Vec<String>,
    /// The first words of that, which arguments are given to.
    pub(crate) entrypoint: Vec<String>,
}

impl Image {
    fn read(reference: &str, seen: ImageInspect) -> Self {
        let config = seen.config.unwrap_or_default();
        Self::of(reference, config.user, config.entrypoint, config.cmd)
    }

    fn of(
        reference: &str,
        user: Option<String>,
        entrypoint: Option<Vec<String>>,
        arguments: Option<Vec<String>>,
    ) -> Self {
        let entrypoint = entrypoint.unwrap_or_default();
        let arguments = arguments.unwrap_or_default();
        Self {
            reference: reference.to_owned(),
            user: user.unwrap_or_default(),
            command: entrypoint.iter().cloned().chain(arguments).collect(),
            entrypoint,
        }
    }
}

impl Site {
    /// The image of a service, brought to the engine where it is not there.
    pub(crate) async fn image_of(
        &self,
        service: &ServiceName,
        spec: &ServiceSpec,
    ) -> Result<Image, TargetError> {
        match &spec.artifact.place {
            Place::Image { reference } => self.image(reference).await,
            // A build for an environment that runs images yields one.
            Place::Folder { .. } | Place::Installed => Err(TargetError::refused(
                PROVIDER,
                format!("find an image for `{service}`"),
                "it has neither `build` nor `image`, and nothing is installed in a container",
            )
            .with_code(NO_IMAGE)
            .with_help("give the service `build = …` or `image = \"…\"`")),
        }
    }

    /// An image by its reference, pulled or loaded where the engine has none.
    pub(crate) async fn image(&self, reference: &str) -> Result<Image, TargetError> {
        if let Some(found) = self.find_image(reference).await? {
            return Ok(found);
        }
        if reference::is_local(reference) {
            self.load(reference).await?;
        } else {
            self.pull(reference).await?;
        }
        let found = self.find_image(reference).await?;
        found.ok_or_else(|| {
            let missing = "the engine does not have it after it was brought there";
            TargetError::refused(PROVIDER, format!("find image `{reference}`"), missing)
                .with_code(NO_IMAGE)
        })
    }

    pub(crate) async fn find_image(&self, reference: &str) -> Result<Option<Image>, TargetError> {
        match self.engine.docker.inspect_image(reference).await {
            Ok(seen) => Ok(Some(Image::read(reference, seen))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) if is_unreadable(&error) => self.told_by_container(reference).await,
            Err(error) => Err(fault(format!("look at image `{reference}`"), error)),
        }
    }

    /// What an image is made for, by a container that is never started.
    ///
    /// An engine that keeps images in containerd pulls no layer whose files it has from another image. If that one was packed
    /// otherwise, the engine runs the image and tells nothing of it.
    async fn told_by_container(&self, reference: &str) -> Result<Option<Image>, TargetError> {
        let name = self
            .names
            .plumbing(&format!("reads-{}", uuid::Uuid::new_v4()));
        let mut body = ContainerCreateBody {
            image: Some(reference.to_owned()),
            labels: Some(self.names.labels(Role::Plumbing)),
            ..ContainerCreateBody::default()
        };
        let made = self.create(&name, body.clone()).await;
        let nothing = |error: &TargetError| error.source.to_string().contains(NO_COMMAND);
        let runs_nothing = made.as_ref().is_err_and(nothing);
        if runs_nothing {
            body.cmd = Some(vec!["-".to_owned()]);
            self.create(&name, body).await?;
        } else {
            made?;
        }
        let seen = self.inspect(&name).await?;
        self.remove(&name, None).await?;
        let config = seen.and_then(|seen| seen.config);
        Ok(config.map(|config| {
            let arguments = config.cmd.filter(|_| !runs_nothing);
            Image::of(reference, config.user, config.entrypoint, arguments)
        }))
    }

    async fn pull(&self, reference: &str) -> Result<(), TargetError> {
        // Without a tag, the engine would bring all there are.
        let whole = reference.contains('@') || reference::name_and_tag(reference).1.is_some();
        let tag = (!whole).then(|| "latest".to_owned());
        let options = CreateImageOptions {
            from_image: Some(reference.to_owned()),
            tag,
            platform: self.settings.platform.clone().unwrap_or_default(),
            ..CreateImageOptions::default()
        };
        let own = match reference::registry_of(reference) {
            Ok(registry) => credentials(&registry).await,
            Err(_) => None, // The engine says what is wrong with it.
        };
        let mut told = self.engine.docker.create_image(Some(options), None, own);
        while let Some(line) = heard(&mut told, QUIET).await {
            line.map_err(|error| not_pulled(reference, error))?;
        }
        Ok(())
    }

    /// Loads what a build left on this machine.
    async fn load(&self, reference: &str) -> Result<(), TargetError> {
        let action = || format!("load image `{reference}`");
        let refused = |why: String| {
            TargetError::refused(PROVIDER, action(), why)
                .with_code(NO_IMAGE)
                .with_help("run `platform build` where the project's sources are, and deploy again")
        };
        let archive = ImageStore::new(self.root.join(IMAGES)).archive(reference);
        let archive = archive.ok_or_else(|| refused("no build left it here".to_owned()))?;
        let file = tokio::fs::File::open(&archive)
            .await
            .map_err(|error| refused(format!("`{}`: {error}", archive.display())))?;
        let pieces = tokio_util::io::ReaderStream::with_capacity(file, 1 << 20);
        let body = bollard::body_try_stream(pieces);
        let mut told = self
            .engine
            .docker
            .import_image(ImportImageOptions::default(), body, None);
        let mut loaded = None;
        while let Some(line) = heard(&mut told, QUIET).await {
            let line = line.map_err(|error| fault(action(), error))?;
            loaded = line.stream.as_deref().and_then(loaded_as).or(loaded);
        }
        // The name in an archive is of who first built what is in it, and an engine may leave even that. Engines that keep images in
        // containerd do not know them by the digests that we do.
        if self.find_image(reference).await?.is_none()
            && let Some(id) = loaded.or_else(|| reference::identity(reference))
        {
            let (name, tag) = reference::name_and_tag(reference);
            let options = TagImageOptions {
                repo: Some(name.to_owned()),
                tag: tag.map(str::to_owned),
            };
            let tagged = self.engine.docker.tag_image(&id, Some(options)).await;
            tagged.map_err(|error| fault(action(), error))?;
        }
        Ok(())
    }
}

/// What an engine calls an image that it loaded, by a line of what it said meanwhile.
fn loaded_as(line: &str) -> Option<String> {
    let name = ["Loaded image ID: ", "Loaded image: "]
        .iter()
        .find_map(|said| line.trim().strip_prefix(said));
    name.map(str::to_owned)
}

/// What a registry said of a pull, as an error of ours.
fn not_pulled(reference: &str, error: Error) -> TargetError {
    let said = words(&error).to_lowercase();
    let says = |one_of: &[&str]| one_of.iter().any(|words| said.contains(words));
    let (help, answered) = if says(&[
        "denied",
        "unauthorized",
        "forbidden",
        "no basic auth credentials",
    ]) {
        (
            "log in with `docker login`, or check the image's name",
            true,
        )
    } else if says(&["manifest unknown", "not found"]) {
        ("check the image's name and tag", true)
    } else {
        (
            "check that the engine reaches the registry; an image that is on the engine already is not pulled",
            false,
        )
    };
    let error = fault(format!("pull image `{reference}`"), error);
    TargetError {
        // An engine hands on what a registry refuses as if it had failed itself.
        retry: if answered { Retry::Never } else { error.retry },
        ..error
    }
    .with_code("docker::not-pulled")
    .with_help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_is_known_by_what_the_engine_said() {
        let check = |line: &str, name: Option<&str>| {
            assert_eq!(loaded_as(line).as_deref(), name, "{line}");
        };
        check(
            "Loaded image: platform.local/shop-web:1\n",
            Some("platform.local/shop-web:1"),
        );
        check("Loaded image ID: sha256:aa\n", Some("sha256:aa"));
        check("The image x already exists, renaming the old one\n", None);
    }

    #[test]
    fn what_a_registry_refuses_is_not_asked_again() {
        let check = |status_code: u16, said: &str, retry: Retry| {
            let message = said.to_owned();
            let error = not_pulled(
                "registry.example.com/api:2",
                Error::DockerResponseServerError {
                    status_code,
                    message,
                },
            );
            assert_eq!(error.retry, retry, "{said}");
            assert_eq!(error.code, "docker::not-pulled");
            assert_eq!(error.source.to_string(), said);
        };
        // As Docker 20.10 says it.
        let ask = "Get \"https://registry.example.com/v2/api/manifests/2\": ";
        check(
            500,
            &format!("{ask}unauthorized: authentication required"),
            Retry::Never,
        );
        check(
            500,
            &format!("{ask}no basic auth credentials"),
            Retry::Never,
        );
        check(
            404,
            "pull access denied for api, repository does not exist",
            Retry::Never,
        );
        // As Docker 28 says it where it keeps images in containerd.
        let resolve = "unknown: failed to resolve reference \"registry.example.com/api:2\": ";
        check(
            500,
            &format!(
                "{resolve}unexpected status from HEAD request to https://registry.example.com/v2/api/manifests/2: 401 Unauthorized"
            ),
            Retry::Never,
        );
        check(
            500,
            &format!(
                "{resolve}unexpected status from HEAD request to https://registry.example.com/v2/api/manifests/2: 403 Forbidden"
            ),
            Retry::Never,
        );
        check(
            404,
            &format!("{resolve}registry.example.com/api:2: not found"),
            Retry::Never,
        );
        check(
            500,
            &format!(
                "{resolve}failed to do request: Head: dial tcp 10.0.0.9:443: connect: connection refused"
            ),
            Retry::Later,
        );
        check(
            404,
            "manifest for api:2 not found: manifest unknown",
            Retry::Never,
        );
        check(
            500,
            &format!("{ask}dial tcp 10.0.0.9:443: connect: connection refused"),
            Retry::Later,
        );
        check(
            500,
            &format!("{ask}dial tcp: lookup registry.example.com: no such host"),
            Retry::Later,
        );
    }
}
