//! A PostgreSQL server of one test, in a temporary folder, never on the usual port.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use sqlx::{AnyConnection, Connection};
use tempfile::TempDir;

pub(crate) struct Server {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Prepares a server without starting it.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        if let Some(user) = user() {
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            chown(folder.path(), Some(uid), Some(gid)).expect("a folder handed over");
        }
        // Whoever takes the port between here and the start makes the start fail, not the test lie.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let server = Self {
            folder,
            port,
            child: None,
        };
        server.lay_out();
        server
    }

    /// Makes the data folder: copied from the one that the first test made, for making one takes seconds.
    fn lay_out(&self) {
        let version = newest();
        let version = version.iter().rev().nth(1).expect("a version").display();
        let template =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-{version}"));
        let lock = File::create(template.with_extension("lock")).expect("a lock file");
        lock.lock().expect("a lock");
        if !template.exists() {
            let made = self
                .command("initdb")
                .args([
                    "--no-sync",
                    "--auth=trust",
                    "--username=shop",
                    "--encoding=UTF8",
                ])
                .args(["--locale=C.UTF-8", "-D"])
                .arg(self.data())
                .stdout(Stdio::null())
                .output()
                .expect("initdb");
            assert!(
                made.status.success(),
                "{}",
                String::from_utf8_lossy(&made.stderr)
            );
            let unfinished = template.with_extension("unfinished");
            let _ = std::fs::remove_dir_all(&unfinished);
            copy(&self.data(), &unfinished);
            std::fs::rename(&unfinished, &template).expect("a template");
            return;
        }
        lock.unlock().expect("an unlock");
        copy(&template, &self.data());
    }

    pub(crate) async fn start(&mut self) {
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-F"])
            .args(["-c", "max_connections=60", "-c", "shared_buffers=8MB", "-k"])
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres");
        self.child = Some(child);
        sqlx::any::install_default_drivers();
        let deadline = Instant::now() + Duration::from_secs(60);
        while AnyConnection::connect(&self.url()).await.is_err() {
            assert!(Instant::now() < deadline, "PostgreSQL did not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the server as a crash would.
    pub(crate) fn crash(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = i32::try_from(child.id()).expect("a pid");
            // SIGQUIT is the immediate shutdown: no checkpoint, no goodbye, and no shared memory left behind.
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
            let _ = child.wait();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://shop@127.0.0.1:{}/postgres", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// PostgreSQL refuses to run as root, so root runs it as somebody else.
    fn command(&self, program: &str) -> Command {
        let program = newest().join(program);
        let mut command = match user() {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={}", user.uid))
                    .arg(format!("--regid={}", user.gid))
                    .args(["--clear-groups", "--"])
                    .arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir(self.folder.path());
        command
    }
}

/// Copies a folder with its owners and modes.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.expect("cp").success());
}

impl Drop for Server {
    fn drop(&mut self) {
        self.crash();
    }
}

fn user() -> Option<User> {
    if !Uid::effective().is_root() {
        return None;
    }
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| User::from_name(name).ok().flatten())
}

fn newest() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("an installed PostgreSQL");
    let newest = versions
        .filter_map(|entry| {
            entry
                .ok()?
                .file_name()
                .into_string()
                .ok()?
                .parse::<u32>()
                .ok()
        })
        .max()
        .expect("an installed PostgreSQL");
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
}
