//! The context of a Dockerfile build: a folder as a tar archive that depends on its files alone.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::ImageError;
use crate::ignored::Ignored;
use crate::layer::{Entry, write_entry};

/// The folder in which `platform` keeps what it needs. It goes into no context, whatever `.dockerignore` says.
const STATE: &str = ".platform";

/// What went into a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The Dockerfile's path within the context.
    pub dockerfile: String,
    /// How many files.
    pub files: usize,
}

/// Something in a context: its path there, and where it is.
type Found = (String, PathBuf, fs::Metadata);

/// Lists the files of a context, sorted, those left out that `.dockerignore` names.
///
/// A file beside the Dockerfile with its name and `.dockerignore` after it is read in place of the context's. The
/// Dockerfile and the ignore file always go along: the engine needs them, whatever the patterns say.
///
/// - `folder`: the context
/// - `dockerfile`: the Dockerfile, relative to it
///
/// # Errors
///
/// If the Dockerfile is missing, a pattern is none, or a folder cannot be read.
pub fn context_files(folder: &Path, dockerfile: &str) -> Result<Vec<PathBuf>, ImageError> {
    let found = list(folder, dockerfile)?;
    Ok(found
        .into_iter()
        .filter(|(_, _, meta)| !meta.is_dir())
        .map(|(_, path, _)| path)
        .collect())
}

/// Packs a context. Files belong to root and carry one time, so the same files give the same archive; what they may is
/// kept.
///
/// # Errors
///
/// As [`context_files`], and whatever keeps a file from being read.
pub fn pack(folder: &Path, dockerfile: &str, out: impl Write) -> Result<Packed, ImageError> {
    let mut tar = tar::Builder::new(out);
    let mut files = 0;
    for (name, path, meta) in list(folder, dockerfile)? {
        let mode = meta.permissions().mode() & 0o777;
        let entry = if meta.is_dir() {
            Entry::Folder { mode: 0o755 }
        } else if meta.is_symlink() {
            let target = fs::read_link(&path).map_err(ImageError::file("read", &path))?;
            Entry::Link {
                target: target.to_string_lossy().into_owned(),
            }
        } else if meta.is_file() {
            // Whether others may write differs by umask from one machine to the next.
            let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
            Entry::File { from: path, mode }
        } else {
            // A socket or a pipe is nothing a build reads.
            continue;
        };
        files += usize::from(!matches!(entry, Entry::Folder { .. }));
        write_entry(&mut tar, &name, &entry, 0)?;
    }
    tar.into_inner()
        .and_then(|mut out| out.flush())
        .map_err(ImageError::file("write", folder))?;
    Ok(Packed {
        dockerfile: within(dockerfile),
        files,
    })
}

fn within(path: &str) -> String {
    path.trim_start_matches("./").to_owned()
}

