//! What was acknowledged stays, whatever happens to the processes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use nix::sys::signal::Signal;

use crate::database::Database;
use crate::on_both_databases;
use crate::program::{DEADLINE, Program, id, json, order};

on_both_databases! {
    a_kill_while_writing_loses_nothing_acknowledged,
    two_processes_write_at_once,
    processes_that_start_at_once_agree_on_the_tables,
    a_later_release_may_have_been_here,
    a_first_release_database_is_brought_up_to_date,
}

async fn a_kill_while_writing_loses_nothing_acknowledged(database: Database) {
    let mut acknowledged = HashSet::new();
    for round in 0..3 {
        let mut program = Program::start(&database.url).await;
        let count = AtomicUsize::new(0);
        let shared = &program;
        let write = async |writer: usize| {
            let mut mine = Vec::new();
            loop {
                let key = format!("{round}-{writer}-{}", mine.len());
                let Ok(response) = shared.try_place(&order(&key), Some(&key)).await else {
                    return mine;
                };
                assert_eq!(response.status(), 201);
                // An answer whose body was cut off was not received.
                let Ok(body) = response.bytes().await else {
                    return mine;
                };
                let body: serde_json::Value = serde_json::from_slice(&body).expect("no failure");
                mine.push((key, id(&body).to_owned()));
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let kill = async {
            let deadline = Instant::now() + DEADLINE;
            while count.load(Ordering::Relaxed) < 60 {
                assert!(Instant::now() < deadline, "writing is too slow");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            shared.signal(Signal::SIGKILL);
        };
        let (written, ()) = futures::join!(join_all((0..8).map(write)), kill);
        acknowledged.extend(written.into_iter().flatten());
        program.wait().await;
    }
    let program = Program::start(&database.url).await;
    let orders = program.all().await;
    let stored: HashSet<(String, String)> = orders
        .iter()
        .map(|order| {
            (
                order["customer"].as_str().expect("a text").to_owned(),
                id(order).to_owned(),
            )
        })
        .collect();
    assert_eq!(stored.len(), orders.len(), "an order was stored twice");
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    // One request for each writer and round can be stored without its answer having arrived, never more.
    assert!(stored.len() <= acknowledged.len() + 3 * 8);
    for (key, id_then) in acknowledged.iter().take(20) {
        let again = json(program.place(&order(key), Some(key)).await, 201).await;
        assert_eq!(id(&again), id_then);
    }
}

async fn two_processes_write_at_once(database: Database) {
    let programs = [
        Program::start(&database.url).await,
        Program::start(&database.url).await,
    ];
    let write = async |writer: usize| {
        let program = &programs[writer % 2];
        for number in 0..25 {
            let placed = json(
                program
                    .place(&order(&format!("{writer}-{number}")), None)
                    .await,
                201,
            )
            .await;
            if number % 5 == 0 {
                json(
                    program.cancel(id(&placed), &[("if-match", "\"1\"")]).await,
                    200,
                )
                .await;
            }
            json(program.get("/api/v1/orders?limit=5").await, 200).await;
        }
    };
    join_all((0..8).map(write)).await;
    for program in &programs {
        let orders = program.all().await;
        assert_eq!(orders.len(), 200);
        let cancelled = orders.iter().filter(|order| order["status"] == "cancelled");
        assert_eq!(cancelled.count(), 40);
    }
}

async fn processes_that_start_at_once_agree_on_the_tables(database: Database) {
    let starts = (0..4).map(|_| {
        let url = database.url.clone();
        tokio::task::spawn_blocking(move || Program::launch(&url, &[]))
    });
    for (number, program) in join_all(starts).await.into_iter().enumerate() {
        let program = program.expect("no failure");
        program.wait_ready().await;
        json(program.place(&order("Ada"), None).await, 201).await;
        assert_eq!(program.all().await.len(), number + 1);
    }
}

async fn a_later_release_may_have_been_here(database: Database) {
    Program::start(&database.url).await.stop().await;
    // The next release adds a column and a table while this one goes on, and is then rolled back.
    database
        .execute(
            "ALTER TABLE orders ADD COLUMN carrier TEXT NOT NULL DEFAULT ''; \
             CREATE TABLE later (id TEXT); \
             INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1;",
        )
        .await;
    let program = Program::start(&database.url).await;
    json(program.place(&order("Ada"), Some("k")).await, 201).await;
    assert_eq!(program.all().await.len(), 1);
}

async fn a_first_release_database_is_brought_up_to_date(database: Database) {
    let program = Program::start(&database.url).await;
    json(program.place(&order("Ada"), None).await, 201).await;
    program.stop().await;
    // As the release before idempotency keys left it.
    database
        .execute("DROP TABLE idempotency; DELETE FROM _sqlx_migrations WHERE version = 2;")
        .await;
    let program = Program::start(&database.url).await;
    json(program.place(&order("Bob"), Some("k")).await, 201).await;
    assert_eq!(program.all().await.len(), 2);
}
