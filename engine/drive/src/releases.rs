//! The releases of an environment, as its store has them.

use std::collections::BTreeSet;

use platform_decide::release::{Release, ReleaseNumber, ReleaseStatus};
use platform_port::{Store, StoreError, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::kept::Kept;

/// The key of the document that says which release serves.
pub const HEAD: &str = "head";

/// Which releases matter now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Head {
    /// The release that serves.
    pub current: Option<ReleaseNumber>,
    /// The highest number ever given.
    pub last: Option<ReleaseNumber>,
    /// The release that a run is deploying, or was stopped while deploying.
    pub unfinished: Option<ReleaseNumber>,
}

/// The releases that a plan needs to know.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Which matter.
    pub head: Head,
    kept: Kept,
    /// The release that serves.
    pub current: Option<Release>,
    /// The release that a run was stopped while deploying.
    pub unfinished: Option<Release>,
}

impl History {
    /// Reads what an environment's store has.
    ///
    /// # Errors
    ///
    /// If the store fails or a document is damaged.
    pub async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let Some((head, version)) = read_json::<Head>(store, HEAD).await? else {
            return Ok(Self::default());
        };
        let current = read_some(store, head.current).await?;
        let unfinished = read_some(store, head.unfinished).await?;
        Ok(Self {
            head,
            kept: Kept::found(Some(version)),
            current,
            unfinished,
        })
    }

    /// Records that a run begins to deploy `release`; returns the release that nobody goes on with now, where there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if another run got in between.
    pub async fn begin(
        &mut self,
        store: &dyn Store,
        release: &Release,
    ) -> Result<Option<ReleaseNumber>, StoreError> {
        write_release(store, release).await?;
        self.head.last = self.head.last.max(Some(release.number));
        if self.head.current != Some(release.number) {
            self.head.unfinished = Some(release.number);
        }
        self.save(store).await?;
        let before = self.unfinished.replace(release.clone());
        let Some(mut before) = before.filter(|before| before.number != release.number) else {
            return Ok(None);
        };
        let goes_back = self.head.current == Some(release.number) || release.rollback_of.is_some();
        before.status = if goes_back {
            ReleaseStatus::RolledBack
        } else {
            ReleaseStatus::Failed
        };
        write_release(store, &before).await?;
        Ok(Some(before.number))
    }

    /// Records that `release` serves; safe to repeat.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if another run got in between.
    pub async fn finish(&mut self, store: &dyn Store, release: &Release) -> Result<(), StoreError> {
        let mut active = release.clone();
        active.status = ReleaseStatus::Active;
        write_release(store, &active).await?;
        self.head.current = Some(release.number);
        self.head.unfinished = None;
        self.save(store).await?;
        let before = self.current.clone();
        if let Some(mut before) = before.filter(|b| b.number != release.number) {
            before.status = match release.rollback_of {
                Some(_) => ReleaseStatus::RolledBack,
                None => ReleaseStatus::Superseded,
            };
            write_release(store, &before).await?;
        }
        self.current = Some(active);
        self.unfinished = None;
        Ok(())
    }

    /// Records that `release` was given up: taken back, or never up; safe to repeat.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if another run got in between.
    pub async fn give_up(
        &mut self,
        store: &dyn Store,
        release: &Release,
        status: ReleaseStatus,
    ) -> Result<(), StoreError> {
        let mut ended = release.clone();
        ended.status = status;
        write_release(store, &ended).await?;
        self.head.unfinished = None;
        self.unfinished = None;
        self.save(store).await
    }

    async fn save(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let bytes = to_json(&self.head);
        self.kept.write(store, HEAD, bytes).await
    }
}

/// Reads one release; `None` where there is none of that number.
///
/// # Errors
///
/// If the store fails or the document is damaged.
pub async fn release(
    store: &dyn Store,
    number: ReleaseNumber,
) -> Result<Option<Release>, StoreError> {
    Ok(read_json(store, &Release::key(number))
        .await?
        .map(|(release, _)| release))
}

/// Reads every release, oldest first.
///
/// # Errors
///
/// If the store fails or a document is damaged.
pub async fn all(store: &dyn Store) -> Result<Vec<Release>, StoreError> {
    let mut found = Vec::new();
    for key in store.list("releases/").await? {
        if let Some((release, _)) = read_json(store, &key).await? {
            found.push(release);
        }
    }
    Ok(found)
}

/// Reads the newest releases, so many at the most, and the one that serves, oldest first.
///
/// # Errors
///
/// If the store fails or a document is damaged.
pub async fn newest(store: &dyn Store, count: usize) -> Result<Vec<Release>, StoreError> {
    let mut keys: BTreeSet<String> = store.list("releases/").await?.into_iter().collect();
    while keys.len() > count {
        keys.pop_first();
    }
    let head = read_json::<Head>(store, HEAD).await?;
    keys.extend(head.and_then(|(head, _)| head.current).map(Release::key));
    let reads = keys.iter().map(|key| read_json::<Release>(store, key));
    let found = futures::future::try_join_all(reads).await?;
    Ok(found.into_iter().flatten().map(|(own, _)| own).collect())
}

async fn read_some(
    store: &dyn Store,
    number: Option<ReleaseNumber>,
) -> Result<Option<Release>, StoreError> {
    match number {
        Some(number) => release(store, number).await,
        None => Ok(None),
    }
}

async fn write_release(store: &dyn Store, release: &Release) -> Result<(), StoreError> {
    let key = Release::key(release.number);
    let before = store.read(&key).await?;
    let bytes = to_json(release);
    if before.as_ref().is_some_and(|b| b.bytes == bytes) {
        return Ok(());
    }
    store
        .write(&key, &bytes, before.as_ref().map(|b| &b.version))
        .await?;
    Ok(())
}

/// Reads a document of JSON with its version.
pub(crate) async fn read_json<T: DeserializeOwned>(
    store: &dyn Store,
    key: &str,
) -> Result<Option<(T, Version)>, StoreError> {
    let Some(document) = store.read(key).await? else {
        return Ok(None);
    };
    match serde_json::from_slice(&document.bytes) {
        Ok(value) => Ok(Some((value, document.version))),
        Err(source) => Err(StoreError::Damaged {
            key: key.to_owned(),
            place: "the target's store".to_owned(),
            source: source.into(),
        }),
    }
}

/// Writes a model value as JSON.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    match serde_json::to_vec_pretty(value) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("a model value has a JSON form: {error}"),
    }
}
