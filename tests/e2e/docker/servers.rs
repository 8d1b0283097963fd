//! Servers of resources that do not come up, and a look into those that do.

use super::{AT_ONCE, Project, docker, has_engine};
use platform_testkit::needs;

const POSTGRES: &str = "platform/postgres:15";

impl Project {
    /// The service `api`, which needs a database with this much memory.
    fn stores_in(&self, memory: &str) {
        let api = r#"build = { program = "api" }
needs = ["orders-db"]
env = { RESPOND = "one" }"#;
        let resources = format!(
            r#"{AT_ONCE}
[resources.orders-db]
kind = "postgres"
version = "15"
image = "{POSTGRES}"
memory = "{memory}"
"#
        );
        self.blueprint(api, &resources);
    }
}

#[test]
fn a_server_that_ends_again_and_again_is_given_up_with_its_last_lines() {
    if !has_engine() || !needs::docker_image(POSTGRES) {
        return;
    }
    let project = Project::new("server");
    project.responder();
    project.stores_in("6MiB");
    // As often as it is deployed: each time its ends are counted anew.
    for _ in 0..2 {
        let seen = project.run(&["deploy", "--yes"]);
        assert_eq!(seen.code, 1, "{seen:#?}");
        assert!(seen.stderr.contains("deploy::instance-failed"), "{seen:#?}");
        assert!(seen.stderr.contains("orders-db: it ended"), "{seen:#?}");
        let help = "mend what the log shows";
        assert!(seen.stderr.contains(help), "{seen:#?}");
    }
    let log = project.run(&["logs", "orders-db"]).ok().stdout;
    assert!(log.contains(" orders-db "), "{log}");

    // It is looked into like a service.
    project.stores_in("128MiB");
    project.deploy();
    let log = project.run(&["logs", "orders-db", "--raw"]).ok().stdout;
    assert!(log.contains("database system is ready"), "{log}");
    let ask = "psql -U platform -Atc 'select 6 * 7' orders_db";
    let words = ["exec", "orders-db", "--", "sh", "-c", ask];
    assert_eq!(project.run(&words).ok().stdout.trim(), "42");
    // And a service is found under its name, at its instance's address.
    let named = format!("name={}", project.container("api-"));
    let instance = docker(&["ps", "-q", "--filter", &named]);
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = docker(&["inspect", "-f", format, &instance]);
    let words = ["exec", "orders-db", "--", "getent", "hosts", "api"];
    let found = project.run(&words).ok().stdout;
    assert_eq!(found.split_whitespace().next(), Some(address.as_str()));

    // Whoever waits is told of it, too, with its own last lines and nobody else's.
    let server = project.container("orders-db");
    docker(&["stop", &server]);
    let waited = project.run(&["wait", "--timeout", "1s", "--junit", "wait.xml"]);
    assert_eq!(waited.code, 1, "{waited:#?}");
    for told in ["orders-db not ready", "database system is shut down"] {
        assert!(waited.stderr.contains(told), "{told}: {waited:#?}");
    }
    assert!(!waited.stderr.contains("starting as api"), "{waited:#?}");
    let junit = project.sandbox.read("wait.xml");
    assert!(junit.contains(r#"name="orders-db""#), "{junit}");
    docker(&["rm", "-f", &server]);
    let waited = project.run(&["wait", "--timeout", "1s"]);
    assert!(waited.stderr.contains("orders-db"), "{waited:#?}");
    project.deploy();
    project.run(&["wait", "--timeout", "30s"]).ok();
    project.down();
}
