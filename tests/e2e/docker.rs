//! A real engine behind the command line: deployed, changed under load, looked into, taken back, taken away.
//!
//! The service is this very test program, or the reference services; the engine is found as Docker's own client finds one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

pub(crate) use self::project::{AT_ONCE, COUNTS, Project, RESPONDS, build_responder, docker};
use crate::load::Load;
use crate::responder::ask;
use crate::sandbox::eventually;
pub(crate) use platform_testkit::needs::docker_engine as has_engine;

mod builds;
mod by_hand;
mod certified;
mod clients;
mod doctor;
mod far_engine;
mod full_engine;
mod inside;
mod jobs;
mod kept;
mod killed;
mod objects;
mod old_images;
mod own_engine;
mod own_program;
mod paused;
mod project;
mod registry;
mod renewed;
mod servers;
mod shared_limits;
mod slow_pull;
mod strategies;
mod templates;
mod two_machines;

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
    project.serves();
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
    // The blueprint that is shipped, but for what two of them on one engine may not share, and images that need no registry.
    let own = format!(
        r#"[environments.docker]
provider = "docker"
gateway.port = {port}
services.orders.build = {{ cargo = "orders", folder = "{folder}", profile = "dev" }}
services.web.build = {{ cargo = "web", folder = "{folder}", profile = "dev" }}
resources.orders-db.version = "15"
resources.orders-db.image = "platform/postgres:15"
"#
    );
    let shipped = include_str!("../../blueprints/shop/platform.toml");
    let mut text = shipped.to_owned();
    for (from, to) in [
        ("name = \"shop\"", format!("name = \"{name}\"")),
        ("[environments.docker]\nprovider = \"docker\"\n", own),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, &to);
    }
    project.sandbox.write("platform.toml", &text);
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
