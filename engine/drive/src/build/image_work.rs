//! The work that makes images: assembling, Dockerfiles, pushing, pinning.

mod context;
mod parts;
mod pinning;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use platform_blueprint::{Build, DockerfileBuild, Service, ServiceName, Services};
use platform_decide::digest::Digest;
use platform_image::{
    Attachment, Built, CYCLONEDX, Compression, IN_TOTO, Image, ImageLock, Provenance, Registry,
    reference,
};
use platform_port::DockerfileRequest;

use super::builder::{BuildOptions, Builder};
use super::error::BuildError;
use super::events::{BuildEvent, BuildSink};
use super::images::Images;
use super::inputs::Inputs;
use super::store::ArtifactStore;
use context::command_of;
use parts::{bill_of, spec_of, version_of};

/// What the labels of every image begin with.
///
/// Source: OCI image-spec, annotations.
const LABELS: &str = "org.opencontainers.image";
/// The labels by which an engine's images are known for a project's, whatever their names say.
const PROJECT: &str = "platform.project";
const SERVICE: &str = "platform.service";

/// Where and how images are made.
pub(super) struct ImageWork<'a> {
    pub(super) project: &'a Path,
    pub(super) cache: &'a Path,
    pub(super) images: &'a Images,
    pub(super) artifacts: &'a ArtifactStore,
    pub(super) options: &'a BuildOptions,
    pub(super) sink: &'a dyn BuildSink,
}

