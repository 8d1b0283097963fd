//! Faults for drills do what they say, and only when asked.

use crate::database::Database;
use crate::program::{Program, command, order, problem};

#[tokio::test]
async fn errors_are_injected_into_the_api_and_not_into_health() {
    let database = Database::sqlite();
    let program = Program::launch(&database.url, &[("ORDERS_FAULT", "errors=100%")]);
    let line = program.wait_for_line("FAULTS ARE ON: this instance misbehaves on purpose");
    assert_eq!(line["level"], "WARN");
    program.wait_ready().await;
    let seen = problem(program.get("/api/v1/orders").await, 500).await;
    assert_eq!(seen["code"], "fault::injected");
}

#[tokio::test]
async fn a_crash_comes_when_it_was_ordered() {
    let database = Database::sqlite();
    let mut program =
        Program::start_with(&database.url, &[("ORDERS_FAULT", "crash_after=3")]).await;
    for _ in 0..2 {
        assert_eq!(program.place(&order("Ada"), None).await.status(), 201);
    }
    assert!(program.try_place(&order("Ada"), None).await.is_err());
    assert!(!program.wait().await.success());
}

#[tokio::test]
async fn an_instance_can_be_kept_from_being_ready() {
    let database = Database::sqlite();
    let program = Program::launch(&database.url, &[("ORDERS_FAULT", "unready")]);
    let ready = program.get("/health/ready").await;
    assert_eq!(ready.status(), 503);
    assert_eq!(program.get("/health/live").await.status(), 200);
}

#[test]
fn a_start_can_fail() {
    let output = command()
        .env("ORDERS_DB_URL", "sqlite:/nonexistent/orders.db")
        .env("ORDERS_FAULT", "exit=3")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let output = command()
        .env("ORDERS_DB_URL", "sqlite:/nonexistent/orders.db")
        .env("ORDERS_FAULT", "explode")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
}
