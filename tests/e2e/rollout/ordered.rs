//! Several services of one release: together, or in the order that the blueprint states.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::responder;
use crate::sandbox::{Sandbox, eventually, free_port};

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

/// A project whose blueprint is deployed.
fn deployed(text: &str) -> Sandbox {
    let sandbox = Sandbox::with(text);
    sandbox.run(&["deploy", "--yes"]).ok();
    sandbox
}

/// What a deploy of this blueprint tells of its rollouts, and how it ends.
fn deploys(sandbox: &Sandbox, text: &str, code: i32) -> Vec<String> {
    sandbox.write("platform.toml", text);
    let seen = sandbox.run(&["deploy", "--yes", "--events", "events.jsonl"]);
    assert_eq!(seen.code, code, "{seen:#?}");
    told(sandbox)
}

/// Checks that one release serves, whole.
fn is_over(sandbox: &Sandbox) -> Value {
    let status = sandbox.run(&["status", "--format", "json"]).ok();
    let status = status.line("status");
    assert!(status["unfinished"].is_null(), "{status:#}");
    status
}

#[test]
fn services_move_and_go_back_together() {
    let port = free_port();
    let sandbox = deployed(&blueprint(port, "", "one", "one"));
    let steps = deploys(&sandbox, &blueprint(port, "", "two", "two"), 0);
    assert!(steps[0].contains("back@r2, front@r2"), "{steps:#?}");
    assert_eq!(served(port), both("two", "two"));
    // One that fails takes the other along.
    deploys(&sandbox, &blueprint(port, "", "three", "crash"), 10);
    assert_eq!(served(port), both("two", "two"));
}

#[test]
fn services_move_in_the_order_that_is_stated_and_go_back_all_the_same() {
    let order = "order = [\"front\", \"back\"]";
    let port = free_port();
    let sandbox = deployed(&blueprint(port, order, "one", "one"));
    let steps = deploys(&sandbox, &blueprint(port, order, "two", "two"), 0);
    let (front, back) = (
        position(&steps, "front@r2 takes"),
        position(&steps, "back@r2 takes"),
    );
    let promoted = position(&steps, "promoted");
    assert!(front < promoted && promoted < back, "{steps:#?}");
    assert_eq!(served(port), both("two", "two"));
    // The second fails, and the first that was promoted already is taken back with it.
    deploys(&sandbox, &blueprint(port, order, "crash", "three"), 10);
    assert_eq!(served(port), both("two", "two"));
}

#[test]
fn services_with_rollouts_of_their_own_go_back_all_the_same() {
    let own = |back: &str, front: &str, port: u16| {
        let policy = "rollout = { strategy = \"blue-green\", hold = \"0s\", bake = \"0s\", analysis = false }";
        let text = blueprint(port, "", back, front);
        text.replace("[services.front]", &format!("[services.front]\n{policy}"))
    };
    let port = free_port();
    let sandbox = deployed(&own("one", "one", port));
    // The second of the two fails, and the first that was promoted already is taken back with it.
    let steps = deploys(&sandbox, &own("two", "crash", port), 10);
    let (promoted, second) = (
        position(&steps, "promoted"),
        position(&steps, "front@r2 takes"),
    );
    assert!(position(&steps, "back@r2 takes") < promoted, "{steps:#?}");
    assert!(promoted < second, "{steps:#?}");
    assert_eq!(served(port), both("one", "one"));
    // Where the first fails the second has not begun.
    let steps = deploys(&sandbox, &own("crash", "two", port), 10);
    assert!(
        !steps.iter().any(|step| step.contains("front@r3")),
        "{steps:#?}"
    );
    assert_eq!(served(port), both("one", "one"));
}

/// Keeps every run from writing while it is held.
struct Halted {
    lock: fs::File,
}

