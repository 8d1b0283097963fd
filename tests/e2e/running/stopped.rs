//! Runs that are in each other's way, that are told to stop, and what hangs.

use super::Shop;
use crate::responder::ask;
use crate::sandbox::eventually;

#[test]
fn a_lock_is_shown_and_a_living_holder_is_left_alone() {
    let shop = Shop::deployed();
    shop.answers("silent");
    let mut deploying = shop.sandbox.start(&["deploy", "--yes"]);
    eventually("the deploy holds the lock", || {
        let lock = shop.sandbox.run(&["unlock", "--format", "json", "--yes"]);
        lock.lines()
            .iter()
            .any(|line| line["code"] == "lock::alive")
    });
    let second = shop.sandbox.run(&["deploy", "--yes", "--format", "json"]);
    assert_eq!(second.code, 75, "{second:#?}");
    let status = shop
        .sandbox
        .run(&["status", "--format", "json"])
        .ok()
        .line("status");
    assert_eq!(status["run"]["command"], "platform deploy");
    assert_eq!(ask(shop.port, "/api").as_deref(), Some("hello r1\n"));
    let _ = deploying.child();
    let ended = deploying.end("-INT");
    assert_ne!(ended.code, 0);
}

#[test]
fn a_run_whose_lock_is_taken_away_ends_as_one_that_came_too_late() {
    let shop = Shop::deployed();
    shop.answers("silent");
    let mut deploying = shop.sandbox.start(&["deploy", "--yes"]);
    deploying.until_told("instances start");
    let taken = ["unlock", "--force", "--yes"];
    shop.sandbox.run(&taken).ok();
    let ended = deploying.wait();
    assert_eq!(ended.code, 75, "{ended:#?}");
    assert!(ended.stderr.contains("lock::lost"), "{ended:#?}");
    assert_eq!(ask(shop.port, "/api").as_deref(), Some("hello r1\n"));
    shop.answers("hello again");
    shop.sandbox.run(&["deploy", "--yes"]).ok();
}

#[test]
fn the_second_word_to_stop_is_taken_at_once() {
    let shop = Shop::deployed();
    shop.answers("silent");
    let mut deploying = shop.sandbox.start(&["deploy", "--yes"]);
    deploying.until_told("instances start");
    // An agent that says nothing keeps the deploy from getting to a safe point.
    let record = shop.sandbox.read(".platform/local/agent.json");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let agent = record["process"]["pid"].to_string();
    signal("-STOP", &agent);
    let own = deploying.child().id().to_string();
    signal("-INT", &own);
    deploying.until_told("Ctrl-C again to leave now");
    let ended = deploying.end("-INT");
    signal("-CONT", &agent);
    assert_eq!(ended.code, 130, "{ended:#?}");
    assert!(ended.stderr.contains("left at once"), "{ended:#?}");

    // What served goes on, and the next run ends what was begun.
    assert_eq!(ask(shop.port, "/api").as_deref(), Some("hello r1\n"));
    shop.answers("hello again");
    shop.sandbox.run(&["deploy", "--yes"]).ok();
    let answer = ask(shop.port, "/api").expect("an answer");
    assert!(answer.starts_with("hello again"), "{answer}");
}

#[test]
fn a_gateway_that_hangs_is_named_and_started_anew() {
    let shop = Shop::deployed();
    let record = shop
        .sandbox
        .read(".platform/local/instances/gateway.1/record.json");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let gateway = record["process"]["pid"].to_string();
    signal("-STOP", &gateway);

    let status = shop.sandbox.run(&["status", "--detailed-exitcode"]);
    assert_eq!(status.code, 2, "{status:#?}");
    assert!(status.stdout.contains("gateway not ready"), "{status:#?}");
    let waited = shop.sandbox.run(&["wait", "--timeout", "1s"]);
    assert_eq!(waited.code, 1, "{waited:#?}");
    for command in ["plan", "drift"] {
        let seen = shop.sandbox.run(&[command, "--detailed-exitcode"]);
        assert_eq!(seen.code, 2, "{seen:#?}");
        let told = "it runs and does not answer";
        assert!(seen.stdout.contains(told), "{command}: {seen:#?}");
    }
    shop.answers("hello again");
    shop.sandbox.run(&["deploy", "--yes"]).ok();
    let answer = ask(shop.port, "/api").expect("an answer");
    assert!(answer.starts_with("hello again"), "{answer}");
    shop.sandbox.run(&["drift", "--detailed-exitcode"]).ok();
}

fn signal(signal: &str, process: &str) {
    let sent = std::process::Command::new("kill")
        .args([signal, process])
        .status();
    assert!(sent.expect("kill runs").success());
}
