//! Commands that run in a service's surroundings, and ports that lead to services.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::Shop;
use crate::responder;
use crate::sandbox::{Sandbox, eventually, exists, free_port};

#[test]
fn a_command_runs_in_a_services_surroundings_and_its_code_passes() {
    let shop = Shop::deployed();
    let sandbox = &shop.sandbox;
    let script = "echo $PLATFORM_SERVICE $RESPOND; cat; echo oops >&2; exit 7";
    let seen = sandbox.pipe(&["exec", "api", "--", "sh", "-c", script], "from here\n");
    assert_eq!(seen.code, 7, "{seen:#?}");
    assert_eq!(seen.stdout, "api hello\nfrom here\n");
    assert_eq!(seen.stderr, "oops\n");
    let json = sandbox
        .run(&[
            "exec", "api", "--format", "json", "--", "sh", "-c", "echo hi",
        ])
        .ok();
    assert_eq!(json.line("output")["text"], "hi");
}

#[test]
fn a_command_without_a_terminal_ends_with_whoever_ends_us() {
    let shop = Shop::deployed();
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let script = "sh -c 'echo $$; exec sleep 1000'; echo $$ goes on";
        let mut running = shop
            .sandbox
            .start(&["exec", "api", "--", "sh", "-c", script]);
        let below = running.until("\n");
        let below = std::path::PathBuf::from(format!("/proc/{}", below.trim()));
        assert!(exists(&below), "{below:?}");
        let ended = running.end(signal);
        assert_eq!(ended.code, code, "{ended:#?}");
        assert!(!ended.stdout.contains("goes on"), "{ended:#?}");
        eventually("what it started is gone", || !exists(&below));
    }
}

#[test]
fn a_command_that_does_not_want_to_end_is_killed() {
    let shop = Shop::deployed();
    let script = "trap 'echo not yet' INT; echo $$; while :; do sleep 0.1; done";
    let mut running = shop
        .sandbox
        .start(&["exec", "api", "--", "sh", "-c", script]);
    running.until("\n");
    let ended = running.end("-INT");
    assert_eq!(ended.code, 137, "{ended:#?}");
    assert!(ended.stdout.contains("not yet"), "{ended:#?}");
}

#[test]
fn a_port_is_forwarded_to_a_service() {
    let shop = Shop::deployed();
    let mut forwarding = shop.sandbox.start(&["port-forward", "api"]);
    let told = forwarding.until_told("leads to api");
    let local: u16 = told
        .split_whitespace()
        .find_map(|word| word.strip_prefix("127.0.0.1:"))
        .and_then(|port| port.parse().ok())
        .expect("a local port");
    let mut connection = TcpStream::connect(("127.0.0.1", local)).expect("it listens");
    connection
        .write_all(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
        .expect("it takes a request");
    let mut answer = [0; 15];
    connection.read_exact(&mut answer).expect("it answers");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    drop(connection);
    assert_eq!(forwarding.end("-INT").code, 0);
}

#[test]
fn a_resource_that_listens_nowhere_is_not_forwarded_to() {
    let shop = Shop::deployed();
    let seen = shop.sandbox.run(&["port-forward", "db"]);
    assert_eq!(seen.code, 1, "{seen:#?}");
    assert!(seen.stderr.contains("port-forward::no-port"), "{seen:#?}");
    assert!(seen.stderr.contains("SQLite file"), "{seen:#?}");
}

#[test]
fn a_port_that_would_lead_to_itself_is_refused() {
    let shop = Shop::deployed();
    let port = free_port().to_string();
    let seen = shop.sandbox.run(&["port-forward", "api", &port]);
    assert_eq!(seen.code, 1, "{seen:#?}");
    assert!(seen.stderr.contains("port-forward::to-itself"), "{seen:#?}");
}

#[test]
fn a_service_without_a_port_is_forwarded_to_where_one_says_alone() {
    let sandbox = Sandbox::empty();
    let text = format!(
        "[project]\nname = \"shop\"\n\n[services.mailer]\nkind = \"worker\"\ncommand = {}\n",
        responder::command()
    );
    sandbox.write("platform.toml", &text);
    let seen = sandbox.run(&["port-forward", "mailer"]);
    assert_eq!(seen.code, 1, "{seen:#?}");
    assert!(seen.stderr.contains("port-forward::no-port"), "{seen:#?}");
}
