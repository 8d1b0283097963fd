//! Writing many files as one: all of them or none, and never over another.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::TemplateError;

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    pub(crate) executable: bool,
}

impl Content {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self {
            bytes: text.into().into_bytes(),
            executable: false,
        }
    }
}

/// Files by their paths within the folder that is filled.
pub(crate) type Contents = BTreeMap<String, Content>;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placed {
    /// Files that were written, relative to the folder.
    pub written: Vec<String>,
    /// Files that were there and stay as they are.
    pub kept: Vec<String>,
}

/// Files and folders made so far; unless all are made, they are removed again.
struct Made {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    whole: bool,
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.whole {
            return;
        }
        for file in self.files.iter().rev() {
            let _ = fs::remove_file(file);
        }
        for folder in self.folders.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Writes files into a folder, which is made where there is none.
///
/// A file that is there with the very same content is as good as written, so what a killed run left is completed.
///
/// - `keep`: leave files that are in the way as they are, rather than refuse
///
/// # Errors
///
/// Files in the way, all of them, or what kept one from being written; either way nothing has changed.
pub(crate) fn place(
    folder: &Path,
    contents: &Contents,
    keep: bool,
) -> Result<Placed, TemplateError> {
    let mut placed = Placed::default();
    let mut in_the_way = Vec::new();
    for (path, content) in contents {
        match obstacle(folder, path, content) {
            Obstacle::None => placed.written.push(path.clone()),
            Obstacle::Same => placed.kept.push(path.clone()),
            Obstacle::File if keep => placed.kept.push(path.clone()),
            Obstacle::File => in_the_way.push(path.clone()),
            Obstacle::Above(path) => in_the_way.push(path),
        }
    }
    if !in_the_way.is_empty() {
        in_the_way.dedup();
        return Err(TemplateError::InTheWay {
            folder: folder.to_owned(),
            files: in_the_way,
        });
    }
    let mut made = Made {
        files: Vec::new(),
        folders: Vec::new(),
        whole: false,
    };
    make_folder(folder, &mut made)?;
    // Whatever takes time or space happens apart; the files then appear one by one, each whole.
    let apart = tempfile::Builder::new()
        .prefix(".platform-new-")
        .tempdir_in(folder)
        .map_err(TemplateError::file("write in", folder))?;
    for (number, path) in placed.written.iter().enumerate() {
        write(&apart.path().join(number.to_string()), &contents[path])?;
    }
    for (number, path) in placed.written.iter().enumerate() {
        let to = folder.join(path);
        if let Some(parent) = to.parent() {
            make_folder(parent, &mut made)?;
        }
        appear(&apart.path().join(number.to_string()), &to)
            .map_err(TemplateError::file("write", &to))?;
        made.files.push(to);
    }
    made.whole = true;
    Ok(placed)
}

enum Obstacle {
    None,
    Same,
    File,
    /// A file where a folder is needed.
    Above(String),
}

fn obstacle(folder: &Path, path: &str, content: &Content) -> Obstacle {
    let to = folder.join(path);
    for above in to.ancestors().skip(1).take_while(|above| *above != folder) {
        if fs::symlink_metadata(above).is_ok() && !above.is_dir() {
            let above = above.strip_prefix(folder).unwrap_or(above);
            return Obstacle::Above(above.to_string_lossy().into_owned());
        }
    }
    if fs::symlink_metadata(&to).is_err() {
        return Obstacle::None;
    }
    match fs::read(&to) {
        Ok(bytes) if bytes == content.bytes => Obstacle::Same,
        _ => Obstacle::File,
    }
}

fn make_folder(folder: &Path, made: &mut Made) -> Result<(), TemplateError> {
    let missing: Vec<_> = folder
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && !above.exists())
        .collect();
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            Ok(()) => made.folders.push(folder.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(TemplateError::file("make", folder)(error)),
        }
    }
    Ok(())
}

fn write(path: &Path, content: &Content) -> Result<(), TemplateError> {
    let failed = |error| TemplateError::file("write", path)(error);
    let mut file = fs::File::create_new(path).map_err(failed)?;
    file.write_all(&content.bytes).map_err(failed)?;
    if content.executable {
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        // Whoever may read it may run it, as far as the user's mask allows.
        let permissions = fs::Permissions::from_mode(mode | (mode & 0o444) >> 2);
        file.set_permissions(permissions).map_err(failed)?;
    }
    Ok(())
}

/// Lets a file appear under a name that is free. A link, unlike a rename, never replaces what came in between.
fn appear(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // File systems without links.
        Err(_) => {
            let mut file = fs::File::create_new(to)?;
            file.set_permissions(fs::metadata(from)?.permissions())?;
            file.write_all(&fs::read(from)?)
        }
    }
}

/// Replaces a file's text, whole or not at all.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), TemplateError> {
    let failed = |error| TemplateError::file("write", path)(error);
    let real = fs::canonicalize(path).map_err(failed)?;
    let folder = real.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    let permissions = fs::metadata(&real).map_err(failed)?.permissions();
    file.as_file()
        .set_permissions(permissions)
        .map_err(failed)?;
    file.persist(&real).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(files: &[(&str, &str)]) -> Contents {
        files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), Content::text(*text)))
            .collect()
    }

    fn files_in(folder: &Path) -> Vec<String> {
        let mut found: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        found
    }

    #[test]
    fn files_appear_whole_in_a_folder_that_was_not_there() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a/b");
        let mut wanted = contents(&[("x/y/z", "1"), ("w", "2")]);
        wanted.insert(
            "run".to_owned(),
            Content {
                bytes: b"#!/bin/sh".to_vec(),
                executable: true,
            },
        );
        let placed = place(&folder, &wanted, false).unwrap();
        assert_eq!(placed.written, ["run", "w", "x/y/z"]);
        assert_eq!(files_in(&folder), ["run", "w", "x"]);
        let mode = fs::metadata(folder.join("run"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o100, 0o100);
        assert!(place(&folder, &wanted, false).unwrap().written.is_empty());
    }

    #[test]
    fn what_is_there_is_never_touched() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("README.md"), "mine").unwrap();
        fs::write(temp.path().join("src"), "a file, not a folder").unwrap();
        let wanted = contents(&[("README.md", "theirs"), ("a", "1"), ("src/main.rs", "")]);
        let error = place(temp.path(), &wanted, false).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("has `README.md`, `src` already"),
            "{error}"
        );
        assert_eq!(files_in(temp.path()), ["README.md", "src"]);
        let wanted = contents(&[("README.md", "theirs"), ("a", "1")]);
        let placed = place(temp.path(), &wanted, true).unwrap();
        assert_eq!(placed.written, ["a"]);
        assert_eq!(placed.kept, ["README.md"]);
        assert_eq!(
            fs::read_to_string(temp.path().join("README.md")).unwrap(),
            "mine"
        );
    }

    #[test]
    fn what_cannot_be_written_whole_is_taken_back() {
        let temp = tempfile::tempdir().unwrap();
        let long = "x".repeat(300);
        let wanted = contents(&[("a/b", "1"), (&long, "2")]);
        let folder = temp.path().join("new");
        assert_eq!(
            place(&folder, &wanted, false).unwrap_err().code(),
            "template::file"
        );
        assert!(!folder.exists());
    }
}
