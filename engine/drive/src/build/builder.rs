//! From services to their artifacts.

mod attempts;

pub(super) use attempts::ATTEMPTS;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use platform_blueprint::{Build, ResourceName, Service, ServiceName, Services};
use platform_decide::digest::Digest;
use platform_decide::group::{Artifact, Place};
use platform_image::{ImageLock, ImageStore};
use tokio_util::sync::CancellationToken;

use super::error::{BuildError, BuildErrors};
use super::events::{BuildEvent, BuildSink};
use super::image_work::ImageWork;
use super::images::{ImageTarget, Images};
use super::inputs::{Inputs, inputs_of};
use super::jobs::jobs;
use super::store::ArtifactStore;

/// How builds are run.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// How many builds run at once. Cargo's own parallelism is its own affair.
    pub parallelism: usize,
    /// Whether compilers may colour what they say.
    pub color: bool,
    /// Build also what is built already.
    pub again: bool,
    /// Ends the builds under way, with everything they started.
    pub stop: CancellationToken,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            parallelism: std::thread::available_parallelism().map_or(2, Into::into),
            color: false,
            again: false,
            stop: CancellationToken::new(),
        }
    }
}

/// Builds the services of one project.
#[derive(Debug, Clone)]
pub struct Builder {
    project: PathBuf,
    state: PathBuf,
    store: ArtifactStore,
    images: Option<Images>,
}

impl Builder {
    /// - `project`: the blueprint's folder; what builds leave goes to `.platform` in it
    pub fn new(project: &Path) -> Self {
        let project = project
            .canonicalize()
            .unwrap_or_else(|_| project.to_owned());
        let state = project.join(".platform");
        Self {
            store: ArtifactStore::new(state.join("artifacts")),
            project,
            state,
            images: None,
        }
    }

    /// The same for an environment that runs images: each artifact is one.
    #[must_use]
    pub fn with_images(mut self, target: ImageTarget) -> Self {
        self.images = Some(Images::new(target, &self.state));
        self
    }

