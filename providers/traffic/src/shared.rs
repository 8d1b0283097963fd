//! The Redis through which several gateways count together.

use std::path::{Path, PathBuf};

use platform_blueprint::Resource;
use platform_decide::desired::Ingress;
use platform_decide::digest::Digest;
use platform_gateway_api as api;

use super::{Parts, key_file};

/// The file that the gateway reads the address of a Redis from. Another address is another file, so that the gateway sees
/// that it changed.
///
/// - `address`: with a random password, unless the server is somebody else's
pub fn shared_file(
    folder: &Path,
    ingress: &Ingress,
    resource: &Resource,
    address: &str,
) -> Option<PathBuf> {
    if let Some(external) = &resource.external {
        // A password that people chose could be guessed from its digest.
        return key_file(folder, ingress, &external.secret);
    }
    let digest = Digest::of(address.as_bytes());
    Some(folder.join(format!("shared.{}", digest.short())))
}

/// Says where limits are counted that gateways share; with nobody to count with, each counts for itself.
pub(super) fn count(config: &mut api::Config, parts: &Parts<'_>) {
    config.shared = parts.shared.map(|file| api::Shared {
        url: None,
        url_file: Some(file.display().to_string()),
        space: parts.project.to_owned(),
    });
    if config.shared.is_none() {
        let routes = config.routes.iter_mut();
        for limit in routes.filter_map(|route| route.rate_limit.as_mut()) {
            limit.shared = false;
        }
    }
}
