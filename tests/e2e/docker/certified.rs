//! Services on an engine that speak TLS with the environment's own certificates, and nobody else's.

use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Project, docker, has_engine};
use crate::believed::server::Authority;
use crate::rollout::shop::{ORDERS, Orders};
use crate::rollout::users::{Answers, Users};
use crate::sandbox::eventually;
use crate::secured::{answer, harm, stranger};

const PLAN: [&str; 2] = ["plan", "--detailed-exitcode"];

/// Deploys `orders` so that it speaks a protocol.
///
/// - `lasts`: how long certificates do
fn deploys(project: &Project, protocol: &str, lasts: &str) {
    let own = format!("protocol = \"{protocol}\"");
    project
        .sandbox
        .write("platform.toml", &blueprint(project, &own, lasts));
    project.deploy();
}

/// A blueprint of `orders`.
///
/// - `own`: more of the service
/// - `lasts`: how long certificates do
fn blueprint(project: &Project, own: &str, lasts: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = folder.display();
    let orders = Orders {
        project: &project.name,
        runs: &format!(
            "build = {{ cargo = \"orders\", folder = \"{folder}\", profile = \"dev\" }}"
        ),
        own,
        database: "version = \"15\"\nimage = \"platform/postgres:15\"",
        port: project.port,
        gateway: &format!("mtls = {{ lasts = \"{lasts}\" }}"),
    };
    format!(
        "{}analysis = false\n\n[environments.docker]\nprovider = \"docker\"\n",
        orders.blueprint()
    )
}

/// Deploys `orders` with a certificate of its own.
fn deploys_its_own(project: &Project, protocol: &str) {
    let own = format!(
        r#"protocol = "{protocol}"
tls = {{ ca = "ca.pem", name = "orders.shop.example" }}
env = {{ TLS_CERTIFICATE_FILE = {{ secret = "orders-chain", as = "file" }}, TLS_KEY_FILE = {{ secret = "orders-secret", as = "file" }} }}"#
    );
    let text = blueprint(project, &own, "90d");
    project.sandbox.write("platform.toml", &text);
    project.deploy();
}

/// The first process of a container, as the engine's machine numbers it.
fn pid(project: &Project, what: &str) -> String {
    let container = project.container(what);
    docker(&["inspect", "-f", "{{.State.Pid}}", &container])
}

/// A file as a container sees it.
fn inside(project: &Project, what: &str, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{path}", pid(project, what)))
}

/// A file of an instance's certificates.
fn own(project: &Project, instance: &str, variable: &str) -> PathBuf {
    inside(project, instance, &format!("/dev/shm/secrets/{variable}"))
}

/// What the gateway shows.
fn shown(project: &Project) -> PathBuf {
    let file = "/run/platform/certificates/gateway.pem";
    inside(project, "gateway", file)
}

