//! An engine on another machine: reached through ssh, and over a connection that is lost.

use std::fs;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use platform_testkit::needs;

use super::own_engine::{Engine, may_start_engines};
use super::{Project, has_engine};
use crate::sandbox::{eventually, free_port};

/// A way over TCP to an engine's socket, which can be cut.
struct Way {
    port: u16,
    open: Arc<AtomicBool>,
    carried: Arc<Mutex<Vec<TcpStream>>>,
}

impl Way {
    fn to(socket: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let way = Self {
            port: listener.local_addr().expect("its address").port(),
            open: Arc::new(AtomicBool::new(true)),
            carried: Arc::default(),
        };
        let (open, carried) = (Arc::clone(&way.open), Arc::clone(&way.carried));
        thread::spawn(move || {
            for here in listener.incoming().flatten() {
                // Whoever comes while it is cut finds the connection closed.
                let Ok(there) = UnixStream::connect(&socket) else {
                    continue;
                };
                if open.load(Ordering::SeqCst) {
                    let ends = here
                        .try_clone()
                        .and_then(|end| Ok((end, there.try_clone()?)));
                    let (Ok((back, from)), Ok(known)) = (ends, here.try_clone()) else {
                        continue;
                    };
                    carried.lock().expect("a lock").push(known);
                    thread::spawn(move || carry(&here, &there, || there.shutdown(Shutdown::Write)));
                    thread::spawn(move || carry(&from, &back, || back.shutdown(Shutdown::Write)));
                }
            }
        });
        way
    }

