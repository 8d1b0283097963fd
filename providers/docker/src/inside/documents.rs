//! Documents in a folder, changed under an exclusive lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use platform_decide::digest::Digest;

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It was made; the version is now this.
    Made(String),
    /// Somebody else wrote in between.
    Conflict,
}

/// A folder of documents.
#[derive(Debug, Clone)]
pub(crate) struct Documents {
    folder: PathBuf,
}

/// Equal content has equal versions.
pub(crate) fn version_of(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

impl Documents {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Keys hold no `+`, so no two share a file.
    fn file(&self, key: &str) -> io::Result<PathBuf> {
        let known = |letter: u8| letter.is_ascii_alphanumeric() || b"-_./@".contains(&letter);
        if key.is_empty() || !key.bytes().all(known) || key.split('/').any(|word| word == "..") {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{key}` is no key of a document"),
            ));
        }
        Ok(self.folder.join(format!("{}.doc", key.replace('/', "+"))))
    }

    /// Held until it is dropped, also by death.
    fn lock(&self) -> io::Result<File> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.folder.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    /// Reads a document.
    pub(crate) fn read(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        match File::open(self.file(key)?) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a document if it still is at `expected`.
    pub(crate) fn write(
        &self,
        key: &str,
        bytes: &[u8],
        expected: Option<&str>,
    ) -> io::Result<Change> {
        let _lock = self.lock()?;
        let found = self.read(key)?.map(|bytes| version_of(&bytes));
        if found.as_deref() != expected {
            return Ok(Change::Conflict);
        }
        let file = self.file(key)?;
        // One writer at a time, so one name is enough.
        let temporary = self.folder.join("writing");
        let mut out = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&temporary, &file)?;
        self.settle()?;
        Ok(Change::Made(version_of(bytes)))
    }

    /// Makes the folder's entries last.
    fn settle(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    /// Deletes a document.
    pub(crate) fn delete(&self, key: &str) -> io::Result<()> {
        let _lock = self.lock()?;
        match fs::remove_file(self.file(key)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Err(_) => Ok(()),
            Ok(()) => self.settle(),
        }
    }

    /// Keys that begin with `prefix`, sorted.
    pub(crate) fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some(key) = name.strip_suffix(".doc") {
                let key = key.replace('+', "/");
                if key.starts_with(prefix) {
                    keys.push(key);
                }
            }
        }
        keys.sort();
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_writer_loses_and_no_key_leaves_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let documents = Documents::new(folder.path());
        let Change::Made(first) = documents.write("a/b", b"1", None).unwrap() else {
            panic!("a first write is made");
        };
        assert_eq!(
            documents.write("a/b", b"2", None).unwrap(),
            Change::Conflict
        );
        let second = documents.write("a/b", b"2", Some(&first)).unwrap();
        assert_eq!(second, Change::Made(version_of(b"2")));
        documents.write("ab", b"1", None).unwrap();
        assert_eq!(documents.list("a/").unwrap(), ["a/b"]);
        documents.delete("a/b").unwrap();
        documents.delete("a/b").unwrap();
        assert_eq!(documents.read("a/b").unwrap(), None);
        for key in ["", "../x", "a/../b", "a+b", "a\0b"] {
            assert!(documents.read(key).is_err(), "{key}");
        }
    }
}
