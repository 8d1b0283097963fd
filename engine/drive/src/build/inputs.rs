//! What each build reads, and the key that follows from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use platform_blueprint::{Build, CommandBuild, Service, ServiceName};
use platform_decide::digest::Digest;
use platform_image::context_files;
use sha2::Digest as _;

use super::cargo::{Package, Workspaces, normal};
use super::error::{BuildError, BuildErrors};
use super::files::{FileDigest, FileDigests};
use super::tree;

/// Changes when the same sources must be built anew because of us.
const FORMAT: &str = "platform build key 1";

/// Everything one build depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inputs {
    /// Settings, by what they are; of the files, one digest of all.
    pub parts: BTreeMap<&'static str, String>,
    /// Files, relative to the project, in order.
    pub files: Vec<(String, FileDigest)>,
}

impl Inputs {
    /// Equal inputs have equal keys, on any machine and in any folder.
    pub(super) fn key(&self) -> Digest {
        Digest::of_value(&(FORMAT, &self.parts))
    }

    /// What the key is made of, for people: long texts as digests.
    pub(super) fn described(&self) -> BTreeMap<String, String> {
        let text = |text: &String| match text.len() {
            0..=200 => text.clone(),
            _ => Digest::of(text.as_bytes()).to_string(),
        };
        let parts = self.parts.iter();
        parts
            .map(|(part, own)| ((*part).to_owned(), text(own)))
            .collect()
    }

    /// Some of the files that differ, for people.
    pub(super) fn differing(&self, other: &Self) -> Vec<String> {
        let mine: BTreeMap<_, _> = self
            .files
            .iter()
            .map(|(path, digest)| (path, digest))
            .collect();
        let theirs: BTreeMap<_, _> = other
            .files
            .iter()
            .map(|(path, digest)| (path, digest))
            .collect();
        let files = mine
            .iter()
            .filter(|(path, digest)| theirs.get(*path) != Some(*digest))
            .map(|(path, _)| (*path).clone())
            .chain(
                theirs
                    .keys()
                    .filter(|path| !mine.contains_key(*path))
                    .map(|path| (*path).clone()),
            );
        let parts = self
            .parts
            .iter()
            .filter(|(part, text)| **part != "files" && other.parts.get(*part) != Some(*text))
            .map(|(part, _)| format!("the {part}"));
        files.chain(parts).take(5).collect()
    }
}

/// Which files a build reads, before they are listed.
enum Reads {
    /// Packages, and files besides that match globs.
    Package {
        package: Package,
        folder: PathBuf,
        besides: GlobSet,
    },
    /// All files of a folder that git does not ignore.
    Folder(PathBuf),
    /// Files and folders, each by its path.
    Paths(Vec<PathBuf>),
    /// Files that match globs.
    Matching { folder: PathBuf, globs: GlobSet },
}

