//! An engine of the test's own, in a network namespace of its own: reached over TLS, and restarted.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use platform_testkit::needs;

use super::{Project, has_engine};
use crate::sandbox::{Sandbox, eventually, free_port, within};

/// A Docker engine that nobody else uses; gone when dropped.
pub(super) struct Engine {
    name: String,
    folder: tempfile::TempDir,
    port: u16,
    running: Option<Child>,
}

/// Runs a program to its end, which must be a good one.
#[track_caller]
fn run(program: &str, words: &[&str]) {
    let told = Command::new(program).args(words).output().expect(program);
    assert!(told.status.success(), "{program} {words:?}: {told:?}");
}

impl Engine {
    pub(super) fn new(test: &str) -> Self {
        Self::on(test, None)
    }

    /// One whose images and volumes have so much space, as a mount of memory is told: `800m`.
    pub(super) fn with_space(test: &str, size: &str) -> Self {
        Self::on(test, Some(size))
    }

    fn on(test: &str, size: Option<&str>) -> Self {
        let mut engine = Self {
            name: format!("e{}-{test}", std::process::id()),
            folder: tempfile::Builder::new()
                .prefix("eng")
                .tempdir_in("/tmp")
                .expect("a folder under /tmp"),
            port: free_port(),
            running: None,
        };
        run("ip", &["netns", "add", &engine.name]);
        run("ip", &["-n", &engine.name, "link", "set", "lo", "up"]);
        if let Some(size) = size {
            let data = engine.at("data");
            std::fs::create_dir(&data).expect("a folder");
            let size = format!("size={size}");
            run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &data]);
        }
        engine.authority("certs", &["server", "client"]);
        engine.authority("others", &["client"]);
        engine.start();
        engine
    }

    pub(super) fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn network(&self) -> PathBuf {
        PathBuf::from(format!("/run/netns/{}", self.name))
    }

    /// An authority with a certificate for each of these, in files named as Docker's client looks for them.
    fn authority(&self, folder: &str, whom: &[&str]) {
        let keep = |name: &str, text: String| {
            std::fs::write(self.at(&format!("{folder}/{name}")), text).expect("a file written");
        };
        std::fs::create_dir(self.at(folder)).expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut own = CertificateParams::default();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        keep(
            "ca.pem",
            own.self_signed(&key).expect("a certificate").pem(),
        );
        let authority = Issuer::new(own, key);
        for name in whom {
            let prefix = if *name == "client" { "" } else { "server-" };
            let key = KeyPair::generate().expect("a key");
            let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
            let signed = own.signed_by(&key, &authority).expect("a certificate");
            keep(&format!("{prefix}cert.pem"), signed.pem());
            keep(&format!("{prefix}key.pem"), key.serialize_pem());
        }
    }

    fn start(&mut self) {
        let told = File::options()
            .create(true)
            .append(true)
            .open(self.at("log"))
            .expect("a log");
        let child = within(&self.network(), "dockerd")
            .args([
                "--data-root",
                &self.at("data"),
                "--exec-root",
                &self.at("exec"),
            ])
            .args(["--pidfile", &self.at("pid"), "--tlsverify"])
            .args(["--host", &self.socket()])
            .args(["--host", &format!("tcp://127.0.0.1:{}", self.port)])
            .args(["--tlscacert", &self.at("certs/ca.pem")])
            .args(["--tlscert", &self.at("certs/server-cert.pem")])
            .args(["--tlskey", &self.at("certs/server-key.pem")])
            .stdin(Stdio::null())
            .stdout(told.try_clone().expect("the same log"))
            .stderr(told)
            .spawn()
            .expect("dockerd");
        self.running = Some(child);
        eventually("the engine answers", || self.says(&["info"]).is_some());
    }

    /// Has it end as a machine's shutdown does, with all that it runs.
    fn stop(&mut self) {
        let Some(mut child) = self.running.take() else {
            return;
        };
        let _ = Command::new("kill").arg(child.id().to_string()).status();
        let _ = child.wait();
    }

    /// What Docker's own client is told by it.
    pub(super) fn says(&self, words: &[&str]) -> Option<String> {
        let told = Command::new("docker")
            .args(["--host", &self.socket()])
            .args(words)
            .output()
            .ok()?;
        let said = String::from_utf8_lossy(&told.stdout).trim().to_owned();
        told.status.success().then_some(said)
    }

    /// Its socket, as `DOCKER_HOST` names it.
    pub(super) fn socket(&self) -> String {
        format!("unix://{}", self.at("sock"))
    }

    /// What a path of the gateway answers.
    pub(super) fn answer(&self, project: &Project) -> String {
        let told = within(&self.network(), "curl")
            .args(["--silent", "--fail", "--max-time", "10"])
            .arg(format!("http://127.0.0.1:{}/", project.port))
            .output()
            .expect("curl");
        let said = String::from_utf8_lossy(&told.stdout).into_owned();
        said.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    /// Has a sandbox use it, with the certificates of a folder.
    fn leads(&self, sandbox: &mut Sandbox, certificates: &str) {
        sandbox.enter(&self.network());
        sandbox.set("DOCKER_HOST", format!("tcp://127.0.0.1:{}", self.port));
        sandbox.set("DOCKER_TLS_VERIFY", "1");
        sandbox.set("DOCKER_CERT_PATH", self.at(certificates));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(left) = self.says(&["ps", "-aq"]).filter(|left| !left.is_empty()) {
            let all: Vec<&str> = left.lines().collect();
            self.says(&[&["rm", "-fv"], all.as_slice()].concat());
        }
        self.stop();
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
        // What an engine that was killed leaves mounted would keep its folder.
        let unmount = format!(
            "grep -o '{}/[^ ]*' /proc/mounts | sort -r | xargs -r umount -l",
            self.folder.path().display()
        );
        let _ = Command::new("sh").args(["-c", &unmount]).status();
    }
}

