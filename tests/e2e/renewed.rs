//! Certificates that the gateway shows, renewed while clients come: named by the plan, carried by a deploy, no request lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::believed::server::{Authority, Signed};
use crate::responder;
use crate::sandbox::{Sandbox, Seen, eventually, free_port};
use crate::secured::{answer, stranger};

const NAME: &str = "shop.example";
/// The file that the blueprint names, and the line of a plan that names it.
const CHAIN: &str = "tls/shop.pem";
const CHANGED: &str = "certificates.tls/shop.pem";

/// The leaf that a client is shown who comes now, and what it is answered.
fn visit(authority: &Path, port: u16) -> (CertificateDer<'static>, String) {
    let mut line = stranger(authority, NAME, port).expect("it listens");
    let told = answer(&mut line).expect("an answer");
    let shown = line.conn.peer_certificates().expect("a certificate");
    (shown[0].clone().into_owned(), told)
}

/// Clients who come one after the other, each over a connection of its own.
struct Visitors {
    over: Arc<AtomicBool>,
    came: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl Visitors {
    fn come(authority: PathBuf, port: u16) -> Self {
        let (over, came) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (ends, count) = (Arc::clone(&over), Arc::clone(&came));
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let (_, told) = visit(&authority, port);
                assert!(told.starts_with("HTTP/1.1 200"), "{told}");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            over,
            came,
            thread: Some(thread),
        }
    }

    /// Waits for some more.
    fn more(&self) {
        let seen = self.came.load(Ordering::Relaxed);
        eventually("more visitors", || {
            self.came.load(Ordering::Relaxed) > seen + 2
        });
    }

    /// No more come; each was answered.
    fn end(mut self) {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("each was answered");
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Keys and chains of one name, and where they are shown.
pub(crate) struct Renewals<'a> {
    sandbox: &'a Sandbox,
    /// The words before each command.
    environment: &'a [&'a str],
    authority: Authority,
    port: u16,
}

impl<'a> Renewals<'a> {
    pub(crate) fn new(sandbox: &'a Sandbox, environment: &'a [&'a str]) -> Self {
        let authority = Authority::new("ours");
        sandbox.write("ca.pem", authority.certificate());
        Self {
            sandbox,
            environment,
            authority,
            port: free_port(),
        }
    }

    /// The tables of the blueprint.
    pub(crate) fn blueprint(&self) -> String {
        let port = self.port;
        format!(
            "[gateway.tls]\nport = {port}\ncertificates = [{{ certificate = \"{CHAIN}\", key = \"shop-key\" }}]\n"
        )
    }

    fn run(&self, words: &[&str]) -> Seen {
        self.sandbox.run(&[self.environment, words].concat())
    }

    fn authority(&self) -> PathBuf {
        self.sandbox.project().join("ca.pem")
    }

    /// Another chain for a key, in the file.
    fn renews(&self, key: &KeyPair) -> CertificateDer<'static> {
        let Signed { certificate, .. } = self.authority.signs_for(NAME, key);
        self.sandbox.write(CHAIN, &certificate);
        CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")
    }

    fn sets(&self, key: &KeyPair) {
        let words = [self.environment, &["secrets", "set", "shop-key"]].concat();
        self.sandbox.pipe(&words, &key.serialize_pem()).ok();
    }

