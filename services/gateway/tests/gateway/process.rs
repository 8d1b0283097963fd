//! The gateway as a process of its own, as it runs everywhere but in tests.

use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use platform_gateway_api::client::Client as Admin;
use tokio::process::{Child, Command};

use crate::bench::{PATIENCE, Place, Running, until};

/// The example `gateway`, which Cargo builds together with the tests.
pub(crate) fn program() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    let folder = own.parent().and_then(|deps| deps.parent()).expect("deps");
    let program = folder.join("examples/gateway");
    assert!(
        program.exists(),
        "`cargo build -p platform-gateway --example gateway` makes {}",
        program.display()
    );
    program
}

impl Place {
    /// Starts a gateway as a process and waits until it answers.
    pub(crate) async fn process(&self) -> Running<Child> {
        self.process_by(Command::new(program())).await
    }

    /// Where a process looks for a configuration of its own.
    pub(crate) fn config(&self) -> PathBuf {
        self.path().join("gateway.json")
    }

    /// As [`Self::process`], by a command to which the gateway's own arguments are added.
    pub(crate) async fn process_by(&self, mut command: Command) -> Running<Child> {
        let admin = Admin::new(self.path().join("admin.sock"));
        let before = admin.status().await;
        let earlier = before.map(|status| status.epoch).unwrap_or_default();
        let task = command
            .arg(self.config())
            .arg(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        until("the process answers", async || {
            admin
                .status()
                .await
                .is_ok_and(|status| status.epoch != earlier)
        })
        .await;
        Running { admin, task }
    }
}

impl Running<Child> {
    fn pid(&self) -> Pid {
        let pid = self.task.id().expect("it runs");
        Pid::from_raw(pid.try_into().expect("a process id"))
    }

    /// Sends SIGHUP.
    pub(crate) fn reload(&self) {
        kill(self.pid(), Signal::SIGHUP).expect("it runs");
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        kill(self.pid(), Signal::SIGTERM).expect("it runs");
    }

    /// Waits for the end of a process that was told to go.
    pub(crate) async fn ended(mut self) {
        let ended = tokio::time::timeout(PATIENCE, self.task.wait()).await;
        let status = ended.expect("the process ends in time").expect("a status");
        assert!(status.success(), "{status}");
    }

    /// Ends it and waits for that.
    pub(crate) async fn stopped(self) {
        self.terminate();
        self.ended().await;
    }

    /// Resident memory in MiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.expect("a size").parse::<u64>().expect("kB") / 1024
    }
}
