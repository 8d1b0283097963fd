//! Images as artifacts: how they are named, what their keys add, and whether they are there.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use platform_blueprint::{Build, ProjectName, Service, ServiceName, Services};
use platform_decide::digest::Digest;
use platform_decide::group::Place;
use platform_image::{Built, ImageLock, ImageStore, reference};
use platform_port::{ImageEngine, SecretValues};

use super::inputs::Inputs;
use super::process::find;

/// Changes when the same files must make another image because of us.
const FORMAT: &str = "image 2";

/// Where images go, and what they are made with: for environments that run images.
#[derive(Clone, Default)]
pub struct ImageTarget {
    /// The project, part of each image's name.
    pub project: Option<ProjectName>,
    /// Where images are pushed, such as `ghcr.io/me`; none if the engine alone keeps them.
    pub registry: Option<String>,
    /// The platform of the images, such as `linux/amd64`; this machine's if none.
    pub platform: Option<String>,
    /// The engine that builds Dockerfiles.
    pub engine: Option<Arc<dyn ImageEngine>>,
    /// Values of the secrets that Dockerfile builds ask for.
    pub secrets: SecretValues,
    /// The commit that is checked out.
    pub commit: Option<String>,
    /// The address of the repository.
    pub repository: Option<String>,
    /// Look up anew what references given in the blueprint stand for.
    pub look_anew: bool,
    /// Push also what was pushed before.
    pub push_again: bool,
}

impl fmt::Debug for ImageTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageTarget")
            .field("project", &self.project)
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

/// The images of one project.
#[derive(Debug, Clone)]
pub(super) struct Images {
    pub(super) target: Arc<ImageTarget>,
    pub(super) store: ImageStore,
    triple: Arc<OnceLock<String>>,
}

impl Images {
    /// - `state`: the project's `.platform`
    pub(super) fn new(target: ImageTarget, state: &Path) -> Self {
        Self {
            target: Arc::new(target),
            store: ImageStore::new(state.join("images")),
            triple: Arc::default(),
        }
    }

    /// The services as they are built for images: cargo makes static programs.
    pub(super) fn effective(&self, services: &Services) -> Services {
        let mut services = services.clone();
        for service in services.values_mut() {
            let by_cargo =
                |build: &Build| matches!(build, Build::Cargo(build) if build.target.is_none());
            if service.build.as_ref().is_some_and(by_cargo)
                && let Some(Build::Cargo(build)) = &mut Arc::make_mut(service).build
            {
                build.target = Some(self.triple().to_owned());
            }
        }
        services
    }

    /// The target of static programs: musl where it is installed with a compiler for C, else the host's own with its
    /// C library linked in.
    fn triple(&self) -> &str {
        self.triple.get_or_init(|| {
            let machine = match self.target.platform.as_deref().and_then(machine_of) {
                Some(machine) => machine.to_owned(),
                None => std::env::consts::ARCH.to_owned(),
            };
            let musl = format!("{machine}-unknown-linux-musl");
            if has_target(&musl) && has_musl_compiler(&musl) {
                musl
            } else {
                format!("{machine}-unknown-linux-gnu")
            }
        })
    }

    /// What an image depends on beside what its program is built from.
    pub(super) fn add_to(
        &self,
        (name, service): (&ServiceName, &Service),
        inputs: &mut Inputs,
        lock: &ImageLock,
    ) {
        let text = match &service.build {
            None => return,
            Some(Build::Image(build)) => {
                let image = build.image.as_str();
                let digest = build.image.digest().or_else(|| lock.digest(image));
                digest.unwrap_or("not pinned").to_owned()
            }
            // Each service has its own image, by its name and labels; what they share the engine builds once.
            Some(Build::Dockerfile(_)) => {
                let platform = self.target.platform.as_deref().unwrap_or("host");
                format!("{FORMAT} {name} {platform}")
            }
            Some(build) => format!("{FORMAT} {:?}", contents(build)),
        };
        inputs.parts.insert("image", text);
    }

    /// The name of a service's image without registry and tag.
    pub(super) fn repository(&self, service: &ServiceName) -> String {
        let project = self
            .target
            .project
            .as_ref()
            .map_or("project", ProjectName::as_str);
        reference::repository(project, service.as_str())
    }

    /// Where the image of a service is, or will be.
    pub(super) fn place(
        &self,
        name: &ServiceName,
        service: &Service,
        key: &Digest,
        lock: &ImageLock,
    ) -> Place {
        let reference = match &service.build {
            None => return Place::Installed,
            Some(Build::Image(build)) => lock.pinned(build.image.as_str()),
            Some(_) => match self.store.built(key.as_str()) {
                Some(built) => self
                    .called(name, &built)
                    .unwrap_or_else(|| self.unbuilt(name, key)),
                None => self.unbuilt(name, key),
            },
        };
        Place::Image { reference }
    }

    fn unbuilt(&self, name: &ServiceName, key: &Digest) -> String {
        reference::unbuilt(&self.repository(name), key.as_str())
    }

    /// The name of an image that was built: on the registry, or on the engine.
    pub(super) fn called(&self, name: &ServiceName, built: &Built) -> Option<String> {
        let repository = self.repository(name);
        Some(match &self.target.registry {
            Some(registry) => reference::pushed(registry, &repository, built.digest.as_ref()?),
            None => reference::local(&repository, &built.id),
        })
    }

