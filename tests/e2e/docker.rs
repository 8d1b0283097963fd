//! A real engine behind the command line: deployed, changed under load, looked into, taken back, taken away.
//!
//! The service is this very test program, or the reference services; the engine is found as Docker's own client finds one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::load::Load;
use crate::responder::ask;
use crate::sandbox::{Sandbox, eventually, free_port};

/// Runs Docker's own client.
pub(crate) fn docker(words: &[&str]) -> String {
    let told = Command::new("docker").args(words).output().expect("docker");
    assert!(told.status.success(), "docker {words:?}: {told:?}");
    String::from_utf8_lossy(&told.stdout).trim().to_owned()
}

#[expect(clippy::print_stderr, reason = "who runs the tests is to know")]
pub(crate) fn has_engine() -> bool {
    let asked = Command::new("docker").arg("info").output();
    let found = asked.is_ok_and(|told| told.status.success());
    let must = std::env::var("PLATFORM_TEST_NOTHING_SKIPPED").is_ok_and(|value| value == "1");
    assert!(
        found || !must,
        "no Docker engine was found, and nothing may be skipped"
    );
    if !found {
        eprintln!("skipped: no Docker engine answers at DOCKER_HOST or the usual socket");
    }
    found
}

/// Builds the responder as a static program.
pub(crate) fn build_responder(to: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/e2e/responder.rs");
    let told = Command::new("rustc")
        .args([
            "--edition",
            "2024",
            "--test",
            "-C",
            "target-feature=+crt-static",
        ])
        .args(["--cap-lints", "allow", "-o"])
        .args([to, &source])
        .output()
        .expect("rustc");
    assert!(told.status.success(), "{told:?}");
}

/// A project on the engine; nothing is left of it where a test fails on its way.
struct Project {
    name: String,
    sandbox: Sandbox,
    port: u16,
}

impl Project {
    fn new(test: &str) -> Self {
        let mut sandbox = Sandbox::empty();
        for name in ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
            if let Ok(value) = std::env::var(name) {
                sandbox.set(name, value);
            }
        }
        // The builds of the tests take the toolchain and the downloads that are here.
        let home = std::env::var("HOME").unwrap_or_default();
        for (name, usual) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            let own = std::env::var(name).unwrap_or_else(|_| format!("{home}/{usual}"));
            sandbox.set(name, own);
        }
        Self {
            name: format!("e{}-{test}", std::process::id()),
            sandbox,
            port: free_port(),
        }
    }

    /// The responder in the project's folder, as a program that needs nothing of an image.
    fn responder(&self) {
        build_responder(&self.sandbox.project().join("api"));
    }

    /// Has the service `api` answer this from the next deploy on.
    fn answering(&self, answer: &str) {
        let Self { name, port, .. } = self;
        self.sandbox.write(
            "platform.toml",
            &format!(
                r#"[project]
name = "{name}"

[services.api]
build = {{ program = "api" }}
command = ["api", "--exact", "serves_when_a_blueprint_asks", "--nocapture", "--test-threads=1"]
port = 9000
replicas = 2
health = {{ ready = "/health", start_within = "30s", interval = "300ms" }}
env = {{ RESPOND = "{answer}", TOKEN = {{ secret = "token" }} }}

[gateway]
port = {port}

[[routes]]
path = "/"
service = "api"

[rollout]
hold = "100ms"
bake = "0s"
analysis = false

[environments.docker]
provider = "docker"
"#
            ),
        );
    }

    fn run(&self, words: &[&str]) -> crate::sandbox::Seen {
        self.sandbox.run(&[&["-e", "docker"], words].concat())
    }

    fn deploy(&self) {
        self.run(&["deploy", "--yes"]).ok();
    }

    fn container(&self, what: &str) -> String {
        format!("{}_docker_{what}", self.name)
    }

    /// Everything down; nothing of it may be left.
    fn down(self) {
        self.run(&["destroy", "--yes", "--data"]).ok();
        let own = format!("label=platform.project={}", self.name);
        for what in [
            &["ps", "-aq"][..],
            &["volume", "ls", "-q"],
            &["network", "ls", "-q"],
        ] {
            assert_eq!(
                docker(&[what, &["--filter", &own]].concat()),
                "",
                "{what:?}"
            );
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let own = format!("label=platform.project={}", self.name);
        let images = format!("platform.local/{}-*", self.name);
        let all = format!(
            "docker ps -aq --filter {own} | xargs -r docker rm -fv; \
             docker volume ls -q --filter {own} | xargs -r docker volume rm -f; \
             docker network ls -q --filter {own} | xargs -r docker network rm; \
             docker images -q '{images}' | xargs -r docker rmi -f"
        );
        let _ = Command::new("sh").args(["-c", &all]).output();
    }
}

/// The responder says what it was told to, and which release it is of.
#[track_caller]
fn answers(port: u16, what: &str) {
    let said = ask(port, "/").unwrap_or_default();
    assert_eq!(said.split_whitespace().next(), Some(what), "{said}");
}

