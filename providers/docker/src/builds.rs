//! Images that the engine itself builds, with its BuildKit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;

use async_trait::async_trait;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::grpc::build::{
    ImageBuildFrontendOptions, ImageBuildLoadInput, ImageBuildPlatform, SecretSource,
};
use bollard::grpc::driver::{Build as _, moby::Moby};
use bollard::grpc::error::GrpcError;
use bollard::models::BuildInfoAux;
use bollard::query_parameters::{
    BuildImageOptionsBuilder, BuilderVersion, ListImagesOptions, TagImageOptions,
};
use platform_blueprint::DockerSettings;
use platform_image::reference;
use platform_port::{DockerfileRequest, ImageEngine, Line, TargetError};
use secrecy::ExposeSecret as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::PROVIDER;
use crate::dockerfile::registries;
use crate::engine::{
    Engine, QUIET, QUIET_BUILD, fault, heard as next_of, is_full, is_missing, is_unreadable,
};

/// A step of a build ended with an error.
const FAILED: &str = "build::failed";

/// What BuildKit's words of a `RUN` that did not end well have in common: `executor failed running […]: exit code: 1`, and of
/// later ones `process "…" did not complete successfully: exit code: 1`.
const STEP_FAILED: &str = "exit code: ";

/// Lines of a failed build that its error repeats.
const LAST_LINES: usize = 12;

/// An engine as somebody who builds and keeps images.
pub struct DockerImages {
    engine: Engine,
}

impl DockerImages {
    /// Prepares a connection; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// If the engine's address or its certificates cannot be used.
    pub fn new(settings: &DockerSettings) -> Result<Self, TargetError> {
        Ok(Self {
            engine: Engine::connect(settings)?,
        })
    }

    /// The identity of an image, and the digests that registries know it by; `None` where the engine has none of the name.
    async fn known(&self, reference: &str) -> Result<Option<(String, Vec<String>)>, TargetError> {
        let action = || format!("look at image `{reference}`");
        match self.engine.docker.inspect_image(reference).await {
            Ok(seen) => {
                let digests = seen.repo_digests.unwrap_or_default();
                return Ok(seen.id.map(|id| (id, digests)));
            }
            Err(error) if is_missing(&error) => return Ok(None),
            // An engine that does not tell what is in an image lists it nevertheless.
            Err(error) if is_unreadable(&error) => {}
            Err(error) => return Err(fault(action(), error)),
        }
        let named = ("reference".to_owned(), vec![reference.to_owned()]);
        let options = ListImagesOptions {
            filters: Some([named].into()),
            ..ListImagesOptions::default()
        };
        let listed = self.engine.docker.list_images(Some(options)).await;
        let listed = listed.map_err(|error| fault(action(), error))?;
        let first = listed.into_iter().next();
        Ok(first.map(|one| (one.id, one.repo_digests)))
    }

    /// Builds and hears what each step says.
    async fn told(
        &self,
        request: &DockerfileRequest,
        credentials: HashMap<String, DockerCredentials>,
        line: UnboundedSender<String>,
    ) -> Result<(), TargetError> {
        let mut options = BuildImageOptionsBuilder::default()
            .dockerfile(&request.dockerfile)
            .t(&request.name)
            .version(BuilderVersion::BuilderBuildKit)
            .session(&uuid::Uuid::new_v4().to_string())
            .nocache(request.again)
            .buildargs(&request.args.clone().into_iter().collect())
            .labels(&request.labels.clone().into_iter().collect());
        if let Some(target) = &request.target {
            options = options.target(target);
        }
        if let Some(platform) = &request.platform {
            options = options.platform(platform);
        }
        let context = tokio::fs::File::open(&request.context).await;
        let context = context.map_err(|error| refused(request, error))?;
        let pieces = tokio_util::io::ReaderStream::with_capacity(context, 1 << 20);
        let body = bollard::body_try_stream(pieces);
        let mut said =
            self.engine
                .docker
                .build_image(options.build(), Some(credentials), Some(body));
        let mut heard = Heard {
            line,
            steps: BTreeSet::new(),
            begun: BTreeMap::new(),
            last: Vec::new(),
        };
        while let Some(part) = next_of(&mut said, QUIET_BUILD).await {
            let part = part.map_err(|error| heard.failed(request, error))?;
            if let Some(BuildInfoAux::BuildKit(status)) = part.aux {
                for step in status.vertexes.iter().filter(|step| step.started.is_some()) {
                    heard.step(&step.name);
                }
                for log in &status.logs {
                    heard.output(&log.vertex, &String::from_utf8_lossy(&log.msg));
                }
            }
        }
        heard.rest();
        Ok(())
    }

