//! The database goes away and comes back.

use serde_json::Value;

use crate::database::Database;
use crate::program::{Program, json, order, problem};
use crate::server::Server;
use reqwest::StatusCode;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(
    not(has_postgres_programs),
    ignore = "no PostgreSQL programs, and a server to crash"
)]
async fn readiness_follows_the_database() {
    let mut server = Server::new();
    let program = Program::launch(&server.url(), &[]);
    program
        .wait_status("/health/ready", StatusCode::SERVICE_UNAVAILABLE)
        .await;
    assert_eq!(program.get("/health/live").await.status(), 200);
    let response = program.place(&order("Ada"), None).await;
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(
        problem(response, 503).await["code"],
        "orders::database-unavailable"
    );

    server.start().await;
    program.wait_ready().await;
    json(program.place(&order("Ada"), None).await, 201).await;

    server.crash();
    program
        .wait_status("/health/ready", StatusCode::SERVICE_UNAVAILABLE)
        .await;
    let report: Value = json(program.get("/health/ready").await, 503).await;
    assert_eq!(report["status"], "not-ready");
    assert_eq!(report["checks"][0]["name"], "database");
    assert!(report["checks"][0]["detail"].is_string(), "{report}");

    server.start().await;
    program.wait_ready().await;
    assert_eq!(program.all().await.len(), 1);
}

#[tokio::test]
async fn a_file_that_is_no_database_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    std::fs::write(
        &path,
        "this is a text, and has been one all along\n".repeat(100),
    )
    .unwrap();
    let mut program = Program::launch(&format!("sqlite:{}", path.display()), &[]);
    let line = program.wait_for_line("failed");
    assert!(
        line["error"].as_str().unwrap().contains("not a database"),
        "{line}"
    );
    assert_eq!(program.wait().await.code(), Some(1));
}

#[tokio::test]
async fn closing_leaves_one_file() {
    let database = Database::sqlite();
    let program = Program::start(&database.url).await;
    json(program.place(&order("Ada"), None).await, 201).await;
    program.stop().await;
    let path = database.url.strip_prefix("sqlite:").unwrap();
    assert!(std::path::Path::new(path).exists());
    assert!(!std::path::Path::new(&format!("{path}-wal")).exists());
}
