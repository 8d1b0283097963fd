//! `Cargo.toml` files, read as far as builds depend on them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Component, Path, PathBuf};

use toml::{Table, Value};

use super::super::error::BuildError;

/// One `Cargo.toml`.
#[derive(Debug)]
pub(super) struct Manifest {
    /// The folder it is in.
    pub folder: PathBuf,
    table: Table,
}

impl Manifest {
    /// Reads a folder's manifest; `None` where there is none.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, BuildError> {
        let path = folder.join("Cargo.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(BuildError::file("read", &path)(error)),
        };
        let table = text
            .parse::<Table>()
            .map_err(|source| BuildError::BadManifest {
                path,
                source: Box::new(source),
            })?;
        Ok(Some(Self {
            folder: folder.to_owned(),
            table,
        }))
    }

    /// The package's name, if it has a package.
    pub(super) fn name(&self) -> Option<&str> {
        self.table.get("package")?.get("name")?.as_str()
    }

    /// The `[workspace]` table, where it is a workspace's root.
    pub(super) fn workspace(&self) -> Option<&Table> {
        self.table.get("workspace")?.as_table()
    }

    fn inherits_package_keys(&self) -> bool {
        self.table
            .get("package")
            .and_then(Value::as_table)
            .is_some_and(|package| package.values().any(inherited))
    }

    /// Every dependency that may end up in a program: normal ones and those of build scripts, for any platform.
    fn dependencies(&self) -> impl Iterator<Item = (&String, &Value)> {
        let platforms = self
            .table
            .get("target")
            .and_then(Value::as_table)
            .into_iter()
            .flat_map(Table::values)
            .filter_map(Value::as_table);
        std::iter::once(&self.table)
            .chain(platforms)
            .flat_map(|table| {
                ["dependencies", "build-dependencies", "build_dependencies"]
                    .into_iter()
                    .filter_map(|key| table.get(key)?.as_table())
            })
            .flat_map(Table::iter)
    }
}

