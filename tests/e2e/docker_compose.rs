//! An exported environment behind the gateway, as `docker-compose` starts it.

use std::path::PathBuf;
use std::process::{Command, Output};

use platform_testkit::needs;

use crate::docker::{COUNTS, RESPONDS, build_responder, docker, has_engine};
use crate::responder::ask;
use crate::sandbox::{Sandbox, eventually, free_port};

/// A project that Compose runs; nothing is left of it where a test fails on its way.
struct Project {
    name: String,
    folder: PathBuf,
}

impl Project {
    fn compose(&self, words: &[&str]) -> Output {
        Command::new("docker-compose")
            .args(["--project-name", &self.name])
            .args(words)
            .current_dir(&self.folder)
            .output()
            .expect("docker-compose")
    }

    #[track_caller]
    fn composed(&self, words: &[&str]) -> String {
        let told = self.compose(words);
        assert!(told.status.success(), "docker-compose {words:?}: {told:?}");
        String::from_utf8_lossy(&told.stdout).trim().to_owned()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.compose(&["down", "--volumes", "--timeout", "1"]);
        let Self { name, .. } = self;
        let images = format!(
            "for names in 'platform.local/{name}-*' 'platform.local/platform:*-{name}_docker'; do \
             docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' \"$names\" | xargs -r docker rmi; done"
        );
        let _ = Command::new("sh").args(["-c", &images]).output();
    }
}

const REDIS: &str = "platform/redis:7";

/// Two services, a database, secrets of both kinds, and a limit that is counted in a Redis.
fn blueprint(name: &str, port: u16) -> String {
    format!(
        r#"[project]
name = "{name}"

[services.api]
build = {{ program = "api" }}
{RESPONDS}
port = 9000
replicas = 2
needs = ["db"]
env = {{ RESPOND = "one", PRICE = "5$ at ${{PORT}}", TOKEN = {{ secret = "token" }}, KEY = {{ secret = "token", as = "file" }} }}
limits = {{ memory = "64MiB", cpu = 0.5 }}

[services.front]
build = {{ program = "api" }}
{RESPONDS}
port = 9001
needs = ["api"]
env = {{ RESPOND = "front" }}

[resources.db]
kind = "postgres"
version = "15"
image = "platform/postgres:15"

{COUNTS}
[gateway]
port = {port}
shared = "counts"

[[routes]]
path = "/"
service = "api"

[[routes]]
path = "/front"
service = "front"
rate_limit = {{ requests = 100000, every = "1d", per = "route", shared = true }}

[environments.docker]
provider = "docker"
"#
    )
}

#[test]
fn compose_runs_the_same_system() {
    if !has_engine() || !needs::docker_image(REDIS) {
        return;
    }
    let mut sandbox = Sandbox::empty();
    for name in ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        if let Ok(value) = std::env::var(name) {
            sandbox.set(name, value);
        }
    }
    let (name, port) = (format!("cmp{}", std::process::id()), free_port());
    build_responder(&sandbox.project().join("api"));
    sandbox.write("platform.toml", &blueprint(&name, port));
    let project = Project {
        name: name.clone(),
        folder: sandbox.project(),
    };
    sandbox.pipe(&["secrets", "set", "token"], "hunter2").ok();
    sandbox.run(&["export", "compose"]).ok();
    let kept = sandbox.read(".platform/compose.files/credentials.json");
    let credentials: serde_json::Value = serde_json::from_str(&kept).expect("credentials");
    let password = |name: &str| credentials[name].as_str().expect("a password").to_owned();
    let (password, counts) = (password("db"), password("counts"));
    let written =
        sandbox.read("compose.yaml") + &sandbox.read(".platform/compose.files/gateway.json");
    for secret in ["hunter2", &password, &counts] {
        assert!(!written.contains(secret));
    }
    let written = sandbox.read("compose.yaml");

    project.composed(&["up", "--detach"]);
    let says = |path: &str, what: &str| {
        ask(port, path).is_some_and(|said| said.split_whitespace().next() == Some(what))
    };
    eventually("the gateway leads to both", || {
        says("/", "one") && says("/front", "front")
    });

    // The database takes the password that its service is handed, and nobody else sees it.
    let asked = project.composed(&[
        "exec",
        "-T",
        "db",
        "sh",
        "-c",
        "PGPASSWORD=$(cat /dev/shm/secrets/password) psql -h db -U platform -d db -Atc 'select 1'",
    ]);
    assert_eq!(asked, "1");
    // The gateway has the address of the Redis, and counts there.
    eventually("a limit is counted", || {
        // What is counted is forgotten once it is made up for, at a little more than one request a second.
        for _ in 0..30 {
            says("/front", "front");
        }
        let ask = "REDISCLI_AUTH=$(cat /dev/shm/secrets/password) redis-cli --scan";
        let keys = project.composed(&["exec", "-T", "counts", "sh", "-c", ask]);
        keys.contains(&format!("platform:rate:{name}:/front:"))
    });
    let all = project.composed(&["ps", "-q"]);
    let ids: Vec<&str> = all.lines().collect();
    assert_eq!(ids.len(), 6, "{all}");
    let inspected = docker(&[&["inspect"], ids.as_slice()].concat());
    assert!(!inspected.contains("hunter2"), "a secret is shown");
    assert!(
        !inspected.contains(&password) && !inspected.contains(&counts),
        "a password is shown"
    );
    assert!(inspected.contains("PRICE=5$ at 9000"));

    // Exported again it is the same, so that nothing is started anew; a change is started.
    sandbox.run(&["export", "compose"]).ok();
    assert_eq!(sandbox.read("compose.yaml"), written);
    assert_eq!(
        sandbox.read(".platform/compose.files/credentials.json"),
        kept
    );
    project.composed(&["up", "--detach"]);
    assert_eq!(project.composed(&["ps", "-q"]), all);
    let text = sandbox
        .read("platform.toml")
        .replace("RESPOND = \"one\"", "RESPOND = \"two\"");
    sandbox.write("platform.toml", &text);
    sandbox.run(&["export", "compose"]).ok();
    project.composed(&["up", "--detach"]);
    eventually("the change serves", || says("/", "two"));

    project.composed(&["down", "--volumes"]);
    let own = format!("label=com.docker.compose.project={name}");
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
