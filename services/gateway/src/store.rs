//! The last configuration, on disk.

use std::io;
use std::path::{Path, PathBuf};

use platform_gateway_api::Config;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

const FILE: &str = "gateway.json";

/// What a restart takes up again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) config: Config,
    /// Addresses that listeners got where the configuration asked for port 0, by name.
    #[serde(default)]
    pub(crate) addresses: std::collections::BTreeMap<String, String>,
}

/// Keeps a configuration in a folder of its own.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    folder: PathBuf,
}

impl Store {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Reads what was kept; `None` when nothing was.
    pub(crate) async fn load(&self) -> io::Result<Option<Kept>> {
        match tokio::fs::read(self.folder.join(FILE)).await {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces what was kept: after a crash either the old or the new is there, whole.
    pub(crate) async fn save(&self, kept: &Kept) -> io::Result<()> {
        tokio::fs::create_dir_all(&self.folder).await?;
        let text = serde_json::to_vec(kept).map_err(io::Error::other)?;
        let temporary = self.folder.join(format!("{FILE}.{}", std::process::id()));
        let written = async {
            let mut file = tokio::fs::OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)
                .await?;
            file.write_all(&text).await?;
            // Without this the next step would hide that the write failed, as on a full disk.
            file.flush().await?;
            file.sync_all().await?;
            drop(file);
            tokio::fs::rename(&temporary, self.folder.join(FILE)).await?;
            tokio::fs::File::open(&self.folder).await?.sync_all().await
        };
        let written = written.await;
        if written.is_err() {
            let _ = tokio::fs::remove_file(&temporary).await;
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(&folder.path().join("state"));
        assert_eq!(store.load().await.unwrap(), None);
        let kept = Kept {
            config: Config {
                revision: 7,
                ..Config::default()
            },
            ..Kept::default()
        };
        store.save(&kept).await.unwrap();
        assert_eq!(store.load().await.unwrap(), Some(kept));
        assert_eq!(
            std::fs::read_dir(folder.path().join("state"))
                .unwrap()
                .count(),
            1
        );
    }
}
