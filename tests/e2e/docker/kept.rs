//! Redis, Valkey and NATS with its streams as real servers: what they acknowledged is there after everything but the removal of data.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use platform_testkit::needs;
use serde_json::{Value, json};

use super::{Project, docker, has_engine};
use crate::sandbox::eventually;

const REDIS: &str = "platform/redis:7";
const NATS: &str = "platform/nats:2.9";

/// Valkey's programs are Redis's under other names, and Debian has none yet.
const VALKEY: &str = "FROM platform/redis:7\nUSER root\n\
    RUN ln -s redis-server /usr/bin/valkey-server && ln -s redis-cli /usr/bin/valkey-cli \\\n\
    && useradd --non-unique --uid \"$(id -u redis)\" --gid redis valkey\n";

/// A connection to a NATS server, and what it says next.
struct Nats {
    stream: BufReader<TcpStream>,
}

impl Nats {
    fn of(project: &Project) -> Self {
        let container = project.container("events");
        let settings = docker(&["exec", &container, "cat", "/dev/shm/secrets/server.conf"]);
        let (_, rest) = settings.split_once("password: \"").expect("a password");
        let password = rest.split('"').next().expect("its end").to_owned();
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let host = docker(&["inspect", "-f", format, &container]);
        let stream = TcpStream::connect((host.as_str(), 4222)).expect("it listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a limit");
        let mut nats = Self {
            stream: BufReader::new(stream),
        };
        let who = json!({ "user": "platform", "pass": password, "verbose": false });
        nats.says(&format!("CONNECT {who}\r\nSUB own 1\r\n"));
        nats
    }

    fn says(&mut self, text: &str) {
        self.stream
            .get_mut()
            .write_all(text.as_bytes())
            .expect("it listens");
    }

    /// Asks for something, and waits for the answer.
    fn ask(&mut self, subject: &str, body: &str) -> Value {
        self.says(&format!("PUB {subject} own {}\r\n{body}\r\n", body.len()));
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("it answers");
            if line.starts_with("PING") {
                self.says("PONG\r\n");
            }
            assert!(!line.starts_with("-ERR"), "{line}");
            if line.starts_with("MSG ") {
                let size = line.split_whitespace().last().expect("a size");
                let mut body = vec![0; size.parse().expect("a number")];
                self.stream.read_exact(&mut body).expect("a body");
                return serde_json::from_slice(&body).expect("JSON");
            }
        }
    }
}

impl Project {
    fn stores(&self, valkey: &str, answer: &str, memory: &str) {
        let api = format!(
            r#"build = {{ program = "api" }}
needs = ["cache", "other", "events"]
env = {{ RESPOND = "{answer}" }}"#
        );
        let resources = format!(
            r#"
[resources.cache]
kind = "redis"
version = "7"
image = "{REDIS}"
memory = "{memory}"

[resources.other]
kind = "redis"
engine = "valkey"
image = "{valkey}"

[resources.events]
kind = "nats"
version = "2.9"
image = "{NATS}"
memory = "{memory}"
"#
        );
        self.blueprint(&api, &resources);
    }

    /// Asks a Redis or what is like it, with its own client and password.
    fn tells(&self, resource: &str, program: &str, words: &str) -> String {
        let ask =
            format!("REDISCLI_AUTH=\"$(cat /dev/shm/secrets/password)\" {program}-cli {words}");
        docker(&["exec", &self.container(resource), "sh", "-c", &ask])
    }

    /// What was acknowledged is there.
    fn has_all(&self) {
        for (resource, program) in [("cache", "redis"), ("other", "valkey")] {
            assert_eq!(self.tells(resource, program, "get tea"), "sencha");
        }
        let stream = Nats::of(self).ask("$JS.API.STREAM.INFO.TEA", "");
        assert_eq!(stream["state"]["messages"], 1, "{stream}");
    }
}

#[test]
fn caches_and_events_are_kept_by_real_servers() {
    if !has_engine() || !needs::docker_image(REDIS) || !needs::docker_image(NATS) {
        return;
    }
    let project = Project::new("kept");
    let valkey = format!("platform.local/{}-valkey:8", project.name);
    project.sandbox.write("valkey/Dockerfile", VALKEY);
    let context = project.sandbox.project().join("valkey");
    docker(&[
        "build",
        "--quiet",
        "--tag",
        &valkey,
        &context.display().to_string(),
    ]);
    project.responder();
    project.stores(&valkey, "one", "128MiB");
    project.deploy();
    let status = project.run(&["status"]).ok().stdout;
    for server in ["Redis 7", "Valkey 8", "NATS 2.9"] {
        assert!(status.contains(server), "{server}: {status}");
    }
    for (resource, program) in [("cache", "redis"), ("other", "valkey")] {
        assert_eq!(project.tells(resource, program, "set tea sencha"), "OK");
        let container = project.container(resource);
        let stranger = docker(&["exec", &container, &format!("{program}-cli"), "get", "tea"]);
        assert!(stranger.contains("NOAUTH"), "{stranger}");
    }
    for (resource, port) in [("cache", "6379"), ("events", "4222")] {
        let seen = project.run(&["port-forward", resource, "15000:7000"]);
        assert_eq!(seen.code, 1, "{seen:#?}");
        let told = format!("`{resource}` listens on port {port}, not on 7000");
        assert!(seen.stderr.contains(&told), "{seen:#?}");
    }
    let stream = json!({ "name": "TEA", "subjects": ["tea.>"], "storage": "file" });
    let mut nats = Nats::of(&project);
    let made = nats.ask("$JS.API.STREAM.CREATE.TEA", &stream.to_string());
    assert_eq!(made["config"]["name"], "TEA", "{made}");
    let kept = nats.ask("tea.green", "sencha");
    assert_eq!(kept["seq"], 1, "{kept}");

    // A service changes; the servers do, too; one dies; all go and come again.
    project.stores(&valkey, "two", "128MiB");
    project.deploy();
    project.has_all();
    let before = docker(&["inspect", "-f", "{{.Id}}", &project.container("cache")]);
    project.stores(&valkey, "two", "192MiB");
    project.deploy();
    let after = docker(&["inspect", "-f", "{{.Id}}", &project.container("cache")]);
    assert_ne!(after, before, "its server was made anew");
    project.has_all();
    let pid = docker(&[
        "inspect",
        "-f",
        "{{.State.Pid}}",
        &project.container("cache"),
    ]);
    let killed = Command::new("kill").args(["-9", &pid]).status();
    assert!(killed.expect("kill").success());
    eventually("the cache is back", || {
        let words = [
            "inspect",
            "-f",
            "{{.State.Health.Status}} {{.RestartCount}}",
            &project.container("cache"),
        ];
        docker(&words) == "healthy 1"
    });
    project.has_all();
    project.run(&["destroy", "--yes"]).ok();
    project.deploy();
    project.has_all();
    project.down();
}
