//! The small document store that every target keeps for its environments.

use async_trait::async_trait;

/// The version of a document, for compare-and-swap. Opaque; equal versions mean equal content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// A document as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its version.
    pub version: Version,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What a store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote in between; read again and decide again.
    #[error("document `{key}` was changed by somebody else")]
    Conflict {
        /// The document.
        key: String,
    },
    /// The document is there and cannot be made out.
    #[error("document `{key}` is damaged")]
    Damaged {
        /// The document.
        key: String,
        /// Where the user finds it.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store cannot be reached, read or written.
    #[error("cannot {action} document `{key}` in {place}")]
    Unavailable {
        /// `read`, `write`, `delete` or `list`.
        action: &'static str,
        /// The document, or the prefix of a listing.
        key: String,
        /// Where the user finds the store.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Documents of one environment, kept on its target.
///
/// Keys are lower-case words joined by `/`, such as `releases/00000012`. A write is durable and whole when it returns: after a
/// crash at any instant a reader sees the old document or the new one.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads a document; `None` where there is none.
    async fn read(&self, key: &str) -> Result<Option<Document>, StoreError>;

    /// Writes a document if it is still at `expected`, `None` meaning that there is none yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if it is not.
    async fn write(
        &self,
        key: &str,
        bytes: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, StoreError>;

    /// Deletes a document. Safe to repeat.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Keys that begin with `prefix`, sorted.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError>;
}
