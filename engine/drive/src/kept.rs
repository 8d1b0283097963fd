//! A document that one run writes over and over, also where the answer to a write was lost.

use platform_port::{Store, StoreError, Version};

/// What a run knows of a document that it alone writes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    version: Option<Version>,
    /// What a write that failed meant to write: it may have been written nevertheless.
    unsure: Option<Vec<u8>>,
}

impl Kept {
    /// The document as it was found; `None` where there is none.
    pub(crate) fn found(version: Option<Version>) -> Self {
        Self {
            version,
            unsure: None,
        }
    }

    /// Writes it; safe to repeat after any error.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if somebody else wrote it meanwhile.
    pub(crate) async fn write(
        &mut self,
        store: &dyn Store,
        key: &str,
        bytes: Vec<u8>,
    ) -> Result<(), StoreError> {
        if let Some(meant) = &self.unsure {
            let found = store.read(key).await?;
            if let Some(written) = found.filter(|found| found.bytes == *meant) {
                self.version = Some(written.version);
            }
            self.unsure = None;
        }
        match store.write(key, &bytes, self.version.as_ref()).await {
            Ok(version) => self.version = Some(version),
            Err(error) => {
                self.unsure = Some(bytes);
                return Err(error);
            }
        }
        Ok(())
    }
}
