//! A project of one service behind the gateway, and what can be said of its processes.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

use super::damage::SmallDisk;
use super::program;
use crate::responder::ask;
use crate::sandbox::{Sandbox, Seen};

/// A project in a sandbox of its own, with its gateway at a port of its own.
///
/// Where a test fails on its way, whatever it started is ended all the same.
pub(crate) struct Project {
    /// What its state lies on, where that is not the sandbox's own disk; goes before the sandbox.
    pub(crate) disk: Option<SmallDisk>,
    pub(crate) sandbox: Sandbox,
    pub(crate) port: u16,
}

/// What the service `api` is like.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// What it answers.
    pub(crate) answer: String,
    /// How it behaves.
    pub(crate) manner: &'static str,
    /// Further keys of the service.
    pub(crate) keys: &'static str,
}

impl Api {
    /// A good one.
    pub(crate) fn good(answer: impl Into<String>) -> Self {
        Self {
            answer: answer.into(),
            manner: "good",
            keys: "",
        }
    }
}

impl Project {
    /// A project that was never deployed.
    pub(crate) fn new(api: &Api) -> Self {
        let project = Self {
            disk: None,
            sandbox: Sandbox::empty(),
            port: lasting_port(),
        };
        project.change(api);
        project
    }

    /// A project whose service answers `one`.
    pub(crate) fn deployed() -> Self {
        let project = Self::new(&Api::good("one"));
        project.deploy().ok();
        assert_eq!(project.answer().as_deref(), Some("one"));
        project
    }

    /// Has the service be like this from the next deploy on.
    pub(crate) fn change(&self, api: &Api) {
        let command = if api.manner == "deaf" {
            program::deaf_command()
        } else {
            program::command()
        };
        let Self { port, .. } = self;
        let Api {
            answer,
            manner,
            keys,
        } = api;
        let text = format!(
            r#"[project]
name = "shop"

[services.api]
command = {command}
port = 9000
replicas = 2
needs = ["files"]
health = {{ ready = "/health", start_within = "3s", interval = "200ms" }}
restart = {{ backoff = "20ms", crash_loop = 3 }}
env = {{ BEHAVE = "{manner}", ANSWER = "{answer}" }}
{keys}

[resources.files]
kind = "object-store"

[gateway]
port = {port}

[[routes]]
path = "/"
service = "api"

[rollout]
hold = "100ms"
bake = "0s"
analysis = false
"#
        );
        self.sandbox.write("platform.toml", &text);
    }

    /// Runs `platform deploy`.
    pub(crate) fn deploy(&self) -> Seen {
        self.sandbox.run(&["deploy", "--yes"])
    }

    /// What the service answers through the gateway.
    pub(crate) fn answer(&self) -> Option<String> {
        ask(self.port, "/")
    }

    /// A file of the environment's state.
    pub(crate) fn state(&self, path: &str) -> PathBuf {
        self.sandbox.project().join(".platform/local").join(path)
    }

    /// All is as asked: the status is clean, nothing drifts, nobody is orphaned, and a further deploy has nothing to do.
    pub(crate) fn is_clean(&self, answer: &str) {
        assert_eq!(self.answer().as_deref(), Some(answer));
        self.sandbox.run(&["status", "--detailed-exitcode"]).ok();
        self.sandbox.run(&["drift", "--detailed-exitcode"]).ok();
        let again = self.deploy().ok();
        assert!(again.stdout.contains("nothing to do"), "{again:#?}");
        let plan = self.sandbox.run(&["plan", "--detailed-exitcode"]).ok();
        assert!(plan.stdout.contains("nothing to do"), "{plan:#?}");
        assert_eq!(self.instances().len(), 2, "{:?}", self.processes());
        let status = self.sandbox.run(&["status", "--format", "json"]).ok();
        assert!(status.line("status")["run"].is_null(), "{status:#?}");
    }

    /// Takes everything down, and makes sure that it is.
    pub(crate) fn down(self) {
        self.sandbox.run(&["destroy", "--yes", "--data"]).ok();
        let mut left = Vec::new();
        let gone = (0..1500).any(|_| {
            left = self.processes();
            if !left.is_empty() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            left.is_empty()
        });
        assert!(gone, "still there: {left:#?}");
        assert!(!self.state("").exists(), "the state folder is left");
    }

    /// Whatever was started for this project is ended, however the test went.
    pub(crate) fn clear_up(&self) {
        for _ in 0..50 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for process in left {
                let pid = nix::unistd::Pid::from_raw(process.pid);
                // It may have ended by itself.
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// The processes of the service's instances.
    pub(crate) fn instances(&self) -> Vec<i32> {
        let of_api = |process: &Process| process.variable("PLATFORM_SERVICE") == Some("api");
        let found = self.processes().into_iter().filter(of_api);
        found.map(|process| process.pid).collect()
    }

    /// The gateways that run, the oldest first.
    pub(crate) fn gateways(&self) -> Vec<i32> {
        let gateway = |process: &Process| process.words.get(1).is_some_and(|w| w == "gateway");
        let found = self.processes().into_iter().filter(gateway);
        found.map(|process| process.pid).collect()
    }

    /// The agent, or its keeper: what `agent.json` says of it.
    pub(crate) fn agent(&self, part: &str) -> Option<i32> {
        let bytes = fs::read(self.state("agent.json")).ok()?;
        let record: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        let pid = i32::try_from(record[part]["pid"].as_i64()?).ok()?;
        fs::metadata(format!("/proc/{pid}")).ok().map(|_| pid)
    }

    /// Every process that was started for this project, but commands.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let folder = self.sandbox.project();
        let folder = folder.parent().expect("the sandbox").display().to_string();
        let numbers = fs::read_dir("/proc").expect("/proc").flatten();
        numbers
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(Process::read)
            .filter(|process| process.mentions(&folder))
            .collect()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if self.state("").exists() {
            self.sandbox.run(&["destroy", "--yes", "--data"]);
        }
        self.clear_up();
    }
}

/// A process with what `/proc` says of it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) words: Vec<String>,
    variables: Vec<String>,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let list = |name: &str| -> Option<Vec<String>> {
            let bytes = fs::read(format!("/proc/{pid}/{name}")).ok()?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Some(text.split('\0').map(str::to_owned).collect())
        };
        Some(Self {
            pid,
            words: list("cmdline")?,
            variables: list("environ")?,
        })
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find_map(|one| one.strip_prefix(name)?.strip_prefix('='))
    }

    fn mentions(&self, folder: &str) -> bool {
        let with = format!("{folder}/");
        let everything = self.words.iter().chain(&self.variables);
        everything.into_iter().any(|text| text.contains(&with))
    }
}

/// Kills a process that this project started.
pub(crate) fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, signal).expect("it is there");
}

/// A free port that the system gives to nobody by itself, so that it is free later, too.
fn lasting_port() -> u16 {
    // Tests of one process choose at the same time, before any of their gateways listens.
    static CHOSEN: AtomicU16 = AtomicU16::new(0);
    let own = u32::from(CHOSEN.fetch_add(1, Ordering::Relaxed)) * 97 + std::process::id() * 7;
    let first = u16::try_from(own % 9_000).unwrap_or(0);
    (0..9_000_u16)
        .map(|offset| 10_000 + (first + offset) % 9_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