    fn shown(&self) -> CertificateDer<'static> {
        visit(&self.authority(), self.port).0
    }

    fn deploys(&self) {
        self.run(&["deploy", "--yes"]).ok();
    }

    /// Nothing is to be done, and nothing is other than as it was left.
    fn is_settled(&self) {
        self.run(&["plan", "--detailed-exitcode"]).ok();
        self.run(&["drift", "--detailed-exitcode"]).ok();
    }

    /// The plan names the file, and `drift` nothing.
    fn is_planned(&self) {
        let plan = self.run(&["plan", "--detailed-exitcode"]);
        assert_eq!(plan.code, 2, "{plan:#?}");
        assert!(plan.stdout.contains(CHANGED), "{plan:#?}");
        assert!(!plan.stdout.contains("BEGIN CERTIFICATE"), "{plan:#?}");
        self.run(&["drift", "--detailed-exitcode"]).ok();
    }

    /// Renews the chain, then chain and key, then goes back to an older release.
    ///
    /// - `answers`: has the service answer this from the next deploy on
    /// - `by_itself`: whether the gateway sees the file itself
    pub(crate) fn check(&self, answers: impl Fn(&str), by_itself: bool) {
        let key = KeyPair::generate().expect("a key");
        answers("one");
        let first = self.renews(&key);
        self.sets(&key);
        self.deploys();
        assert_eq!(self.shown(), first);
        self.is_settled();

        // The same key with another chain, as a renewal that keeps the key makes.
        let visitors = Visitors::come(self.authority(), self.port);
        visitors.more();
        let second = self.renews(&key);
        self.is_planned();
        if by_itself {
            eventually("it is seen without a deploy", || self.shown() == second);
        } else {
            assert_eq!(self.shown(), first);
        }
        self.deploys();
        assert_eq!(self.shown(), second);
        visitors.more();
        self.is_settled();

        // Another key, of which the secret has not come yet.
        let other = KeyPair::generate().expect("a key");
        let third = self.renews(&other);
        answers("two");
        self.is_planned();
        let refused = self.run(&["deploy", "--yes"]);
        assert_eq!(refused.code, 1, "{refused:#?}");
        assert!(
            refused.stderr.contains("preflight::certificate-key"),
            "{refused:#?}"
        );
        assert_eq!(self.shown(), second);
        self.sets(&other);
        self.deploys();
        assert_eq!(self.shown(), third);
        self.is_settled();

        // An older release is shown with the certificate of today.
        self.run(&["rollback", "--yes"]).ok();
        let (shown, told) = visit(&self.authority(), self.port);
        assert_eq!(shown, third);
        assert!(told.contains("one"), "{told}");
        visitors.end();
    }

    /// A gateway that is started anew while the file waits for its key shows what was deployed.
    fn outlives_its_gateway(&self) {
        let deployed = self.shown();
        let later = KeyPair::generate().expect("a key");
        let waiting = self.renews(&later);
        let instances = self.sandbox.project().join(".platform/local/instances");
        let gateway = || {
            let entries = std::fs::read_dir(&instances).ok()?.flatten();
            let mut records = entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with("gateway."))
                .filter_map(|entry| std::fs::read(entry.path().join("record.json")).ok());
            let record: serde_json::Value = serde_json::from_slice(&records.next()?).ok()?;
            record["process"]["pid"].as_i64()
        };
        let before = gateway().expect("a gateway");
        let sent = std::process::Command::new("kill")
            .args(["-KILL", &before.to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
        eventually("another gateway", || {
            gateway().is_some_and(|pid| pid != before)
        });
        self.run(&["wait", "--timeout", "30s"]).ok();
        assert_eq!(self.shown(), deployed);

        self.sets(&later);
        self.deploys();
        assert_eq!(self.shown(), waiting);
        self.is_settled();
    }
}

#[test]
fn a_renewed_certificate_is_planned_and_shown_and_no_request_is_lost() {
    let sandbox = Sandbox::empty();
    let (port, command) = (free_port(), responder::command());
    let renewals = Renewals::new(&sandbox, &[]);
    let tls = renewals.blueprint();
    let answers = |answer: &str| {
        let text = format!(
            r#"[project]
name = "shop"

[services.api]
command = {command}
port = 9000
health = {{ ready = "/health", start_within = "30s" }}
env = {{ RESPOND = "{answer}" }}

[gateway]
port = {port}

{tls}
[[routes]]
path = "/"
service = "api"

[rollout]
hold = "100ms"
bake = "0s"
analysis = false
"#
        );
        sandbox.write("platform.toml", &text);
    };
    renewals.check(answers, true);
    renewals.outlives_its_gateway();
}
