//! Artifacts that were built, by key: whole or not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use platform_decide::digest::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::BuildError;

/// Artifacts with more files than this are flushed to disk with all else that waits, not file by file.
const FLUSH_EACH: usize = 64;

/// What an artifact is and how it came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The key of its inputs.
    pub key: Digest,
    /// How it was built: a command line.
    pub built_by: String,
    /// What its key was made of, by name; long ones as digests.
    pub inputs: BTreeMap<String, String>,
    /// When it was built, as RFC 3339 in UTC.
    pub built_at: String,
    /// How long the build took, in milliseconds.
    pub took_ms: u64,
    /// Its files, by path.
    pub files: BTreeMap<String, ManifestFile>,
}

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ManifestFile {
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// SHA-256 of the content, in hexadecimal digits.
        sha256: String,
        /// Whether it can be executed.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Where it points.
        target: String,
    },
}

/// The folder of artifacts of a project.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    folder: PathBuf,
}

impl ArtifactStore {
    /// A store in `folder`, which is made when the first artifact comes.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    fn home(&self, key: &Digest) -> PathBuf {
        let digits = key.as_str().trim_start_matches("sha256:");
        self.folder.join(digits)
    }

    /// Where an artifact's files are, or will be once it is built.
    pub fn place(&self, key: &Digest) -> PathBuf {
        self.home(key).join("files")
    }

    /// What is known of an artifact that was built.
    pub fn manifest(&self, key: &Digest) -> Option<Manifest> {
        let text = fs::read(self.home(key).join("manifest.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Whether an artifact is there with all its files.
    ///
    /// What is in them is left to [`ArtifactStore::damaged`]: a program may well write beside itself, as Python does.
    pub fn is_built(&self, key: &Digest) -> bool {
        let Some(manifest) = self.manifest(key) else {
            return false;
        };
        let place = self.place(key);
        let there = |path| fs::symlink_metadata(place.join(path)).is_ok();
        manifest.files.keys().all(there)
    }

    /// Reads an artifact's files anew and names those that are not what was built.
    ///
    /// # Errors
    ///
    /// Whatever keeps a file from being read, other than its absence.
    pub fn damaged(&self, key: &Digest) -> Result<Vec<String>, BuildError> {
        let Some(manifest) = self.manifest(key) else {
            return Ok(vec!["manifest.json".to_owned()]);
        };
        let place = self.place(key);
        let mut damaged = Vec::new();
        for (path, file) in &manifest.files {
            let file_path = place.join(path);
            match describe(&file_path) {
                Ok(found) if found == *file => {}
                Ok(_) => damaged.push(path.clone()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => damaged.push(path.clone()),
                Err(error) => return Err(BuildError::file("read", &file_path)(error)),
            }
        }
        Ok(damaged)
    }

    /// Begins an artifact: an empty folder that becomes one when it is published.
    pub(super) fn begin(&self) -> Result<Draft, BuildError> {
        fs::create_dir_all(&self.folder).map_err(BuildError::file("make", &self.folder))?;
        let temp = tempfile::Builder::new()
            .prefix(".draft-")
            .tempdir_in(&self.folder)
            .map_err(BuildError::file("make", &self.folder))?;
        let files = temp.path().join("files");
        fs::create_dir(&files).map_err(BuildError::file("make", &files))?;
        Ok(Draft { temp })
    }

    /// Puts a draft in its place. One that is whole there already stays.
    pub(super) fn publish(
        &self,
        draft: Draft,
        mut manifest: Manifest,
    ) -> Result<Manifest, BuildError> {
        let root = draft.temp.path().to_owned();
        manifest.files = inventory(&root.join("files"))?;
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| BuildError::file("write", &root)(error.into()))?;
        let path = root.join("manifest.json");
        fs::write(&path, text).map_err(BuildError::file("write", &path))?;
        // A crash of the machine must not leave an artifact that looks built and is not.
        if manifest.files.len() <= FLUSH_EACH {
            for name in manifest.files.keys() {
                flush(&root.join("files").join(name));
            }
            flush(&path);
        } else if let Ok(file) = fs::File::open(&path) {
            let _ = nix::unistd::syncfs(file);
        }
        let home = self.home(&manifest.key);
        if home.exists() {
            if self.is_built(&manifest.key) {
                return Ok(manifest);
            }
            // Damaged: set aside first, so that nobody ever sees half of it.
            let aside = tempfile::Builder::new()
                .prefix(".damaged-")
                .tempdir_in(&self.folder)
                .map_err(BuildError::file("make", &self.folder))?;
            fs::rename(&home, aside.path().join("was")).map_err(BuildError::file("move", &home))?;
        }
        // Private while it was a draft, readable to the services' users from here on.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755))
            .map_err(BuildError::file("open up", &root))?;
        match fs::rename(&root, &home) {
            Ok(()) => {
                let _ = draft.temp.keep();
                flush(&self.folder);
                Ok(manifest)
            }
            // Another run was quicker with the same.
            Err(_) if self.is_built(&manifest.key) => Ok(manifest),
            Err(error) => Err(BuildError::file("move", &home)(error)),
        }
    }

    /// Keys of all artifacts with the time they were put here, newest first.
    pub fn all(&self) -> Vec<(Digest, std::time::SystemTime)> {
        let mut all: Vec<_> = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let name = entry.file_name();
                let key = Digest::parse(&format!("sha256:{}", name.to_str()?))?;
                let manifest = fs::metadata(entry.path().join("manifest.json")).ok()?;
                Some((key, manifest.modified().ok()?))
            })
            .collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all
    }

    /// Removes artifacts that no release refers to, but for the newest few; returns how many went.
    ///
    /// - `referred_to`: the keys that releases refer to
    /// - `newest`: how many others stay
    ///
    /// # Errors
    ///
    /// What keeps one from being removed.
    pub fn gc(&self, referred_to: &BTreeSet<Digest>, newest: usize) -> Result<usize, BuildError> {
        let others = self
            .all()
            .into_iter()
            .map(|(key, _)| key)
            .filter(|key| !referred_to.contains(key))
            .skip(newest);
        let mut gone = 0;
        for key in others {
            let home = self.home(&key);
            // Out of sight first: what is half removed must not look built.
            let aside = tempfile::Builder::new()
                .prefix(".removed-")
                .tempdir_in(&self.folder)
                .map_err(BuildError::file("make", &self.folder))?;
            fs::rename(&home, aside.path().join("was"))
                .map_err(BuildError::file("remove", &home))?;
            aside.close().map_err(BuildError::file("remove", &home))?;
            gone += 1;
        }
        Ok(gone)
    }

    /// Removes what runs left behind that were killed. To be called while no other run builds.
    pub(super) fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if [".draft-", ".damaged-", ".removed-"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                tracing::debug!(%error, "a draft of an earlier run stays");
            }
        }
    }
}

