//! The document store: files, an exclusive lock and content hashes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use platform_port::{Document, Store, StoreError, Version};
use sha2::{Digest as _, Sha256};

use crate::durable::{self, Survives};

const MAGIC: &[u8] = b"platform-document 1 sha256:";

/// Documents as files below one folder.
///
/// Each begins with a line that holds the hash of what follows, so a file that was harmed is noticed; a copy beside it then
/// stands in for it.
#[derive(Debug, Clone)]
pub struct FileStore {
    folder: PathBuf,
}

/// Where the copy of a document lies.
fn copy_of(path: &Path) -> PathBuf {
    path.with_extension("copy")
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl FileStore {
    /// A store in this folder, which need not be there yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    fn unavailable(
        &self,
        action: &'static str,
        key: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::Unavailable {
            action,
            key: key.to_owned(),
            place: self.folder.display().to_string(),
            source: source.into(),
        }
    }

    fn path(&self, action: &'static str, key: &str) -> Result<PathBuf, StoreError> {
        let sound = !key.is_empty()
            && key.split('/').all(|word| {
                !word.is_empty()
                    && !word.starts_with('.')
                    && word
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            });
        if !sound {
            return Err(self.unavailable(action, key, "it is not a key"));
        }
        Ok(self.folder.join(format!("{key}.document")))
    }

    fn read_now(&self, key: &str) -> Result<Option<Document>, StoreError> {
        let path = self.path("read", key)?;
        match self.read_file(key, &path) {
            Err(StoreError::Damaged { source, .. }) => match self.read_file(key, &copy_of(&path)) {
                Ok(Some(document)) => {
                    tracing::warn!(key, why = %source, "a document is damaged; its copy stands in");
                    Ok(Some(document))
                }
                _ => Err(StoreError::Damaged {
                    key: key.to_owned(),
                    place: path.display().to_string(),
                    source,
                }),
            },
            found => found,
        }
    }

    fn read_file(&self, key: &str, path: &Path) -> Result<Option<Document>, StoreError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unavailable("read", key, error)),
        };
        let damaged = |why: &str| StoreError::Damaged {
            key: key.to_owned(),
            place: path.display().to_string(),
            source: why.into(),
        };
        let head = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| damaged("its first line is not ours"))?;
        let (wanted, content) = head
            .split_at_checked(64)
            .ok_or_else(|| damaged("it is cut short"))?;
        let content = content
            .strip_prefix(b"\n")
            .ok_or_else(|| damaged("its first line is not ours"))?;
        let seen = hash(content);
        if seen.as_bytes() != wanted {
            return Err(damaged("its checksum does not fit its content"));
        }
        Ok(Some(Document {
            version: Version(seen),
            bytes: content.to_vec(),
        }))
    }

    /// Held while a document is compared and swapped.
    fn lock(&self, action: &'static str, key: &str) -> Result<File, StoreError> {
        durable::make_folder(&self.folder).map_err(|error| self.unavailable(action, key, error))?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.folder.join(".lock"))
            .and_then(|file| file.lock().map(|()| file));
        file.map_err(|error| {
            let path = self.folder.join(".lock");
            self.unavailable(action, key, durable::StateError::of("write", &path, error))
        })
    }

    fn write_now(
        &self,
        key: &str,
        bytes: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, StoreError> {
        let path = self.path("write", key)?;
        let _lock = self.lock("write", key)?;
        let seen = self.read_now(key)?.map(|document| document.version);
        if seen.as_ref() != expected {
            return Err(StoreError::Conflict {
                key: key.to_owned(),
            });
        }
        if let Some(folder) = path.parent() {
            durable::make_folder(folder).map_err(|error| self.unavailable("write", key, error))?;
        }
        let version = hash(bytes);
        let mut content = MAGIC.to_vec();
        content.extend_from_slice(version.as_bytes());
        content.push(b'\n');
        content.extend_from_slice(bytes);
        durable::replace(&path, &content, Survives::PowerLoss)
            .map_err(|error| self.unavailable("write", key, error))?;
        // The document itself is safe; without a copy it only has no stand-in.
        let _ = durable::replace(&copy_of(&path), &content, Survives::Crash);
        Ok(Version(version))
    }

    fn delete_now(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path("delete", key)?;
        if !path.exists() {
            return Ok(());
        }
        let _lock = self.lock("delete", key)?;
        // The copy goes first: alone it would count for nothing, but stay.
        let _ = fs::remove_file(copy_of(&path));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.unavailable("delete", key, error))
            }
            _ => Ok(()),
        }
    }

    fn list_now(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut keys = Vec::new();
        self.collect(&self.folder, prefix, &mut keys)
            .map_err(|error| self.unavailable("list", prefix, error))?;
        keys.sort();
        Ok(keys)
    }

    fn collect(&self, folder: &Path, prefix: &str, keys: &mut Vec<String>) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                self.collect(&path, prefix, keys)?;
            } else if let Some(key) = path
                .strip_prefix(&self.folder)
                .ok()
                .and_then(Path::to_str)
                .and_then(|key| key.strip_suffix(".document"))
                && key.starts_with(prefix)
            {
                keys.push(key.to_owned());
            }
        }
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        key: &str,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(&store))
            .await
            .map_err(|error| self.unavailable(action, key, error))?
    }
}