impl ImageWork<'_> {
    /// Makes what is missing, one service after the other; returns what went wrong.
    ///
    /// - `inputs`: of a Dockerfile build, what was in its context becomes so
    pub(super) async fn all(
        &self,
        builder: &Builder,
        services: &Services,
        inputs: &mut BTreeMap<ServiceName, Inputs>,
    ) -> Vec<BuildError> {
        let mut errors = Vec::new();
        let mut lock = match ImageLock::read(self.project) {
            Ok(lock) => lock,
            Err(error) => return vec![BuildError::Lock(Box::new(error))],
        };
        let mut pinned = false;
        for (name, service) in services {
            if self.options.stop.is_cancelled() {
                return vec![BuildError::Interrupted];
            }
            let Some(inputs) = inputs.get_mut(name) else {
                continue;
            };
            let key = &inputs.key();
            if self.images.is_made(name, service, key, &lock)
                && !self.is_again(service)
                && !self.images.is_lost(name, service, key).await
            {
                continue;
            }
            let done = match &service.build {
                None => Ok(()),
                Some(Build::Image(build)) => {
                    let found = self.pin(name, build.image.as_str()).await;
                    found.map(|digest| {
                        if let Some(digest) = digest {
                            pinned |= lock.pin(build.image.as_str(), &digest);
                        }
                    })
                }
                Some(build) => self.make(builder, (name, service), build, inputs).await,
            };
            if let Err(error) = done {
                self.sink.event(BuildEvent::Failed {
                    service: name.clone(),
                    message: error.to_string(),
                    output: Vec::new(),
                });
                errors.push(error);
            }
        }
        if pinned && let Err(error) = lock.write(self.project) {
            errors.push(BuildError::Lock(Box::new(error)));
        }
        errors
    }

    fn is_again(&self, service: &Service) -> bool {
        self.options.again && !matches!(service.build, None | Some(Build::Image(_)))
    }

    async fn make(
        &self,
        builder: &Builder,
        (name, service): (&ServiceName, &Arc<Service>),
        build: &Build,
        inputs: &mut Inputs,
    ) -> Result<(), BuildError> {
        let key = inputs.key();
        let known = self
            .images
            .store
            .built(key.as_str())
            .filter(|_| !self.options.again);
        let started = Instant::now();
        let made = match (known, build) {
            // Without a registry it is on the engine, or nowhere.
            (Some(made), Build::Dockerfile(_))
                if self.images.target.registry.is_some() && made.packed =>
            {
                made
            }
            (Some(made), _) if self.images.store.holds(&made.id) && self.is_packed(&made) => made,
            (_, Build::Dockerfile(build)) => {
                let services = (name.clone(), Arc::clone(service));
                let packed = self.pack_still(builder, services, build, inputs).await?;
                self.dockerfile(name, build, inputs, packed).await?
            }
            (_, build) => self.assemble(name, build, &key).await?,
        };
        let made = match &self.images.target.registry {
            Some(registry) => self.push(name, registry, &inputs.key(), made).await?,
            None => made,
        };
        self.sink.event(BuildEvent::Image {
            service: name.clone(),
            reference: self.images.called(name, &made).unwrap_or_default(),
            size: made.size,
            took: started.elapsed(),
        });
        Ok(())
    }

    /// Whether an image is packed as it is wanted now: for a registry, or for an engine.
    fn is_packed(&self, built: &Built) -> bool {
        self.images.target.registry.is_none() || built.packed
    }

    async fn assemble(
        &self,
        name: &ServiceName,
        build: &Build,
        key: &Digest,
    ) -> Result<Built, BuildError> {
        let manifest = self
            .artifacts
            .manifest(key)
            .ok_or_else(|| BuildError::NoOutput {
                service: name.clone(),
                missing: "artifact".to_owned(),
            })?;
        let place = self.artifacts.place(key);
        let failed = BuildError::image(name);
        let mut spec = spec_of(build, &manifest, &place).map_err(&failed)?;
        spec.labels.extend(self.labels(name, build));
        spec.compression = match self.images.target.registry {
            Some(_) => Compression::Gzip,
            None => Compression::None,
        };
        let provenance = Provenance {
            build: serde_json::to_value(build).unwrap_or_default(),
            inputs: manifest.inputs.clone(),
            command: manifest.built_by.clone(),
            ..self.provenance(name, key)
        };
        let bill = bill_of(self.project, build);
        let repository = self.images.repository(name);
        let (images, key) = (self.images.clone(), key.clone());
        let work = tokio::task::spawn_blocking(move || {
            let image = Image::assemble(&spec)?;
            let mut attachments = Vec::new();
            if let Some(bill) = bill {
                attachments.push(Attachment::new(&image, CYCLONEDX, bill));
            }
            attachments.push(Attachment::new(
                &image,
                IN_TOTO,
                provenance.statement(&image),
            ));
            let called = reference::local(&repository, image.id());
            images
                .store
                .keep(key.as_str(), &called, &image, &attachments)
        });
        work.await
            .map_err(|_| BuildError::Interrupted)?
            .map_err(&failed)
    }

    /// What is known of how any image was made.
    fn provenance(&self, name: &ServiceName, key: &Digest) -> Provenance {
        Provenance {
            name: self.images.repository(name),
            key: key.to_string(),
            commit: self.images.target.commit.clone(),
            repository: self.images.target.repository.clone(),
            ..Provenance::default()
        }
    }

    /// What an image says of where it is from. Nothing of time and machine: who builds the same commit makes the same image.
    fn labels(&self, name: &ServiceName, build: &Build) -> BTreeMap<String, String> {
        let target = &self.images.target;
        let project = target.project.as_ref();
        let owner = project.map(|project| {
            [
                (PROJECT.to_owned(), project.to_string()),
                (SERVICE.to_owned(), name.to_string()),
            ]
        });
        let version = version_of(self.project, build);
        let known = [
            ("version", version.as_ref()),
            ("revision", target.commit.as_ref()),
            ("source", target.repository.as_ref()),
        ];
        let known = known
            .into_iter()
            .filter_map(|(what, text)| Some((what, text?)));
        known
            .map(|(what, text)| (format!("{LABELS}.{what}"), text.clone()))
            .chain(owner.into_iter().flatten())
            .collect()
    }

    async fn dockerfile(
        &self,
        name: &ServiceName,
        build: &DockerfileBuild,
        inputs: &Inputs,
        (context, dockerfile): (PathBuf, String),
    ) -> Result<Built, BuildError> {
        let key = &inputs.key();
        let whole = Build::Dockerfile(build.clone());
        let engine = self.engine(name)?;
        let failed = BuildError::image(name);
        let command = command_of(build);
        let secrets = build
            .secrets
            .iter()
            .filter_map(|secret| {
                let value = self.images.target.secrets.get(secret)?;
                Some((secret.clone(), value.clone()))
            })
            .collect();
        let repository = self.images.repository(name);
        let mut labels = self.labels(name, &whole);
        labels.insert("platform.key".to_owned(), key.to_string());
        labels.insert(format!("{LABELS}.title"), name.to_string());
        let request = DockerfileRequest {
            context: context.clone(),
            dockerfile,
            args: build.args.clone(),
            target: build.target.clone(),
            secrets,
            platform: self.images.target.platform.clone(),
            labels,
            name: reference::unbuilt(&repository, key.as_str()),
            again: self.options.again,
        };
        let services = [name.clone()];
        let line = |line: &str| {
            self.sink.event(BuildEvent::Output {
                services: services.to_vec(),
                line: line.to_owned(),
            });
        };
        let engine_failed = |source| BuildError::Engine {
            service: name.clone(),
            source: Box::new(source),
        };
        let id = tokio::select! {
            id = engine.build(&request, &line) => id.map_err(engine_failed),
            () = self.options.stop.cancelled() => Err(BuildError::Interrupted),
        };
        // A context may be large, and holds nothing that is not in the folder.
        let _ = fs::remove_file(&context);
        let id = id?;
        engine
            .tag(&id, &reference::local(&repository, &id))
            .await
            .map_err(engine_failed)?;
        let mut made = Built {
            id: id.clone(),
            digest: None,
            size: 0,
            packed: false,
            pushed: Vec::new(),
            attached: Vec::new(),
        };
        if self.images.target.registry.is_some() {
            let path = self.images.store.place(&id).map_err(&failed)?;
            engine.save(&id, &path).await.map_err(engine_failed)?;
            let image = Image::read_archive(&path)
                .and_then(Image::packed)
                .map_err(&failed)?;
            let provenance = Provenance {
                build: serde_json::to_value(&whole).unwrap_or_default(),
                inputs: inputs.described(),
                command,
                ..self.provenance(name, key)
            };
            let statement = Attachment::new(&image, IN_TOTO, provenance.statement(&image));
            made.attached = self.images.store.attach(&[statement]).map_err(&failed)?;
            made.digest = Some(image.digest().to_owned());
            made.size = image.size();
            made.packed = true;
        }
        self.images
            .store
            .record(key.as_str(), &made)
            .map_err(&failed)?;
        Ok(made)
    }

    async fn push(
        &self,
        name: &ServiceName,
        registry: &str,
        key: &Digest,
        mut built: Built,
    ) -> Result<Built, BuildError> {
        let failed = BuildError::image(name);
        let (image, attachments) = self.images.store.image(&built).map_err(&failed)?;
        let image = image.packed().map_err(&failed)?;
        let kinds = attachments
            .iter()
            .map(|one| (one.kind().to_owned(), one.document().to_vec()));
        // Packing makes another manifest, which is what things are attached to then.
        let attachments: Vec<_> = kinds
            .map(|(kind, document)| Attachment::new(&image, &kind, document))
            .collect();
        let repository = format!(
            "{}/{}",
            registry.trim_end_matches('/'),
            self.images.repository(name)
        );
        let tag = format!("key-{}", key.short());
        let client = Registry::of(&repository).await.map_err(&failed)?;
        let push = client.push(&image, &attachments, &repository, &tag);
        let pushed = tokio::select! {
            pushed = push => pushed.map_err(&failed)?,
            () = self.options.stop.cancelled() => return Err(BuildError::Interrupted),
        };
        built.digest = Some(image.digest().to_owned());
        if !built.pushed.contains(&pushed.reference) {
            built.pushed.push(pushed.reference.clone());
        }
        self.images
            .store
            .record(key.as_str(), &built)
            .map_err(&failed)?;
        self.sink.event(BuildEvent::Pushed {
            service: name.clone(),
            reference: pushed.reference,
            sent: pushed.sent,
        });
        Ok(built)
    }
}
