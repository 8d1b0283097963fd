//! The same answer for the same request, however often it is sent.

use std::time::Duration;

use chrono::Utc;
use sha2::{Digest, Sha256};
use sqlx::{Any, Row, Transaction};

use super::{Outcome, Refusal, Store, StoreError};
use crate::order::Order;

/// Rows removed in one go, so that nobody waits long for the write lock.
const BATCH: i64 = 500;

/// A caller's promise that requests with the same key are the same request.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    scope: String,
    key: String,
    fingerprint: String,
}

impl Token {
    /// - `scope`: method and path, so that a key of one operation says nothing about another
    /// - `key`: the caller's key
    /// - `content`: what makes the request this one
    pub(crate) fn new(scope: impl Into<String>, key: impl Into<String>, content: &[u8]) -> Self {
        let digest = Sha256::digest(content);
        Self {
            scope: scope.into(),
            key: key.into(),
            fingerprint: digest.iter().fold(String::new(), |mut text, byte| {
                use std::fmt::Write;
                let _ = write!(text, "{byte:02x}");
                text
            }),
        }
    }
}

/// What a write answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: i64,
    /// Version of the order in the body.
    pub(crate) version: i64,
    /// The order as JSON, byte for byte as it was first sent.
    pub(crate) body: String,
    /// Whether it was given before.
    pub(crate) replayed: bool,
}

impl Answer {
    pub(crate) fn of(status: i64, order: &Order) -> Self {
        Self {
            status,
            version: order.version,
            body: serde_json::to_string(order).unwrap_or_default(),
            replayed: false,
        }
    }
}

/// Writes the answer down in the same transaction as what it acknowledges.
///
/// - returns: whether the token was unused; with no token there is nothing to write
pub(super) async fn remember(
    transaction: &mut Transaction<'_, Any>,
    token: Option<&Token>,
    answer: &Answer,
) -> Result<bool, StoreError> {
    let Some(token) = token else {
        return Ok(true);
    };
    // PostgreSQL waits here for another transaction that writes the same key.
    let written = sqlx::query(
        "INSERT INTO idempotency (scope, token, fingerprint, created_at, status, version, body) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (scope, token) DO NOTHING",
    )
    .bind(token.scope.as_str())
    .bind(token.key.as_str())
    .bind(token.fingerprint.as_str())
    .bind(Utc::now().timestamp_micros())
    .bind(answer.status)
    .bind(answer.version)
    .bind(answer.body.as_str())
    .execute(&mut **transaction)
    .await?;
    Ok(written.rows_affected() == 1)
}

impl Store {
    /// Returns what was answered under this token, if anything.
    pub(super) async fn given(
        &self,
        token: Option<&Token>,
    ) -> Result<Option<Result<Answer, Refusal>>, StoreError> {
        let Some(token) = token else {
            return Ok(None);
        };
        let row = sqlx::query(
            "SELECT fingerprint, status, version, body FROM idempotency \
             WHERE scope = $1 AND token = $2",
        )
        .bind(token.scope.as_str())
        .bind(token.key.as_str())
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let fingerprint: String = row.try_get("fingerprint")?;
        if fingerprint != token.fingerprint {
            return Ok(Some(Err(Refusal::TokenReused)));
        }
        Ok(Some(Ok(Answer {
            status: row.try_get("status")?,
            version: row.try_get("version")?,
            body: row.try_get("body")?,
            replayed: true,
        })))
    }

    /// Returns what was answered to the request that won the race for this token.
    pub(super) async fn given_to_another(&self, token: Option<&Token>) -> Outcome {
        match self.given(token).await? {
            Some(given) => Ok(given),
            // Swept between the two looks; asking again will work.
            None => Err(StoreError::NotReady(
                "the idempotency key just expired".to_owned(),
            )),
        }
    }

    /// Forgets tokens older than `keep`.
    ///
    /// - returns: how many
    pub(crate) async fn sweep(&self, keep: Duration) -> Result<u64, StoreError> {
        self.require_prepared()?;
        let age = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
        let oldest = Utc::now().timestamp_micros().saturating_sub(age);
        let mut total = 0;
        loop {
            let mut transaction = self.begin_write().await?;
            let removed = sqlx::query(
                "DELETE FROM idempotency WHERE (scope, token) IN \
                 (SELECT scope, token FROM idempotency WHERE created_at < $1 LIMIT $2)",
            )
            .bind(oldest)
            .bind(BATCH)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            transaction.commit().await?;
            total += removed;
            if removed == 0 {
                return Ok(total);
            }
        }
    }
}
