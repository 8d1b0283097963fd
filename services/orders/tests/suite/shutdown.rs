//! Stopping drops nothing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use nix::sys::signal::Signal;
use reqwest::StatusCode;

use crate::database::Database;
use crate::program::{DEADLINE, Program, order};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_drops_nothing() {
    let database = Database::sqlite();
    let mut program = Program::start(&database.url).await;
    let shared = &program;
    let count = AtomicUsize::new(0);
    let draining = AtomicBool::new(false);
    // As a balancer would: whoever is told that this instance drains sends no more to it.
    let client = async |number: usize| {
        let mut stored = 0;
        while !draining.load(Ordering::SeqCst) {
            let response = shared.try_place(&order(&number.to_string()), None).await;
            let response = response.expect("an accepted request is answered");
            assert_eq!(response.status(), 201);
            let closing = response
                .headers()
                .get("connection")
                .is_some_and(|value| value == "close");
            response.bytes().await.expect("the whole answer");
            stored += 1;
            count.fetch_add(1, Ordering::Relaxed);
            if closing {
                draining.store(true, Ordering::SeqCst);
            }
        }
        stored
    };
    let stop = async {
        let deadline = Instant::now() + DEADLINE;
        while count.load(Ordering::Relaxed) < 100 {
            assert!(Instant::now() < deadline, "too slow");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        shared.signal(Signal::SIGTERM);
    };
    let (stored, ()) = futures::join!(join_all((0..16).map(client)), stop);
    assert!(program.wait().await.success());
    let expected: usize = stored.into_iter().sum();
    let program = Program::start(&database.url).await;
    assert_eq!(program.all().await.len(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_is_finished() {
    let database = Database::sqlite();
    let variables = [
        ("ORDERS_FAULT", "slow=100%:800ms"),
        ("DRAIN_DELAY", "100ms"),
    ];
    let mut program = Program::start_with(&database.url, &variables).await;
    let shared = &program;
    let ada = order("Ada");
    let request = shared.try_place(&ada, None);
    let stop = async {
        // In flight is when the service counts it.
        let deadline = Instant::now() + DEADLINE;
        loop {
            let metrics = shared.get("/metrics").await.text().await.unwrap();
            // This very scrape is one.
            if metrics.contains("http_requests_in_flight{service=\"orders\"} 2") {
                break;
            }
            assert!(Instant::now() < deadline, "{metrics}");
        }
        shared.signal(Signal::SIGTERM);
        shared
            .wait_status("/health/ready", StatusCode::SERVICE_UNAVAILABLE)
            .await;
    };
    let (response, ()) = futures::join!(request, stop);
    let response = response.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["connection"], "close");
    assert!(program.wait().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_ends_what_does_not_end() {
    let database = Database::sqlite();
    let variables = [
        ("ORDERS_FAULT", "slow=100%:9s"),
        ("DRAIN_DELAY", "50ms"),
        ("SHUTDOWN_DEADLINE", "200ms"),
    ];
    let mut program = Program::start_with(&database.url, &variables).await;
    let shared = &program;
    let stop = async {
        let deadline = Instant::now() + DEADLINE;
        while !shared
            .get("/metrics")
            .await
            .text()
            .await
            .unwrap()
            .contains("http_requests_in_flight{service=\"orders\"} 2")
        {
            assert!(Instant::now() < deadline, "the request did not arrive");
        }
        shared.signal(Signal::SIGTERM);
    };
    let ada = order("Ada");
    let (response, ()) = futures::join!(shared.try_place(&ada, None), stop);
    assert!(response.is_err());
    assert_eq!(program.wait().await.code(), Some(1));
    let line = program.wait_for_line("failed");
    assert!(
        line["error"].as_str().unwrap().contains("cut off"),
        "{line}"
    );
}
