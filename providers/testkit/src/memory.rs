//! A store in memory, with the same promises as the real ones but durability.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use platform_port::{Document, Store, StoreError, Version};

/// What becomes of a write to a store that is not quite there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing is written.
    Refused,
    /// It is written, and the answer is lost.
    AnswerLost,
}

/// Documents in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    documents: Mutex<BTreeMap<String, (u64, Vec<u8>)>>,
    troubles: Mutex<VecDeque<Trouble>>,
    away: AtomicBool,
    slowness: Mutex<Duration>,
}

impl MemoryStore {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (u64, Vec<u8>)>> {
        self.documents
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Has the next writes fail, one after the other.
    pub fn fail(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.troubles().extend(troubles);
    }

    /// Writes that still are to fail.
    pub fn troubles_left(&self) -> usize {
        self.troubles().len()
    }

    fn troubles(&self) -> std::sync::MutexGuard<'_, VecDeque<Trouble>> {
        self.troubles
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Has everything fail, until this is called with `false`.
    pub fn away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// Has each read and write take so long from now on.
    pub fn answer_after(&self, slowness: Duration) {
        *self.slowness() = slowness;
    }

    fn slowness(&self) -> std::sync::MutexGuard<'_, Duration> {
        self.slowness
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn answer(&self) {
        let slowness = *self.slowness();
        if !slowness.is_zero() {
            tokio::time::sleep(slowness).await;
        }
    }

    fn reach(&self, action: &'static str, key: &str) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(broken(action, key));
        }
        Ok(())
    }

    /// Removes every document.
    pub fn clear(&self) {
        self.lock().clear();
    }
}

fn broken(action: &'static str, key: &str) -> StoreError {
    StoreError::Unavailable {
        action,
        key: key.to_owned(),
        place: "memory".to_owned(),
        source: "the connection broke".into(),
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn read(&self, key: &str) -> Result<Option<Document>, StoreError> {
        self.answer().await;
        self.reach("read", key)?;
        Ok(self.lock().get(key).map(|(version, bytes)| Document {
            version: Version(version.to_string()),
            bytes: bytes.clone(),
        }))
    }

    async fn write(
        &self,
        key: &str,
        bytes: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, StoreError> {
        self.answer().await;
        self.reach("write", key)?;
        let trouble = self.troubles().pop_front();
        if trouble == Some(Trouble::Refused) {
            return Err(broken("write", key));
        }
        let mut documents = self.lock();
        let found = documents.get(key).map(|(version, _)| *version);
        if found.map(|v| Version(v.to_string())).as_ref() != expected {
            return Err(StoreError::Conflict {
                key: key.to_owned(),
            });
        }
        let next = found.unwrap_or(0) + 1;
        documents.insert(key.to_owned(), (next, bytes.to_vec()));
        if trouble.is_some() {
            return Err(broken("write", key));
        }
        Ok(Version(next.to_string()))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.reach("delete", key)?;
        self.lock().remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.reach("list", prefix)?;
        let documents = self.lock();
        let keys = documents.keys().filter(|key| key.starts_with(prefix));
        Ok(keys.cloned().collect())
    }
}
