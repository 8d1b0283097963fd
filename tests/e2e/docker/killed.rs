//! The command line killed before each single call that changes something on the engine, and what the next run makes of it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use platform_testkit::needs;

use super::{AT_ONCE, Project, docker, has_engine};
use crate::load::Load;
use crate::responder::ask;

/// Requests a second while commands are killed.
const RATE: u32 = 20;
/// A server whose volume has to be given to its user.
const IMAGE: &str = "platform/nats:2.9";

/// A way to the engine that counts what is to be changed there, and kills who asks for the change of a number.
struct Way {
    socket: PathBuf,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Default)]
struct Counted {
    /// The process that is counted for.
    victim: Option<u32>,
    /// Changes so far.
    changes: usize,
    /// The change that is not made any more.
    last: usize,
    /// What was not made.
    struck: Option<String>,
}

impl Way {
    fn beside(project: &Project) -> Self {
        let socket = project.sandbox.project().join("engine");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let counted: Arc<Mutex<Counted>> = Arc::default();
        let known = Arc::clone(&counted);
        thread::spawn(move || {
            for here in listener.incoming().flatten() {
                let counted = Arc::clone(&known);
                thread::spawn(move || carry(&here, &counted));
            }
        });
        Self { socket, counted }
    }

    /// Runs a command that is killed before its change of this number; what it was about to do, or nothing where it ended by
    /// itself before.
    fn killed(&self, project: &Project, words: &[&str], number: usize) -> Option<String> {
        let mut command = project
            .sandbox
            .command(&[&["-e", "docker"], words].concat());
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        *lock(&self.counted) = Counted {
            last: number,
            ..Counted::default()
        };
        let child = command.spawn().expect("the program runs");
        lock(&self.counted).victim = Some(child.id());
        let ended = child.wait_with_output().expect("it ends");
        let struck = lock(&self.counted).struck.take();
        assert!(
            struck.is_some() || ended.status.success(),
            "{ended:?} before change {number}"
        );
        struck
    }
}

fn lock(counted: &Mutex<Counted>) -> MutexGuard<'_, Counted> {
    counted.lock().expect("unpoisoned")
}

/// The socket that Docker's own client talks to.
fn engine() -> UnixStream {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let path = host
        .strip_prefix("unix://")
        .unwrap_or("/var/run/docker.sock");
    UnixStream::connect(path).expect("the engine's socket")
}

fn carry(here: &UnixStream, counted: &Mutex<Counted>) {
    let there = engine();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut &there, &mut &*here);
            let _ = here.shutdown(Shutdown::Write);
        });
        let mut piece = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = (&*here).read(&mut piece) {
            if !passes(&piece[..read], counted) || (&there).write_all(&piece[..read]).is_err() {
                break;
            }
        }
        let _ = there.shutdown(Shutdown::Write);
    });
}

/// Whether a piece may go on to the engine. A client waits for an answer before it asks again, so a request begins a piece.
fn passes(piece: &[u8], counted: &Mutex<Counted>) -> bool {
    let mut counted = lock(counted);
    if counted.struck.is_some() {
        return false;
    }
    let Some(change) = change(piece) else {
        return true;
    };
    counted.changes += 1;
    if counted.changes < counted.last {
        return true;
    }
    counted.struck = Some(change);
    if let Some(victim) = counted.victim.and_then(|pid| i32::try_from(pid).ok()) {
        let victim = nix::unistd::Pid::from_raw(victim);
        nix::sys::signal::kill(victim, nix::sys::signal::Signal::SIGKILL).expect("it runs");
    }
    false
}

/// What a piece changes: an object of the engine's, a document, or the gateway's configuration.
fn change(piece: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&piece[..piece.len().min(512)]);
    let line = text.lines().next().unwrap_or_default();
    let asks = ["POST /", "PUT /", "DELETE /"]
        .iter()
        .any(|method| line.starts_with(method));
    // Commands in containers are how the keeper is asked.
    if asks && !line.contains("/exec") {
        return Some(line.to_owned());
    }
    let said = [
        "\"ask\":{\"write\"",
        "\"ask\":{\"gateway\":{\"put\"",
        "\"ask\":{\"credential\"",
    ];
    let said = said.iter().find(|said| text.contains(*said))?;
    Some(format!(
        "{said} {}",
        line.chars().take(120).collect::<String>()
    ))
}

impl Project {
    /// A service that answers a secret, and a resource whose volume has to be given to its user.
    fn owned(&self) {
        let api = r#"build = { program = "api" }
replicas = 2
needs = ["kept"]
env = { RESPOND = { secret = "answer" } }"#;
        let kept = format!(
            r#"
[resources.kept]
kind = "nats"
version = "2.9"
image = "{IMAGE}"
{AT_ONCE}"#
        );
        self.blueprint(api, &kept);
    }

    /// Has the service answer this from the next deploy on.
    fn told(&self, answer: &str) {
        self.secret("answer", answer);
    }