    /// Builds with secrets in reach of the steps that ask for them.
    ///
    /// The engine asks for each over the build's own connection, so they are in no layer, argument or history.
    async fn with_secrets(
        &self,
        request: &DockerfileRequest,
        credentials: HashMap<String, DockerCredentials>,
    ) -> Result<(), TargetError> {
        // Below a folder that is ours alone, and gone with the build.
        let folder = tempfile::tempdir().map_err(|error| refused(request, error))?;
        let mut options = ImageBuildFrontendOptions::builder()
            .dockerfile(Path::new(&request.dockerfile))
            .nocache(request.again);
        for (name, value) in &request.secrets {
            let path = folder.path().join(name.as_str());
            let written = private(&path, value.reveal()).await;
            written.map_err(|error| refused(request, error))?;
            options = options.set_secret(name.as_str(), &SecretSource::File(path));
        }
        for (name, value) in &request.args {
            options = options.buildarg(name, value);
        }
        for (name, value) in &request.labels {
            options = options.label(name, value);
        }
        if let Some(target) = &request.target {
            options = options.target(target);
        }
        if let Some(platform) = request.platform.as_deref().and_then(platform) {
            options = options.platforms(&platform);
        }
        let context = tokio::fs::read(&request.context).await;
        let context =
            ImageBuildLoadInput::Upload(context.map_err(|error| refused(request, error))?.into());
        let driver = Moby::new(&self.engine.docker);
        let (name, runtime) = (request.name.clone(), tokio::runtime::Handle::current());
        // What it returns cannot move between threads.
        let built = tokio::task::spawn_blocking(move || {
            let credentials = credentials
                .iter()
                .map(|(host, own)| (host.as_str(), own.clone()))
                .collect();
            let build =
                driver.docker_build(&name, options.build(), context, Some(credentials), None);
            runtime.block_on(build)
        });
        match built.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed_out_of_sight(request, &error)),
            Err(error) => Err(refused(request, error)),
        }
    }
}

/// What BuildKit refused of a build whose output it kept.
fn failed_out_of_sight(request: &DockerfileRequest, error: &GrpcError) -> TargetError {
    let said = match error {
        GrpcError::TonicStatus { err } => err.message().to_owned(),
        other => other.to_string(),
    };
    let is_step = said.contains(STEP_FAILED);
    let failed = refused(request, said).with_code(FAILED);
    if is_step {
        failed.with_help(
            "where secrets are mounted, steps' output stays with the engine; take `secrets` out to see it",
        )
    } else {
        failed
    }
}

fn refused(
    request: &DockerfileRequest,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> TargetError {
    TargetError::refused(PROVIDER, format!("build `{}`", request.dockerfile), error)
}

/// A file that only we can read.
async fn private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .await?;
    file.write_all(text.as_bytes()).await?;
    file.flush().await
}

/// What a build said so far.
struct Heard {
    line: UnboundedSender<String>,
    steps: BTreeSet<String>,
    /// By step, the line it is at: its output comes in pieces of any size.
    begun: BTreeMap<String, String>,
    last: Vec<String>,
}

impl Heard {
    fn step(&mut self, name: &str) {
        if self.steps.insert(name.to_owned()) {
            let _ = self.line.send(name.to_owned());
        }
    }

    fn output(&mut self, step: &str, piece: &str) {
        let mut text = self.begun.remove(step).unwrap_or_default() + piece;
        if let Some(end) = text.rfind('\n') {
            let begun = text.split_off(end + 1);
            self.lines(&text);
            text = begun;
        }
        if !text.is_empty() {
            self.begun.insert(step.to_owned(), text);
        }
    }

    fn lines(&mut self, text: &str) {
        for said in text.lines().filter(|said| !said.trim().is_empty()) {
            let _ = self.line.send(said.to_owned());
            self.last.push(said.to_owned());
        }
        let old = self.last.len().saturating_sub(LAST_LINES);
        self.last.drain(..old);
    }

    /// What was said last, without an end of its line.
    fn rest(&mut self) {
        for text in std::mem::take(&mut self.begun).into_values() {
            self.lines(&text);
        }
    }

