//! What can go wrong while artifacts are made.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use platform_blueprint::ServiceName;
use platform_image::ImageError;
use platform_port::TargetError;

/// A build whose program ended with an error.
#[derive(Debug)]
pub struct BuildFailure {
    /// The services that were to be built.
    pub services: Vec<ServiceName>,
    /// What was run.
    pub command: String,
    /// How it ended: `exited with 101`, `was ended by SIGKILL`.
    pub ended: String,
    /// The exit code, where there is one.
    pub exit_code: Option<i32>,
    /// The last lines it wrote, verbatim.
    pub tail: Vec<String>,
    /// The file that has all it wrote.
    pub log: PathBuf,
}

/// Something that kept an artifact from being known or made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The build's program ended with an error.
    #[error("the build of {} failed: `{}` {}", list(&.0.services), .0.command, .0.ended)]
    Failed(Box<BuildFailure>),
    /// The build ended well and left nothing where the blueprint says it would.
    #[error("the build of `{service}` left no {missing}")]
    NoOutput {
        /// The service.
        service: ServiceName,
        /// What is missing: a path, or a program's name.
        missing: String,
    },
    /// A program that the build needs is not installed.
    #[error("{} cannot be built: `{program}` is not installed", list(services))]
    ProgramMissing {
        /// The services that need it.
        services: Vec<ServiceName>,
        /// The program.
        program: String,
    },
    /// The blueprint names a cargo package that the workspace does not have.
    #[error(
        "no package `{package}` for service `{service}` in the workspace of `{}`",
        folder.display()
    )]
    PackageUnknown {
        /// The service.
        service: ServiceName,
        /// The package.
        package: String,
        /// Where it was looked for.
        folder: PathBuf,
        /// The nearest name the workspace has.
        nearest: Option<String>,
    },
    /// A file or folder that the blueprint names is not there.
    #[error("`{}`, which service `{service}` is made from, does not exist", path.display())]
    InputMissing {
        /// The service.
        service: ServiceName,
        /// The file or folder.
        path: PathBuf,
    },
    /// A pattern in the blueprint is not a glob.
    #[error("`{pattern}` of service `{service}` is not a glob")]
    BadPattern {
        /// The service.
        service: ServiceName,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: globset::Error,
    },
    /// A manifest or lock file cannot be understood.
    #[error("cannot understand `{}`", path.display())]
    BadManifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// Sources kept changing while they were built.
    #[error("the sources of `{service}` changed while it was built, {attempts} times in a row")]
    SourcesChanged {
        /// The service.
        service: ServiceName,
        /// How often it was tried.
        attempts: u32,
        /// Some of what changed.
        changed: Vec<String>,
    },
    /// The service is made in a way that this environment's provider does not build.
    #[error("`{service}` is built as an image from a Dockerfile, which this provider cannot run")]
    NotForThisProvider {
        /// The service.
        service: ServiceName,
    },
    /// A service runs as a container and nothing says of which image.
    #[error("`{service}` has neither a build nor an image, and this provider runs images")]
    NoImage {
        /// The service.
        service: ServiceName,
    },
    /// A Dockerfile, and no engine to build it.
    #[error("`{service}` is built from a Dockerfile, and there is no engine to build it")]
    NoEngine {
        /// The service.
        service: ServiceName,
    },
    /// An image could not be made, found or sent.
    #[error("the image of `{service}` cannot be had")]
    Image {
        /// The service.
        service: ServiceName,
        /// Why.
        source: Box<ImageError>,
    },
    /// The lock file of images could not be read or written.
    #[error("images cannot be pinned")]
    Lock(#[source] Box<ImageError>),
    /// An engine did not build or keep an image.
    #[error("the image of `{service}` cannot be built")]
    Engine {
        /// The service.
        service: ServiceName,
        /// The engine's words.
        source: Box<TargetError>,
    },
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
    /// The build was interrupted.
    #[error("the build was interrupted")]
    Interrupted,
}

