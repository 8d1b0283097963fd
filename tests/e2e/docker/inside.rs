//! Commands beside a service: with a terminal or without, with its secrets, and nobody sees those from outside.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::Child;

use nix::pty::{Winsize, openpty};
use rustix::termios::tcsetwinsize;

use super::{Project, build_responder, docker, has_engine};
use crate::sandbox::eventually;

/// An image with a shell.
const DOCKERFILE: &str = "FROM debian:bookworm-slim\nCOPY api /app/api\nUSER 65532:65532\n";

/// A project with a service in an image with a shell, whose secrets come as variable and as file, and that is asked whether it
/// lives.
fn deployed(test: &str) -> Project {
    let project = Project::new(test);
    let folder = project.sandbox.project().join("api");
    std::fs::create_dir(&folder).expect("a folder");
    build_responder(&folder.join("api"));
    project.sandbox.write("api/Dockerfile", DOCKERFILE);
    let api = r#"build = { dockerfile = "api" }
health.live = "/health"
env = { RESPOND = "one", TOKEN = { secret = "token" }, KEY = { secret = "token", as = "file" } }"#;
    project.blueprint(api, "");
    project.secret("token", "hunter2");
    project.deploy();
    project
}

/// The words of every process of an instance, a line for each.
fn processes(project: &Project) -> String {
    docker(&["top", &project.container("api-r1-1"), "-eo", "pid,args"])
}

/// A terminal, and a command that sits at it.
struct Terminal {
    keys: File,
    /// What it shows so far.
    shown: String,
    child: Child,
}

impl Terminal {
    fn of(project: &Project, words: &[&str], columns: u16, rows: u16) -> Self {
        let pty = openpty(Some(&size(columns, rows)), None).expect("a terminal");
        let end = || pty.slave.try_clone().expect("its other end");
        let child = project
            .sandbox
            .command(&[&["-e", "docker"], words].concat())
            .env("TERM", "vt100")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("the program runs");
        Self {
            keys: File::from(pty.master),
            shown: String::new(),
            child,
        }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it reads");
    }

    /// Reads until it shows this.
    fn shows(&mut self, text: &str) {
        let mut piece = [0; 1024];
        while !self.shown.contains(text) {
            let read = self.keys.read(&mut piece);
            let read =
                read.unwrap_or_else(|error| panic!("{error} before `{text}`: {}", self.shown));
            self.shown
                .push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    }

    fn resize(&self, columns: u16, rows: u16) {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(self.keys.as_fd(), size).expect("a terminal");
        // The kernel tells whoever is in front on a terminal, and this one is nobody's: so it is told here.
        let pid = i32::try_from(self.child.id()).expect("a pid");
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGWINCH).expect("it runs");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

#[test]
fn a_command_has_a_terminal_of_our_size_and_its_code_is_ours() {
    if !has_engine() {
        return;
    }
    let project = deployed("terminal");
    let mut terminal = Terminal::of(&project, &["exec", "api", "--", "sh"], 91, 27);
    // The engine is told the size once the command runs.
    eventually("the size", || {
        terminal.types("stty size; echo \"kind-$TERM\"\n");
        terminal.shows("kind-vt100");
        let told = terminal.shown.contains("27 91");
        terminal.shown.clear();
        told
    });
    terminal.resize(132, 43);
    eventually("the new size", || {
        terminal.types("stty size; echo do\"\"ne\n");
        terminal.shows("done");
        let told = terminal.shown.contains("43 132");
        terminal.shown.clear();
        told
    });
    // Ctrl-C is for what runs there, and ends neither the shell nor us.
    terminal.types("sleep 1000; echo code-$?\n");
    eventually("it sleeps", || processes(&project).contains("sleep 1000"));
    terminal.types("\u{3}");
    terminal.types("echo after-$((20 + 22))\n");
    terminal.shows("after-42");
    terminal.types("exit 42\n");
    let ended = terminal.child.wait().expect("it ends");
    assert_eq!(ended.code(), Some(42), "{}", terminal.shown);

    // Without a terminal there is none, and both streams stay apart.
    let words = [
        "exec",
        "api",
        "--",
        "sh",
        "-c",
        "test -t 0 || echo none; echo apart >&2; exit 3",
    ];
    let told = project.run(&words);
    assert_eq!((told.code, told.stdout.as_str()), (3, "none\n"), "{told:?}");
    assert_eq!(told.stderr, "apart\n");
    project.down();
}

#[test]
fn secrets_are_with_the_service_and_with_commands_beside_it_alone() {
    if !has_engine() {
        return;
    }
    let project = deployed("secret");
    let words = ["exec", "api", "--", "sh", "-c", "echo $TOKEN; cat $KEY"];
    assert_eq!(project.run(&words).ok().stdout, "hunter2\nhunter2");
    // Beside the service a command runs as it is, with nobody who asks whether it lives.
    let beside = project
        .sandbox
        .start(&["-e", "docker", "exec", "api", "--", "sleep", "1000"]);
    eventually("it sleeps", || processes(&project).contains("sleep 1000"));
    let seen = processes(&project);
    let ours = |line: &&str| {
        line.split_whitespace()
            .nth(1)
            .is_some_and(|own| own.starts_with("/platform/"))
    };
    assert_eq!(seen.lines().filter(ours).count(), 1, "{seen}");
    assert!(!seen.contains("hunter2"), "{seen}");
    let inspected = docker(&["inspect", &project.container("api-r1-1")]);
    assert!(!inspected.contains("hunter2"), "{inspected}");
    // Whoever ends us ends it.
    let ended = beside.end("-INT");
    assert_eq!(ended.code, 130, "{ended:#?}");
    let seen = processes(&project);
    assert!(!seen.contains("sleep 1000"), "{seen}");
    let helpers = format!("name={}_", project.container("api-r1-1"));
    let listed = ["ps", "-aq", "--filter", &helpers];
    eventually("nobody is left who ended it", || docker(&listed).is_empty());

    // Neither is it put among arguments, not even where the shell's own way of writing it is left to the shell.
    let before = project.sandbox.read("platform.toml");
    let named = before.replace("\"--nocapture\"", "\"${TOKEN}\"");
    project.sandbox.write("platform.toml", &named);
    let refused = project.run(&["deploy", "--yes"]);
    assert_eq!(refused.code, 65, "{refused:?}");
    assert!(
        refused.stderr.contains("blueprint::secret-in-command"),
        "{refused:?}"
    );
    let shell = before.replace(
        "command = [",
        "command = [\"sh\", \"-c\", \"test -n \\\"$${TOKEN}\\\" && exec \\\"$@\\\"\", \"sh\", ",
    );
    project.sandbox.write("platform.toml", &shell);
    project.deploy();
    let told = docker(&["top", &project.container("api-r2-1"), "-eo", "pid,args"]);
    assert!(!told.contains("hunter2"), "{told}");
    project.down();
}
