//! Which files a build reads: folders walked as git would see them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ignore::{WalkBuilder, WalkState};

/// Folders that no build reads its sources from, whatever `.gitignore` says.
const NEVER: [&str; 6] = [
    ".git",
    ".platform",
    "node_modules",
    "__pycache__",
    ".venv",
    ".terraform",
];

/// Whether a folder is left out of every listing.
///
/// Besides well-known names these are caches that say so themselves (`CACHEDIR.TAG`, as cargo's target folder has) and
/// Python's virtual environments.
fn left_out(folder: &Path) -> bool {
    folder
        .file_name()
        .and_then(OsStr::to_str)
        .is_some_and(|name| NEVER.contains(&name))
        || folder.join("CACHEDIR.TAG").is_file()
        || folder.join("pyvenv.cfg").is_file()
}

/// The files below some folders.
#[derive(Debug, Default)]
pub(super) struct Listing {
    files: BTreeSet<PathBuf>,
    /// Folders that are ignored from above, each listed by itself, so that what one build wants does not change what
    /// another sees.
    apart: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

impl Listing {
    /// The files below one of the folders that were listed, in order.
    pub(super) fn below(&self, folder: &Path) -> impl Iterator<Item = &PathBuf> {
        let folder = folder.to_owned();
        self.apart
            .get(&folder)
            .unwrap_or(&self.files)
            .range(folder.clone()..)
            .take_while(move |path| path.starts_with(&folder))
    }
}

/// Lists the files below folders, honouring `.gitignore` files from the repository's root, or the project's, downwards.
///
/// Several folders of one project are listed in one walk. A folder that is itself ignored is listed all the same, by the
/// ignore files within it. Folders that do not exist have no files.
pub(super) fn files(project: &Path, folders: &BTreeSet<PathBuf>) -> Listing {
    let mut listing = Listing::default();
    let (inside, outside): (Vec<_>, Vec<_>) = folders
        .iter()
        .cloned()
        .partition(|folder| folder.starts_with(project));
    if !inside.is_empty() {
        list_below(project, &inside, &mut listing);
    }
    for folder in outside {
        list_below(&folder, std::slice::from_ref(&folder), &mut listing);
    }
    listing
}

/// Lists from a repository's root where `top` is in one and not ignored by it.
fn list_below(top: &Path, wanted: &[PathBuf], listing: &mut Listing) {
    let from_repository = top
        .ancestors()
        .skip(1)
        .find(|folder| folder.join(".git").exists())
        .filter(|_| !top.join(".git").exists())
        .map(|root| walk(root, top, wanted))
        .filter(|(_, reached)| *reached);
    let (files, _) = from_repository.unwrap_or_else(|| walk(top, top, wanted));
    for folder in wanted {
        let entered = files
            .range(folder.clone()..)
            .next()
            .is_some_and(|file| file.starts_with(folder));
        if !entered && folder.is_dir() {
            let alone = walk(folder, folder, std::slice::from_ref(folder)).0;
            listing.apart.insert(folder.clone(), alone);
        }
    }
    listing.files.extend(files);
}

/// Walks from `root`, keeps what is in the wanted folders, and says whether it came to `top`.
fn walk(root: &Path, top: &Path, wanted: &[PathBuf]) -> (BTreeSet<PathBuf>, bool) {
    let wanted: HashSet<PathBuf> = wanted.iter().cloned().collect();
    let on_the_way: HashSet<PathBuf> = wanted
        .iter()
        .flat_map(|folder| folder.ancestors())
        .map(Path::to_owned)
        .collect();
    let inside = move |path: &Path| path.ancestors().any(|folder| wanted.contains(folder));
    let inside = Arc::new(inside);
    let may_enter = Arc::clone(&inside);
    let start = root.to_owned();
    let walker = WalkBuilder::new(root)
        .hidden(false)
        .parents(false)
        .ignore(false)
        .git_global(false)
        .git_exclude(false)
        .require_git(false)
        .follow_links(true)
        .threads(threads())
        .filter_entry(move |entry| {
            let path = entry.path();
            let folder = entry.file_type().is_some_and(|kind| kind.is_dir());
            if path == start {
                return true;
            }
            if folder {
                (on_the_way.contains(path) || may_enter(path)) && !left_out(path)
            } else {
                may_enter(path)
            }
        })
        .build_parallel();
    let found = Mutex::new(BTreeSet::new());
    let reached = AtomicBool::new(root == top);
    walker.run(|| {
        let mut batch = Batch {
            files: Vec::new(),
            into: &found,
        };
        let inside = Arc::clone(&inside);
        let reached = &reached;
        Box::new(move |entry| {
            match entry {
                Ok(entry) if entry.file_type().is_some_and(|kind| kind.is_dir()) => {
                    if entry.path() == top {
                        reached.store(true, Ordering::Relaxed);
                    }
                }
                Ok(entry) => batch.files.push(entry.into_path()),
                // A link to nowhere, or in a circle: the link itself is what the build sees.
                Err(error) => {
                    if let Some(path) = path_of(&error)
                        && inside(&path)
                        && path.symlink_metadata().is_ok_and(|meta| meta.is_symlink())
                    {
                        batch.files.push(path);
                    }
                }
            }
            WalkState::Continue
        })
    });
    let files = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    (files, reached.into_inner())
}

fn path_of(error: &ignore::Error) -> Option<PathBuf> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path.clone()),
        ignore::Error::Loop { child, .. } => Some(child.clone()),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
            path_of(err)
        }
        ignore::Error::Partial(errors) => errors.iter().find_map(path_of),
        _ => None,
    }
}

