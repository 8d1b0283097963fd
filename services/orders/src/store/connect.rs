//! Connecting to either database.

use std::fmt;
use std::time::Duration;

use platform_kit::{Secret, Setting};
use sqlx::ConnectOptions;
use sqlx::Executor;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use tokio::sync::watch;
use tracing::log::LevelFilter;

use super::{Store, StoreError};

/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Which database holds the orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// A file, shared by every instance on this machine.
    Sqlite,
    /// A server.
    Postgres,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// The address of the database, which may hold a password.
#[derive(Clone)]
pub(crate) struct DatabaseUrl {
    backend: Backend,
    url: Secret,
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(self.backend.name()).field(&self.url).finish()
    }
}

impl Setting for DatabaseUrl {
    fn read(text: &str) -> Result<Self, String> {
        // What is wrong is told without the address, for it may hold a password.
        let (backend, url) = match text.split_once(':') {
            Some(("sqlite", path)) => {
                let (path, options) = path.split_once('?').unwrap_or((path, "mode=rwc"));
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() || path.contains(":memory:") {
                    return Err("names no file; orders would not survive a restart".to_owned());
                }
                (Backend::Sqlite, format!("sqlite:{path}?{options}"))
            }
            Some(("postgres" | "postgresql", _)) => (Backend::Postgres, text.to_owned()),
            _ => {
                return Err(
                    "is not an address such as `sqlite:/path/orders.db` or `postgres://…`"
                        .to_owned(),
                );
            }
        };
        if url.parse::<AnyConnectOptions>().is_err() {
            return Err("is not an address that can be read".to_owned());
        }
        let url = Secret::new(url);
        Ok(Self { backend, url })
    }
}

impl DatabaseUrl {
    /// Returns which database it names.
    pub(crate) fn backend(&self) -> Backend {
        self.backend
    }

    pub(super) fn options(&self) -> Result<AnyConnectOptions, sqlx::Error> {
        let options: AnyConnectOptions = self.url.reveal().parse()?;
        Ok(options
            .log_statements(LevelFilter::Trace)
            .log_slow_statements(LevelFilter::Warn, Duration::from_secs(1)))
    }
}

impl Store {
    /// Makes the pools without connecting; [`Store::prepare`] does that.
    pub(crate) fn open(url: &DatabaseUrl, connections: u32) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let options = url.options()?;
        let pool = AnyPoolOptions::new()
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .max_connections(connections);
        let (readers, writers) = match url.backend {
            Backend::Postgres => {
                let pool = pool.connect_lazy_with(options);
                (pool.clone(), pool)
            }
            // One writer in each process: requests queue here in order, and only processes meet at the file's lock.
            Backend::Sqlite => {
                let pool = pool.after_connect(|connection, _| {
                    Box::pin(async move {
                        connection
                            .execute(
                                "PRAGMA busy_timeout = 5000; PRAGMA synchronous = FULL; \
                                 PRAGMA cache_size = -1024;",
                            )
                            .await?;
                        Ok(())
                    })
                });
                let writers = pool.clone().max_connections(1);
                (
                    pool.connect_lazy_with(options.clone()),
                    writers.connect_lazy_with(options),
                )
            }
        };
        Ok(Self {
            url: url.clone(),
            readers,
            writers,
            prepared: watch::Sender::new(Err("connecting".to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_tell_the_backend_and_never_print() {
        let url = DatabaseUrl::read("postgres://shop:hunter2@db/orders").unwrap();
        assert_eq!(url.backend, Backend::Postgres);
        assert!(!format!("{url:?}").contains("hunter2"));
        let url = DatabaseUrl::read("sqlite:/var/lib/orders.db").unwrap();
        assert_eq!(url.url.reveal(), "sqlite:/var/lib/orders.db?mode=rwc");
    }

    #[test]
    fn a_database_that_forgets_is_refused() {
        for text in [
            "sqlite::memory:",
            "sqlite:",
            "mysql://db/orders",
            "orders.db",
        ] {
            assert!(DatabaseUrl::read(text).is_err(), "{text}");
        }
    }
}