    /// The services as they are built here.
    fn effective<'a>(&self, services: &'a Services) -> Cow<'a, Services> {
        match &self.images {
            Some(images) => Cow::Owned(images.effective(services)),
            None => Cow::Borrowed(services),
        }
    }

    /// What references are pinned to. What is wrong with the file is told when it is written.
    pub fn image_lock(&self) -> ImageLock {
        ImageLock::read(&self.project).unwrap_or_default()
    }

    /// Where images are kept, for an environment that runs them.
    pub fn image_store(&self) -> Option<&ImageStore> {
        self.images.as_ref().map(|images| &images.store)
    }

    /// Where artifacts are kept.
    pub fn store(&self) -> &ArtifactStore {
        &self.store
    }

    fn cache(&self) -> PathBuf {
        self.state.join("cache")
    }

    /// Tells what each service's build yields, without building. Writes nothing but the cache of file digests.
    ///
    /// # Errors
    ///
    /// For each service that cannot be built as the blueprint says, why.
    pub fn keys(
        &self,
        services: &Services,
    ) -> Result<BTreeMap<ServiceName, Artifact>, BuildErrors> {
        let services = self.effective(services);
        let inputs = self.inputs(&services)?;
        Ok(self.artifacts(&services, inputs))
    }

    fn artifacts(
        &self,
        services: &Services,
        inputs: BTreeMap<ServiceName, Inputs>,
    ) -> BTreeMap<ServiceName, Artifact> {
        let lock = self.image_lock();
        inputs
            .into_iter()
            .map(|(name, inputs)| {
                let artifact = self.artifact(&name, &services[&name], inputs.key(), &lock);
                (name, artifact)
            })
            .collect()
    }

    fn inputs(&self, services: &Services) -> Result<BTreeMap<ServiceName, Inputs>, BuildErrors> {
        let each = services
            .iter()
            .map(|(name, service)| (name, service.as_ref()));
        let mut inputs = inputs_of(&self.project, &self.cache(), each)?;
        if let Some(images) = &self.images {
            let lock = self.image_lock();
            for (name, service) in services {
                if let Some(inputs) = inputs.get_mut(name) {
                    images.add_to((name, service), inputs, &lock);
                }
            }
        }
        Ok(inputs)
    }

    fn artifact(
        &self,
        name: &ServiceName,
        service: &Service,
        key: Digest,
        lock: &ImageLock,
    ) -> Artifact {
        if let Some(images) = &self.images {
            let place = images.place(name, service, &key, lock);
            return Artifact { key, place };
        }
        let place = match &service.build {
            None => Place::Installed,
            // It runs where it was built.
            Some(Build::Command(build)) if build.output.is_empty() => Place::Installed,
            Some(Build::Image(build)) => Place::Image {
                reference: build.image.to_string(),
            },
            Some(Build::Dockerfile(_)) => Place::Image {
                reference: format!("platform-build:{}", key.short()),
            },
            Some(Build::Cargo(_) | Build::Command(_) | Build::Program(_)) => Place::Folder {
                path: self.store.place(&key).to_string_lossy().into_owned(),
            },
        };
        Artifact { key, place }
    }

    /// Whether there is nothing left to build for an artifact.
    ///
    /// Of a build without an output, the store remembers only that it was done.
    pub fn is_built(&self, name: &ServiceName, service: &Service, artifact: &Artifact) -> bool {
        if let Some(images) = &self.images {
            return images.is_made(name, service, &artifact.key, &self.image_lock());
        }
        match &service.build {
            None | Some(Build::Image(_)) => true,
            Some(_) => self.store.is_built(&artifact.key),
        }
    }

    /// Builds what is not built yet, and returns what every service's build yields.
    ///
    /// Those are the artifacts of [`Builder::keys`], but for services whose sources changed meanwhile: a build may write
    /// a lock file, a person may save. Such a build is run again until it has seen one state of its sources; what changes
    /// later is for the next build.
    ///
    /// - `all`: every service of the blueprint, as resolved
    /// - `only`: the services to build; all if none
    ///
    /// # Errors
    ///
    /// Everything that failed; what did not is built and kept.
    pub async fn build(
        &self,
        all: &Services,
        only: Option<&BTreeSet<ServiceName>>,
        options: &BuildOptions,
        sink: &dyn BuildSink,
    ) -> Result<BTreeMap<ServiceName, Artifact>, BuildErrors> {
        let effective = self.effective(all);
        let all = effective.as_ref();
        let services: BTreeMap<_, _> = all
            .iter()
            .filter(|(name, _)| only.is_none_or(|only| only.contains(*name)))
            .map(|(name, service)| (name.clone(), service.clone()))
            .collect();
        let (missing, mut inputs) = self.missing(&services, options.again).await?;
        if !missing.is_empty()
            || self.lacks_images(&services, &inputs, options.again)
            || self.lost_images(&services, &inputs).await
        {
            let _lock = self.lock(options, sink).await?;
            self.store.sweep();
            // Another run may have built them while we waited.
            let (missing, now) = self.missing(&services, options.again).await?;
            inputs = now;
            let jobs = jobs(&self.project, &missing, all);
            let built = self.run(jobs, all, &inputs, options, sink).await?;
            inputs.extend(built);
            self.make_images(&services, &mut inputs, options, sink)
                .await?;
        }
        Ok(self.artifacts(&services, inputs))
    }

    /// Whether an image is missing, or a reference not pinned.
    fn lacks_images(
        &self,
        services: &Services,
        inputs: &BTreeMap<ServiceName, Inputs>,
        again: bool,
    ) -> bool {
        let Some(images) = &self.images else {
            return false;
        };
        let lock = self.image_lock();
        services.iter().any(|(name, service)| {
            let again = again && matches!(service.build, Some(Build::Dockerfile(_)));
            inputs
                .get(name)
                .is_some_and(|inputs| again || !images.is_made(name, service, &inputs.key(), &lock))
        })
    }

    /// Whether the engine has lost an image that it alone kept.
    async fn lost_images(
        &self,
        services: &Services,
        inputs: &BTreeMap<ServiceName, Inputs>,
    ) -> bool {
        let Some(images) = &self.images else {
            return false;
        };
        for (name, service) in services {
            if let Some(inputs) = inputs.get(name)
                && images.is_lost(name, service, &inputs.key()).await
            {
                return true;
            }
        }
        false
    }

    /// Makes the images of artifacts that are built, and builds the others.
    ///
    /// - `inputs`: what artifacts were built of; of a Dockerfile build, what its context held becomes so
    async fn make_images(
        &self,
        services: &Services,
        inputs: &mut BTreeMap<ServiceName, Inputs>,
        options: &BuildOptions,
        sink: &dyn BuildSink,
    ) -> Result<(), BuildErrors> {
        let Some(images) = &self.images else {
            return Ok(());
        };
        let cache = self.cache();
        let work = self.image_work(images, &cache, options, sink);
        let errors = work.all(self, services, inputs).await;
        if errors.is_empty() {
            Ok(())
        } else {
            Err(BuildErrors(errors))
        }
    }

    fn image_work<'a>(
        &'a self,
        images: &'a Images,
        cache: &'a Path,
        options: &'a BuildOptions,
        sink: &'a dyn BuildSink,
    ) -> ImageWork<'a> {
        ImageWork {
            project: &self.project,
            cache,
            images,
            artifacts: &self.store,
            options,
            sink,
        }
    }

    /// Pins what the images of resources stand for, where that is not done yet; whether any was.
    ///
    /// - `resources`: references without digests
    ///
    /// # Errors
    ///
    /// If the lock file cannot be read or written.
    pub async fn pin(
        &self,
        resources: &BTreeMap<ResourceName, String>,
        options: &BuildOptions,
        sink: &dyn BuildSink,
    ) -> Result<bool, BuildErrors> {
        let Some(images) = self.images.as_ref().filter(|_| !resources.is_empty()) else {
            return Ok(false);
        };
        let _lock = self.lock(options, sink).await?;
        let cache = self.cache();
        let work = self.image_work(images, &cache, options, sink);
        Ok(work.resources(resources).await?)
    }

    /// The services that are not built, those with one key together; and the inputs of all.
    async fn missing(
        &self,
        services: &Services,
        again: bool,
    ) -> Result<(Vec<Vec<ServiceName>>, BTreeMap<ServiceName, Inputs>), BuildErrors> {
        let inputs = self.inputs_apart(services.clone()).await?;
        let mut by_key: BTreeMap<Digest, Vec<ServiceName>> = BTreeMap::new();
        for (name, inputs) in &inputs {
            let service = &services[name];
            match &service.build {
                None if self.images.is_some() => {
                    return Err(BuildError::NoImage {
                        service: name.clone(),
                    }
                    .into());
                }
                None | Some(Build::Image(_)) => continue,
                Some(Build::Dockerfile(_)) if self.images.is_some() => continue,
                Some(Build::Dockerfile(_)) => {
                    return Err(BuildError::NotForThisProvider {
                        service: name.clone(),
                    }
                    .into());
                }
                Some(_) => {}
            }
            let key = inputs.key();
            if again || !self.store.is_built(&key) {
                by_key.entry(key).or_default().push(name.clone());
            }
        }
        Ok((by_key.into_values().collect(), inputs))
    }

    /// Finds inputs without keeping the runtime's threads from other work.
    pub(super) async fn inputs_apart(
        &self,
        services: Services,
    ) -> Result<BTreeMap<ServiceName, Inputs>, BuildErrors> {
        let builder = self.clone();
        tokio::task::spawn_blocking(move || builder.inputs(&services))
            .await
            .unwrap_or_else(|_| Err(BuildError::Interrupted.into()))
    }

    /// Lets one run at a time build a project: two would trample on each other's outputs.
    async fn lock(
        &self,
        options: &BuildOptions,
        sink: &dyn BuildSink,
    ) -> Result<std::fs::File, BuildErrors> {
        let path = self.cache().join("build.lock");
        std::fs::create_dir_all(self.cache())
            .map_err(BuildError::file("make", &self.cache()))
            .map_err(BuildErrors::from)?;
        let file = std::fs::File::create(&path).map_err(BuildError::file("write", &path))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(std::fs::TryLockError::WouldBlock) => {
                    if !told {
                        sink.event(BuildEvent::Waiting);
                        told = true;
                    }
                    tokio::select! {
                        () = options.stop.cancelled() => return Err(BuildError::Interrupted.into()),
                        () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {}
                    }
                }
                Err(std::fs::TryLockError::Error(error)) => {
                    return Err(BuildError::file("lock", &path)(error).into());
                }
            }
        }
    }
}
