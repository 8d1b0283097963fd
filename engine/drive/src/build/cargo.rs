//! What a cargo build reads, found out without running cargo.

mod lock;
mod manifest;
mod toolchain;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use platform_blueprint::{CargoBuild, ServiceName};
use platform_image::LockedPackages;

use self::manifest::Workspace;
pub(super) use self::manifest::normal;
use super::error::BuildError;

/// Where the package of one cargo build is, and what its build reads besides files.
#[derive(Debug, Clone)]
pub(super) struct Package {
    /// Folders of the package and of the local packages it depends on.
    pub folders: BTreeSet<PathBuf>,
    /// Folders of the workspace's other packages, which may lie within those.
    pub others: BTreeSet<PathBuf>,
    /// Everything else it depends on, by what it is.
    pub parts: BTreeMap<&'static str, String>,
}

/// Workspaces of a project, each read once.
#[derive(Debug)]
pub(super) struct Workspaces<'a> {
    project: &'a Path,
    cache: &'a Path,
    read: BTreeMap<PathBuf, Known>,
}

#[derive(Debug)]
struct Known {
    workspace: Workspace,
    members: BTreeMap<String, PathBuf>,
    lock: Option<LockedPackages>,
    settings: BTreeMap<String, String>,
    compiler: Option<String>,
}

impl<'a> Workspaces<'a> {
    /// - `cache`: the folder where answers of the compiler are kept
    pub(super) fn new(project: &'a Path, cache: &'a Path) -> Self {
        Self {
            project,
            cache,
            read: BTreeMap::new(),
        }
    }

    /// Finds the package of one build and what that build reads.
    pub(super) fn package(
        &mut self,
        service: &ServiceName,
        build: &CargoBuild,
    ) -> Result<Package, BuildError> {
        let folder = normal(&self.project.join(&build.folder));
        if !self.read.contains_key(&folder) {
            let known = self
                .know(&folder)?
                .ok_or_else(|| BuildError::InputMissing {
                    service: service.clone(),
                    path: folder.join("Cargo.toml"),
                })?;
            self.read.insert(folder.clone(), known);
        }
        let known = &self.read[&folder];
        let home = known.members.get(&build.cargo).ok_or_else(|| {
            let candidates = known.members.keys();
            BuildError::PackageUnknown {
                service: service.clone(),
                package: build.cargo.clone(),
                folder: folder.clone(),
                nearest: candidates
                    .map(|name| (strsim::damerau_levenshtein(name, &build.cargo), name))
                    .min()
                    .filter(|(distance, name)| *distance <= name.len() / 2)
                    .map(|(_, name)| name.clone()),
            }
        })?;
        let closure = known.workspace.closure(home)?;
        let mut parts = BTreeMap::from([("workspace", closure.shared.to_string())]);
        if let Some(lock) = &known.lock {
            parts.insert("lock", lock::part_for(lock, &closure.packages).join("\n"));
        }
        if let Some(compiler) = &known.compiler {
            parts.insert("compiler", compiler.clone());
        }
        parts.insert("settings", format!("{:?}", known.settings));
        let others = known
            .members
            .values()
            .filter(|folder| !closure.folders.contains(*folder))
            .cloned()
            .collect();
        Ok(Package {
            folders: closure.folders,
            others,
            parts,
        })
    }

    fn know(&self, folder: &Path) -> Result<Option<Known>, BuildError> {
        let Some(workspace) = Workspace::find(folder)? else {
            return Ok(None);
        };
        let lock_path = workspace.root.join("Cargo.lock");
        let lock =
            match fs::read_to_string(&lock_path) {
                Ok(text) => Some(LockedPackages::parse(&text).map_err(|source| {
                    BuildError::BadManifest {
                        path: lock_path,
                        source: Box::new(source),
                    }
                })?),
                Err(_) => None,
            };
        Ok(Some(Known {
            members: workspace.members()?,
            lock,
            settings: toolchain::settings(folder)?,
            compiler: toolchain::compiler(folder, &self.cache.join("compilers.json")),
            workspace,
        }))
    }
}
