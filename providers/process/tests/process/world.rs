//! One environment of its own for each test, and nothing left of it after.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use platform_blueprint::Service;
use platform_decide::digest::Digest;
use platform_decide::group::{Artifact, GroupSpec, Place};
use platform_decide::observed::{GroupSeen, InstanceSeen, InstanceState, Observed};
use platform_port::{LogQuery, Party, SecretValues, Target};
use platform_process::{ProcessTarget, TargetOptions};
use platform_testkit::scene;

pub(crate) use platform_testkit::scene::{ask, ask_with, example, free_port, traffic};

/// How long a test waits for what it waits for.
pub(crate) const WITHIN: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) target: ProcessTarget,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_program(example("agent"))
    }

    pub(crate) fn with_program(program: PathBuf) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let target = Self::target_in(folder.path(), program);
        Self { folder, target }
    }

    pub(crate) fn target_in(root: &Path, program: PathBuf) -> ProcessTarget {
        ProcessTarget::new(TargetOptions {
            project: "shop".parse().expect("a name"),
            environment: "local".parse().expect("a name"),
            root: root.to_owned(),
            state: None,
            program: Some(program),
        })
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.target.layout().root().to_owned()
    }

    pub(crate) fn record(&self, instance: &str) -> serde_json::Value {
        let path = self
            .state()
            .join("instances")
            .join(instance)
            .join("record.json");
        let bytes = fs::read(path).expect("a record");
        serde_json::from_slice(&bytes).expect("a record as JSON")
    }

    pub(crate) fn agent_record(&self) -> serde_json::Value {
        let bytes = fs::read(self.state().join("agent.json")).expect("an agent's record");
        serde_json::from_slice(&bytes).expect("an agent's record as JSON")
    }

    pub(crate) fn agent_pid(&self) -> i32 {
        pid_in(&self.agent_record()["process"])
    }

    pub(crate) fn keeper_pid(&self) -> i32 {
        pid_in(&self.agent_record()["keeper"])
    }

    /// Waits until another agent than `before` is at work.
    pub(crate) async fn another_agent(&self, before: i32) -> i32 {
        let begun = Instant::now();
        loop {
            let path = self.state().join("agent.json");
            let pid = fs::read(path)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
                .map(|record| pid_in(&record["process"]));
            if let Some(pid) = pid
                && pid != before
                && alive(pid)
            {
                return pid;
            }
            assert!(begun.elapsed() < WITHIN, "no other agent came");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn ensure(&self, group: &GroupSpec) {
        self.target
            .ensure_group(group, &SecretValues::new())
            .await
            .expect("the group is taken in");
    }

    /// Looks until `found` says so.
    pub(crate) async fn until(&self, what: &str, found: impl Fn(&Observed) -> bool) -> Observed {
        scene::until(&self.target, WITHIN, what, found).await
    }

    pub(crate) async fn until_ready(&self, group: &GroupSpec) -> GroupSeen {
        scene::until_ready(&self.target, WITHIN, group).await
    }

    pub(crate) async fn until_state(
        &self,
        group: &GroupSpec,
        state: InstanceState,
    ) -> InstanceSeen {
        scene::until_state(&self.target, WITHIN, group, state).await
    }

    pub(crate) async fn log(&self, service: &str) -> Vec<String> {
        let query = LogQuery {
            parties: vec![Party::Service(service.parse().expect("a name"))],
            ..LogQuery::default()
        };
        let lines = self.target.logs(&query).await.expect("logs");
        lines.map(|line| line.expect("a line").text).collect().await
    }

    /// Everything down; nothing of it may be left.
    pub(crate) async fn down(self) {
        self.target.destroy(true).await.expect("it is taken away");
        assert_eq!(self.marked(), Vec::<i32>::new(), "processes are left");
    }

    /// Processes that carry the environment's mark.
    pub(crate) fn marked(&self) -> Vec<i32> {
        let mark = format!("PLATFORM_STATE_TAG={}", self.target.layout().tag());
        let entries = fs::read_dir("/proc").expect("/proc");
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid: &i32| {
                fs::read(format!("/proc/{pid}/environ")).is_ok_and(|bytes| {
                    bytes
                        .split(|byte| *byte == 0)
                        .any(|one| one == mark.as_bytes())
                })
            })
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Only where a test failed on its way.
        let record = fs::read(self.state().join("agent.json")).ok();
        let record: Option<serde_json::Value> =
            record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(record) = record {
            for name in ["keeper", "process"] {
                let pid = pid_in(&record[name]);
                if pid > 1 && command_line(pid).contains(&self.state().display().to_string()) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
        }
        for pid in self.marked() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if let Ok(sockets) = self.target.layout().sockets() {
            let _ = fs::remove_dir_all(sockets);
        }
        if let Ok(secrets) = self.target.layout().secret_files() {
            let _ = fs::remove_dir_all(secrets);
        }
    }
}

fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

pub(crate) fn pid_in(identity: &serde_json::Value) -> i32 {
    identity["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .unwrap_or(0)
}

pub(crate) fn pid_of(instance: &InstanceSeen) -> i32 {
    instance
        .handle
        .as_ref()
        .and_then(|handle| handle.parse().ok())
        .expect("a process id")
}

pub(crate) fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim()
            .starts_with('Z')
    })
}

/// Has a process hang.
pub(crate) fn stop(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("it can be stopped");
}

pub(crate) fn kill_9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it can be killed");
}

/// A service that runs the fixture with these words.
pub(crate) fn service(words: &[&str]) -> Service {
    let mut command = vec![example("fixture").display().to_string()];
    command.extend(words.iter().map(ToString::to_string));
    scene::service(command)
}

pub(crate) fn group(id: &str, replicas: u32, service: impl Into<Arc<Service>>) -> GroupSpec {
    let artifact = Artifact {
        key: Digest::of(b"fixture"),
        place: Place::Installed,
    };
    scene::group(id, replicas, artifact, service)
}
