//! Builds: from sources to artifacts, each known by the digest of what it is made from.
//!
//! An artifact's *key* is the digest of everything its build reads: sources, manifests, the part of a lock file that
//! concerns it, settings, the compiler. It is found without building, so a plan is exact; equal keys mean the same
//! artifact, so nothing is built twice. What a build yields is copied into `.platform/artifacts`, whole or not at all.

mod builder;
mod cargo;
mod cargo_output;
mod error;
mod events;
mod files;
mod image_work;
mod images;
mod inputs;
mod jobs;
mod process;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod work;

use std::collections::BTreeMap;
use std::path::Path;

use platform_blueprint::{Resolved, ServiceName};
use platform_decide::group::Artifact;

pub use builder::{BuildOptions, Builder};
pub use error::{BuildError, BuildErrors, BuildFailure};
pub use events::{BuildEvent, BuildSink};
pub use images::ImageTarget;
pub use jobs::program_of;
pub use store::{ArtifactStore, Manifest, ManifestFile};

/// Tells what each service's build yields, without building.
///
/// - `project`: the blueprint's folder
///
/// # Errors
///
/// For each service that cannot be built as the blueprint says, why.
pub fn keys(
    resolved: &Resolved,
    project: &Path,
) -> Result<BTreeMap<ServiceName, Artifact>, BuildErrors> {
    Builder::new(project).keys(&resolved.services)
}