fn list(folder: &Path, dockerfile: &str) -> Result<Vec<Found>, ImageError> {
    let dockerfile = within(dockerfile);
    let missing = |what: &str| ImageError::NotInContext {
        folder: folder.to_owned(),
        missing: what.to_owned(),
    };
    if dockerfile.starts_with('/')
        || dockerfile.split('/').any(|part| part == "..")
        || !folder.join(&dockerfile).is_file()
    {
        return Err(missing(&dockerfile));
    }
    let own = format!("{dockerfile}.dockerignore");
    let file = [own.as_str(), ".dockerignore"]
        .into_iter()
        .find(|name| folder.join(name).is_file());
    let ignored = match file {
        Some(name) => {
            let path = folder.join(name);
            let text = fs::read_to_string(&path).map_err(ImageError::file("read", &path))?;
            Ignored::parse(&text, &path)?
        }
        None => Ignored::default(),
    };
    let always: Vec<&str> = std::iter::once(dockerfile.as_str()).chain(file).collect();
    let mut found = Vec::new();
    walk(folder, "", &ignored, &always, &mut found)?;
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn walk(
    folder: &Path,
    prefix: &str,
    ignored: &Ignored,
    always: &[&str],
    found: &mut Vec<Found>,
) -> Result<(), ImageError> {
    let entries = fs::read_dir(folder).map_err(ImageError::file("read", folder))?;
    for entry in entries {
        let entry = entry.map_err(ImageError::file("read", folder))?;
        // Ours, and nobody else's: what builds leave there would change what they are made from, and secrets may lie there.
        if entry.file_name() == STATE {
            continue;
        }
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ImageError::file("read", &path)(error)),
        };
        let out = ignored.leaves_out(&name) && !always.contains(&name.as_str());
        if meta.is_dir() {
            let below = format!("{name}/");
            let needed = always.iter().any(|file| file.starts_with(&below));
            if out && !needed && !ignored.may_bring_back() {
                continue;
            }
            let before = found.len();
            walk(&path, &below, ignored, always, found)?;
            // A folder that is left out is there only as far as something in it is not.
            if !out || found.len() > before {
                found.push((name, path, meta));
            }
        } else if !out {
            found.push((name, path, meta));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn names(archive: &[u8]) -> Vec<String> {
        tar::Archive::new(archive)
            .entries()
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }

    fn packed(folder: &Path, dockerfile: &str) -> Vec<u8> {
        let mut out = Vec::new();
        pack(folder, dockerfile, &mut out).unwrap();
        out
    }

    const FILES: [(&str, &str); 6] = [
        ("Dockerfile", "FROM scratch"),
        (".dockerignore", "**\n!src\nsrc/*.log\n"),
        ("src/main.rs", "fn main() {}"),
        ("src/a.log", "noise"),
        ("target/debug/x", "x"),
        ("secret", "x"),
    ];

    #[test]
    fn what_is_ignored_stays_out_and_the_dockerfile_never_does() {
        let folder = folder(&FILES);
        assert_eq!(
            names(&packed(folder.path(), "Dockerfile")),
            [".dockerignore", "Dockerfile", "src/", "src/main.rs"]
        );
    }

    #[test]
    fn what_platform_keeps_is_in_no_context() {
        let mut files = vec![("Dockerfile", "FROM scratch"), ("a", "x")];
        files.push((".platform/artifacts/x", "x"));
        files.push(("deploy/.platform/compose.files/secrets/db.json", "x"));
        let folder = folder(&files);
        assert_eq!(
            names(&packed(folder.path(), "Dockerfile")),
            ["Dockerfile", "a", "deploy/"]
        );
    }

    #[test]
    fn the_dockerfiles_own_ignore_file_goes_first() {
        let mut files = FILES.to_vec();
        files.push(("Dockerfile.dockerignore", "src\ntarget\n"));
        let folder = folder(&files);
        assert_eq!(
            names(&packed(folder.path(), "./Dockerfile")),
            [
                ".dockerignore",
                "Dockerfile",
                "Dockerfile.dockerignore",
                "secret"
            ]
        );
    }

    #[test]
    fn a_context_depends_on_nothing_but_its_files() {
        let (one, other) = (folder(&FILES), folder(&FILES));
        let then = SystemTime::now() - Duration::from_secs(3600);
        let file = fs::File::options()
            .write(true)
            .open(other.path().join("src/main.rs"))
            .unwrap();
        file.set_modified(then).unwrap();
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(other.path().join("Dockerfile"), mode).unwrap();
        assert_eq!(
            packed(one.path(), "Dockerfile"),
            packed(other.path(), "Dockerfile")
        );
    }

    #[test]
    fn a_missing_dockerfile_is_named() {
        let folder = folder(&FILES);
        for name in ["other", "../Dockerfile", "/etc/passwd"] {
            let error = pack(folder.path(), name, Vec::new()).unwrap_err();
            assert_eq!(error.code(), "image::not-in-context");
        }
    }
}