/// Finds out what the builds of services read: one walk, each file read once.
///
/// # Errors
///
/// For each service that has none, why.
pub(super) fn inputs_of<'a>(
    project: &Path,
    cache: &Path,
    services: impl Iterator<Item = (&'a ServiceName, &'a Service)>,
) -> Result<BTreeMap<ServiceName, Inputs>, BuildErrors> {
    let mut workspaces = Workspaces::new(project, cache);
    let mut errors = Vec::new();
    let mut reads = Vec::new();
    for (name, service) in services {
        match reads_of(project, &mut workspaces, name, service) {
            Ok(found) => reads.push((name, found)),
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(BuildErrors(errors));
    }
    let folders = reads.iter().flat_map(|(_, (_, reads))| reads.folders());
    let listing = tree::files(project, &folders.collect());
    let chosen: Vec<_> = reads
        .into_iter()
        .map(|(name, (parts, reads))| (name, parts, reads.choose(project, &listing)))
        .collect();
    let all = chosen
        .iter()
        .flat_map(|(_, _, files)| files)
        .cloned()
        .collect();
    let digests = FileDigests::load(cache.join("files"))
        .digest(&all)
        .map_err(BuildErrors::from)?;
    Ok(chosen
        .into_iter()
        .map(|(name, parts, files)| (name.clone(), complete(project, parts, &files, &digests)))
        .collect())
}

type Parts = BTreeMap<&'static str, String>;

fn reads_of(
    project: &Path,
    workspaces: &mut Workspaces<'_>,
    name: &ServiceName,
    service: &Service,
) -> Result<(Parts, Reads), BuildError> {
    let mut parts = Parts::new();
    let Some(build) = &service.build else {
        parts.insert(
            "command",
            format!("{:?} {:?}", service.command, service.args),
        );
        return Ok((parts, Reads::Paths(files_named(project, service))));
    };
    parts.insert("build", written(build));
    let present = |path: &str| {
        let path = normal(&project.join(path));
        if path.exists() {
            Ok(path)
        } else {
            Err(BuildError::InputMissing {
                service: name.clone(),
                path,
            })
        }
    };
    let reads = match build {
        Build::Cargo(build) => {
            let package = workspaces.package(name, build)?;
            parts.extend(package.parts.clone());
            Reads::Package {
                package,
                folder: normal(&project.join(&build.folder)),
                besides: globs(name, &build.inputs)?,
            }
        }
        Build::Command(build) => command_reads(name, build, present(&build.folder)?)?,
        Build::Dockerfile(build) => Reads::Paths(
            context_files(&present(&build.dockerfile)?, &build.file)
                .map_err(BuildError::image(name))?,
        ),
        Build::Program(build) => {
            let mut paths = vec![present(&build.program)?];
            for with in &build.with {
                paths.push(present(with)?);
            }
            Reads::Paths(paths)
        }
        Build::Image(_) => Reads::Paths(Vec::new()),
    };
    Ok((parts, reads))
}

fn command_reads(
    name: &ServiceName,
    build: &CommandBuild,
    folder: PathBuf,
) -> Result<Reads, BuildError> {
    // What it leaves is not left out: an output may well be a source too, as scripts are. What a build makes is known
    // by being ignored.
    Ok(if build.inputs.is_empty() {
        Reads::Folder(folder)
    } else {
        Reads::Matching {
            globs: globs(name, &build.inputs)?,
            folder,
        }
    })
}

/// The build as JSON: what it says, in the order of its keys.
fn written(build: &Build) -> String {
    serde_json::to_string(build).unwrap_or_else(|error| format!("{build:?} {error}"))
}

fn globs(service: &ServiceName, patterns: &[String]) -> Result<GlobSet, BuildError> {
    let bad = |pattern: &str| {
        let (service, pattern) = (service.clone(), pattern.to_owned());
        move |source| BuildError::BadPattern {
            service,
            pattern,
            source,
        }
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let clean = pattern.trim_start_matches("./").trim_end_matches('/');
        let glob = |text: &str| {
            GlobBuilder::new(text)
                .literal_separator(true)
                .build()
                .map_err(bad(pattern))
        };
        // A folder's name stands for all that is in it.
        set.add(glob(clean)?).add(glob(&format!("{clean}/**"))?);
    }
    set.build().map_err(bad(&patterns.join(", ")))
}

/// Files of the project that a command names: configuration, scripts.
fn files_named(project: &Path, service: &Service) -> Vec<PathBuf> {
    let folder = project.join(service.folder.as_deref().unwrap_or("."));
    let mut found: Vec<PathBuf> = service
        .command
        .iter()
        .chain(&service.args)
        .flat_map(|word| {
            let after = word.split_once('=').map(|(_, after)| after);
            std::iter::once(word.as_str()).chain(after)
        })
        .filter(|word| !word.is_empty() && !word.contains("${"))
        .flat_map(|word| [normal(&folder.join(word)), normal(&project.join(word))])
        .filter(|path| path.starts_with(project) && path.is_file())
        .collect();
    found.sort();
    found.dedup();
    found
}

impl Reads {
    /// Folders to list.
    fn folders(&self) -> Vec<PathBuf> {
        match self {
            Self::Package { package, .. } => package.folders.iter().cloned().collect(),
            Self::Folder(folder) => vec![folder.clone()],
            Self::Paths(paths) => paths.iter().filter(|path| path.is_dir()).cloned().collect(),
            Self::Matching { .. } => Vec::new(),
        }
    }

    /// Chooses the files of one build.
    fn choose(&self, project: &Path, listing: &tree::Listing) -> BTreeSet<PathBuf> {
        // What services read of the blueprint is part of their specs; the rest must not rebuild them.
        let blueprint = project.join("platform.toml");
        match self {
            Self::Package {
                package: Package {
                    folders, others, ..
                },
                folder,
                besides,
            } => {
                let mut files: BTreeSet<_> = folders
                    .iter()
                    .flat_map(|folder| {
                        listing.below(folder).filter(move |path| {
                            // The nearest package is the one a file belongs to.
                            path.ancestors()
                                .find(|up| folders.contains(*up) || others.contains(*up))
                                .is_some_and(|nearest| nearest == folder)
                        })
                    })
                    .filter(|path| **path != blueprint)
                    .cloned()
                    .collect();
                if !besides.is_empty() {
                    files.extend(tree::matching(folder, besides));
                }
                files
            }
            Self::Folder(folder) => listing
                .below(folder)
                .filter(|path| **path != blueprint)
                .cloned()
                .collect(),
            Self::Paths(paths) => paths
                .iter()
                .flat_map(|path| {
                    if path.is_dir() {
                        listing.below(path).cloned().collect()
                    } else {
                        vec![path.clone()]
                    }
                })
                .collect(),
            Self::Matching { folder, globs } => tree::matching(folder, globs),
        }
    }
}

fn complete(
    project: &Path,
    mut parts: Parts,
    files: &BTreeSet<PathBuf>,
    digests: &HashMap<PathBuf, FileDigest>,
) -> Inputs {
    let files: Vec<_> = files
        .iter()
        .filter_map(|path| Some((relative(project, path), *digests.get(path)?)))
        .collect();
    let mut hasher = sha2::Sha256::new();
    for (path, digest) in &files {
        hasher.update(path.len().to_le_bytes());
        hasher.update(path.as_bytes());
        hasher.update(digest.bytes());
    }
    parts.insert("files", hex::encode(hasher.finalize()));
    Inputs { parts, files }
}

/// A path as seen from the project, so that keys are the same wherever the project lies.
fn relative(project: &Path, path: &Path) -> String {
    for (up, folder) in project.ancestors().enumerate() {
        if let Ok(rest) = path.strip_prefix(folder) {
            return format!("{}{}", "../".repeat(up), rest.to_string_lossy());
        }
    }
    path.to_string_lossy().into_owned()
}
