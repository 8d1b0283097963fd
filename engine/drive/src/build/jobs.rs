//! Which builds are to be run, and what each runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use platform_blueprint::{Build, CargoBuild, CommandBuild, ProgramBuild, ServiceName, Services};

use super::cargo::normal;

/// One build, of one service or of several that share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// The services whose artifacts it makes.
    pub services: Vec<ServiceName>,
    pub work: Work,
}

/// What a build does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    /// One run of cargo for all packages of one workspace: several at once would only wait for each other.
    Cargo {
        folder: PathBuf,
        profile: String,
        target: Option<String>,
        /// What the services ask for.
        builds: BTreeMap<ServiceName, CargoBuild>,
        /// Other packages that the blueprint builds there. They are built along, if they can be, so that cargo chooses
        /// the same features of shared dependencies every time and need not compile them anew.
        along: Vec<CargoBuild>,
    },
    /// A line for the shell.
    Command {
        folder: PathBuf,
        build: CommandBuild,
    },
    /// Nothing is run: the files are there.
    Program { build: ProgramBuild },
}

/// Groups the services that are to be built into jobs.
///
/// - `wanted`: services to build, those with equal builds in one entry
/// - `all`: every service of the blueprint
pub(super) fn jobs(project: &Path, wanted: &[Vec<ServiceName>], all: &Services) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut cargo: BTreeMap<_, Vec<(ServiceName, CargoBuild)>> = BTreeMap::new();
    let place_of = |build: &CargoBuild| {
        (
            normal(&project.join(&build.folder)),
            build.profile.clone(),
            build.target.clone(),
        )
    };
    for services in wanted {
        let Some(build) = all
            .get(&services[0])
            .and_then(|service| service.build.as_ref())
        else {
            continue;
        };
        match build {
            Build::Cargo(build) => {
                let group = cargo.entry(place_of(build)).or_default();
                group.extend(services.iter().map(|name| (name.clone(), build.clone())));
            }
            Build::Command(build) => jobs.push(Job {
                services: services.clone(),
                work: Work::Command {
                    folder: normal(&project.join(&build.folder)),
                    build: build.clone(),
                },
            }),
            Build::Program(build) => jobs.push(Job {
                services: services.clone(),
                work: Work::Program {
                    build: build.clone(),
                },
            }),
            Build::Dockerfile(_) | Build::Image(_) => {}
        }
    }
    for (place, builds) in cargo {
        let builds: BTreeMap<_, _> = builds.into_iter().collect();
        let along = all
            .iter()
            .filter(|(name, _)| !builds.contains_key(*name))
            .filter_map(|(_, service)| match &service.build {
                Some(Build::Cargo(build)) if place_of(build) == place => Some(build.clone()),
                _ => None,
            })
            .collect();
        let (folder, profile, target) = place;
        jobs.push(Job {
            services: builds.keys().cloned().collect(),
            work: Work::Cargo {
                folder,
                profile,
                target,
                builds,
                along,
            },
        });
    }
    jobs
}

/// The arguments of one run of cargo.
pub(super) fn cargo_arguments<'a>(
    profile: &str,
    target: Option<&str>,
    builds: impl Iterator<Item = &'a CargoBuild>,
    color: bool,
) -> Vec<OsString> {
    let mut packages = std::collections::BTreeSet::new();
    let mut features = std::collections::BTreeSet::new();
    for build in builds {
        packages.insert(build.cargo.as_str());
        for feature in &build.features {
            // `kit/metrics` names a dependency's feature already.
            features.insert(if feature.contains('/') {
                feature.clone()
            } else {
                format!("{}/{feature}", build.cargo)
            });
        }
    }
    let mut arguments: Vec<OsString> = vec![
        "build".into(),
        "--message-format=json-render-diagnostics".into(),
        // One that fails must not keep the others from being built.
        "--keep-going".into(),
        format!("--color={}", if color { "always" } else { "never" }).into(),
        format!("--profile={profile}").into(),
    ];
    if let Some(target) = target {
        arguments.push(format!("--target={target}").into());
    }
    for package in packages {
        arguments.push(format!("--package={package}").into());
    }
    for feature in features {
        arguments.push(format!("--features={feature}").into());
    }
    arguments
}

/// The name of the program a build yields, where its blueprint says.
///
/// It is what runs if a service has no command of its own.
pub fn program_of(build: &Build) -> Option<String> {
    match build {
        Build::Cargo(build) => Some(build.bin.clone().unwrap_or_else(|| build.cargo.clone())),
        Build::Program(build) => Path::new(&build.program)
            .file_name()
            .map(|name| name.to_string_lossy().into_owned()),
        Build::Command(_) | Build::Dockerfile(_) | Build::Image(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use platform_blueprint::Service;

    use super::*;

    fn service(build: &str) -> Service {
        Service {
            build: Some(serde_json::from_str(build).unwrap()),
            ..Service::default()
        }
    }

    fn names(names: &[&str]) -> Vec<ServiceName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn shop() -> Services {
        [
            ("orders", r#"{"cargo": "orders", "features": ["x"]}"#),
            ("web", r#"{"cargo": "web"}"#),
            ("debug", r#"{"cargo": "web", "profile": "dev"}"#),
            (
                "api",
                r#"{"command": "make", "output": "out", "folder": "services/api"}"#,
            ),
        ]
        .map(|(name, build)| (name.parse().unwrap(), service(build).into()))
        .into()
    }

    #[test]
    fn packages_of_one_workspace_are_built_in_one_run() {
        let all = shop();
        let wanted = ["orders", "web", "debug", "api"].map(|name| names(&[name]));
        let jobs = jobs(Path::new("/shop"), &wanted, &all);
        let services: Vec<_> = jobs.iter().map(|job| job.services.clone()).collect();
        assert_eq!(
            services,
            [
                names(&["api"]),
                names(&["debug"]),
                names(&["orders", "web"])
            ]
        );
    }

    #[test]
    fn what_is_built_already_is_built_along() {
        let all = shop();
        let jobs = jobs(Path::new("/shop"), &[names(&["web"])], &all);
        let Work::Cargo {
            builds,
            along,
            profile,
            ..
        } = &jobs[0].work
        else {
            panic!("{jobs:?}");
        };
        assert_eq!(builds.keys().cloned().collect::<Vec<_>>(), names(&["web"]));
        assert_eq!(along[0].cargo, "orders");
        let arguments = cargo_arguments(profile, None, builds.values().chain(along), false);
        let arguments: Vec<_> = arguments
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect();
        assert_eq!(
            arguments[3..],
            [
                "--color=never",
                "--profile=release",
                "--package=orders",
                "--package=web",
                "--features=orders/x"
            ]
        );
    }
}
