//! Digests of files, remembered by what `stat` says of them.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use super::error::BuildError;
use super::tree::threads;

/// The first line of the file that remembers digests.
const FORMAT: &str = "platform file digests 1";

/// A file changed less than this ago may change again without `stat` showing it.
const TOO_FRESH: Duration = Duration::from_secs(2);

/// What `stat` says of a file, all of which changes when it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    size: u64,
    modified: i128,
    changed: i128,
    inode: u64,
    device: u64,
    mode: u32,
}

impl Stat {
    fn of(meta: &fs::Metadata) -> Self {
        let nanos =
            |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self {
            size: meta.size(),
            modified: nanos(meta.mtime(), meta.mtime_nsec()),
            changed: nanos(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
            device: meta.dev(),
            mode: meta.permissions().mode(),
        }
    }

    /// Whether the times are far enough back that a later write would show.
    fn settled(&self, now: i128) -> bool {
        let fresh = i128::from(u64::try_from(TOO_FRESH.as_nanos()).unwrap_or(u64::MAX));
        self.modified.max(self.changed) < now - fresh
    }
}

/// The digest of one file: its content and whether it can be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileDigest([u8; 32]);

impl FileDigest {
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Digests by path, as far as they can be relied upon.
#[derive(Debug, Default)]
pub(super) struct FileDigests {
    known: HashMap<PathBuf, (Stat, FileDigest)>,
    place: Option<PathBuf>,
}

impl FileDigests {
    /// Reads what an earlier run remembered; what cannot be read is forgotten.
    pub(super) fn load(place: PathBuf) -> Self {
        let known = fs::read_to_string(&place)
            .ok()
            .and_then(|text| parse(&text))
            .unwrap_or_default();
        Self {
            known,
            place: Some(place),
        }
    }

    /// Digests files, in parallel, reading only those that may have changed.
    ///
    /// What has vanished since it was listed is left out.
    ///
    /// # Errors
    ///
    /// A file that is there and cannot be read.
    pub(super) fn digest(
        &mut self,
        files: &BTreeSet<PathBuf>,
    ) -> Result<HashMap<PathBuf, FileDigest>, BuildError> {
        let now = nanos_now();
        let paths: Vec<&PathBuf> = files.iter().collect();
        let share = paths.len().div_ceil(threads()).max(64);
        let done = Mutex::new(Vec::with_capacity(paths.len()));
        let failed = Mutex::new(None);
        let known = &self.known;
        std::thread::scope(|scope| {
            for chunk in paths.chunks(share) {
                let (done, failed) = (&done, &failed);
                scope.spawn(move || {
                    let mut mine = Vec::with_capacity(chunk.len());
                    for path in chunk {
                        match look(path, known) {
                            Ok(Some((stat, digest))) => mine.push(((*path).clone(), stat, digest)),
                            Ok(None) => {}
                            Err(error) => {
                                *failed.lock().unwrap_or_else(PoisonError::into_inner) =
                                    Some(error);
                                return;
                            }
                        }
                    }
                    done.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend(mine);
                });
            }
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut digests = HashMap::with_capacity(done.len());
        let mut fresh = false;
        for (path, stat, digest) in done {
            if stat.settled(now) {
                let entry = (stat, digest);
                if self.known.get(&path) != Some(&entry) {
                    self.known.insert(path.clone(), entry);
                    fresh = true;
                }
            } else {
                fresh |= self.known.remove(&path).is_some();
            }
            digests.insert(path, digest);
        }
        if fresh {
            self.save(files);
        }
        Ok(digests)
    }

    /// Writes what is known, whole or not at all. That it could not is no reason to fail: it only saves time.
    fn save(&mut self, seen: &BTreeSet<PathBuf>) {
        let Some(place) = &self.place else { return };
        if self.known.len() > 2 * seen.len() + 1000 {
            self.known.retain(|path, _| seen.contains(path));
        }
        let mut text = Vec::with_capacity(self.known.len() * 200);
        let _ = writeln!(text, "{FORMAT}");
        for (path, (stat, digest)) in &self.known {
            let path = path.as_os_str().as_bytes();
            if path.contains(&b'\n') || std::str::from_utf8(path).is_err() {
                continue;
            }
            let _ = write!(
                text,
                "{} {} {} {} {} {} {} ",
                hex::encode(digest.0),
                stat.size,
                stat.modified,
                stat.changed,
                stat.inode,
                stat.device,
                stat.mode
            );
            text.extend_from_slice(path);
            text.push(b'\n');
        }
        let saved = write_whole(place, &text);
        if let Err(error) = saved {
            tracing::debug!(%error, "file digests are not remembered");
        }
    }
}

/// Writes a file so that readers see the old text or the new one.
pub(super) fn write_whole(place: &Path, text: &[u8]) -> std::io::Result<()> {
    let folder = place.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.persist(place).map_err(|error| error.error)?;
    Ok(())
}

fn parse(text: &str) -> Option<HashMap<PathBuf, (Stat, FileDigest)>> {
    let mut lines = text.lines();
    if lines.next() != Some(FORMAT) {
        return None;
    }
    let mut known = HashMap::new();
    for line in lines {
        let mut fields = line.splitn(8, ' ');
        let digest: [u8; 32] = hex::decode(fields.next()?).ok()?.try_into().ok()?;
        let stat = Stat {
            size: fields.next()?.parse().ok()?,
            modified: fields.next()?.parse().ok()?,
            changed: fields.next()?.parse().ok()?,
            inode: fields.next()?.parse().ok()?,
            device: fields.next()?.parse().ok()?,
            mode: fields.next()?.parse().ok()?,
        };
        known.insert(PathBuf::from(fields.next()?), (stat, FileDigest(digest)));
    }
    Some(known)
}

/// The digest of one file, as remembered or read anew; `None` if it is gone.
fn look(
    path: &Path,
    known: &HashMap<PathBuf, (Stat, FileDigest)>,
) -> Result<Option<(Stat, FileDigest)>, BuildError> {
    let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        // A link to nowhere counts as the text of the link.
        Err(error) => {
            return match (fs::symlink_metadata(path), fs::read_link(path)) {
                (Ok(meta), Ok(target)) => {
                    let digest = digest_of("link", target.as_os_str().as_bytes());
                    Ok(Some((Stat::of(&meta), digest)))
                }
                _ if gone(&error) => Ok(None),
                _ => Err(BuildError::file("read", path)(error)),
            };
        }
    };
    if !meta.is_file() {
        // A socket or a pipe is nothing a build reads; a folder is what it holds.
        return Ok(None);
    }
    let stat = Stat::of(&meta);
    if let Some((then, digest)) = known.get(path)
        && *then == stat
    {
        return Ok(Some((stat, *digest)));
    }
    let kind = if stat.mode & 0o111 == 0 {
        "file"
    } else {
        "program"
    };
    match fs::read(path) {
        Ok(content) => Ok(Some((stat, digest_of(kind, &content)))),
        Err(error) if gone(&error) => Ok(None),
        Err(error) => Err(BuildError::file("read", path)(error)),
    }
}

fn digest_of(kind: &str, content: &[u8]) -> FileDigest {
    let mut hasher = Sha256::new();
    hasher.update(kind.as_bytes());
    hasher.update([0]);
    hasher.update(content);
    FileDigest(hasher.finalize().into())
}

fn nanos_now() -> i128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long_ago(path: &Path) {
        let then = SystemTime::now() - Duration::from_secs(3600);
        fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(then)
            .unwrap();
    }