    fn failed(&mut self, request: &DockerfileRequest, error: Error) -> TargetError {
        self.rest();
        let is_step = matches!(error, Error::DockerStreamError { .. }) && !is_full(&error);
        let mut failed = fault(format!("build `{}`", request.dockerfile), error);
        if is_step {
            failed = failed.with_code(FAILED);
        }
        if !self.last.is_empty() {
            let last = self.last.join("\n");
            failed.source = format!("{}\n{last}", failed.source).into();
        }
        failed
    }
}

/// `linux/arm64/v8` in parts.
fn platform(text: &str) -> Option<ImageBuildPlatform> {
    let mut parts = text.split('/').map(str::to_owned);
    Some(ImageBuildPlatform {
        os: parts.next()?,
        architecture: parts.next()?,
        variant: parts.next(),
    })
}

/// A file of a packed context.
fn packed(context: &Path, name: &str) -> io::Result<String> {
    let mut archive = tar::Archive::new(std::fs::File::open(context)?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()?.as_ref() == Path::new(name) {
            let mut text = String::new();
            io::Read::read_to_string(&mut entry, &mut text)?;
            return Ok(text);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("the context holds no `{name}`"),
    ))
}

/// Who we are at a registry, in the engine's form.
pub(crate) async fn credentials(registry: &str) -> Option<DockerCredentials> {
    match platform_image::credentials(registry).await {
        Ok(found) => found.map(|found| {
            let secret = Some(found.password.expose_secret().to_owned());
            let mut own = DockerCredentials {
                serveraddress: Some(registry.to_owned()),
                ..DockerCredentials::default()
            };
            if found.identity_token {
                own.identitytoken = secret;
            } else {
                own.username = Some(found.username);
                own.password = secret;
            }
            own
        }),
        Err(error) => {
            // What is public can still be had.
            tracing::warn!(%error, registry, "no credentials");
            None
        }
    }
}

#[async_trait]
impl ImageEngine for DockerImages {
    async fn build(
        &self,
        request: &DockerfileRequest,
        line: Line<'_>,
    ) -> Result<String, TargetError> {
        let dockerfile = packed(&request.context, &request.dockerfile);
        let dockerfile = dockerfile.map_err(|error| refused(request, error))?;
        let mut known = HashMap::new();
        for registry in registries(&dockerfile, &request.args) {
            if let Some(own) = credentials(&registry).await {
                known.insert(registry, own);
            }
        }
        if request.secrets.is_empty() {
            let (sender, mut lines) = unbounded_channel();
            let mut told = std::pin::pin!(self.told(request, known, sender));
            let built = loop {
                tokio::select! {
                    biased;
                    Some(said) = lines.recv() => line(&said),
                    built = &mut told => break built,
                }
            };
            while let Ok(said) = lines.try_recv() {
                line(&said);
            }
            built?;
        } else {
            self.with_secrets(request, known).await?;
        }
        let built = self.find(&request.name).await?;
        built.ok_or_else(|| refused(request, "the engine does not have the image it built"))
    }

    async fn find(&self, reference: &str) -> Result<Option<String>, TargetError> {
        let seen = self.known(reference).await?;
        Ok(seen.map(|(id, _)| id))
    }

    async fn digest(&self, reference: &str) -> Result<Option<String>, TargetError> {
        let Some((_, known)) = self.known(reference).await? else {
            return Ok(None);
        };
        let own = known
            .iter()
            .find(|one| reference::is_same_repository(one, reference));
        Ok(own.and_then(|one| reference::identity(one)))
    }

    async fn tag(&self, image: &str, name: &str) -> Result<(), TargetError> {
        let (repository, tag) = reference::name_and_tag(name);
        let options = TagImageOptions {
            repo: Some(repository.to_owned()),
            tag: Some(tag.unwrap_or("latest").to_owned()),
        };
        let tagged = self.engine.docker.tag_image(image, Some(options)).await;
        tagged.map_err(|error| fault(format!("name image `{name}`"), error))
    }

    async fn save(&self, reference: &str, to: &Path) -> Result<(), TargetError> {
        let action = || format!("save image `{reference}`");
        let failed = |error: io::Error| TargetError::refused(PROVIDER, action(), error);
        let mut file = tokio::fs::File::create(to).await.map_err(failed)?;
        let mut pieces = self.engine.docker.export_image(reference);
        while let Some(piece) = next_of(&mut pieces, QUIET).await {
            let piece = piece.map_err(|error| fault(action(), error))?;
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)
    }
}
