//! A service on the chassis that is asked in HTTP/2 from one release on, and in HTTP/1.1 again, under load.

use super::shop::orders;
use super::users::{Answers, Users};
use crate::sandbox::{Sandbox, free_port};

const PATH: &str = "/api/v1/orders";

/// Deploys `orders` so that it is asked in this.
fn deploys(sandbox: &Sandbox, port: u16, protocol: &str) {
    let program = orders().display();
    let text = format!(
        r#"[project]
name = "shop"

[services.orders]
command = ["{program}"]
port = 8081
protocol = "{protocol}"
needs = ["orders-db"]
replicas = 2
health = {{ ready = "/health/ready", live = "/health/live", start_within = "60s" }}
env = {{ LOG = "info" }}

[resources.orders-db]
kind = "postgres"

[gateway]
port = {port}

[[routes]]
path = "{PATH}"
service = "orders"

[rollout]
strategy = "rolling"
"#
    );
    sandbox.write("platform.toml", &text);
    sandbox.run(&["deploy", "--yes"]).ok();
}

#[test]
fn a_service_goes_over_to_http2_and_back_and_loses_no_request() {
    let (sandbox, port) = (Sandbox::empty(), free_port());
    deploys(&sandbox, port, "http");
    let users = Users::ask(port, PATH, 100);
    deploys(&sandbox, port, "h2c");
    deploys(&sandbox, port, "http");
    let answers = users.end();
    let harmed: Answers = answers
        .iter()
        .filter(|((_, status), _)| *status != 200)
        .map(|(key, count)| (key.clone(), *count))
        .collect();
    assert_eq!(harmed, Answers::new(), "{answers:?}");
    for release in ["r1", "r2", "r3"] {
        let served = answers.keys().any(|(version, _)| version == release);
        assert!(served, "{release}: {answers:?}");
    }
}
