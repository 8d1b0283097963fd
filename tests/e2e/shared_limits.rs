//! Rate limits that gateways count together, through a Redis.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use platform_testkit::needs;

use crate::responder;
use crate::sandbox::{Sandbox, eventually, free_port};

/// A server that nobody of the project runs.
struct Redis {
    server: Child,
    address: String,
}

const PASSWORD: &str = "hunter2-and-more";

impl Redis {
    /// Starts it and waits until it answers.
    fn start(folder: &Path) -> Self {
        let port = free_port();
        let settings = format!(
            "bind 127.0.0.1\nport {port}\nrequirepass {PASSWORD}\nsave \"\"\nappendonly no\n"
        );
        let file = folder.join("redis.conf");
        std::fs::write(&file, settings).expect("its settings");
        let server = Command::new("redis-server")
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server");
        let redis = Self {
            server,
            address: format!("redis://:{PASSWORD}@127.0.0.1:{port}"),
        };
        eventually("Redis listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn is_installed() -> bool {
    let answers = needs::answers("redis-server", &["--version"]);
    needs::is_there(answers, "redis-server")
}

/// Requests that a route lets in: more than are asked while a gateway that is busy may have counted for itself.
pub(crate) const LIMIT: usize = 500;

/// Asks as often as is let in; returns how often that was.
pub(crate) fn use_up(port: u16) -> usize {
    (0..3 * LIMIT)
        .take_while(|_| status(port) == Some(200))
        .count()
}

/// Asks now and then until it is refused; returns how often it was let in.
pub(crate) fn let_in(port: u16) -> usize {
    let mut let_in = 0;
    eventually("the limit is reached", || {
        let status = status(port);
        let_in += usize::from(status == Some(200));
        status == Some(429)
    });
    let_in
}

/// A blueprint whose only route lets some requests in a day.
fn limited(port: u16, resource: &str) -> String {
    let command = responder::command();
    format!(
        r#"[project]
name = "shop"

[services.api]
command = {command}
port = 9000
needs = ["counts"]
health = {{ ready = "/health", start_within = "10s" }}
env = {{ RESPOND = "hello" }}

[resources.counts]
kind = "redis"
{resource}

[gateway]
port = {port}
shared = "counts"

[[routes]]
path = "/"
service = "api"
rate_limit = {{ requests = {LIMIT}, every = "1d", per = "route", shared = true }}

[environments.local]
provider = "process"

"#
    )
}

/// The status of the answer to one request.
pub(crate) fn status(port: u16) -> Option<u16> {
    status_with(port, "")
}

/// The status of the answer to one request with these fields, each with its line's end.
pub(crate) fn status_with(port: u16, fields: &str) -> Option<u16> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{fields}\r\n");
    connection.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    answer.split_whitespace().nth(1)?.parse().ok()
}

/// The gateway's process that runs now.
fn gateway(sandbox: &Sandbox) -> Option<String> {
    let instances = sandbox.project().join(".platform/local/instances");
    let found = std::fs::read_dir(instances).expect("instances").flatten();
    let records = found.filter(|entry| entry.file_name().to_string_lossy().starts_with("gateway."));
    let pids = records.filter_map(|entry| {
        let text = std::fs::read_to_string(entry.path().join("record.json")).ok()?;
        let record: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(record["process"]["pid"].to_string())
    });
    pids.last()
}

/// The file in which the gateway finds the address.
fn handed(sandbox: &Sandbox) -> PathBuf {
    let kept = sandbox.project().join(".platform/local/gateway");
    let files = std::fs::read_dir(kept).expect("what it keeps").flatten();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    let paths = texts.filter_map(|text| {
        let (_, rest) = text.split_once("\"url_file\":\"")?;
        Some(rest.split('"').next()?.into())
    });
    paths.last().expect("a file of an address")
}

/// Where a text is found, of all that is kept, told and shown of a project.
fn leaks(sandbox: &Sandbox, text: &str) -> Vec<String> {
    let state = sandbox.project().join(".platform/local");
    let grep = Command::new("grep")
        .args(["-rlaF", "--exclude-dir=resources", "-e", text])
        .arg(&state)
        .output()
        .expect("grep");
    let shown = Command::new("ps").args(["-eo", "args"]).output();
    let shown = shown.expect("ps").stdout;
    let mut found: Vec<String> = String::from_utf8_lossy(&grep.stdout)
        .lines()
        .map(str::to_owned)
        .collect();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    let lines = shown.lines().filter(|line| line.contains(text));
    found.extend(lines.map(str::to_owned));
    for words in [
        &["plan", "--format", "json"][..],
        &["status", "--format", "json"],
        &["logs", "--format", "json"],
        &["releases", "show", "r1", "--format", "json"],
    ] {
        let seen = sandbox.run(words);
        if seen.stdout.contains(text) || seen.stderr.contains(text) {
            found.push(format!("{words:?}"));
        }
    }
    found
}

#[test]
fn a_limit_holds_when_the_gateway_begins_anew() {
    if !is_installed() {
        return;
    }
    let port = free_port();
    let sandbox = Sandbox::with(&limited(port, "engine = \"redis\""));
    sandbox.run(&["deploy", "--yes"]).ok();
    assert!(use_up(port) >= LIMIT);
    let before = gateway(&sandbox).expect("a gateway");
    let killed = Command::new("kill").args(["-9", &before]).status();
    assert!(killed.expect("kill").success());
    eventually("another gateway answers", || {
        gateway(&sandbox).is_some_and(|now| now != before) && status(port).is_some()
    });
    assert!(let_in(port) < LIMIT);

    let file = handed(&sandbox);
    let seen = std::fs::metadata(&file).expect("the file");
    assert_eq!(seen.permissions().mode() & 0o777, 0o600);
    let address = std::fs::read_to_string(&file).expect("the address");
    let (_, password) = address.split_once("redis://:").expect("a password");
    let (password, _) = password.split_once('@').expect("its end");
    assert!(!file.display().to_string().contains(password));
    assert_eq!(leaks(&sandbox, password), Vec::<String>::new());
    // Nothing is left to do.
    sandbox.run(&["plan", "--detailed-exitcode"]).ok();
}

#[test]
fn environments_count_together_and_each_for_itself_when_nobody_answers() {
    if !is_installed() {
        return;
    }
    let ports = [free_port(), free_port()];
    let mut text = limited(ports[0], "external = { secret = \"counts-address\" }");
    text.extend([
        "[environments.other]\nprovider = \"process\"\ngateway.port = ",
        &ports[1].to_string(),
        "\n",
    ]);
    let sandbox = Sandbox::with(&text);
    let refused = sandbox.run(&["deploy", "--yes", "-e", "local"]);
    assert!(refused.code != 0 && refused.stderr.contains("counts-address"));

    let redis = Redis::start(&sandbox.project());
    for environment in ["local", "other"] {
        let set = ["secrets", "set", "counts-address", "-e", environment];
        sandbox.pipe(&set, &redis.address).ok();
        sandbox.run(&["deploy", "--yes", "-e", environment]).ok();
    }
    assert!(use_up(ports[0]) >= LIMIT);
    assert!(let_in(ports[1]) < LIMIT);
    // The service that needs it is handed the address, too.
    let asked = ["exec", "-e", "local", "api", "--", "printenv", "COUNTS_URL"];
    assert_eq!(sandbox.run(&asked).ok().stdout.trim(), redis.address);
    assert!(handed(&sandbox).ends_with("gateway/counts-address.1"));
    assert_eq!(leaks(&sandbox, PASSWORD), Vec::<String>::new());

    drop(redis);
    assert_eq!(ports.map(status), [Some(200); 2]);
}