    /// Whether there is nothing left to do for a service's image.
    pub(super) fn is_made(
        &self,
        name: &ServiceName,
        service: &Service,
        key: &Digest,
        lock: &ImageLock,
    ) -> bool {
        match &service.build {
            None => true,
            Some(Build::Image(build)) => {
                !self.target.look_anew && lock.pinned(build.image.as_str()).contains('@')
            }
            Some(_) => self.store.built(key.as_str()).is_some_and(|built| {
                let Some(called) = self.called(name, &built) else {
                    return false;
                };
                match &self.target.registry {
                    Some(_) => built.pushed.contains(&called) && !self.target.push_again,
                    // What a Dockerfile made is kept by the engine alone.
                    None => {
                        matches!(service.build, Some(Build::Dockerfile(_)))
                            || self.store.holds(&built.id)
                    }
                }
            }),
        }
    }
}

impl Images {
    /// Whether the engine has lost an image that it alone kept: what a Dockerfile made, and somebody removed.
    pub(super) async fn is_lost(
        &self,
        name: &ServiceName,
        service: &Service,
        key: &Digest,
    ) -> bool {
        let (Some(Build::Dockerfile(_)), None) = (&service.build, &self.target.registry) else {
            return false;
        };
        let built = self.store.built(key.as_str());
        let called = built.and_then(|built| self.called(name, &built));
        let (Some(called), Some(engine)) = (called, &self.target.engine) else {
            return false;
        };
        matches!(engine.find(&called).await, Ok(None))
    }
}

/// What goes into an assembled image besides the program.
pub(super) fn contents(build: &Build) -> (bool, bool) {
    let asked = match build {
        Build::Cargo(build) => &build.image_with,
        Build::Command(build) => &build.image_with,
        Build::Program(build) => &build.image_with,
        Build::Dockerfile(_) | Build::Image(_) => return (false, false),
    };
    let has = |what| asked.contains(&what);
    (
        has(platform_blueprint::ImageContent::Certificates),
        has(platform_blueprint::ImageContent::TimeZones),
    )
}

/// The machine of a platform, as compilers name it.
fn machine_of(platform: &str) -> Option<&'static str> {
    match platform.strip_prefix("linux/")? {
        "amd64" => Some("x86_64"),
        "arm64" | "arm64/v8" => Some("aarch64"),
        _ => None,
    }
}

fn has_target(triple: &str) -> bool {
    let folder = std::process::Command::new("rustc")
        .args(["--print", "target-libdir", "--target", triple])
        .output();
    folder.is_ok_and(|output| {
        let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && Path::new(&path).is_dir()
    })
}

fn has_musl_compiler(triple: &str) -> bool {
    let named = format!("CC_{}", triple.replace('-', "_"));
    std::env::var_os(named).is_some()
        || find("musl-gcc").is_some()
        || find(&format!("{}-gcc", triple.replace("-unknown", ""))).is_some()
}

/// What cargo is told so that a program for `triple` needs no shared library. Musl does so by itself.
pub(super) fn static_arguments(triple: &str) -> Vec<String> {
    if !triple.ends_with("-gnu") {
        return Vec::new();
    }
    vec![
        "--config".to_owned(),
        format!("target.{triple}.rustflags=[\"-C\",\"target-feature=+crt-static\"]"),
    ]
}

/// The same by variable, where one is set that goes before settings.
pub(super) fn static_variable(triple: &str) -> Option<(String, std::ffi::OsString)> {
    if !triple.ends_with("-gnu") {
        return None;
    }
    let set = |name: &str| std::env::var(name).ok();
    if let Some(flags) = set("CARGO_ENCODED_RUSTFLAGS") {
        let all = format!("{flags}\u{1f}-C\u{1f}target-feature=+crt-static");
        return Some(("CARGO_ENCODED_RUSTFLAGS".to_owned(), all.into()));
    }
    let flags = set("RUSTFLAGS").filter(|flags| !flags.trim().is_empty())?;
    let all = format!("{flags} -C target-feature=+crt-static");
    Some(("RUSTFLAGS".to_owned(), all.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn services_of_one_dockerfile_have_an_image_each() {
        let images = Images::new(ImageTarget::default(), Path::new("none"));
        let service: Service = serde_json::from_str(r#"{"build": {"dockerfile": "."}}"#).unwrap();
        let key = |name: &str| {
            let mut inputs = Inputs {
                parts: BTreeMap::new(),
                files: Vec::new(),
            };
            let name = name.parse().unwrap();
            images.add_to((&name, &service), &mut inputs, &ImageLock::default());
            inputs.key()
        };
        assert_eq!(key("api"), key("api"));
        assert_ne!(key("api"), key("worker"));
    }

    #[test]
    fn programs_for_the_usual_target_are_told_to_be_static() {
        let arguments = static_arguments("x86_64-unknown-linux-gnu");
        assert_eq!(
            arguments[1],
            r#"target.x86_64-unknown-linux-gnu.rustflags=["-C","target-feature=+crt-static"]"#
        );
        assert!(static_arguments("x86_64-unknown-linux-musl").is_empty());
        assert_eq!(machine_of("linux/arm64"), Some("aarch64"));
        assert_eq!(machine_of("windows/amd64"), None);
    }
}
