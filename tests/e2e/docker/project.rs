//! A project of its own on the engine for each test, and nothing left of it after.

use std::path::Path;
use std::process::Command;

use crate::sandbox::{Sandbox, Seen, free_port};

/// A rollout that waits for nothing but the instances.
pub(crate) const AT_ONCE: &str = r#"
[rollout]
hold = "100ms"
bake = "0s"
analysis = false
"#;

/// How a service runs the responder, and is asked.
pub(crate) const RESPONDS: &str = r#"command = ["/app/api", "--exact", "serves_when_a_blueprint_asks", "--nocapture", "--test-threads=1"]
health.ready = "/health"
health.start_within = "30s"
health.interval = "300ms""#;

/// The Redis that a gateway with `shared = "counts"` counts through.
pub(crate) const COUNTS: &str = r#"[resources.counts]
kind = "redis"
version = "7"
image = "platform/redis:7"
"#;

/// Runs Docker's own client.
pub(crate) fn docker(words: &[&str]) -> String {
    let told = Command::new("docker").args(words).output().expect("docker");
    assert!(told.status.success(), "docker {words:?}: {told:?}");
    String::from_utf8_lossy(&told.stdout).trim().to_owned()
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
pub(crate) struct Project {
    pub(crate) name: String,
    pub(crate) sandbox: Sandbox,
    pub(crate) port: u16,
}

impl Project {
    pub(crate) fn new(test: &str) -> Self {
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
    pub(crate) fn responder(&self) {
        build_responder(&self.sandbox.project().join("api"));
    }

    /// Writes a blueprint in which all requests go to the service `api`, and that is the responder.
    ///
    /// - `api`: what is said of the service beside its command, its port and how it is asked
    /// - `rest`: what is said of the environment beside its provider; then other tables
    pub(crate) fn blueprint(&self, api: &str, rest: &str) {
        let Self { name, port, .. } = self;
        self.sandbox.write(
            "platform.toml",
            &format!(
                r#"[project]
name = "{name}"

[services.api]
{RESPONDS}
port = 9000
{api}

[gateway]
port = {port}

[[routes]]
path = "/"
service = "api"

[environments.docker]
provider = "docker"
{rest}"#
            ),
        );
    }

    /// Has the service `api` answer this from the next deploy on.
    pub(crate) fn answering(&self, answer: &str) {
        self.answering_by(answer, AT_ONCE);
    }

    /// The same, rolled out by this policy.
    pub(crate) fn answering_by(&self, answer: &str, policy: &str) {
        let api = format!(
            r#"build = {{ program = "api" }}
replicas = 2
env = {{ RESPOND = "{answer}", TOKEN = {{ secret = "token" }} }}"#
        );
        self.blueprint(&api, policy);
    }

    /// Sets a secret from the next deploy on.
    pub(crate) fn secret(&self, name: &str, value: &str) {
        let words = ["-e", "docker", "secrets", "set", name];
        self.sandbox.pipe(&words, value).ok();
    }

    /// Deploys the service `api`, which answers `one`.
    pub(crate) fn serves(&self) {
        self.responder();
        self.answering("one");
        self.secret("token", "hunter2");
        self.deploy();
    }

    pub(crate) fn run(&self, words: &[&str]) -> Seen {
        self.sandbox.run(&[&["-e", "docker"], words].concat())
    }

    pub(crate) fn deploy(&self) {
        self.run(&["deploy", "--yes"]).ok();
    }

    pub(crate) fn container(&self, what: &str) -> String {
        format!("{}_docker_{what}", self.name)
    }

    /// Everything down; nothing of it may be left.
    pub(crate) fn down(self) {
        self.gone();
    }

    /// The same for who goes on.
    pub(crate) fn gone(&self) {
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
        let images = docker(&["images", "--filter", &own]);
        assert_eq!(images.lines().count(), 1, "{images}");
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let own = format!("label=platform.project={}", self.name);
        let all = format!(
            "docker ps -aq --filter {own} | xargs -r docker rm -fv; \
             docker volume ls -q --filter {own} | xargs -r docker volume rm -f; \
             docker network ls -q --filter {own} | xargs -r docker network rm; \
             docker images -q --filter {own} | sort -u | xargs -r docker rmi -f; \
             docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' 'platform.local/{}-*' | xargs -r docker rmi",
            self.name
        );
        let _ = Command::new("sh").args(["-c", &all]).output();
    }
}
