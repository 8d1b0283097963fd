//! A store in memory, with the same promises as the real ones but durability.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use platform_port::{Document, Store, StoreError, Version};

/// Documents in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    documents: Mutex<BTreeMap<String, (u64, Vec<u8>)>>,
}

impl MemoryStore {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (u64, Vec<u8>)>> {
        self.documents
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Removes every document.
    pub fn clear(&self) {
        self.lock().clear();
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn read(&self, key: &str) -> Result<Option<Document>, StoreError> {
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
        let mut documents = self.lock();
        let found = documents.get(key).map(|(version, _)| *version);
        if found.map(|v| Version(v.to_string())).as_ref() != expected {
            return Err(StoreError::Conflict {
                key: key.to_owned(),
            });
        }
        let next = found.unwrap_or(0) + 1;
        documents.insert(key.to_owned(), (next, bytes.to_vec()));
        Ok(Version(next.to_string()))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.lock().remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let documents = self.lock();
        let keys = documents.keys().filter(|key| key.starts_with(prefix));
        Ok(keys.cloned().collect())
    }
}
