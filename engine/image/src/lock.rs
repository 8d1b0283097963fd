//! `platform.lock`: which image a reference stands for, so that it is the same one for everybody.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::ImageError;

/// The file's name, beside the blueprint.
pub const LOCK: &str = "platform.lock";

const HEAD: &str =
    "# Written by `platform build`; commit it. `platform build --update-images` looks anew.\n";

/// References and the digests they are pinned to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageLock {
    version: u32,
    #[serde(default)]
    images: BTreeMap<String, String>,
}

impl ImageLock {
    /// Reads the lock file of a project; an empty one where there is none.
    ///
    /// # Errors
    ///
    /// [`ImageError::BadLock`] if it cannot be understood.
    pub fn read(project: &Path) -> Result<Self, ImageError> {
        let path = project.join(LOCK);
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|source| ImageError::BadLock {
                path,
                source: Box::new(source),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(ImageError::file("read", &path)(error)),
        }
    }

    /// The digest that a reference is pinned to.
    pub fn digest(&self, reference: &str) -> Option<&str> {
        self.images.get(reference).map(String::as_str)
    }

    /// Pins a reference; whether that changed anything.
    pub fn pin(&mut self, reference: &str, digest: &str) -> bool {
        let before = self.images.insert(reference.to_owned(), digest.to_owned());
        before.as_deref() != Some(digest)
    }

    /// Forgets what no reference of the blueprint asks for; whether that changed anything.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        let before = self.images.len();
        self.images.retain(|reference, _| wanted(reference));
        self.images.len() != before
    }

    /// A reference with the digest it is pinned to, or as it is.
    pub fn pinned(&self, reference: &str) -> String {
        match self.digest(reference) {
            Some(digest) if !reference.contains('@') => format!("{reference}@{digest}"),
            _ => reference.to_owned(),
        }
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let mut sorted = self.clone();
        sorted.version = 1;
        let body = toml::to_string(&sorted).unwrap_or_default();
        format!("{HEAD}{body}")
    }

    /// Writes the lock file of a project, whole or not at all.
    ///
    /// # Errors
    ///
    /// What keeps it from being written.
    pub fn write(&self, project: &Path) -> Result<(), ImageError> {
        let path = project.join(LOCK);
        let failed = |error| ImageError::file("write", &path)(error);
        let mut draft = tempfile::NamedTempFile::new_in(project).map_err(failed)?;
        std::io::Write::write_all(&mut draft, self.text().as_bytes())
            .map_err(ImageError::file("write", &path))?;
        // As any file of the project, not private as a draft is.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(draft.path(), mode).map_err(ImageError::file("write", &path))?;
        draft
            .persist(&path)
            .map_err(|error| ImageError::file("write", &path)(error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_reads_back_what_it_wrote_and_keeps_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut lock = ImageLock::read(folder.path()).unwrap();
        let digest = format!("sha256:{}", "a".repeat(64));
        assert!(lock.pin("nginx:1.27", &digest));
        assert!(!lock.pin("nginx:1.27", &digest));
        lock.pin("old:1", &digest);
        assert!(lock.retain(|reference| reference != "old:1"));
        lock.write(folder.path()).unwrap();
        let again = ImageLock::read(folder.path()).unwrap();
        assert_eq!(again.text(), lock.text());
        assert_eq!(again.pinned("nginx:1.27"), format!("nginx:1.27@{digest}"));
        assert_eq!(again.pinned("redis:7"), "redis:7");
        let pinned = format!("x@{digest}");
        assert_eq!(again.pinned(&pinned), pinned);
    }

    #[test]
    fn a_damaged_lock_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOCK), "images = 3").unwrap();
        let error = ImageLock::read(folder.path()).unwrap_err();
        assert_eq!(error.code(), "image::bad-lock");
    }
}