impl BuildError {
    /// The stable code, such as `build::failed`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Failed(_) => "build::failed",
            Self::NoOutput { .. } => "build::no-output",
            Self::ProgramMissing { .. } => "build::program-missing",
            Self::PackageUnknown { .. } => "build::package-unknown",
            Self::InputMissing { .. } => "build::input-missing",
            Self::BadPattern { .. } => "build::bad-pattern",
            Self::BadManifest { .. } => "build::bad-manifest",
            Self::SourcesChanged { .. } => "build::sources-changed",
            Self::NotForThisProvider { .. } => "build::not-for-this-provider",
            Self::NoImage { .. } => "build::no-image",
            Self::NoEngine { .. } => "build::no-engine",
            Self::Image { source, .. } | Self::Lock(source) => source.code(),
            Self::Engine { source, .. } => source.code,
            Self::File { .. } => "build::file",
            Self::Interrupted => "build::interrupted",
        }
    }

    /// The services it is about, where it is about some.
    pub fn services(&self) -> &[ServiceName] {
        match self {
            Self::Failed(failure) => &failure.services,
            Self::ProgramMissing { services, .. } => services,
            Self::NoOutput { service, .. }
            | Self::PackageUnknown { service, .. }
            | Self::InputMissing { service, .. }
            | Self::BadPattern { service, .. }
            | Self::SourcesChanged { service, .. }
            | Self::NotForThisProvider { service }
            | Self::NoImage { service }
            | Self::NoEngine { service }
            | Self::Image { service, .. }
            | Self::Engine { service, .. } => std::slice::from_ref(service),
            Self::Lock(_) | Self::BadManifest { .. } | Self::File { .. } | Self::Interrupted => &[],
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Failed(failure) => {
                format!("everything it wrote is in `{}`", failure.log.display())
            }
            Self::NoOutput { .. } => {
                "correct the build's `output` (or `bin`) in the blueprint, or the command"
                    .to_owned()
            }
            Self::ProgramMissing { program, .. } => match program.as_str() {
                "cargo" => {
                    "install Rust from https://rustup.rs, or put `cargo` on the PATH".to_owned()
                }
                "npm" | "node" => "install Node.js, or put it on the PATH".to_owned(),
                "python3" | "python" | "pip" => {
                    "install Python 3, or put it on the PATH".to_owned()
                }
                other => format!("install `{other}`, or put it on the PATH"),
            },
            Self::PackageUnknown {
                nearest: Some(nearest),
                ..
            } => format!("the nearest name is `{nearest}`"),
            Self::PackageUnknown { .. } => {
                "name a package of the workspace, or set the build's `folder`".to_owned()
            }
            Self::SourcesChanged { changed, .. } => format!(
                "changed: {}; if the build itself writes them, ignore them in `.gitignore` (of a Dockerfile build: \
                 `.dockerignore`) or name what it reads in `inputs`",
                changed.join(", ")
            ),
            Self::NotForThisProvider { .. } => {
                "give the service another build in this environment's overlay".to_owned()
            }
            Self::NoImage { .. } => {
                "give it `image = \"…\"` or a `build` in this environment's overlay".to_owned()
            }
            Self::NoEngine { .. } => {
                "name an engine with `DOCKER_HOST`, or give the service `image = \"…\"`".to_owned()
            }
            Self::Image { source, .. } | Self::Lock(source) => return source.help(),
            Self::Engine { source, .. } => return source.help.clone(),
            _ => return None,
        })
    }

    pub(super) fn image(service: &ServiceName) -> impl Fn(ImageError) -> Self {
        let service = service.clone();
        move |source| Self::Image {
            service: service.clone(),
            source: Box::new(source),
        }
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

/// Everything that went wrong, at least one thing.
#[derive(Debug)]
pub struct BuildErrors(pub Vec<BuildError>);

impl fmt::Display for BuildErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, error) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildErrors {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.0.as_slice() {
            [one] => std::error::Error::source(one),
            _ => None,
        }
    }
}

impl From<BuildError> for BuildErrors {
    fn from(error: BuildError) -> Self {
        Self(vec![error])
    }
}

fn list(services: &[ServiceName]) -> String {
    let names: Vec<_> = services.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