    /// All is as asked, there is nothing more than that, and nothing is left to do.
    fn is_clean(&self, answer: &str) {
        let said = ask(self.port, "/").unwrap_or_default();
        assert_eq!(said.split_whitespace().next(), Some(answer));
        for words in [["status"], ["drift"], ["plan"]] {
            let all = [&words[..], &["--detailed-exitcode"]].concat();
            self.run(&all).ok();
        }
        let own = format!("label=platform.project={}", self.name);
        let roles = docker(&[
            "ps",
            "-a",
            "--filter",
            &own,
            "--format",
            "{{.Label \"platform.role\"}} {{.State}}",
        ]);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for role in roles.lines() {
            *counts.entry(role).or_default() += 1;
        }
        let wanted = [
            ("gateway running", 1),
            ("keeper running", 1),
            ("resource running", 1),
            ("service running", 2),
        ];
        assert_eq!(counts, BTreeMap::from(wanted));
        // Addresses can be chosen on it, so that instances keep theirs.
        let networks = docker(&["network", "ls", "-q", "--filter", &own]);
        let format = "{{range .IPAM.Config}}{{.IPRange}}{{end}}";
        assert_eq!(networks.lines().count(), 1);
        assert!(docker(&["network", "inspect", "-f", format, &networks]).contains('/'));
        // The secrets of the instances that run, and of no others.
        let volumes = docker(&["volume", "ls", "-q", "--filter", &own]);
        let secrets = volumes.lines().filter(|name| name.contains("_secrets_"));
        assert_eq!(secrets.count(), 2, "{volumes}");
        let kept = format!("{}:/kept", self.container("data_kept"));
        let owner = ["run", "--rm", "--network", "none", "-v", &kept];
        let owner = docker(
            &[
                &owner[..],
                &["debian:bookworm-slim", "stat", "-c", "%u", "/kept"],
            ]
            .concat(),
        );
        assert_eq!(owner, "65532");
    }
}

/// Every so many changes one is not made, in this many tests of a kind, so that none takes long.
const PARTS: usize = 4;

/// The changes before which one of the tests of a kind kills: all of its own where time is no matter, or each fifth.
fn numbers(part: usize) -> impl Iterator<Item = usize> {
    let long = std::env::var("PLATFORM_TEST_LONG").is_ok_and(|value| value == "1");
    (part..).step_by(if long { PARTS } else { 5 * PARTS })
}

/// A project, and the way on which its commands are killed.
fn beginning(test: &str) -> Option<(Project, Way)> {
    if !has_engine() || !needs::docker_image(IMAGE) {
        return None;
    }
    let project = Project::new(test);
    project.responder();
    project.owned();
    project.told("one");
    let way = Way::beside(&project);
    Some((project, way))
}

fn check_first(part: usize) {
    let Some((project, way)) = beginning(&format!("first{part}")) else {
        return;
    };
    for number in numbers(part) {
        let struck = way.killed(&project, &["deploy", "--yes"], number);
        if number % 5 == 0 {
            // What was begun goes without a rest, too.
            project.gone();
        }
        project.deploy();
        project.is_clean("one");
        project.gone();
        if struck.is_none() {
            assert!(number > 30, "only {number} changes");
            return;
        }
    }
}

fn check_next(part: usize) {
    let Some((project, way)) = beginning(&format!("next{part}")) else {
        return;
    };
    project.deploy();
    let load = Load::on(project.port, RATE);
    let mut served = "one".to_owned();
    for number in numbers(part) {
        let answer = format!("answer-{number}");
        project.told(&answer);
        let struck = way.killed(&project, &["deploy", "--yes"], number);
        let now = ask(project.port, "/").unwrap_or_default();
        let now = now.split_whitespace().next().unwrap_or_default().to_owned();
        assert!(now == served || now == answer, "{now} after {struck:?}");
        // The same again finishes it; another one replaces it; the one before takes it back.
        let wanted = match number % 3 {
            0 => answer,
            1 => format!("other-{number}"),
            _ => served,
        };
        project.told(&wanted);
        project.deploy();
        project.is_clean(&wanted);
        served = wanted;
        let left = load.so_far();
        assert_eq!(left.failed, 0, "{struck:?}: {left:#?}");
        if struck.is_none() {
            assert!(number > 20, "only {number} changes");
            break;
        }
    }
    load.end().unharmed();
    project.down();
}

#[test]
fn a_first_deploy_killed_before_any_change_is_finished_first_part() {
    check_first(1);
}

#[test]
fn a_first_deploy_killed_before_any_change_is_finished_second_part() {
    check_first(2);
}

#[test]
fn a_first_deploy_killed_before_any_change_is_finished_third_part() {
    check_first(3);
}

#[test]
fn a_first_deploy_killed_before_any_change_is_finished_fourth_part() {
    check_first(4);
}

#[test]
fn a_deploy_killed_before_any_change_is_finished_or_replaced_first_part() {
    check_next(1);
}

#[test]
fn a_deploy_killed_before_any_change_is_finished_or_replaced_second_part() {
    check_next(2);
}

#[test]
fn a_deploy_killed_before_any_change_is_finished_or_replaced_third_part() {
    check_next(3);
}

#[test]
fn a_deploy_killed_before_any_change_is_finished_or_replaced_fourth_part() {
    check_next(4);
}

#[test]
fn a_removal_killed_before_any_change_is_finished_or_followed_by_a_deploy() {
    let Some((project, way)) = beginning("removal") else {
        return;
    };
    for number in numbers(1) {
        project.deploy();
        let struck = way.killed(&project, &["destroy", "--yes", "--data"], number);
        if number % 2 == 0 {
            project.deploy();
            project.is_clean("one");
        }
        project.gone();
        if struck.is_none() {
            assert!(number > 10, "only {number} changes");
            return;
        }
    }
}
