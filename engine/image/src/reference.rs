//! How images are called.

use std::str::FromStr as _;

use oci_client::Reference;

use crate::blob::digits;
use crate::error::ImageError;

/// The host in the names of images that are on no registry. Nothing answers there, so nobody pulls them by mistake.
pub const LOCAL: &str = "platform.local";

/// Whether an image is on the engine alone, so that it must be loaded and never pulled.
pub fn is_local(reference: &str) -> bool {
    reference
        .strip_prefix(LOCAL)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// The name of a service's image without registry, tag and digest: `shop-orders`.
pub fn repository(project: &str, service: &str) -> String {
    format!("{project}-{service}")
}

/// The name of an image on the engine: its tag is its identity.
///
/// - `id`: the digest of its configuration
pub fn local(repository: &str, id: &str) -> String {
    format!("{LOCAL}/{repository}:sha256-{}", digits(id))
}

/// The name of an image that is not built yet.
///
/// - `key`: the digest of what it will be made from
pub fn unbuilt(repository: &str, key: &str) -> String {
    format!("{LOCAL}/{repository}:key-{}", digits(key))
}

/// The name of an image on a registry: its digest is its identity.
///
/// - `registry`: a host, maybe with a path: `ghcr.io/me`
pub fn pushed(registry: &str, repository: &str, digest: &str) -> String {
    format!("{}/{repository}@{digest}", registry.trim_end_matches('/'))
}

/// Whether an image is known only by what it will be made from.
pub fn is_unbuilt(reference: &str) -> bool {
    is_local(reference)
        && reference
            .rsplit(':')
            .next()
            .is_some_and(|tag| tag.starts_with("key-"))
}

/// The digest in a reference by which its image is known: of its manifest on a registry, of its configuration on an engine.
pub fn identity(reference: &str) -> Option<String> {
    if let Some((_, digest)) = reference.split_once('@') {
        return Some(digest.to_owned());
    }
    let tag = reference.rsplit(':').next()?;
    is_local(reference)
        .then(|| tag.strip_prefix("sha256-"))
        .flatten()
        .map(|digits| format!("sha256:{digits}"))
}

/// Reads a reference as Docker does: `nginx` is `docker.io/library/nginx:latest`.
///
/// # Errors
///
/// [`ImageError::BadReference`] if it is none.
pub(crate) fn parse(reference: &str) -> Result<Reference, ImageError> {
    Reference::from_str(reference).map_err(|error| ImageError::BadReference {
        reference: reference.to_owned(),
        why: error.to_string(),
    })
}

/// The host of the registry that a reference is on: `docker.io` for `nginx`.
///
/// # Errors
///
/// [`ImageError::BadReference`] if it is no reference.
pub fn registry_of(reference: &str) -> Result<String, ImageError> {
    Ok(parse(reference)?.registry().to_owned())
}

/// The name and the tag of a reference, as an engine takes them apart: `("ghcr.io/me/base", Some("1"))`.
pub fn name_and_tag(reference: &str) -> (&str, Option<&str>) {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rsplit_once(':') {
        // What follows the colon of a port has a path.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    }
}

/// Whether two references are of one repository, whatever their tags and digests: `nginx` and `docker.io/library/nginx@sha256:…`.
pub fn is_same_repository(one: &str, other: &str) -> bool {
    match (parse(one), parse(other)) {
        (Ok(one), Ok(other)) => {
            one.registry() == other.registry() && one.repository() == other.repository()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_compared() {
        assert_eq!(
            name_and_tag("localhost:5000/a:1"),
            ("localhost:5000/a", Some("1"))
        );
        assert_eq!(name_and_tag("localhost:5000/a"), ("localhost:5000/a", None));
        assert_eq!(name_and_tag("a@sha256:0"), ("a", None));
        let digest = format!("docker.io/library/nginx@sha256:{}", "a".repeat(64));
        assert!(is_same_repository("nginx:1.27", &digest));
        assert!(!is_same_repository("nginx", "ghcr.io/library/nginx"));
    }

    #[test]
    fn names_tell_where_an_image_is_and_which_it_is() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let here = local("shop-orders", &digest);
        assert!(is_local(&here) && !is_unbuilt(&here));
        assert_eq!(identity(&here), Some(digest.clone()));
        let there = pushed("localhost:5000/me/", "shop-orders", &digest);
        assert_eq!(there, format!("localhost:5000/me/shop-orders@{digest}"));
        assert!(!is_local(&there));
        assert_eq!(identity(&there), Some(digest.clone()));
        let later = unbuilt("shop-orders", &digest);
        assert!(is_unbuilt(&later) && identity(&later).is_none());
        assert_eq!(identity("nginx:1.27"), None);
        assert_eq!(registry_of("nginx").unwrap(), "docker.io");
        assert_eq!(registry_of(&there).unwrap(), "localhost:5000");
        assert!(registry_of("A B").is_err());
        for name in [here, later] {
            assert!(name.rsplit(':').next().unwrap().len() <= 128);
            assert!(parse(&name).is_ok());
        }
    }
}