#[test]
fn a_project_lives_on_an_engine() {
    if !has_engine() {
        return;
    }
    let project = Project::new("life");
    project.responder();
    project.answering("one");
    project
        .sandbox
        .pipe(&["-e", "docker", "secrets", "set", "token"], "hunter2");
    project.deploy();
    answers(project.port, "one");

    // Changed, and taken back, while requests come.
    let load = Load::on(project.port, 40);
    project.answering("two");
    project.deploy();
    answers(project.port, "two");
    project.run(&["rollback", "--yes"]).ok();
    answers(project.port, "one");
    let tally = load.end().unharmed();
    assert!(
        tally.answers.keys().any(|said| said.starts_with("two")),
        "{tally:#?}"
    );

    // Nothing changes the second time, and nothing secret is shown.
    project.answering("one");
    let again = project.run(&["plan", "--detailed-exitcode"]);
    assert_eq!(again.code, 0, "{again:#?}");
    let all = docker(&[
        "ps",
        "-aq",
        "--filter",
        &format!("label=platform.project={}", project.name),
    ]);
    let inspected = docker(&[&["inspect"], all.lines().collect::<Vec<_>>().as_slice()].concat());
    assert!(!inspected.contains("hunter2"), "a secret is shown");

    // Looked into.
    let status = project.run(&["status"]).ok().stdout;
    assert!(status.contains("api"), "{status}");
    eventually("the log has a line", || {
        project
            .run(&["logs", "api", "--tail", "all"])
            .ok()
            .stdout
            .contains("starting as api@r")
    });
    let told = project
        .run(&["exec", "api", "--", "/app/api", "--list"])
        .ok()
        .stdout;
    assert!(told.contains("serves_when_a_blueprint_asks"), "{told}");
    let mut forwarding = project
        .sandbox
        .start(&["-e", "docker", "port-forward", "api"]);
    let told = forwarding.until_told("leads to api");
    let local: u16 = told
        .split_whitespace()
        .find_map(|word| word.strip_prefix("127.0.0.1:"))
        .and_then(|port| port.parse().ok())
        .expect("a local port");
    answers(local, "one");
    forwarding.end("-INT");

    // What is removed by hand is missed, and comes again.
    let instances = docker(&[
        "ps",
        "-q",
        "--filter",
        &format!("name={}", project.container("api-")),
    ]);
    let first = instances.lines().next().expect("an instance");
    docker(&["rm", "-f", first]);
    assert_eq!(project.run(&["drift", "--detailed-exitcode"]).code, 2);
    project.deploy();
    assert_eq!(project.run(&["drift", "--detailed-exitcode"]).code, 0);

    project.run(&["stop", "--yes"]).ok();
    assert_eq!(ask(project.port, "/"), None);
    project.deploy();
    answers(project.port, "one");
    project.down();
}

/// Sends one request with a body; the whole answer.
fn post(port: u16, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the gateway listens");
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         idempotency-key: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len() + usize::from(port),
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn the_shop_keeps_its_orders_in_a_real_database() {
    if !has_engine() {
        return;
    }
    let project = Project::new("shop");
    let Project { name, port, .. } = &project;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = folder.display();
    project.sandbox.write(
        "platform.toml",
        &format!(
            r#"[project]
name = "{name}"

[services.orders]
build = {{ cargo = "orders", folder = "{folder}", profile = "dev" }}
port = 8081
needs = ["orders-db"]
replicas = 2
health = {{ ready = "/health/ready", live = "/health/live", start_within = "30s" }}
limits = {{ cpu = 0.5, memory = "128MiB" }}

[services.web]
build = {{ cargo = "web", folder = "{folder}", profile = "dev" }}
port = 8082
needs = ["orders"]
health = {{ ready = "/health/ready", start_within = "30s" }}
limits = {{ memory = "128MiB" }}

[resources.orders-db]
kind = "postgres"
version = "15"
image = "platform/postgres:15"

[gateway]
port = {port}

[[routes]]
path = "/api/v1/orders"
service = "orders"

[[routes]]
path = "/"
service = "web"

[environments.docker]
provider = "docker"
"#
        ),
    );
    project.deploy();
    let order = r#"{"customer":"ada","currency":"EUR","items":[{"sku":"tea","quantity":2,"unit_price":350}]}"#;
    let answer = post(*port, "/api/v1/orders", order);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    // The page asks the orders through the gateway's inner listener.
    assert!(ask(*port, "/").is_some_and(|page| page.contains("<html")));

    // The database dies, and comes back with what it had; its password stays where it was.
    let database = project.container("orders-db");
    let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &database]);
    let killed = Command::new("kill")
        .args(["-9", &pid])
        .status()
        .expect("kill");
    assert!(killed.success(), "{database} cannot be killed");
    eventually("the order is there", || {
        ask(*port, "/api/v1/orders").is_some_and(|orders| orders.contains("ada"))
    });
    project.run(&["stop", "--yes"]).ok();
    project.deploy();
    assert!(ask(*port, "/api/v1/orders").is_some_and(|orders| orders.contains("ada")));
    project.run(&["destroy", "--yes"]).ok();
    project.deploy();
    assert!(ask(*port, "/api/v1/orders").is_some_and(|orders| orders.contains("ada")));
    project.down();
}
