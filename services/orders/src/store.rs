//! Orders in SQLite or PostgreSQL: the same statements, two ways to connect.

mod connect;
mod idempotency;
mod schema;

use chrono::{DateTime, Utc};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyPool, Row, Transaction};
use tokio::sync::watch;
use uuid::Uuid;

use crate::cursor::Cursor;
use crate::order::{Item, Money, Order, Status};

pub(crate) use connect::{Backend, DatabaseUrl};
pub(crate) use idempotency::{Answer, Token};

/// Orders could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database is not prepared yet; says what it waits for.
    #[error("the database is not ready: {0}")]
    NotReady(String),
    /// The database did not do what it was asked.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// A row does not make sense.
    #[error("order {id} is stored in a way this release cannot read: {what}")]
    Unreadable {
        /// The order's identifier.
        id: String,
        /// What is wrong with it.
        what: String,
    },
}

/// Why a write was refused, and what to know about it.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// There is no such order.
    NotFound,
    /// The order is at another version than the caller saw.
    VersionMismatch {
        /// Where it stands now.
        current: i64,
    },
    /// The order is cancelled already.
    AlreadyCancelled,
    /// The idempotency key was used for another request.
    TokenReused,
}

/// What a write came to.
pub(crate) type Outcome = Result<Result<Answer, Refusal>, StoreError>;

/// The versions a caller is willing to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Whatever stands there.
    Any,
    /// One of these versions.
    OneOf(Vec<i64>),
}

impl Precondition {
    fn allows(&self, version: i64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }
}

/// Stores orders.
#[derive(Debug)]
pub(crate) struct Store {
    url: DatabaseUrl,
    readers: AnyPool,
    writers: AnyPool,
    prepared: watch::Sender<Result<(), String>>,
}

const COLUMNS: &str =
    "id, created_at, updated_at, version, status, customer, currency, total, items, note";

impl Store {
    /// Checks that orders can be read.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        self.require_prepared()?;
        sqlx::query("SELECT id FROM orders LIMIT 1")
            .fetch_optional(&self.readers)
            .await?;
        Ok(())
    }

    /// Closes every connection; SQLite then folds its log back into the file.
    pub(crate) async fn close(&self) {
        self.writers.close().await;
        self.readers.close().await;
    }

    /// Stores a new order under the caller's token.
    pub(crate) async fn create(&self, order: &Order, token: Option<&Token>) -> Outcome {
        self.require_prepared()?;
        if let Some(given) = self.given(token).await? {
            return Ok(given);
        }
        let mut transaction = self.begin_write().await?;
        let answer = Answer::of(201, order);
        if !idempotency::remember(&mut transaction, token, &answer).await? {
            transaction.rollback().await?;
            return self.given_to_another(token).await;
        }
        insert(&mut transaction, order).await?;
        transaction.commit().await?;
        Ok(Ok(answer))
    }

    /// Cancels an order under the caller's token.
    pub(crate) async fn cancel(
        &self,
        id: Uuid,
        precondition: &Precondition,
        now: DateTime<Utc>,
        token: Option<&Token>,
    ) -> Outcome {
        self.require_prepared()?;
        if let Some(given) = self.given(token).await? {
            return Ok(given);
        }
        let mut transaction = self.begin_write().await?;
        let cancelled = match cancel(&mut transaction, id, precondition, now).await? {
            Ok(order) => order,
            Err(refusal) => {
                transaction.rollback().await?;
                // The same request, sent twice at once, may have been the one that changed it.
                return Ok(self.given(token).await?.unwrap_or(Err(refusal)));
            }
        };
        let answer = Answer::of(200, &cancelled);
        if !idempotency::remember(&mut transaction, token, &answer).await? {
            transaction.rollback().await?;
            return self.given_to_another(token).await;
        }
        transaction.commit().await?;
        Ok(Ok(answer))
    }

    /// Returns an order.
    pub(crate) async fn read(&self, id: Uuid) -> Result<Option<Order>, StoreError> {
        self.require_prepared()?;
        let mut connection = self.readers.acquire().await.map_err(StoreError::from)?;
        select(&mut connection, id).await
    }

    /// Returns up to `limit` orders from `after` on, newest first.
    pub(crate) async fn list(
        &self,
        after: Option<Cursor>,
        status: Option<Status>,
        limit: i64,
    ) -> Result<Vec<Order>, StoreError> {
        self.require_prepared()?;
        // No order is as late as the start of the list.
        let after = after.unwrap_or(Cursor {
            created_at: i64::MAX,
            id: Uuid::max(),
        });
        let filter = if status.is_some() {
            " AND status = $4"
        } else {
            ""
        };
        let statement = format!(
            "SELECT {COLUMNS} FROM orders WHERE (created_at, id) < ($1, $2){filter} \
             ORDER BY created_at DESC, id DESC LIMIT $3"
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(after.created_at)
            .bind(after.id.to_string())
            .bind(limit);
        if let Some(status) = status {
            query = query.bind(status.as_str());
        }
        let rows = query.fetch_all(&self.readers).await?;
        rows.iter().map(order_of).collect()
    }

    async fn begin_write(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let transaction = match self.url.backend() {
            // Taking the write lock first means waiting for it; taking it later could fail with work half done.
            Backend::Sqlite => self.writers.begin_with("BEGIN IMMEDIATE").await,
            Backend::Postgres => self.writers.begin().await,
        };
        Ok(transaction?)
    }

    fn require_prepared(&self) -> Result<(), StoreError> {
        self.prepared.borrow().clone().map_err(StoreError::NotReady)
    }
}

