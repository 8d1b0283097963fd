//! A project with the reference service `orders` behind its gateway, good or faulty.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::users::{Answers, Users, answer_with};
use crate::sandbox::{Sandbox, Seen, free_port};

/// Users of `orders` in a second.
pub(crate) const LOAD: u32 = 200;

/// A canary that is judged for bad answers alone, however slow the machine is.
pub(crate) const CANARY: &str = r#"strategy = "canary"
steps = ["25%", "50%"]
hold = "1s"
bake = "2s"
analysis = { errors = "0.5%", slow = "20%", slow_after = "2s", at_least = "1s", at_most = "3m", min_samples = 50 }"#;

pub(crate) const BLUE_GREEN: &str = r#"strategy = "blue-green"
hold = "3s"
bake = "2s"
analysis = { errors = "0.5%", slow = "20%", slow_after = "2s", at_least = "1s", at_most = "3m", min_samples = 50 }"#;

pub(crate) const ROLLING: &str = r#"strategy = "rolling"
hold = "2s"
analysis = { errors = "0.5%", slow = "20%", slow_after = "2s", at_least = "1s", at_most = "3m", min_samples = 50 }"#;

/// The program of the reference service, built where nobody has built it yet.
pub(crate) fn orders() -> &'static Path {
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
pub(crate) struct Shop {
    pub(crate) sandbox: Sandbox,
    port: u16,
    rollout: &'static str,
}

impl Shop {
    /// The first release serves.
    pub(crate) fn with(rollout: &'static str) -> Self {
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
    pub(crate) fn wants(&self, fault: &str, tag: &str) {
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
trust = ["127.0.0.1"]

[[routes]]
path = "/api/v1/orders"
service = "orders"

[rollout]
{rollout}
"#
        );
        self.sandbox.write("platform.toml", &text);
    }

    /// Users who ask from now on.
    pub(crate) fn users(&self) -> Users {
        Users::ask(self.port, "/api/v1/orders", LOAD)
    }

    /// The version that answers one request.
    ///
    /// - `headers`: each with its end of line
    pub(crate) fn answered_by(&self, headers: &str) -> String {
        let answer = answer_with(self.port, "/api/v1/orders", headers).expect("an answer");
        assert_eq!(answer.1, 200, "{answer:?}");
        answer.0
    }

    /// Deploys a release with a fault under load.
    pub(crate) fn deploys(&self, fault: &str, tag: &str) -> (Seen, Answers) {
        self.wants(fault, tag);
        let users = self.users();
        let seen = self.sandbox.run(&["deploy", "--yes"]);
        (seen, users.end())
    }

    /// Where its rollout stands; null where there never was one.
    pub(crate) fn status(&self) -> Value {
        let seen = self.sandbox.run(&["rollout", "status", "--format", "json"]);
        if seen.code == 0 {
            seen.line("rollout_status")
        } else {
            Value::Null
        }
    }

    /// The report of its last rollout.
    pub(crate) fn report(&self) -> Value {
        let seen = self
            .sandbox
            .run(&["rollout", "report", "--format", "json"])
            .ok();
        seen.line("rollout_report")["report"].clone()
    }

    /// Only this group runs and serves.
    pub(crate) fn stands_on(&self, version: &str) {
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
pub(crate) fn harm(answers: &Answers, bad: &str) -> Answers {
    let well = |version: &str, status: u16| status == 200 || (version == bad && status == 500);
    let harmed = answers
        .iter()
        .filter(|((version, status), _)| !well(version, *status));
    harmed.map(|(key, count)| (key.clone(), *count)).collect()
}

/// The path that leads to `orders` where they are deployed alone.
pub(crate) const ORDERS: &str = "/api/v1/orders";

/// Two of `orders` and their database behind the gateway, replaced batch by batch.
pub(crate) struct Orders<'a> {
    /// The project.
    pub(crate) project: &'a str,
    /// What they run.
    pub(crate) runs: &'a str,
    /// More of the service, such as how the gateway asks it.
    pub(crate) own: &'a str,
    /// More of their database.
    pub(crate) database: &'a str,
    pub(crate) port: u16,
    /// More of the gateway's settings.
    pub(crate) gateway: &'a str,
}

impl Orders<'_> {
    /// The blueprint, which ends with the rollout's policy.
    pub(crate) fn blueprint(&self) -> String {
        let Self {
            project,
            runs,
            own,
            database,
            port,
            gateway,
        } = self;
        format!(
            r#"[project]
name = "{project}"

[services.orders]
{runs}
port = 8081
needs = ["orders-db"]
replicas = 2
health = {{ ready = "/health/ready", live = "/health/live", start_within = "60s", interval = "300ms" }}
{own}

[resources.orders-db]
kind = "postgres"
{database}

[gateway]
port = {port}
{gateway}

[[routes]]
path = "{ORDERS}"
service = "orders"

[rollout]
strategy = "rolling"
"#
        )
    }
}

/// Deploys `orders` as local processes, or replaces them batch by batch.
///
/// - `protocol`: how the gateway asks them
/// - `gateway`: more of its settings
pub(crate) fn deploy_orders(sandbox: &Sandbox, port: u16, protocol: &str, gateway: &str) {
    let own = format!("protocol = \"{protocol}\"\nenv = {{ LOG = \"info\" }}");
    sandbox.write("platform.toml", &blueprint_of_orders(port, &own, gateway));
    sandbox.run(&["deploy", "--yes"]).ok();
}

/// A blueprint of `orders` as local processes.
///
/// - `own`, `gateway`: further lines of the service and of the gateway
pub(crate) fn blueprint_of_orders(port: u16, own: &str, gateway: &str) -> String {
    let orders = Orders {
        project: "shop",
        runs: &format!("command = [\"{}\"]", orders().display()),
        own,
        database: "",
        port,
        gateway,
    };
    orders.blueprint()
}
