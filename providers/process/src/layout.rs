//! Where everything of one environment lies on this machine.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::durable::StateError;
use crate::identity::ProcessIdentity;

/// The folders and files of one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
    tag: String,
}

/// What a running agent says about itself in the state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AgentRecord {
    /// Its process.
    pub(crate) process: ProcessIdentity,
    /// Its keeper's process.
    pub(crate) keeper: Option<ProcessIdentity>,
    /// Where it listens.
    pub(crate) socket: PathBuf,
}

impl Layout {
    /// The layout of the environment whose state lies in `root`, an absolute path.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let given = root.into();
        // The folder may not be there yet; the one above it usually is.
        let root = fs::canonicalize(&given).unwrap_or_else(|_| {
            match (given.parent().map(fs::canonicalize), given.file_name()) {
                (Some(Ok(parent)), Some(name)) => parent.join(name),
                _ => given,
            }
        });
        let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
        let tag = hex::encode(&digest[..6]);
        Self { root, tag }
    }

    /// The state folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A short name for this state folder, unique on the machine.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// What the agent keeps up.
    pub fn desired(&self) -> PathBuf {
        self.root.join("desired.json")
    }

    /// Sealed secret values.
    pub fn sealed_secrets(&self) -> PathBuf {
        self.root.join("secrets.sealed")
    }

    /// Ports that stay the same.
    pub fn ports(&self) -> PathBuf {
        self.root.join("ports.json")
    }

    /// Held by the one agent of this folder.
    pub fn agent_lock(&self) -> PathBuf {
        self.root.join("agent.lock")
    }

    /// There while an agent is wanted: from when one is first started until all is stopped.
    pub fn agent_wanted(&self) -> PathBuf {
        self.root.join("agent.wanted")
    }

    /// The running agent's record.
    pub fn agent_record(&self) -> PathBuf {
        self.root.join("agent.json")
    }

    /// What agent and keeper have to say.
    pub fn agent_log(&self) -> PathBuf {
        self.root.join("agent.log")
    }

    /// How processes ended that the keeper reaped.
    pub fn exits(&self) -> PathBuf {
        self.root.join("exits")
    }

    /// All instances' folders.
    pub fn instances(&self) -> PathBuf {
        self.root.join("instances")
    }

    /// One instance's folder: its record and its pipes.
    pub fn instance(&self, id: &str) -> PathBuf {
        self.instances().join(id)
    }

    /// All log folders, one for each service.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The store's documents.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// What the gateway keeps.
    pub fn gateway(&self) -> PathBuf {
        self.root.join("gateway")
    }

    /// All resources' data.
    pub fn all_data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// One resource's data.
    pub fn data(&self, resource: &str) -> PathBuf {
        self.all_data().join(resource)
    }

    /// One resource's passwords and settings.
    pub fn resource(&self, resource: &str) -> PathBuf {
        self.root.join("resources").join(resource)
    }

    /// Folders that outlive instances.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name)
    }

    /// The folder of this environment's sockets, made and verified.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or belongs to somebody else.
    pub fn sockets(&self) -> Result<PathBuf, StateError> {
        let uid = nix::unistd::getuid().as_raw();
        let base = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
            Some(runtime) if runtime.is_absolute() && runtime.is_dir() => runtime.join("platform"),
            _ => PathBuf::from(format!("/tmp/platform-{uid}")),
        };
        private_folder(&base)?;
        let own = base.join(&self.tag);
        private_folder(&own)?;
        Ok(own)
    }

    /// The folder of secrets that are handed over as files, in memory where there is such a place.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or belongs to somebody else.
    pub fn secret_files(&self) -> Result<PathBuf, StateError> {
        let uid = nix::unistd::getuid().as_raw();
        let in_memory = Path::new("/dev/shm");
        let has_runtime = std::env::var_os("XDG_RUNTIME_DIR").is_some();
        let own = if !has_runtime && in_memory.is_dir() {
            let base = in_memory.join(format!("platform-{uid}"));
            private_folder(&base)?;
            base.join(&self.tag)
        } else {
            self.sockets()?.join("secrets")
        };
        private_folder(&own)?;
        Ok(own)
    }
}

/// Makes a folder that only we can enter, or verifies that it is one.
fn private_folder(path: &Path) -> Result<(), StateError> {
    let refuse = |source| StateError::of("make folder", path, source);
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(refuse(error)),
    }
    let seen = fs::symlink_metadata(path).map_err(refuse)?;
    let ours = seen.is_dir()
        && seen.uid() == nix::unistd::getuid().as_raw()
        && seen.mode().trailing_zeros() >= 6;
    if ours {
        return Ok(());
    }
    if seen.is_dir() && seen.uid() == nix::unistd::getuid().as_raw() {
        use std::os::unix::fs::PermissionsExt;
        return fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(refuse);
    }
    Err(StateError::Unavailable {
        action: "use folder",
        path: path.to_owned(),
        source: io::Error::other("it belongs to somebody else, or is no folder"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_two_environments_differ() {
        let folder = tempfile::tempdir().unwrap();
        let one = Layout::new(folder.path().join("local"));
        let two = Layout::new(folder.path().join("staging"));
        assert_ne!(one.tag(), two.tag());
        fs::create_dir(folder.path().join("local")).unwrap();
        assert_eq!(one, Layout::new(folder.path().join("local")));
    }

    #[test]
    fn a_link_in_place_of_the_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(private_folder(&link).is_err());
        let own = folder.path().join("own");
        private_folder(&own).unwrap();
        assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, 0o700);
        private_folder(&own).unwrap();
    }
}
