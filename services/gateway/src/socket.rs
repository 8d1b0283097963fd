//! Unix sockets that a successor can take over without a gap.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Whether somebody takes connections at a path.
pub(crate) fn is_served(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

/// The path of a listening socket, removed in the end if it still is ours.
#[derive(Debug)]
pub(crate) struct OwnPath {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Listens at a path that only this user can open, in place of whoever did before.
pub(crate) fn listen(path: &Path) -> io::Result<(UnixListener, OwnPath)> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    if temporary.exists() {
        std::fs::remove_file(&temporary)?;
    }
    let listener = UnixListener::bind(&temporary)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
    let known = std::fs::metadata(&temporary)?;
    // One step: at no time is there a path without a listener.
    std::fs::rename(&temporary, path)?;
    let own = OwnPath {
        path: path.into(),
        device: known.dev(),
        inode: known.ino(),
    };
    Ok((listener, own))
}

impl Drop for OwnPath {
    fn drop(&mut self) {
        let ours = std::fs::metadata(&self.path)
            .is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "cannot remove a socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_successor_takes_the_path_and_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let (_first, first_path) = listen(&path).unwrap();
        let (_second, second_path) = listen(&path).unwrap();
        drop(first_path);
        assert!(path.exists());
        drop(second_path);
        assert!(!path.exists());
    }
}
