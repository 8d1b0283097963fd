//! Files that are written for the user.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::error::CliError;

/// Writes a file whole or not at all. A link stays one: what it leads to is replaced. What is no file, such as `/dev/stdout`, is
/// written to.
///
/// - `mode`: its permissions; those that it has, if none are given
///
/// # Errors
///
/// If it cannot be written; what was there is still there.
pub(crate) fn put(path: &Path, bytes: &[u8], mode: Option<u32>) -> Result<(), CliError> {
    whole(path, bytes, mode).map_err(|error| CliError::file("write", path, &error))
}

fn whole(path: &Path, bytes: &[u8], mode: Option<u32>) -> io::Result<()> {
    let there = fs::metadata(path).ok();
    if path.starts_with("/dev") || there.as_ref().is_some_and(|there| !there.is_file()) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = real
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".platform-")
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    let rights = mode
        .map(Permissions::from_mode)
        .or_else(|| there.map(|there| there.permissions()));
    if let Some(rights) = rights {
        file.as_file().set_permissions(rights)?;
    }
    file.as_file().sync_all()?;
    file.persist(&real).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_where_it_is_and_keeps_its_rights() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "before").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        symlink(&real, &link).unwrap();
        put(&link, b"after", None).unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"after");
        assert_eq!(
            fs::metadata(&real).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        put(&real, b"again", Some(0o600)).unwrap();
        assert_eq!(
            fs::metadata(&real).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_device_stays_one() {
        put(Path::new("/dev/null"), b"gone", Some(0o600)).unwrap();
        let null = fs::metadata("/dev/null").unwrap();
        assert!(null.file_type().is_char_device());
        let error = put(Path::new("/dev/full"), b"gone", None).unwrap_err();
        assert_eq!(error.diagnostics()[0].code, "file::cannot-write");
    }
}