/// An artifact in the making; gone when dropped.
#[derive(Debug)]
pub(super) struct Draft {
    temp: tempfile::TempDir,
}

impl Draft {
    /// Copies a file, or a folder with all that is in it, to a path within the artifact.
    pub(super) fn add(&self, from: &Path, to: &Path) -> Result<(), BuildError> {
        let to = self.temp.path().join("files").join(to);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(BuildError::file("make", parent))?;
        }
        copy(from, &to)
    }
}

/// Copies as it is: modes and times kept, links as links.
fn copy(from: &Path, to: &Path) -> Result<(), BuildError> {
    let meta = fs::symlink_metadata(from).map_err(BuildError::file("read", from))?;
    if meta.is_symlink() {
        let target = fs::read_link(from).map_err(BuildError::file("read", from))?;
        std::os::unix::fs::symlink(target, to).map_err(BuildError::file("write", to))
    } else if meta.is_dir() {
        // Of a whole project, neither our own state nor the repository's.
        if from
            .file_name()
            .is_some_and(|name| name == ".platform" || name == ".git")
        {
            return Ok(());
        }
        fs::create_dir_all(to).map_err(BuildError::file("make", to))?;
        for entry in fs::read_dir(from).map_err(BuildError::file("read", from))? {
            let entry = entry.map_err(BuildError::file("read", from))?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    } else if meta.is_file() {
        fs::copy(from, to).map_err(BuildError::file("copy", from))?;
        // Python, make and others compare times with those they noted.
        if let (Ok(modified), Ok(file)) = (meta.modified(), fs::File::open(to)) {
            let _ = file.set_modified(modified);
        }
        Ok(())
    } else {
        Ok(())
    }
}

fn inventory(folder: &Path) -> Result<BTreeMap<String, ManifestFile>, BuildError> {
    let mut files = BTreeMap::new();
    let mut queue = vec![folder.to_owned()];
    while let Some(next) = queue.pop() {
        for entry in fs::read_dir(&next).map_err(BuildError::file("read", &next))? {
            let path = entry.map_err(BuildError::file("read", &next))?.path();
            let meta = fs::symlink_metadata(&path).map_err(BuildError::file("read", &path))?;
            if meta.is_dir() {
                queue.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap_or(&path);
            let described = describe(&path).map_err(BuildError::file("read", &path))?;
            files.insert(name.to_string_lossy().into_owned(), described);
        }
    }
    Ok(files)
}

fn describe(path: &Path) -> io::Result<ManifestFile> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        let target = fs::read_link(path)?.to_string_lossy().into_owned();
        return Ok(ManifestFile::Link { target });
    }
    let mut file = fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(ManifestFile::File {
        size: meta.len(),
        sha256: hex::encode(hasher.finalize()),
        executable: meta.permissions().mode() & 0o111 != 0,
    })
}