    fn cut(&self) {
        self.open.store(false, Ordering::SeqCst);
        for stream in self.carried.lock().expect("a lock").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

fn carry<'end, From, To>(from: &'end From, to: &'end To, end: impl Fn() -> io::Result<()>)
where
    &'end From: io::Read,
    &'end To: io::Write,
{
    let (mut from, mut to) = (from, to);
    let _ = io::copy(&mut from, &mut to);
    let _ = end();
}

#[test]
fn a_connection_that_is_lost_is_told_and_taken_up_again() {
    if !has_engine() || !may_start_engines() {
        return;
    }
    let engine = Engine::new("lost");
    let way = Way::to(engine.at("sock"));
    let mut project = Project::new("lost");
    let address = format!("tcp://127.0.0.1:{}", way.port);
    project.sandbox.set("DOCKER_HOST", address.clone());
    project.serves();
    assert_eq!(engine.answer(&project), "one");

    // It goes away while instances are replaced.
    project.answering("two");
    let mut deploying = project.sandbox.start(&["-e", "docker", "deploy", "--yes"]);
    deploying.until_told("instances start");
    way.cut();
    deploying.until_told("asking again");
    let status = project.run(&["status"]);
    assert_eq!(status.code, 69, "{status:#?}");
    assert!(status.stderr.contains(&address), "{}", status.stderr);
    assert!(status.stderr.contains("DOCKER_HOST"), "{}", status.stderr);
    // Whatever the command line hears, requests are answered.
    assert!(!engine.answer(&project).is_empty());
    way.mend();
    let deployed = deploying.wait().ok();
    assert!(deployed.stderr.contains("serves"), "{deployed:#?}");
    assert_eq!(engine.answer(&project), "two");
    let again = project.run(&["plan", "--detailed-exitcode"]);
    assert_eq!(again.code, 0, "{again:#?}");
    project.run(&["destroy", "--yes", "--data"]).ok();
    assert_eq!(engine.says(&["ps", "-aq"]).as_deref(), Some(""));
}

#[test]
fn colours_are_asked_where_the_gateway_is() {
    if !has_engine() || !may_start_engines() {
        return;
    }
    let engine = Engine::new("far");
    let way = Way::to(engine.at("sock"));
    let mut project = Project::new("far");
    let address = format!("tcp://127.0.0.1:{}", way.port);
    project.sandbox.set("DOCKER_HOST", address);
    project.serves();
    // Its port here is of somebody else, who answers well.
    let elsewhere = std::net::TcpListener::bind(("127.0.0.1", project.port)).expect("the port");
    thread::spawn(move || {
        for mut stream in elsewhere.incoming().flatten() {
            let _ = io::Write::write_all(
                &mut stream,
                b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\nstranger",
            );
        }
    });
    let colours = |gates: &str| {
        format!(
            "\n[rollout]\nstrategy = \"blue-green\"\nhold = \"0s\"\nbake = \"0s\"\nanalysis = false\n{gates}\n"
        )
    };
    // By every route,
    project.answering_by("two", &colours(""));
    project.deploy();
    assert_eq!(engine.answer(&project), "two");
    // and by a command that is told where the gateway is.
    let ask = r#"until curl -fsS --max-time 5 -H "$PLATFORM_PREVIEW_HEADER" "$PLATFORM_GATEWAY_URL" | grep three; do sleep 0.1; done"#;
    let gate = format!(
        "gates = [{{ when = \"before-promote\", timeout = \"30s\", command = [\"sh\", \"-c\", '{ask}'] }}]"
    );
    project.answering_by("three", &colours(&gate));
    project.deploy();
    assert_eq!(engine.answer(&project), "three");
    project.run(&["destroy", "--yes", "--data"]).ok();
    assert_eq!(engine.says(&["ps", "-aq"]).as_deref(), Some(""));
}

/// A server of `ssh` on loopback that lets one key in and leads to one engine; gone when dropped.
struct Server {
    folder: tempfile::TempDir,
    port: u16,
    running: Child,
}

impl Server {
    fn before(engine: &Engine) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("ssh")
            .tempdir_in("/tmp")
            .expect("a folder under /tmp");
        let at = |name: &str| folder.path().join(name).display().to_string();
        for key in ["host", "own"] {
            let told = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)])
                .status()
                .expect("ssh-keygen");
            assert!(told.success());
        }
        let port = free_port();
        let settings = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             SetEnv DOCKER_HOST={}\n",
            at("host"),
            at("own.pub"),
            engine.socket(),
        );
        fs::write(at("sshd_config"), settings).expect("written");
        let host = fs::read_to_string(at("host.pub")).expect("a key");
        fs::write(at("known"), format!("[127.0.0.1]:{port} {host}")).expect("written");
        let client = format!(
            "IdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\nStrictHostKeyChecking yes\n",
            at("own"),
            at("known")
        );
        fs::write(at("config"), client).expect("written");
        // As a shell's alias: ssh finds a user's own settings by the user's entry, not by HOME.
        let ssh = folder.path().join("bin/ssh");
        fs::create_dir(folder.path().join("bin")).expect("a folder");
        let text = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", at("config"));
        fs::write(&ssh, text).expect("written");
        let may_run = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&ssh, may_run).expect("permissions");
        // Where it gives up its rights, which its package makes at each boot.
        fs::create_dir_all("/run/sshd").expect("a folder");
        let log = fs::File::create(at("log")).expect("a log");
        let running = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &at("sshd_config")])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd");
        eventually("sshd listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            folder,
            port,
            running,
        }
    }

    /// Ends the connections that are open, also the one that is kept for the next command.
    fn hang_up(&self) {
        let own = self.running.id().to_string();
        let ended = Command::new("pkill").args(["-P", &own]).status();
        assert!(ended.expect("pkill").success(), "none was open");
    }

    /// Where the way begins that a command takes.
    fn path(&self) -> String {
        let own = self.folder.path().join("bin").display().to_string();
        format!("{own}:{}", std::env::var("PATH").unwrap_or_default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}

fn has_sshd() -> bool {
    needs::is_there(std::path::Path::new("/usr/sbin/sshd").is_file(), "sshd")
}

#[test]
fn an_engine_is_reached_through_ssh() {
    if !has_engine() || !may_start_engines() || !has_sshd() {
        return;
    }
    let engine = Engine::new("ssh");
    let server = Server::before(&engine);
    let mut project = Project::new("ssh");
    let address = format!("ssh://root@127.0.0.1:{}", server.port);
    project.sandbox.set("DOCKER_HOST", address);
    project.sandbox.set("PATH", server.path());
    project.serves();
    assert_eq!(engine.answer(&project), "one");
    project.answering("two");
    project.deploy();
    assert_eq!(engine.answer(&project), "two");
    let status = project.run(&["status"]).ok().stdout;
    assert!(status.contains("2/2"), "{status}");
    let told = project
        .run(&["exec", "api", "--", "/app/api", "--list"])
        .ok();
    assert!(
        told.stdout.contains("serves_when_a_blueprint_asks"),
        "{told:#?}"
    );
    project.run(&["destroy", "--yes", "--data"]).ok();
    eventually("nothing of it is left", || {
        engine.says(&["ps", "-aq"]).as_deref() == Some("")
    });

    // Whom the machine does not let in is told its words.
    fs::write(server.folder.path().join("own.pub"), "").expect("written");
    server.hang_up();
    let refused = project.run(&["status"]);
    assert_eq!(refused.code, 69, "{refused:#?}");
    assert!(
        refused.stderr.contains("Permission denied"),
        "{}",
        refused.stderr
    );
}