impl Halted {
    /// Takes hold of a run that deploys r2 when its first rollout is over and its second has not begun; `None` where it was missed.
    fn between_rollouts(sandbox: &Sandbox) -> Option<Self> {
        let store = sandbox.project().join(".platform/local/store");
        let lock = fs::File::open(store.join(".lock")).expect("the store's lock");
        let phase = |service: &str| {
            let path = store.join(format!("rollouts/00000002/{service}.document"));
            let text = fs::read_to_string(path).ok()?;
            let (_, state) = text.split_once('\n').expect("a head and a state");
            let state: Value = serde_json::from_str(state).expect("a state");
            Some(state["phase"]["phase"].clone())
        };
        loop {
            lock.lock().expect("the lock");
            if phase("back").is_some() {
                return None;
            }
            if phase("front").is_some_and(|phase| phase == "promoted") {
                return Some(Self { lock });
            }
            lock.unlock().expect("the lock back");
            // Others have their turn.
            thread::sleep(Duration::from_micros(200));
        }
    }

    fn goes_on(self) {
        self.lock.unlock().expect("the lock back");
    }
}

#[test]
fn a_rollback_between_two_rollouts_takes_both_back() {
    let order = "order = [\"front\", \"back\"]";
    for _ in 0..20 {
        let port = free_port();
        let sandbox = deployed(&blueprint(port, order, "one", "one"));
        sandbox.write("platform.toml", &blueprint(port, order, "two", "two"));
        let deploy = sandbox.start(&["deploy", "--yes"]);
        let Some(halted) = Halted::between_rollouts(&sandbox) else {
            deploy.wait().ok();
            continue;
        };
        assert_eq!(served(port), both("one", "two"));
        let mut rollback = sandbox.start(&["rollback", "--yes"]);
        rollback.until_told("between two rollouts");
        halted.goes_on();
        let told = rollback.until_told("taking back");
        assert!(told.contains("rollout of r2"), "{told}");
        rollback.wait().ok();
        let deployed = deploy.wait();
        assert_eq!(deployed.code, 10, "{deployed:#?}");
        assert_eq!(served(port), both("one", "one"));
        let status = is_over(&sandbox);
        assert_eq!(status["release"]["number"], "r1", "{status:#}");
        return;
    }
    panic!("no run was met between its rollouts");
}

#[test]
fn a_rollback_ends_when_what_was_promoted_before_is_back_too() {
    let text = |port, back: &str, front: &str| {
        let order = "order = [\"front\", \"back\"]";
        blueprint(port, order, back, front).replace("bake = \"0s\"", "bake = \"5s\"")
    };
    let port = free_port();
    let sandbox = deployed(&text(port, "one", "one"));
    sandbox.write("platform.toml", &text(port, "two", "two"));
    let deploy = sandbox.start(&["deploy", "--yes"]);
    eventually("both serve", || served(port) == both("two", "two"));
    sandbox.run(&["rollback", "--yes"]).ok();
    assert_eq!(served(port), both("one", "one"));
    is_over(&sandbox);
    assert_eq!(deploy.wait().code, 10);
}

#[test]
fn a_run_killed_between_two_rollouts_is_gone_on_with_or_taken_back() {
    let order = "order = [\"front\", \"back\"]";
    for (verb, end) in [("abort", "one"), ("resume", "two")] {
        let met = (0..20).any(|_| {
            let port = free_port();
            let sandbox = deployed(&blueprint(port, order, "one", "one"));
            sandbox.write("platform.toml", &blueprint(port, order, "two", "two"));
            let deploy = sandbox.start(&["deploy", "--yes"]);
            let Some(halted) = Halted::between_rollouts(&sandbox) else {
                deploy.wait().ok();
                return false;
            };
            deploy.end("-KILL");
            halted.goes_on();
            let status = sandbox.run(&["rollout", "status"]).ok();
            assert!(status.stdout.contains("nobody drives it"), "{status:#?}");
            sandbox.run(&["rollout", verb]).ok();
            assert_eq!(served(port), both(end, end));
            true
        });
        assert!(met, "no run was met between its rollouts");
    }
}