/// Asks the disk to keep a file. That it cannot is no reason to fail: it matters only if the machine crashes now.
fn flush(path: &Path) {
    if let Ok(file) = fs::File::open(path) {
        let _ = file.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(key: &Digest) -> Manifest {
        Manifest {
            key: key.clone(),
            built_by: "test".to_owned(),
            inputs: BTreeMap::new(),
            built_at: "2026-01-01T00:00:00Z".to_owned(),
            took_ms: 1,
            files: BTreeMap::new(),
        }
    }

    fn publish(store: &ArtifactStore, name: &str, content: &str) -> Digest {
        let key = Digest::of(name.as_bytes());
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("program");
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("program", temp.path().join("link")).unwrap();
        let draft = store.begin().unwrap();
        draft.add(temp.path(), Path::new("bin")).unwrap();
        store.publish(draft, manifest(&key)).unwrap();
        key
    }

    #[test]
    fn an_artifact_is_whole_or_not_there() {
        let temp = tempfile::tempdir().unwrap();
        let store = ArtifactStore::new(temp.path().join("artifacts"));
        let key = publish(&store, "a", "#!/bin/sh\n");
        assert!(store.is_built(&key));
        let program = store.place(&key).join("bin/program");
        assert_eq!(
            fs::metadata(&program).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert!(store.place(&key).join("bin/link").is_symlink());
        assert!(store.damaged(&key).unwrap().is_empty());
        // Same size, other content: only reading it shows.
        fs::write(&program, "#!/bin/no\n").unwrap();
        assert_eq!(store.damaged(&key).unwrap(), ["bin/program"]);
        fs::remove_file(&program).unwrap();
        assert!(!store.is_built(&key));
        publish(&store, "a", "#!/bin/sh\n");
        assert!(store.is_built(&key));
    }

    #[test]
    fn a_draft_that_was_given_up_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let store = ArtifactStore::new(temp.path().join("artifacts"));
        drop(store.begin().unwrap());
        // As a run that was killed would.
        let killed = store.begin().unwrap().temp.keep();
        assert!(killed.exists());
        store.sweep();
        assert_eq!(
            fs::read_dir(temp.path().join("artifacts")).unwrap().count(),
            0
        );
    }

    #[test]
    fn what_releases_refer_to_and_the_newest_stay() {
        let temp = tempfile::tempdir().unwrap();
        let store = ArtifactStore::new(temp.path().join("artifacts"));
        let keys: Vec<_> = ["a", "b", "c", "d"]
            .iter()
            .enumerate()
            .map(|(age, name)| {
                let key = publish(&store, name, name);
                let then =
                    std::time::SystemTime::now() - std::time::Duration::from_secs(100 - age as u64);
                let manifest = store.home(&key).join("manifest.json");
                fs::File::options()
                    .write(true)
                    .open(manifest)
                    .unwrap()
                    .set_modified(then)
                    .unwrap();
                key
            })
            .collect();
        let referred_to = BTreeSet::from([keys[0].clone()]);
        assert_eq!(store.gc(&referred_to, 1).unwrap(), 2);
        let left: BTreeSet<_> = store.all().into_iter().map(|(key, _)| key).collect();
        assert_eq!(left, BTreeSet::from([keys[0].clone(), keys[3].clone()]));
    }
}