    #[test]
    fn a_change_shows_even_when_the_modification_time_and_size_do_not() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("a");
        let files = BTreeSet::from([file.clone()]);
        let mut digests = FileDigests::load(temp.path().join("cache/files"));
        fs::write(&file, "one").unwrap();
        long_ago(&file);
        let first = digests.digest(&files).unwrap()[&file];
        // Same size, same modification time, new content.
        fs::write(&file, "two").unwrap();
        long_ago(&file);
        let second = digests.digest(&files).unwrap()[&file];
        assert_ne!(first, second);
    }

    #[test]
    fn what_was_digested_long_after_its_change_is_not_read_again() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("a");
        fs::write(&file, "one").unwrap();
        let stat = Stat::of(&fs::metadata(&file).unwrap());
        assert!(!stat.settled(stat.changed + 1_000_000_000));
        assert!(
            !stat.settled(stat.changed - 3_600_000_000_000),
            "a clock that jumped back"
        );
        assert!(stat.settled(stat.changed + 3_000_000_000));
        let remembered = FileDigest([7; 32]);
        let known = HashMap::from([(file.clone(), (stat, remembered))]);
        assert_eq!(look(&file, &known).unwrap().unwrap().1, remembered);
    }

    #[test]
    fn what_is_remembered_is_read_back_and_nonsense_is_forgotten() {
        let temp = tempfile::tempdir().unwrap();
        let place = temp.path().join("cache/files");
        let file = temp.path().join("with space");
        fs::write(&file, "one").unwrap();
        let stat = Stat::of(&fs::metadata(&file).unwrap());
        let mut digests = FileDigests::load(place.clone());
        digests
            .known
            .insert(file.clone(), (stat, FileDigest([7; 32])));
        digests.save(&BTreeSet::from([file.clone()]));
        assert_eq!(FileDigests::load(place.clone()).known, digests.known);
        fs::write(&place, format!("{FORMAT}\nnonsense\n")).unwrap();
        assert!(FileDigests::load(place).known.is_empty());
    }

    #[test]
    fn being_executable_is_part_of_a_file() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("run");
        fs::write(&file, "#!/bin/sh").unwrap();
        let none = HashMap::new();
        let before = look(&file, &none).unwrap().unwrap().1;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(look(&file, &none).unwrap().unwrap().1, before);
    }
}
