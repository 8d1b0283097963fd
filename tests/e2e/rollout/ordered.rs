//! Several services of one release: together, or in the order that the blueprint states.

use serde_json::Value;

use crate::responder;
use crate::sandbox::{Sandbox, free_port};

fn blueprint(port: u16, order: &str, back: &str, front: &str) -> String {
    let command = responder::command();
    format!(
        r#"[project]
name = "shop"

[services.back]
command = {command}
port = 8080
health = {{ ready = "/health", start_within = "3s", interval = "200ms" }}
restart = {{ backoff = "20ms", crash_loop = 3 }}
env = {{ RESPOND = "{back}" }}

[services.front]
command = {command}
port = 8081
health = {{ ready = "/health", start_within = "3s", interval = "200ms" }}
restart = {{ backoff = "20ms", crash_loop = 3 }}
env = {{ RESPOND = "{front}" }}

[gateway]
port = {port}

[[routes]]
path = "/back"
service = "back"

[[routes]]
path = "/"
service = "front"

[rollout]
strategy = "canary"
steps = ["50%"]
hold = "100ms"
bake = "0s"
analysis = false
{order}
"#
    )
}

/// What was told of rollouts, oldest first.
fn told(sandbox: &Sandbox) -> Vec<String> {
    sandbox
        .read("events.jsonl")
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event["rollout"] == "step")
        .filter_map(|event| Some(event["text"].as_str()?.to_owned()))
        .collect()
}

fn position(told: &[String], text: &str) -> usize {
    told.iter()
        .position(|line| line.contains(text))
        .unwrap_or_else(|| panic!("no `{text}` in {told:#?}"))
}

fn served(port: u16) -> [Option<String>; 2] {
    ["/back", "/"].map(|path| {
        let answer = responder::ask(port, path)?;
        Some(answer.split(' ').next()?.to_owned())
    })
}

fn both(back: &str, front: &str) -> [Option<String>; 2] {
    [Some(back.to_owned()), Some(front.to_owned())]
}

#[test]
fn services_move_and_go_back_together() {
    let port = free_port();
    let sandbox = Sandbox::with(&blueprint(port, "", "one", "one"));
    sandbox.run(&["deploy", "--yes"]).ok();
    sandbox.write("platform.toml", &blueprint(port, "", "two", "two"));
    sandbox
        .run(&["deploy", "--yes", "--events", "events.jsonl"])
        .ok();
    let steps = told(&sandbox);
    assert!(steps[0].contains("back@r2, front@r2"), "{steps:#?}");
    assert_eq!(served(port), both("two", "two"));
    // One that fails takes the other along.
    sandbox.write("platform.toml", &blueprint(port, "", "three", "crash"));
    let seen = sandbox.run(&["deploy", "--yes"]);
    assert_eq!(seen.code, 10, "{seen:#?}");
    assert_eq!(served(port), both("two", "two"));
}

#[test]
fn services_move_in_the_order_that_is_stated_and_go_back_all_the_same() {
    let order = "order = [\"front\", \"back\"]";
    let port = free_port();
    let sandbox = Sandbox::with(&blueprint(port, order, "one", "one"));
    sandbox.run(&["deploy", "--yes"]).ok();
    sandbox.write("platform.toml", &blueprint(port, order, "two", "two"));
    sandbox
        .run(&["deploy", "--yes", "--events", "events.jsonl"])
        .ok();
    let steps = told(&sandbox);
    let (front, back) = (
        position(&steps, "front@r2 takes"),
        position(&steps, "back@r2 takes"),
    );
    let promoted = position(&steps, "promoted");
    assert!(front < promoted && promoted < back, "{steps:#?}");
    assert_eq!(served(port), both("two", "two"));
    // The second fails, and the first that was promoted already is taken back with it.
    sandbox.write("platform.toml", &blueprint(port, order, "crash", "three"));
    let seen = sandbox.run(&["deploy", "--yes"]);
    assert_eq!(seen.code, 10, "{seen:#?}");
    assert_eq!(served(port), both("two", "two"));
}