fn read(file: &Path) -> String {
    let text = std::fs::read_to_string(file);
    text.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[track_caller]
fn answers(project: &Project) {
    assert!(crate::responder::ask(project.port, ORDERS).is_some());
}

fn die(pid: &str) {
    let killed = Command::new("kill").args(["-9", pid]).status();
    assert!(killed.expect("kill runs").success());
}

#[test]
fn a_service_with_certificates_answers_the_gateway_and_nobody_on_the_network_without_one() {
    if !has_engine() {
        return;
    }
    let project = Project::new("mtls");
    deploys(&project, "mtls", "90d");
    answers(&project);

    // From a container of the network, in the clear, and as somebody without a certificate.
    let mut forwarding = project
        .sandbox
        .start(&["-e", "docker", "port-forward", "orders"]);
    let told = forwarding.until_told("leads to orders");
    let port: u16 = told
        .split_whitespace()
        .find_map(|word| word.strip_prefix("127.0.0.1:"))
        .and_then(|port| port.parse().ok())
        .expect("a local port");
    let clear = answer(TcpStream::connect(("127.0.0.1", port)).expect("it listens"));
    assert!(
        !clear.as_ref().is_ok_and(|text| text.starts_with("HTTP")),
        "{clear:?}"
    );
    let authority = own(&project, "orders-r1-1", "TLS_CLIENT_CA_FILE");
    let mut line = stranger(&authority, "orders", port).expect("it listens");
    let refused = answer(&mut line).expect_err("no answer").to_string();
    assert!(
        line.conn.peer_certificates().is_some() && refused.contains("CertificateRequired"),
        "{refused}"
    );
    forwarding.end("-INT");

    // Each instance has its own, for its user alone.
    let keys = ["orders-r1-1", "orders-r1-2"].map(|one| own(&project, one, "TLS_KEY_FILE"));
    assert_ne!(read(&keys[0]), read(&keys[1]));
    for key in &keys {
        let seen = std::fs::metadata(key).expect("a key");
        assert_eq!((seen.mode() & 0o777, seen.uid()), (0o400, 65532));
    }
    let handed = inside(&project, "orders-r1-1", "/run/handed/orders@r1.1.json");
    let handed: serde_json::Value = serde_json::from_str(&read(&handed)).expect("JSON");
    let token = handed["token"].as_str().expect("a token");

    // Neither is shown by the engine, or lies in the project's folder.
    let filter = format!("label=platform.project={}", project.name);
    for kind in ["container", "volume"] {
        let list: &[&str] = match kind {
            "container" => &["ps", "-aq"],
            _ => &["volume", "ls", "-q"],
        };
        let all = docker(&[list, &["--filter", &filter]].concat());
        let all: Vec<&str> = all.lines().collect();
        let inspected = docker(&[&[kind, "inspect"], all.as_slice()].concat());
        assert!(inspected.contains(&project.name));
        for secret in ["PRIVATE KEY", token] {
            assert!(!inspected.contains(secret), "{kind} shows a secret");
        }
    }
    let open = Command::new("grep")
        .args(["-rlIE", &format!("PRIVATE KEY|{token}"), ".platform"])
        .current_dir(project.sandbox.project())
        .output();
    let open = String::from_utf8(open.expect("grep runs").stdout).expect("text");
    assert_eq!(open, "");

    // The same once more is no change, and is not exported.
    assert_eq!(project.run(&PLAN).code, 0);
    assert_eq!(project.run(&["drift", "--detailed-exitcode"]).code, 0);
    let before = pid(&project, "orders-r1-1");
    project.deploy();
    assert_eq!(pid(&project, "orders-r1-1"), before);
    let exported = project.run(&["export", "compose"]);
    assert!(exported.stderr.contains("export::mtls"), "{exported:?}");

    // An instance that the engine starts anew finds certificates again.
    die(&before);
    eventually("it is there again", || {
        pid(&project, "orders-r1-1") != "0" && pid(&project, "orders-r1-1") != before
    });
    project.run(&["wait", "--timeout", "30s"]).ok();
    answers(&project);

    // The authority ends with the environment, whatever of the data stays.
    project.run(&["destroy", "--yes"]).ok();
    let volumes = docker(&["volume", "ls", "-q", "--filter", &filter]);
    let authority = project.container("platform_authority");
    assert!(!volumes.lines().any(|one| one == authority), "{volumes}");
    project.down();
}

#[test]
fn certificates_of_containers_are_replaced_in_time_and_no_request_is_lost() {
    if !has_engine() {
        return;
    }
    let project = Project::new("mtls-lasts");
    deploys(&project, "mtls", "90d");
    let instances = ["orders-r1-1", "orders-r1-2"];
    let files = instances.map(|one| own(&project, one, "TLS_CERTIFICATE_FILE"));
    let gateway = shown(&project);
    let all = || [read(&files[0]), read(&files[1]), read(&gateway)];
    let processes = instances.map(|one| pid(&project, one));
    let users = Users::ask(project.port, ORDERS, 50);
    // What lasts longer than it is to is replaced at once, and then again and again; also by a keeper that died meanwhile.
    let mut known = vec![all()];
    deploys(&project, "mtls", "10s");
    while known.len() < 5 {
        if known.len() == 3 {
            die(&pid(&project, "keeper"));
        }
        eventually("fresh certificates", || {
            let now = all();
            (0..3).all(|one| known.iter().all(|before| before[one] != now[one]))
        });
        known.push(all());
    }
    let answers = users.end();
    assert_eq!(harm(&answers), Answers::new(), "{answers:?}");
    assert_eq!(instances.map(|one| pid(&project, one)), processes);
    let log = project.run(&["logs", "orders", "--raw", "--tail", "all"]);
    let log = log.ok().stdout;
    assert!(log.contains("certificates were replaced"), "{log}");
    assert!(!log.contains("`live` failed"), "{log}");
    assert_eq!(project.run(&PLAN).code, 0);
    project.down();
}

#[test]
fn containers_that_begin_to_speak_otherwise_lose_no_request() {
    if !has_engine() {
        return;
    }
    let project = Project::new("mtls-rolls");
    deploys(&project, "http", "90d");
    let users = Users::ask(project.port, ORDERS, 50);
    deploys(&project, "mtls", "90d");
    deploys(&project, "http", "90d");
    let answers = users.end();
    assert_eq!(harm(&answers), Answers::new(), "{answers:?}");
    for release in ["r1", "r2", "r3"] {
        let served = answers.keys().any(|(version, _)| version == release);
        assert!(served, "{release}: {answers:?}");
    }
    project.down();
}

#[test]
fn a_service_with_a_certificate_of_its_own_is_believed_by_its_authority_and_checked_so() {
    if !has_engine() {
        return;
    }
    let project = Project::new("shown");
    let ours = Authority::new("ours");
    let text = blueprint(&project, "", "90d");
    project.sandbox.write("platform.toml", &text);
    let shown = ours.signs("orders.shop.example");
    for (name, text) in [
        ("orders-chain", &shown.certificate),
        ("orders-secret", &shown.key),
    ] {
        let words = ["-e", "docker", "secrets", "set", name];
        project.sandbox.pipe(&words, text).ok();
    }
    project.sandbox.write("ca.pem", ours.certificate());
    deploys_its_own(&project, "https");
    answers(&project);
    assert_eq!(project.run(&PLAN).code, 0);
    let users = Users::ask(project.port, ORDERS, 50);
    deploys_its_own(&project, "h2");
    deploys(&project, "mtls-h2", "90d");
    let answers = users.end();
    assert_eq!(harm(&answers), Answers::new(), "{answers:?}");
    for release in ["r1", "r2", "r3"] {
        let served = answers.keys().any(|(version, _)| version == release);
        assert!(served, "{release}: {answers:?}");
    }
    // `live` was asked meanwhile, and nothing was ended for it.
    for instance in ["orders-r3-1", "orders-r3-2"] {
        let container = project.container(instance);
        let restarts = docker(&["inspect", "-f", "{{.RestartCount}}", &container]);
        assert_eq!(restarts, "0");
    }
}