/// What one walking thread found, handed over when it ends.
struct Batch<'a> {
    files: Vec<PathBuf>,
    into: &'a Mutex<BTreeSet<PathBuf>>,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let mut into = self.into.lock().unwrap_or_else(PoisonError::into_inner);
        into.extend(self.files.drain(..));
    }
}

/// Lists the files below `folder` that match the globs, ignored by git or not.
pub(super) fn matching(folder: &Path, globs: &globset::GlobSet) -> BTreeSet<PathBuf> {
    WalkBuilder::new(folder)
        .standard_filters(false)
        .follow_links(true)
        .filter_entry(|entry| {
            entry.depth() == 0
                || !entry.file_type().is_some_and(|kind| kind.is_dir())
                || !left_out(entry.path())
        })
        .build()
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_type().is_some_and(|kind| kind.is_dir()))
        .map(ignore::DirEntry::into_path)
        .filter(|path| {
            path.strip_prefix(folder)
                .is_ok_and(|within| globs.is_match(within))
        })
        .collect()
}

/// How many threads walk and digest.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn check(files: &[(&str, &str)], project: &str, folders: &[&str], expected: &[&str]) {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let folders: BTreeSet<_> = folders.iter().map(|folder| root.join(folder)).collect();
        let listing = super::files(&root.join(project), &folders);
        let found: Vec<_> = folders
            .iter()
            .flat_map(|folder| listing.below(folder))
            .map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn ignored_files_and_caches_are_no_sources() {
        check(
            &[
                ("p/.gitignore", "*.log\n/dist\n"),
                ("p/a/src/main.rs", ""),
                ("p/a/x.log", ""),
                ("p/a/.cargo/config.toml", ""),
                ("p/a/node_modules/x/y.js", ""),
                ("p/a/out/CACHEDIR.TAG", ""),
                ("p/a/out/big", ""),
                ("p/b/main.rs", ""),
                ("p/c/main.rs", ""),
            ],
            "p",
            &["p/a", "p/b", "p/none"],
            &["p/a/.cargo/config.toml", "p/a/src/main.rs", "p/b/main.rs"],
        );
    }

    #[test]
    fn the_repository_around_a_project_has_its_say() {
        check(
            &[
                (".git/HEAD", ""),
                (".gitignore", "*.tmp\n"),
                ("p/a/main.rs", ""),
                ("p/a/x.tmp", ""),
            ],
            "p",
            &["p/a"],
            &["p/a/main.rs"],
        );
    }

    #[test]
    fn a_repository_that_ignores_the_project_has_none() {
        // As people do who keep their home folder's dotfiles in git.
        check(
            &[
                (".git/HEAD", ""),
                (".gitignore", "*\n"),
                ("p/a/main.rs", ""),
            ],
            "p",
            &["p/a"],
            &["p/a/main.rs"],
        );
    }

    #[test]
    fn a_wanted_folder_is_listed_even_if_ignored() {
        check(
            &[
                ("p/.gitignore", "gen/\n"),
                ("p/gen/x.rs", ""),
                ("p/a/y.rs", ""),
            ],
            "p",
            &["p/a", "p/gen"],
            &["p/a/y.rs", "p/gen/x.rs"],
        );
    }
}
