//! The tables, brought up to date when the service starts.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AnyConnection, Connection};

use super::{Backend, Store};

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Returns the migrations. Those of a later release, which may already have run, are none of our business.
fn migrations() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.set_ignore_missing(true);
    migrator
}

impl Store {
    /// Brings the tables up to date, trying again for as long as the database cannot be reached.
    ///
    /// # Errors
    ///
    /// A migration that cannot succeed by trying again.
    pub(crate) async fn prepare(&self) -> Result<(), MigrateError> {
        let mut pause = Duration::from_millis(50);
        loop {
            match self.migrate().await {
                Ok(()) => {
                    self.tell(Ok(()));
                    tracing::info!(database = self.url.backend().name(), "database ready");
                    return Ok(());
                }
                Err(MigrateError::Execute(error)) if passes(&error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "database not reachable yet"
                    );
                    self.tell(Err(error.to_string()));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => {
                    self.tell(Err(error.to_string()));
                    return Err(error);
                }
            }
        }
    }

    fn tell(&self, prepared: Result<(), String>) {
        drop(self.prepared.send_replace(prepared));
    }

    async fn migrate(&self) -> Result<(), MigrateError> {
        // Not from a pool, which would answer a wrong password or a broken file with "timed out".
        let mut connection = AnyConnection::connect_with(&self.url.options()?).await?;
        match self.url.backend() {
            // SQLite has no lock of its own for this: the write lock, taken first, makes the others wait and then find
            // everything done.
            Backend::Sqlite => {
                sqlx::query("PRAGMA journal_mode = WAL")
                    .execute(&mut connection)
                    .await?;
                let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
                migrations().run(&mut *transaction).await?;
                transaction.commit().await?;
            }
            // The migrator holds an advisory lock.
            Backend::Postgres => migrations().run(&mut connection).await?,
        }
        connection.close().await?;
        Ok(())
    }
}

/// Returns whether the error may pass with time: the database starts, is full of connections, or busy.
fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // PostgreSQL: connection trouble, no room, shutting down or starting up, lock not had.
            // SQLite: 5 busy, 6 locked, 261 busy recovering, 517 busy snapshot, 14 cannot open.
            ["08", "53", "57P"]
                .iter()
                .any(|class| code.starts_with(class))
                || ["55P03", "40001", "40P01", "5", "6", "261", "517", "14"].contains(&&*code)
        }),
        _ => false,
    }
}
