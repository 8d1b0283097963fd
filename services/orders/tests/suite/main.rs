//! Runs the real program against real databases.
//!
//! Every test of behaviour and durability runs on SQLite and on PostgreSQL: the server that `DATABASE_URL` names, or one
//! started for the test from `/usr/lib/postgresql`. Where the build script found neither, those tests are ignored, with
//! the reason, and counted as such.

mod behaviour;
mod contract;
mod database;
mod durability;
mod faults;
mod outage;
mod program;
mod server;
mod shutdown;
mod telemetry;

/// Makes each function a test on both databases.
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::database::Database::sqlite()).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[cfg_attr(
                not(has_postgres),
                ignore = "no PostgreSQL: set DATABASE_URL or install the server"
            )]
            async fn $name() {
                super::$name(crate::database::Database::postgres().await).await;
            })*
        }
    };
}

pub(crate) use on_both_databases;