#[async_trait]
impl Store for FileStore {
    async fn read(&self, key: &str) -> Result<Option<Document>, StoreError> {
        self.read_now(key)
    }

    async fn write(
        &self,
        key: &str,
        bytes: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, StoreError> {
        let (owned, bytes, expected) = (key.to_owned(), bytes.to_vec(), expected.cloned());
        self.blocking("write", key, move |store| {
            store.write_now(&owned, &bytes, expected.as_ref())
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let owned = key.to_owned();
        self.blocking("delete", key, move |store| store.delete_now(&owned))
            .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.list_now(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_document_is_compared_before_it_is_swapped() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::new(folder.path().join("store"));
        assert_eq!(store.read("releases/00000001").await.unwrap(), None);
        assert!(store.list("").await.unwrap().is_empty());
        let first = store
            .write("releases/00000001", b"one", None)
            .await
            .unwrap();
        let refused = store.write("releases/00000001", b"two", None).await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })));
        store
            .write("releases/00000001", b"two", Some(&first))
            .await
            .unwrap();
        store.write("journal", b"", None).await.unwrap();
        assert_eq!(store.list("rel").await.unwrap(), ["releases/00000001"]);
        assert_eq!(
            store
                .read("releases/00000001")
                .await
                .unwrap()
                .unwrap()
                .bytes,
            b"two"
        );
        store.delete("journal").await.unwrap();
        store.delete("journal").await.unwrap();
        assert!(store.read("../journal").await.is_err());
    }

    #[tokio::test]
    async fn a_harmed_document_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::new(folder.path());
        store.write("lease", b"held", None).await.unwrap();
        let path = folder.path().join("lease.document");
        for harm in [&b"x"[..], b"", b"platform-document 1 sha256:00\n"] {
            fs::write(&path, harm).unwrap();
            fs::write(copy_of(&path), harm).unwrap();
            match store.read("lease").await {
                Err(StoreError::Damaged { place, .. }) => {
                    assert_eq!(place, path.display().to_string());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_harmed_document_is_mended_from_its_copy() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::new(folder.path());
        let first = store.write("head", b"one", None).await.unwrap();
        let second = store.write("head", b"two", Some(&first)).await.unwrap();
        fs::write(folder.path().join("head.document"), b"x").unwrap();
        let seen = store.read("head").await.unwrap().unwrap();
        assert_eq!(
            (seen.bytes.as_slice(), &seen.version),
            (&b"two"[..], &second)
        );
        store.write("head", b"three", Some(&second)).await.unwrap();
        assert_eq!(store.list("").await.unwrap(), ["head"]);
        store.delete("head").await.unwrap();
        assert_eq!(store.read("head").await.unwrap(), None);
        assert!(!folder.path().join("head.copy").exists());
    }

    #[tokio::test]
    async fn of_many_writers_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::new(folder.path());
        let writers = (0..8).map(|number| {
            let store = store.clone();
            async move { store.write("lease", &[number], None).await.is_ok() }
        });
        let won = futures::future::join_all(writers).await;
        assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
    }
}
