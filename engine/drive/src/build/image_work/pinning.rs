//! References that are given, and the digests they stand for.

use std::collections::BTreeMap;

use platform_blueprint::{ResourceName, ServiceName};
use platform_image::{ImageError, ImageLock, Registry};

use super::ImageWork;
use crate::build::error::BuildError;
use crate::build::events::BuildEvent;

impl ImageWork<'_> {
    /// Pins the images of resources. What has no digest that can be had is left to the engine, which is told.
    pub(in crate::build) async fn resources(
        &self,
        images: &BTreeMap<ResourceName, String>,
    ) -> Result<bool, BuildError> {
        let damaged = |error| BuildError::Lock(Box::new(error));
        let mut lock = ImageLock::read(self.project).map_err(damaged)?;
        let mut pinned = false;
        for (name, image) in images {
            if lock.digest(image).is_some() && !self.images.target.look_anew {
                continue;
            }
            if self.options.stop.is_cancelled() {
                return Err(BuildError::Interrupted);
            }
            let found = match self.had(image).await {
                Had::As(digest) => Ok(digest),
                Had::Alone => Err("it is on the engine alone".to_owned()),
                Had::Not => asked(image).await.map_err(|error| error.to_string()),
            };
            match found {
                Ok(digest) => {
                    pinned |= lock.pin(image, &digest);
                    self.sink.event(BuildEvent::Pinned {
                        service: name.to_string(),
                        reference: image.clone(),
                        digest,
                    });
                }
                Err(why) => self.sink.event(BuildEvent::Unpinned {
                    service: name.to_string(),
                    reference: image.clone(),
                    why,
                }),
            }
        }
        if pinned {
            lock.write(self.project).map_err(damaged)?;
        }
        Ok(pinned)
    }

    /// What the engine has is what runs there, and nobody need be asked for it.
    async fn had(&self, image: &str) -> Had {
        let Some(engine) = &self.images.target.engine else {
            return Had::Not;
        };
        let digest = engine.digest(image).await;
        match digest {
            Ok(Some(digest)) if !self.images.target.look_anew => Had::As(digest),
            Ok(None) if matches!(engine.find(image).await, Ok(Some(_))) => Had::Alone,
            _ => Had::Not,
        }
    }

    /// Finds the digest that a reference stands for: on its registry, or as the engine knows it.
    ///
    /// An image that is on the engine alone has none, which is told.
    pub(super) async fn pin(
        &self,
        name: &ServiceName,
        image: &str,
    ) -> Result<Option<String>, BuildError> {
        let pinned = |digest: String| {
            self.sink.event(BuildEvent::Pinned {
                service: name.to_string(),
                reference: image.to_owned(),
                digest: digest.clone(),
            });
            Ok(Some(digest))
        };
        let error = match asked(image).await {
            Ok(digest) => return pinned(digest),
            Err(error) => error,
        };
        let Some(engine) = &self.images.target.engine else {
            return Err(BuildError::image(name)(error));
        };
        let failed = |source| BuildError::Engine {
            service: name.clone(),
            source: Box::new(source),
        };
        if let Some(digest) = engine.digest(image).await.map_err(failed)? {
            return pinned(digest);
        }
        if engine.find(image).await.map_err(failed)?.is_some() {
            self.sink.event(BuildEvent::Unpinned {
                service: name.to_string(),
                reference: image.to_owned(),
                why: error.to_string(),
            });
            return Ok(None);
        }
        Err(BuildError::image(name)(error))
    }
}

/// Whether an engine has an image.
enum Had {
    /// Not, or not as it is now.
    Not,
    /// With the digest that a registry has it under.
    As(String),
    /// From no registry.
    Alone,
}

/// The digest that a registry says a reference stands for.
async fn asked(image: &str) -> Result<String, ImageError> {
    Registry::of(image).await?.digest(image).await
}