fn inherited(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// Takes `.` and `..` out of a path without asking the file system.
pub(in super::super) fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// A workspace, or a package on its own, as `cargo` run in a folder would find it.
#[derive(Debug)]
pub(super) struct Workspace {
    /// The folder of the root manifest.
    pub root: PathBuf,
    root_manifest: Manifest,
}

/// What the build of one package reads of a workspace.
#[derive(Debug, Default)]
pub(super) struct Closure {
    /// The folders of the package and of all local packages it depends on.
    pub folders: BTreeSet<PathBuf>,
    /// The names of those packages.
    pub packages: BTreeSet<String>,
    /// The parts of the root manifest they depend on.
    pub shared: Table,
}

impl Workspace {
    /// Finds the workspace of a folder: the nearest manifest upwards, and from there its root.
    pub(super) fn find(folder: &Path) -> Result<Option<Self>, BuildError> {
        let mut nearest = None;
        for folder in folder.ancestors() {
            if let Some(manifest) = Manifest::read(folder)? {
                nearest = Some(manifest);
                break;
            }
        }
        let Some(nearest) = nearest else {
            return Ok(None);
        };
        if nearest.workspace().is_some() {
            return Ok(Some(Self::at(nearest)));
        }
        let pointed = nearest
            .table
            .get("package")
            .and_then(|package| package.get("workspace"))
            .and_then(Value::as_str)
            .map(|path| normal(&nearest.folder.join(path)));
        if let Some(root) = pointed {
            return Ok(Manifest::read(&root)?.map(Self::at));
        }
        for folder in nearest.folder.ancestors().skip(1) {
            if let Some(above) = Manifest::read(folder)?
                && let Some(workspace) = above.workspace()
            {
                let excluded = texts(workspace.get("exclude"))
                    .any(|path| nearest.folder.starts_with(normal(&folder.join(path))));
                if excluded {
                    break;
                }
                return Ok(Some(Self::at(above)));
            }
        }
        Ok(Some(Self::at(nearest)))
    }

    fn at(root_manifest: Manifest) -> Self {
        Self {
            root: root_manifest.folder.clone(),
            root_manifest,
        }
    }

    /// The manifests of the root package and of all members, by package name.
    pub(super) fn members(&self) -> Result<BTreeMap<String, PathBuf>, BuildError> {
        let mut folders = BTreeSet::from([self.root.clone()]);
        if let Some(workspace) = self.root_manifest.workspace() {
            for pattern in texts(workspace.get("members")) {
                folders.extend(expand(&self.root, pattern));
            }
            for path in texts(workspace.get("exclude")) {
                let excluded = normal(&self.root.join(path));
                folders.retain(|folder| !folder.starts_with(&excluded));
            }
        }
        let mut found = BTreeMap::new();
        // Local dependencies below the root are members even if they are not listed.
        let mut seen = folders.clone();
        let mut queue: VecDeque<_> = folders.into_iter().collect();
        while let Some(folder) = queue.pop_front() {
            let Some(manifest) = Manifest::read(&folder)? else {
                continue;
            };
            for (name, value) in manifest.dependencies() {
                if let Some(path) = self.local(&manifest, name, value)
                    && path.starts_with(&self.root)
                    && seen.insert(path.clone())
                {
                    queue.push_back(path);
                }
            }
            if let Some(name) = manifest.name() {
                found.insert(name.to_owned(), folder);
            }
        }
        Ok(found)
    }

    /// Where a dependency is, if it is a local one.
    fn local(&self, manifest: &Manifest, name: &str, value: &Value) -> Option<PathBuf> {
        if inherited(value) {
            let path = self.shared_dependency(name)?.get("path")?.as_str()?;
            return Some(normal(&self.root.join(path)));
        }
        let path = value.get("path")?.as_str()?;
        Some(normal(&manifest.folder.join(path)))
    }

    fn shared_dependency(&self, name: &str) -> Option<&Value> {
        self.root_manifest
            .workspace()?
            .get("dependencies")?
            .get(name)
    }

    /// Everything the build of the package in `folder` reads.
    pub(super) fn closure(&self, folder: &Path) -> Result<Closure, BuildError> {
        let mut closure = Closure::default();
        let mut used = Table::new();
        let mut queue = VecDeque::from([folder.to_owned()]);
        // Replaced dependencies are built from where the patch says.
        for table in ["patch", "replace"] {
            if let Some(patches) = self.root_manifest.table.get(table) {
                closure.shared.insert(table.to_owned(), patches.clone());
                queue.extend(paths_within(patches).map(|path| normal(&self.root.join(path))));
            }
        }
        let mut inherits = false;
        while let Some(folder) = queue.pop_front() {
            if closure.folders.contains(&folder) {
                continue;
            }
            let Some(manifest) = Manifest::read(&folder)? else {
                continue;
            };
            closure.folders.insert(folder);
            closure.packages.extend(manifest.name().map(str::to_owned));
            inherits |= manifest.inherits_package_keys();
            for (name, value) in manifest.dependencies() {
                if inherited(value)
                    && let Some(shared) = self.shared_dependency(name)
                {
                    used.insert(name.clone(), shared.clone());
                }
                queue.extend(self.local(&manifest, name, value));
            }
        }
        let root = &self.root_manifest.table;
        for key in ["profile", "cargo-features"] {
            if let Some(value) = root.get(key) {
                closure.shared.insert(key.to_owned(), value.clone());
            }
        }
        if let Some(workspace) = self.root_manifest.workspace() {
            let keys = if inherits {
                ["resolver", "package"].as_slice()
            } else {
                &["resolver"]
            };
            for key in keys {
                if let Some(value) = workspace.get(*key) {
                    closure
                        .shared
                        .insert(format!("workspace.{key}"), value.clone());
                }
            }
        }
        closure
            .shared
            .insert("dependencies".to_owned(), Value::Table(used));
        Ok(closure)
    }
}

fn texts(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// Every `path = "…"` within a table, however deep.
fn paths_within(value: &Value) -> Box<dyn Iterator<Item = &str> + '_> {
    match value {
        Value::Table(table) => Box::new(table.iter().flat_map(|(key, value)| match value {
            Value::String(path) if key == "path" => {
                Box::new(std::iter::once(path.as_str())) as Box<dyn Iterator<Item = &str>>
            }
            other => paths_within(other),
        })),
        _ => Box::new(std::iter::empty()),
    }
}

/// The folders that a pattern of `members` names.
fn expand(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut folders = vec![root.to_owned()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let next: Vec<PathBuf> = if part.contains(['*', '?', '[']) {
            let Ok(glob) = globset::Glob::new(part) else {
                return Vec::new();
            };
            let glob = glob.compile_matcher();
            folders
                .iter()
                .filter_map(|folder| fs::read_dir(folder).ok())
                .flatten()
                .filter_map(Result::ok)
                .filter(|entry| glob.is_match(entry.file_name()))
                .map(|entry| entry.path())
                .filter(|path| path.is_dir())
                .collect()
        } else {
            folders
                .iter()
                .map(|folder| normal(&folder.join(part)))
                .collect()
        };
        folders = next;
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        (temp, root)
    }

    const SHOP: [(&str, &str); 5] = [
        (
            "Cargo.toml",
            "[workspace]\nmembers = [\"services/*\"]\nresolver = \"3\"\n\
             [workspace.package]\nedition = \"2024\"\n\
             [workspace.dependencies]\nkit = { path = \"services/kit\" }\nserde = \"1\"\nunused = \"1\"\n\
             [profile.release]\nlto = true\n",
        ),
        (
            "services/orders/Cargo.toml",
            "[package]\nname = \"orders\"\nedition.workspace = true\n\
             [dependencies]\nkit.workspace = true\n[target.'cfg(unix)'.dependencies]\nserde = { workspace = true }\n",
        ),
        (
            "services/kit/Cargo.toml",
            "[package]\nname = \"kit\"\n[build-dependencies]\nmacros = { path = \"../../libraries/macros\" }\n",
        ),
        ("services/web/Cargo.toml", "[package]\nname = \"web\"\n"),
        (
            "libraries/macros/Cargo.toml",
            "[package]\nname = \"macros\"\n",
        ),
    ];

    #[test]
    fn a_package_depends_on_local_packages_however_they_are_named() {
        let (_temp, root) = project(&SHOP);
        let workspace = Workspace::find(&root.join("services/orders"))
            .unwrap()
            .unwrap();
        assert_eq!(workspace.root, root);
        let members = workspace.members().unwrap();
        assert_eq!(
            members.keys().collect::<Vec<_>>(),
            ["kit", "macros", "orders", "web"]
        );
        let closure = workspace.closure(&members["orders"]).unwrap();
        assert_eq!(
            closure.packages.iter().collect::<Vec<_>>(),
            ["kit", "macros", "orders"]
        );
    }

    #[test]
    fn only_the_shared_parts_a_package_uses_count() {
        let (_temp, root) = project(&SHOP);
        let workspace = Workspace::find(&root).unwrap().unwrap();
        let shared = |package: &str| {
            let folder = root.join("services").join(package);
            workspace.closure(&folder).unwrap().shared
        };
        let orders = shared("orders");
        assert!(orders["dependencies"].get("serde").is_some());
        assert!(orders["dependencies"].get("unused").is_none());
        assert!(orders.contains_key("workspace.package"));
        assert!(orders.contains_key("profile"));
        let web = shared("web");
        assert!(web["dependencies"].get("serde").is_none());
        assert!(!web.contains_key("workspace.package"));
    }

    #[test]
    fn a_package_outside_every_workspace_stands_alone() {
        let (_temp, root) = project(&[
            ("Cargo.toml", "[workspace]\nexclude = [\"apart\"]\n"),
            ("apart/Cargo.toml", "[package]\nname = \"apart\"\n"),
        ]);
        let workspace = Workspace::find(&root.join("apart")).unwrap().unwrap();
        assert_eq!(workspace.root, root.join("apart"));
        assert_eq!(workspace.members().unwrap().len(), 1);
    }

    #[test]
    fn a_patched_dependency_is_read_from_its_place() {
        let (_temp, root) = project(&[
            (
                "Cargo.toml",
                "[package]\nname = \"app\"\n[dependencies]\nserde = \"1\"\n\
                 [patch.crates-io]\nserde = { path = \"patched\" }\n",
            ),
            ("patched/Cargo.toml", "[package]\nname = \"serde\"\n"),
        ]);
        let workspace = Workspace::find(&root).unwrap().unwrap();
        let closure = workspace.closure(&root).unwrap();
        assert!(closure.folders.contains(&root.join("patched")));
    }
}
