//! Rollouts of the reference service `orders`, good and bad, under the load of users.

mod users;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::sandbox::{Sandbox, Seen, eventually, free_port};
use users::{Answers, Users};

const CANARY: &str = r#"strategy = "canary"
steps = ["25%", "50%"]
hold = "1s"
bake = "2s""#;

const BLUE_GREEN: &str = r#"strategy = "blue-green"
hold = "1s"
bake = "2s""#;

const ROLLING: &str = r#"strategy = "rolling"
hold = "2s""#;

/// Users of `orders` in a second.
const LOAD: u32 = 100;

/// The program of the reference service, built where nobody has built it yet.
fn orders() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = Path::new(env!("CARGO_BIN_EXE_platform")).with_file_name("orders");
        if !program.is_file() {
            let built = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--package", "orders"])
                .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
                .status();
            assert!(built.expect("cargo runs").success());
        }
        program
    })
}

/// A project with `orders` behind the gateway.
struct Shop {
    sandbox: Sandbox,
    port: u16,
    rollout: &'static str,
}

impl Shop {
    /// The first release serves.
    fn with(rollout: &'static str) -> Self {
        let shop = Self {
            sandbox: Sandbox::empty(),
            port: free_port(),
            rollout,
        };
        shop.wants("", "first");
        shop.sandbox.run(&["deploy", "--yes"]).ok();
        shop
    }

    /// Writes a blueprint with a fault of `orders`.
    fn wants(&self, fault: &str, tag: &str) {
        let (program, port, rollout) = (orders().display(), self.port, self.rollout);
        let text = format!(
            r#"[project]
name = "shop"

[services.orders]
command = ["{program}"]
port = 8081
needs = ["orders-db"]
replicas = 2
health = {{ ready = "/health/ready", live = "/health/live", start_within = "60s" }}
limits = {{ memory = "128MiB" }}
env = {{ LOG = "warn", ORDERS_FAULT = "{fault}", TAG = "{tag}" }}

[resources.orders-db]
kind = "postgres"

[gateway]
port = {port}

[[routes]]
path = "/api/v1/orders"
service = "orders"

[rollout]
{rollout}
analysis = {{ errors = "1%", slow = "10%", slow_after = "1s", at_least = "1s", at_most = "3m", min_samples = 50 }}
"#
        );
        self.sandbox.write("platform.toml", &text);
    }

    fn users(&self) -> Users {
        Users::ask(self.port, "/api/v1/orders", LOAD)
    }

    /// Deploys a release with a fault under load.
    fn deploys(&self, fault: &str, tag: &str) -> (Seen, Answers) {
        self.wants(fault, tag);
        let users = self.users();
        let seen = self.sandbox.run(&["deploy", "--yes"]);
        (seen, users.end())
    }

    fn status(&self) -> Value {
        let seen = self.sandbox.run(&["rollout", "status", "--format", "json"]);
        if seen.code == 0 {
            seen.line("rollout_status")
        } else {
            Value::Null
        }
    }

    fn report(&self) -> Value {
        let seen = self
            .sandbox
            .run(&["rollout", "report", "--format", "json"])
            .ok();
        seen.line("rollout_report")["report"].clone()
    }

    /// Only this group runs and serves.
    fn stands_on(&self, version: &str) {
        let seen = self.sandbox.run(&["status", "--format", "json"]).ok();
        let services = seen.line("status")["services"].clone();
        let services = services.as_array().expect("services");
        assert_eq!(services.len(), 1, "{services:#?}");
        assert_eq!(services[0]["version"], version, "{services:#?}");
        assert_eq!(services[0]["ready"], 2, "{services:#?}");
        assert_eq!(services[0]["share"], 1000, "{services:#?}");
    }
}

/// Answers that were not 200, but for those that `bad` itself gave.
fn harm(answers: &Answers, bad: &str) -> Answers {
    let well = |version: &str, status: u16| status == 200 || (version == bad && status == 500);
    let harmed = answers
        .iter()
        .filter(|((version, status), _)| !well(version, *status));
    harmed.map(|(key, count)| (key.clone(), *count)).collect()
}

