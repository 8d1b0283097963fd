//! A database for one test, gone after it.

use sqlx::{AnyConnection, Connection, Executor};
use tempfile::TempDir;

use crate::server::Server;

/// A fresh database.
pub(crate) struct Database {
    pub(crate) url: String,
    _keep: Keep,
}

#[expect(dead_code, reason = "held for what happens when it is dropped")]
enum Keep {
    Folder(TempDir),
    Server(Server),
    Named(Named),
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self {
            url: format!("sqlite:{}/orders.db", folder.path().display()),
            _keep: Keep::Folder(folder),
        }
    }

    pub(crate) async fn postgres() -> Self {
        if let Ok(url) = std::env::var("DATABASE_URL") {
            let named = Named::create(&url).await;
            return Self {
                url: named.url.clone(),
                _keep: Keep::Named(named),
            };
        }
        let mut server = Server::new();
        server.start().await;
        Self {
            url: server.url(),
            _keep: Keep::Server(server),
        }
    }

    /// Runs a statement behind the service's back.
    pub(crate) async fn execute(&self, statement: &str) {
        execute(&self.url, statement).await;
    }
}

async fn execute(url: &str, statement: &str) {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await.expect("a connection");
    connection
        .execute(sqlx::AssertSqlSafe(statement.to_owned()))
        .await
        .expect("a statement that works");
    connection.close().await.expect("a close");
}

/// A database of its own on somebody's server.
struct Named {
    server: String,
    name: String,
    url: String,
}

impl Named {
    async fn create(server: &str) -> Self {
        let name = format!("orders_test_{}", uuid::Uuid::new_v4().simple());
        execute(server, &format!("CREATE DATABASE {name}")).await;
        let (base, query) = server.split_once('?').unwrap_or((server, ""));
        // The path after the host, where there is one, names a database; ours takes its place.
        let (scheme, rest) = base.split_once("://").expect("a URL");
        let host = rest.split('/').next().unwrap_or(rest);
        Self {
            server: server.to_owned(),
            url: format!("{scheme}://{host}/{name}?{query}"),
            name,
        }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(execute(
                &server,
                &format!("DROP DATABASE {name} WITH (FORCE)"),
            ));
        });
        let _ = removed.join();
    }
}
