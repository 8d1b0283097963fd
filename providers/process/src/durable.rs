//! Files that are whole after a crash at any instant.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

/// What went wrong with the state folder.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder or the disk below it takes no writes.
    #[error("cannot write to `{}`: it is read-only", path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no room.
    #[error("cannot write to `{}`: the disk is full", path.display())]
    DiskFull {
        /// What was to be written.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot {action} `{}`", path.display())]
    Unavailable {
        /// `read`, `write` or the like.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl StateError {
    /// Sorts an error of the operating system into what the user can act on.
    pub fn of(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
                if action != "read" =>
            {
                Self::ReadOnly { path, source }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path, source }
            }
            _ => Self::Unavailable {
                action,
                path,
                source,
            },
        }
    }

    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ReadOnly { .. } => "state::read-only",
            Self::DiskFull { .. } => "state::disk-full",
            Self::Unavailable { .. } => "state::unavailable",
        }
    }
}

/// How much a write must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survives {
    /// A crash of the program: readers see the old content or the new one.
    Crash,
    /// A loss of power, too.
    PowerLoss,
}

/// Replaces a file's content as one step. The file is readable by its owner alone.
pub(crate) fn replace(path: &Path, bytes: &[u8], survives: Survives) -> Result<(), StateError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}-{number}", std::process::id()));
    let fresh = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(bytes)?;
        if survives == Survives::PowerLoss {
            file.sync_all()?;
        }
        fs::rename(&fresh, path)?;
        if survives == Survives::PowerLoss
            && let Some(folder) = path.parent()
        {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&fresh);
        StateError::of("write", path, source)
    })
}

/// Makes a folder with those above it, for its owner alone.
pub(crate) fn make_folder(path: &Path) -> Result<(), StateError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StateError::of("make folder", path, source))
}

const MAGIC: &str = "platform-state 1 sha256:";

/// A value with its checksum, as it stands in a file.
pub(crate) fn sealed<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec_pretty(value)?;
    let mut bytes = format!("{MAGIC}{}\n", hex::encode(Sha256::digest(&body))).into_bytes();
    bytes.extend_from_slice(&body);
    bytes.push(b'\n');
    Ok(bytes)
}

/// The value that [`sealed`] wrote, if it is unharmed.
pub(crate) fn unsealed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let line_end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or("its first line is missing")?;
    let (head, rest) = bytes.split_at(line_end);
    let wanted = std::str::from_utf8(head)
        .ok()
        .and_then(|head| head.strip_prefix(MAGIC))
        .ok_or("its first line is not ours")?;
    let body = rest[1..].strip_suffix(b"\n").unwrap_or(&rest[1..]);
    if hex::encode(Sha256::digest(body)) != wanted {
        return Err("its checksum does not fit its content".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// What was found where a kept value should be.
#[derive(Debug)]
pub(crate) struct Recovered<T> {
    /// The value, from the file or else from its backup.
    pub(crate) value: Option<T>,
    /// What was damaged and where it was put, in words.
    pub(crate) damage: Vec<String>,
}

fn backup_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".bak");
    path.with_file_name(name)
}

/// Writes a value so that it survives a loss of power, with a copy as `.bak`.
///
/// The copy is of the same value: an older one would bring back what was taken away since.
pub(crate) fn keep<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let bytes = sealed(value).map_err(|source| StateError::of("write", path, source))?;
    replace(path, &bytes, Survives::PowerLoss)?;
    // The value itself is safe; without a copy it only has no stand-in.
    let _ = replace(&backup_of(path), &bytes, Survives::Crash);
    Ok(())
}

/// Reads what [`keep`] wrote without changing anything; falls back on the backup.
pub(crate) fn peek<T: DeserializeOwned>(path: &Path) -> Recovered<T> {
    let mut damage = Vec::new();
    for candidate in [path.to_owned(), backup_of(path)] {
        match fs::read(&candidate) {
            Ok(bytes) => match unsealed(&bytes) {
                Ok(value) => {
                    return Recovered {
                        value: Some(value),
                        damage,
                    };
                }
                Err(why) => damage.push(format!("`{}` is damaged: {why}", candidate.display())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A missing file beside a backup is as it is after a loss of power.
            }
            Err(error) => damage.push(format!("cannot read `{}`: {error}", candidate.display())),
        }
    }
    Recovered {
        value: None,
        damage,
    }
}

/// Reads what [`keep`] wrote, sets damaged files aside, and puts the backup in the place of a damaged file.
pub(crate) fn recover<T: DeserializeOwned>(path: &Path) -> Recovered<T> {
    let mut seen = peek(path);
    if seen.damage.is_empty() {
        return seen;
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    for candidate in [path.to_owned(), backup_of(path)] {
        let harmed =
            fs::read(&candidate).is_ok_and(|bytes| unsealed::<serde_json::Value>(&bytes).is_err());
        if !harmed {
            continue;
        }
        let mut name = candidate.file_name().unwrap_or_default().to_owned();
        name.push(format!(".damaged-{now}"));
        let aside = candidate.with_file_name(name);
        if fs::rename(&candidate, &aside).is_ok() {
            seen.damage
                .push(format!("set aside as `{}`", aside.display()));
        }
    }
    if seen.value.is_some() && !path.exists() {
        // Nothing is ever written into either file, so that one of them may stand for both.
        let _ = fs::hard_link(backup_of(path), path);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_value_is_read_back_and_a_damaged_one_falls_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desired.json");
        keep(&path, &vec![1]).unwrap();
        keep(&path, &vec![1, 2]).unwrap();
        let seen: Recovered<Vec<u32>> = recover(&path);
        assert_eq!(seen.value, Some(vec![1, 2]));
        assert!(seen.damage.is_empty());

        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let seen: Recovered<Vec<u32>> = recover(&path);
        assert_eq!(seen.value, Some(vec![1, 2]));
        assert!(seen.damage[0].contains("checksum"), "{:?}", seen.damage);
        let again: Recovered<Vec<u32>> = recover(&path);
        assert_eq!(again.value, Some(vec![1, 2]));
        assert!(again.damage.is_empty(), "{:?}", again.damage);
        let aside = fs::read_dir(folder.path())
            .unwrap()
            .filter(|e| {
                e.as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .contains(".damaged-")
            })
            .count();
        assert_eq!(aside, 1);
    }

    #[test]
    fn a_write_that_is_refused_says_why() {
        let error = replace(Path::new("/proc/none"), b"x", Survives::Crash).unwrap_err();
        assert!(matches!(
            error.code(),
            "state::unavailable" | "state::read-only"
        ));
        let full = StateError::of(
            "write",
            Path::new("x"),
            io::Error::from(io::ErrorKind::StorageFull),
        );
        assert_eq!(full.code(), "state::disk-full");
    }
}