#[test]
fn a_good_release_is_promoted_by_every_strategy_and_nobody_notices() {
    for rollout in [CANARY, BLUE_GREEN, ROLLING] {
        let shop = Shop::with(rollout);
        let (seen, answers) = shop.deploys("", "second");
        assert_eq!(seen.code, 0, "{seen:#?}");
        assert_eq!(harm(&answers, ""), Answers::new(), "{rollout}");
        assert!(answers.contains_key(&("r2".to_owned(), 200)), "{answers:?}");
        shop.stands_on("r2");
        assert_eq!(shop.report()["ended"], "promoted");
    }
}

/// A release with a fault is taken back, and nobody is harmed but those whom it answered itself.
#[track_caller]
fn is_taken_back(rollout: &'static str, fault: &str, why: &str) -> Value {
    let shop = Shop::with(rollout);
    let (seen, answers) = shop.deploys(fault, "second");
    assert_eq!(seen.code, 10, "{fault}: {seen:#?}");
    assert_eq!(harm(&answers, "r2"), Answers::new(), "{fault}");
    shop.stands_on("r1");
    let report = shop.report();
    let said = report["why"].as_str().expect("a reason");
    assert!(said.contains(why), "{fault}: {said}");
    report
}

#[test]
fn many_errors_are_taken_back_within_a_hundred_requests() {
    let report = is_taken_back(CANARY, "errors=20%", "the new release is worse");
    let verdict = report["members"][0]["verdict"].as_str().expect("a verdict");
    let met = report["members"][0]["new"]["requests"]
        .as_u64()
        .expect("a count");
    // Those that came between the decision and the gateway's confirmation are counted too.
    assert!(met <= 150, "{met}: {verdict}");
}

#[test]
fn some_errors_are_taken_back_by_every_strategy() {
    for rollout in [CANARY, BLUE_GREEN] {
        is_taken_back(rollout, "errors=8%", "the new release is worse");
    }
}

#[test]
fn slow_answers_are_taken_back() {
    is_taken_back(CANARY, "slow=40%:1500ms", "slow");
}

#[test]
fn a_crash_is_taken_back_at_once() {
    is_taken_back(CANARY, "crash_after=60", "ended and was started again");
}

#[test]
fn a_leak_is_taken_back_at_its_limit() {
    is_taken_back(CANARY, "leak=1MiB", "memory");
}

#[test]
fn another_terminal_steers_it() {
    let shop = Shop::with(CANARY);
    shop.wants("", "second");
    let users = shop.users();
    let deploy = shop.sandbox.start(&["deploy", "--yes"]);
    eventually("both serve", || shop.status()["phase"] == "serving");
    shop.sandbox.run(&["rollout", "pause"]).ok();
    assert!(shop.status()["paused_by"].is_string());
    shop.sandbox.run(&["rollout", "resume"]).ok();
    shop.sandbox.run(&["rollout", "abort", "--wait"]).ok();
    shop.stands_on("r1");
    assert_eq!(harm(&users.end(), ""), Answers::new());
    drop(deploy);
    let none = shop.sandbox.run(&["rollout", "pause"]);
    assert_eq!(none.code, 1, "{none:#?}");
    assert!(none.stderr.contains("rollout::none"), "{none:#?}");
}

#[test]
fn killed_half_way_it_is_gone_on_with_or_taken_back() {
    for (next, end) in [
        (["deploy", "--yes"].as_slice(), "r2"),
        (&["rollout", "abort", "--yes"], "r1"),
    ] {
        let shop = Shop::with(CANARY);
        shop.wants("", "second");
        let users = shop.users();
        let deploy = shop.sandbox.start(&["deploy", "--yes"]);
        eventually("both serve", || shop.status()["phase"] == "serving");
        deploy.end("-KILL");
        let status = shop.status();
        assert_eq!(status["driver"], Value::Null, "{status:#}");
        assert_eq!(status["over"], false, "{status:#}");
        shop.sandbox.run(next).ok();
        shop.stands_on(end);
        assert_eq!(harm(&users.end(), ""), Answers::new(), "{next:?}");
    }
}