async fn insert(transaction: &mut Transaction<'_, Any>, order: &Order) -> Result<(), StoreError> {
    let items = serde_json::to_string(&order.items).map_err(|error| StoreError::Unreadable {
        id: order.id.to_string(),
        what: error.to_string(),
    })?;
    let statement =
        format!("INSERT INTO orders ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)");
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(order.id.to_string())
        .bind(order.created_at.timestamp_micros())
        .bind(order.updated_at.timestamp_micros())
        .bind(order.version)
        .bind(order.status.as_str())
        .bind(order.customer.as_str())
        .bind(order.total.currency.as_str())
        .bind(order.total.amount)
        .bind(items)
        .bind(order.note.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

async fn cancel(
    transaction: &mut Transaction<'_, Any>,
    id: Uuid,
    precondition: &Precondition,
    now: DateTime<Utc>,
) -> Result<Result<Order, Refusal>, StoreError> {
    let Some(mut order) = select(transaction, id).await? else {
        return Ok(Err(Refusal::NotFound));
    };
    if !precondition.allows(order.version) {
        let current = order.version;
        return Ok(Err(Refusal::VersionMismatch { current }));
    }
    if order.status == Status::Cancelled {
        return Ok(Err(Refusal::AlreadyCancelled));
    }
    let seen = order.version;
    order.status = Status::Cancelled;
    order.version += 1;
    order.updated_at = now;
    let changed = sqlx::query(
        "UPDATE orders SET status = $1, version = $2, updated_at = $3 WHERE id = $4 AND version = $5",
    )
    .bind(order.status.as_str())
    .bind(order.version)
    .bind(order.updated_at.timestamp_micros())
    .bind(id.to_string())
    .bind(seen)
    .execute(&mut **transaction)
    .await?;
    if changed.rows_affected() == 1 {
        return Ok(Ok(order));
    }
    // PostgreSQL let another writer pass between the two statements.
    let current = select(transaction, id).await?.map(|order| order.version);
    Ok(Err(current.map_or(Refusal::NotFound, |current| {
        Refusal::VersionMismatch { current }
    })))
}

async fn select(
    connection: &mut sqlx::AnyConnection,
    id: Uuid,
) -> Result<Option<Order>, StoreError> {
    let statement = format!("SELECT {COLUMNS} FROM orders WHERE id = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(order_of).transpose()
}

fn order_of(row: &AnyRow) -> Result<Order, StoreError> {
    let id: String = row.try_get("id")?;
    let unreadable = |what: String| StoreError::Unreadable {
        id: id.clone(),
        what,
    };
    let time = |micros: i64| {
        DateTime::from_timestamp_micros(micros)
            .ok_or_else(|| unreadable(format!("{micros} is not a time")))
    };
    let status: String = row.try_get("status")?;
    let items: String = row.try_get("items")?;
    let items: Vec<Item> =
        serde_json::from_str(&items).map_err(|error| unreadable(error.to_string()))?;
    Ok(Order {
        id: id
            .parse()
            .map_err(|_| unreadable("its identifier is not a UUID".to_owned()))?,
        status: Status::of(&status)
            .ok_or_else(|| unreadable(format!("its status is `{status}`")))?,
        customer: row.try_get("customer")?,
        items,
        total: Money {
            amount: row.try_get("total")?,
            currency: row.try_get("currency")?,
        },
        note: row.try_get("note")?,
        created_at: time(row.try_get("created_at")?)?,
        updated_at: time(row.try_get("updated_at")?)?,
        version: row.try_get("version")?,
    })
}
