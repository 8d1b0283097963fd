//! Contexts of Dockerfile builds: what an engine is sent is what the key of its image says.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use platform_blueprint::{DockerfileBuild, Service, ServiceName, Services};
use platform_image::pack;
use platform_port::ImageEngine;

use super::ImageWork;
use crate::build::builder::{ATTEMPTS, Builder};
use crate::build::cargo::normal;
use crate::build::error::{BuildError, BuildErrors};
use crate::build::events::BuildEvent;
use crate::build::inputs::Inputs;

/// What is told and recorded as the command of a Dockerfile build.
pub(super) fn command_of(build: &DockerfileBuild) -> String {
    format!("docker build {}", build.dockerfile)
}

impl ImageWork<'_> {
    pub(super) fn engine(&self, name: &ServiceName) -> Result<&Arc<dyn ImageEngine>, BuildError> {
        let engine = self.images.target.engine.as_ref();
        engine.ok_or_else(|| BuildError::NoEngine {
            service: name.clone(),
        })
    }

    /// Packs the context of a build until its folder holds still meanwhile; what changes later is not in it.
    ///
    /// - `inputs`: what the context holds becomes so
    /// - returns: the context, and the Dockerfile's path within it
    pub(super) async fn pack_still(
        &self,
        builder: &Builder,
        (name, service): (ServiceName, Arc<Service>),
        build: &DockerfileBuild,
        inputs: &mut Inputs,
    ) -> Result<(PathBuf, String), BuildError> {
        self.engine(&name)?;
        self.sink.event(BuildEvent::Started {
            service: name.clone(),
            command: command_of(build),
        });
        let context = self.cache.join("contexts").join(format!("{name}.tar"));
        let alone: Services = [(name.clone(), service)].into();
        let mut attempt = 1;
        loop {
            let packed = self.context(build, &context);
            let now = builder.inputs_apart(alone.clone()).await;
            let first = |errors: BuildErrors| errors.0.into_iter().next();
            let mut now = now.map_err(|errors| first(errors).unwrap_or(BuildError::Interrupted))?;
            let Some(now) = now.remove(&name).filter(|now| now != inputs) else {
                let dockerfile = packed.map_err(BuildError::image(&name))?;
                return Ok((context, dockerfile));
            };
            let changed = inputs.differing(&now);
            *inputs = now;
            if attempt == ATTEMPTS {
                return Err(BuildError::SourcesChanged {
                    service: name,
                    attempts: ATTEMPTS,
                    changed,
                });
            }
            self.sink.event(BuildEvent::Again {
                services: vec![name.clone()],
                changed,
            });
            attempt += 1;
        }
    }

    fn context(
        &self,
        build: &DockerfileBuild,
        to: &Path,
    ) -> Result<String, platform_image::ImageError> {
        let file_error = |action| {
            let path = to.to_owned();
            move |source| platform_image::ImageError::File {
                action,
                path,
                source,
            }
        };
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(file_error("make"))?;
        }
        let file = fs::File::create(to).map_err(file_error("write"))?;
        let out = std::io::BufWriter::with_capacity(1 << 20, file);
        let folder = normal(&self.project.join(&build.dockerfile));
        Ok(pack(&folder, &build.file, out)?.dockerfile)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use platform_port::{DockerfileRequest, Line, TargetError};

    use super::*;
    use crate::build::BuildOptions;
    use crate::build::images::ImageTarget;

    /// An engine for which somebody writes a log into the context as long as it builds; it keeps what it was sent.
    struct Busy {
        log: PathBuf,
        sent: Mutex<Vec<u8>>,
    }

    #[async_trait]
    impl ImageEngine for Busy {
        async fn build(
            &self,
            request: &DockerfileRequest,
            _: Line<'_>,
        ) -> Result<String, TargetError> {
            *self.sent.lock().unwrap() = fs::read(&request.context).unwrap();
            fs::write(&self.log, "building").unwrap();
            Ok(format!("sha256:{}", "0".repeat(64)))
        }

        async fn find(&self, _: &str) -> Result<Option<String>, TargetError> {
            Ok(None)
        }

        async fn digest(&self, _: &str) -> Result<Option<String>, TargetError> {
            Ok(None)
        }

        async fn tag(&self, _: &str, _: &str) -> Result<(), TargetError> {
            Ok(())
        }

        async fn save(&self, _: &str, _: &Path) -> Result<(), TargetError> {
            Ok(())
        }
    }

    /// Builds a folder for which `write` is called with each event; returns whether what the engine was sent holds `text`
    /// and is what the key stands for.
    async fn built(
        write: &(dyn Fn(&Path, &BuildEvent) + Sync),
        text: &str,
    ) -> Result<(), BuildErrors> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for (name, text) in [("Dockerfile", "FROM scratch"), ("a", "first")] {
            fs::write(root.join(name), text).unwrap();
        }
        let busy = Arc::new(Busy {
            log: root.join("log"),
            sent: Mutex::default(),
        });
        let engine: Arc<dyn ImageEngine> = Arc::<Busy>::clone(&busy);
        let target = ImageTarget {
            engine: Some(engine),
            ..ImageTarget::default()
        };
        let builder = Builder::new(&root).with_images(target);
        let name: ServiceName = "api".parse().unwrap();
        let service = serde_json::from_str(r#"{"build": {"dockerfile": "."}}"#).unwrap();
        let services: Services = [(name.clone(), service)].into();
        let sink = |event: BuildEvent| write(&root, &event);
        let made = builder
            .build(&services, None, &BuildOptions::default(), &sink)
            .await?;
        let sent = busy.sent.lock().unwrap();
        assert!(String::from_utf8_lossy(&sent).contains(text));
        // Without the log all is as it was sent, so the key must be the same.
        fs::remove_file(root.join("log")).unwrap();
        assert_eq!(made, builder.keys(&services).unwrap());
        assert!(builder.is_built(&name, &services[&name], &made[&name]));
        Ok(())
    }

    #[tokio::test]
    async fn an_image_is_what_its_key_says_whatever_is_written_meanwhile() {
        built(&|_, _| (), "first").await.unwrap();
        let saved = |root: &Path, event: &BuildEvent| {
            if matches!(event, BuildEvent::Started { .. }) {
                fs::write(root.join("a"), "second").unwrap();
            }
        };
        built(&saved, "second").await.unwrap();
    }

    #[tokio::test]
    async fn a_context_that_never_holds_still_is_named() {
        let noise = |root: &Path, event: &BuildEvent| {
            let text = fs::read_to_string(root.join("noise")).unwrap_or_default();
            if matches!(event, BuildEvent::Started { .. } | BuildEvent::Again { .. }) {
                fs::write(root.join("noise"), text + "x").unwrap();
            }
        };
        let errors = built(&noise, "first").await.unwrap_err().0;
        assert_eq!(errors[0].code(), "build::sources-changed");
        assert!(errors[0].help().is_some_and(|help| help.contains("noise")));
    }
}
