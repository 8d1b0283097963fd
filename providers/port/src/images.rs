//! What an engine does with images, where a target has one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::error::TargetError;
use crate::secrets::SecretValues;

/// An image to be built from a Dockerfile.
#[derive(Debug, Clone, Default)]
pub struct DockerfileRequest {
    /// The context: a tar file, not compressed, in which everything that must not go along is left out.
    pub context: PathBuf,
    /// The Dockerfile's path within it.
    pub dockerfile: String,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The stage to stop at.
    pub target: Option<String>,
    /// Secrets, each mounted under its name while the steps that ask for it run. They must not enter a layer, the
    /// arguments or the history: an engine that cannot do so refuses.
    pub secrets: SecretValues,
    /// The platform, such as `linux/amd64`; the engine's own if none.
    pub platform: Option<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// The image's name.
    pub name: String,
    /// Use nothing that earlier builds left.
    pub again: bool,
}

/// Takes what a build says, line by line.
pub type Line<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// An engine that builds and keeps images.
#[async_trait]
pub trait ImageEngine: Send + Sync {
    /// Builds an image and gives it its name. Safe to repeat.
    ///
    /// - `line`: takes what the engine says meanwhile, line by line
    /// - returns: the image's id, `sha256:` and the digest of its configuration
    ///
    /// # Errors
    ///
    /// If the engine cannot be reached, or a step of the Dockerfile fails; then with its last words.
    async fn build(
        &self,
        request: &DockerfileRequest,
        line: Line<'_>,
    ) -> Result<String, TargetError>;

    /// The id of the image that has a name or an id, if there is one.
    ///
    /// # Errors
    ///
    /// If the engine cannot be reached.
    async fn find(&self, reference: &str) -> Result<Option<String>, TargetError>;

    /// The digest under which an image that the engine holds is known on its registry, if it came from one.
    ///
    /// # Errors
    ///
    /// If the engine cannot be reached.
    async fn digest(&self, reference: &str) -> Result<Option<String>, TargetError>;

    /// Gives an image one more name.
    ///
    /// # Errors
    ///
    /// If there is no such image.
    async fn tag(&self, image: &str, name: &str) -> Result<(), TargetError>;

    /// Writes an image into a file, as `docker save` does.
    ///
    /// # Errors
    ///
    /// If there is no such image, or the file cannot be written.
    async fn save(&self, reference: &str, to: &Path) -> Result<(), TargetError>;
}
