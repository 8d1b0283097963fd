//! What can go wrong around images.

use std::io;
use std::path::{Path, PathBuf};

/// Something that kept an image from being made, found, sent or fetched.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// Verb, such as `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program needs libraries that an image made from it alone does not have.
    #[error("`{}` {why}, so no image can be made from it alone", path.display())]
    NotStatic {
        /// The program.
        path: PathBuf,
        /// What it is instead, as a verb phrase.
        why: &'static str,
    },
    /// A text that is no reference to an image.
    #[error("`{reference}` is not a reference to an image: {why}")]
    BadReference {
        /// The text.
        reference: String,
        /// What is wrong with it.
        why: String,
    },
    /// An image, or a part of one, is not what it says it is.
    #[error("`{}` is not an image that can be read: {why}", path.display())]
    BadArchive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The registry does not have it.
    #[error("registry `{registry}` has no image `{reference}`")]
    NotFound {
        /// The registry's host.
        registry: String,
        /// What was asked for.
        reference: String,
        /// The registry's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The registry does not let us.
    #[error("registry `{registry}` refused to {action} `{reference}` {}", if *.anonymous { "without credentials" } else { "with the credentials found for it" })]
    Unauthorized {
        /// The registry's host.
        registry: String,
        /// Verb, such as `push`.
        action: &'static str,
        /// What was asked for.
        reference: String,
        /// Whether no credentials were found.
        anonymous: bool,
        /// The registry's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The registry sent something else, or a manifest of a kind that is not read here.
    #[error("what registry `{registry}` sent for `{reference}` is not the manifest of an image")]
    NoManifest {
        /// The registry's host.
        registry: String,
        /// What was asked for.
        reference: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The registry cannot be reached, or failed.
    #[error("cannot {action} `{reference}`: registry `{registry}` cannot be asked")]
    Registry {
        /// The registry's host.
        registry: String,
        /// Verb, such as `push`.
        action: &'static str,
        /// What was asked for.
        reference: String,
        /// The registry's words, or the network's.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Docker's configuration, or a helper it names, did not give credentials.
    #[error("cannot get the credentials for registry `{registry}`: {why}")]
    Credentials {
        /// The registry's host.
        registry: String,
        /// What went wrong; never a secret.
        why: String,
    },
    /// The lock file cannot be understood.
    #[error("cannot understand `{}`", path.display())]
    BadLock {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// A build's context does not hold what the build says.
    #[error("the context `{}` has no `{missing}`", folder.display())]
    NotInContext {
        /// The context's folder.
        folder: PathBuf,
        /// What is missing.
        missing: String,
    },
    /// A pattern of `.dockerignore` is not one.
    #[error("`{pattern}` in `{}` is not a pattern", path.display())]
    BadPattern {
        /// The file.
        path: PathBuf,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: Box<globset::Error>,
    },
}

impl ImageError {
    /// The stable code, such as `image::not-static`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "image::file",
            Self::NotStatic { .. } => "image::not-static",
            Self::BadReference { .. } => "image::bad-reference",
            Self::BadArchive { .. } => "image::bad-archive",
            Self::NotFound { .. } => "image::not-found",
            Self::Unauthorized { .. } => "image::unauthorized",
            Self::NoManifest { .. } => "image::no-manifest",
            Self::Registry { .. } => "image::registry",
            Self::Credentials { .. } => "image::credentials",
            Self::BadLock { .. } => "image::bad-lock",
            Self::NotInContext { .. } => "image::not-in-context",
            Self::BadPattern { .. } => "image::bad-pattern",
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NotStatic { .. } => {
                "give the service `build = { dockerfile = \"…\" }` in this environment, or build \
                 it as a static program"
                    .to_owned()
            }
            Self::Unauthorized { registry, .. } => format!("run `docker login {registry}`"),
            Self::NotFound { .. } => {
                "check the name and the tag; a private image needs `docker login`".to_owned()
            }
            Self::NoManifest { registry, .. } => format!(
                "see whether `https://{registry}/v2/` is a registry, not a proxy or a login page before one"
            ),
            Self::BadLock { .. } => {
                "mend it, or remove it and run `platform build` to write it anew".to_owned()
            }
            Self::Credentials { .. } => {
                "check `~/.docker/config.json` and the helper it names".to_owned()
            }
            _ => return None,
        })
    }

    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}