pub(super) fn may_start_engines() -> bool {
    let root = Command::new("id").arg("-u").output();
    let may =
        needs::answers("dockerd", &["--version"]) && root.is_ok_and(|told| told.stdout == b"0\n");
    needs::is_there(may, "dockerd, or no root to start an engine of one's own")
}

#[test]
fn an_engine_is_shared_over_tls_and_restarted_mid_deploy() {
    if !has_engine() || !may_start_engines() {
        return;
    }
    let mut engine = Engine::new("tls");
    let mut project = Project::new("tls");
    engine.leads(&mut project.sandbox, "certs");
    project.serves();
    assert_eq!(engine.answer(&project), "one");

    // Another machine, with nothing but the blueprint, sees the releases and the lock.
    let mut elsewhere = Sandbox::with(&project.sandbox.read("platform.toml"));
    engine.leads(&mut elsewhere, "certs");
    let known = elsewhere.run(&["-e", "docker", "releases"]).ok().stdout;
    assert!(known.contains("r1"), "{known}");
    let status = elsewhere.run(&["-e", "docker", "status"]).ok().stdout;
    assert!(status.contains("2/2"), "{status}");

    // Whom the engine does not know is told so, and so is who does not know the engine.
    let mut stranger = Sandbox::with(&project.sandbox.read("platform.toml"));
    engine.leads(&mut stranger, "others");
    let refused = stranger.run(&["-e", "docker", "status"]);
    assert_eq!(refused.code, 69, "{refused:#?}");
    assert!(refused.stderr.contains("ertificate"), "{}", refused.stderr);

    // The engine goes away while instances are replaced, and the deploy goes on once it is back.
    project.answering("two");
    let mut deploying = project.sandbox.start(&["-e", "docker", "deploy", "--yes"]);
    deploying.until_told("instances start");
    engine.stop();
    engine.start();
    let deployed = deploying.wait().ok();
    assert!(deployed.stderr.contains("serves"), "{deployed:#?}");
    eventually("the new release answers", || {
        engine.answer(&project) == "two"
    });
    let again = project.run(&["plan", "--detailed-exitcode"]);
    assert_eq!(again.code, 0, "{again:#?}");
    project.run(&["destroy", "--yes", "--data"]).ok();
    assert_eq!(engine.says(&["ps", "-aq"]).as_deref(), Some(""));
}
