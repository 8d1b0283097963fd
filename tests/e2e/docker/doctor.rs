//! What can be told of an engine, here or elsewhere, and logs that are followed over a restart.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use serde_json::Value;

use super::{Project, docker, has_engine};
use crate::responder::ask;

/// What is changed of an answer; both are of one length.
type Instead = (&'static str, &'static str);

/// An engine's socket, reached over TCP as if the engine were elsewhere; in its answers one text stands for another.
fn elsewhere(instead: Instead) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    thread::spawn(move || {
        for here in listener.incoming().flatten() {
            let host = std::env::var("DOCKER_HOST").unwrap_or_default();
            let path = host
                .strip_prefix("unix://")
                .unwrap_or("/var/run/docker.sock");
            let Ok(there) = UnixStream::connect(path) else {
                continue;
            };
            let (here, there) = (Arc::new(here), Arc::new(there));
            let (back, from) = (Arc::clone(&here), Arc::clone(&there));
            thread::spawn(move || {
                let _ = std::io::copy(&mut &*here, &mut &*there);
                let _ = there.shutdown(Shutdown::Write);
            });
            thread::spawn(move || answers(&from, &back, instead));
        }
    });
    format!("tcp://127.0.0.1:{port}")
}

fn answers(from: &UnixStream, back: &TcpStream, (text, by): Instead) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = (&mut &*from).read(&mut piece) {
        let found = piece[..read]
            .windows(text.len())
            .position(|part| part == text.as_bytes());
        if let Some(at) = found {
            piece[at..at + by.len()].copy_from_slice(by.as_bytes());
        }
        if (&mut &*back).write_all(&piece[..read]).is_err() {
            break;
        }
    }
    let _ = back.shutdown(Shutdown::Write);
}

/// What `doctor` found under a code.
fn found(project: &Project, code: &str) -> Value {
    let seen = project.run(&["doctor", "--format", "json"]);
    let checks = seen.line("doctor")["checks"].clone();
    let all = checks.as_array().expect("checks");
    let one = all
        .iter()
        .map(|check| &check["finding"])
        .find(|own| own["code"] == code);
    one.unwrap_or_else(|| panic!("no `{code}`: {seen:#?}"))
        .clone()
}

#[test]
fn an_engine_is_looked_at_here_and_elsewhere() {
    if !has_engine() {
        return;
    }
    let mut project = Project::new("doctor");
    project.responder();
    project.answering("one");
    let with_resource = format!(
        "{}\n[resources.cache]\nkind = \"redis\"\nimage = \"127.0.0.1:9/redis:7\"\n",
        project.sandbox.read("platform.toml")
    );
    let text = |found: &Value| found["message"].as_str().expect("a text").to_owned();
    let engine = text(&found(&project, "docker::engine"));
    assert!(engine.contains("cgroups v"), "{engine}");
    let disk = text(&found(&project, "docker::disk"));
    assert!(disk.contains(" GiB are free at "), "{disk}");

    // Every registry that an image is on is asked.
    let before = project.sandbox.read("platform.toml");
    project.sandbox.write("platform.toml", &with_resource);
    let registry = text(&found(&project, "doctor::no-registry"));
    assert!(registry.contains("127.0.0.1:9"), "{registry}");
    project.sandbox.write("platform.toml", &before);

    // Elsewhere only what runs there can tell.
    project
        .sandbox
        .set("DOCKER_HOST", elsewhere(("none-of-this", "none-of-this")));
    let unknown = text(&found(&project, "docker::disk"));
    assert!(unknown.contains("is not known here"), "{unknown}");
    project.secret("token", "hunter2");
    project.deploy();
    let disk = text(&found(&project, "docker::disk"));
    assert!(disk.contains(" GiB are free at "), "{disk}");

    // Logs are followed, also over a restart.
    let mut following = project
        .sandbox
        .start(&["-e", "docker", "logs", "api", "-f", "--tail", "0"]);
    let port = project.port;
    // Nobody tells when following has begun, so requests go on until one is seen.
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let asking = thread::spawn(move || {
        while !told.load(std::sync::atomic::Ordering::Relaxed) {
            ask(port, "/followed");
        }
    });
    let seen = following.until("/followed");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    asking.join().expect("it asks");
    assert!(seen.contains("asked for GET /followed"), "{seen}");
    let container = project.container("api-r1-1");
    let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &container]);
    let killed = Command::new("kill").args(["-9", &pid]).status();
    assert!(killed.expect("kill").success());
    let seen = following.until("starting as api@r1.1");
    assert!(seen.contains("starting as api@r1.1"), "{seen}");
    following.end("-INT");
    project.down();
}

#[test]
fn an_engine_of_another_kind_of_machine_is_refused_before_anything_is_there() {
    if !has_engine() || std::env::consts::ARCH != "x86_64" {
        return;
    }
    let mut project = Project::new("foreign");
    project.responder();
    project.answering("one");
    project.secret("token", "hunter2");
    let other = ("\"Architecture\":\"x86_64\"", "\"Architecture\":\"mips64\"");
    project.sandbox.set("DOCKER_HOST", elsewhere(other));
    let refused = project.run(&["deploy", "--yes"]);
    assert_eq!(refused.code, 1, "{refused:#?}");
    assert!(
        refused.stderr.contains("docker::other-architecture"),
        "{refused:#?}"
    );
    assert!(refused.stderr.contains("mips64"), "{refused:#?}");
    let own = format!("label=platform.project={}", project.name);
    assert_eq!(docker(&["ps", "-aq", "--filter", &own]), "");
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", &own]), "");
}
