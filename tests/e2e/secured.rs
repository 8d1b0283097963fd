//! Services that speak TLS with the environment's own certificates, and nobody else's.

use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::rollout::shop::{ORDERS, deploy_orders};
use crate::rollout::users::{Answers, Users};
use crate::sandbox::{Sandbox, eventually, free_port};

/// A project with `orders` behind the gateway.
struct Shop {
    sandbox: Sandbox,
    port: u16,
}

impl Shop {
    fn new() -> Self {
        Self {
            sandbox: Sandbox::empty(),
            port: free_port(),
        }
    }

    /// Deploys `orders` so that it speaks a protocol.
    ///
    /// - `lasts`: how long certificates do
    fn deploys(&self, protocol: &str, lasts: &str) {
        let mtls = format!("mtls = {{ lasts = \"{lasts}\" }}");
        deploy_orders(&self.sandbox, self.port, protocol, &mtls);
    }

    fn users(&self) -> Users {
        Users::ask(self.port, ORDERS, 50)
    }

    /// The port of the first instance.
    fn instance(&self, release: &str) -> u16 {
        let path = format!(".platform/local/instances/orders@{release}.1/record.json");
        let record: serde_json::Value =
            serde_json::from_str(&self.sandbox.read(&path)).expect("a record");
        let port = record["port"].as_u64().expect("a port");
        port.try_into().expect("a port")
    }

    /// The file whose path the first instance finds in a variable.
    fn file(&self, variable: &str) -> PathBuf {
        let asked = ["exec", "orders", "--", "printenv", variable];
        let seen = self.sandbox.run(&asked).ok();
        PathBuf::from(seen.stdout.trim())
    }

    /// The files that the gateway shows services, by name.
    fn shown(&self) -> Vec<String> {
        let own = self.file("TLS_KEY_FILE");
        let folder = own.parent().and_then(Path::parent).expect("a folder");
        let found = std::fs::read_dir(folder.join("gateway")).expect("the gateway's folder");
        let names = found.flatten().map(|entry| entry.file_name());
        let mut names: Vec<_> = names
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// What a service answers to whoever asks it over this.
pub(crate) fn answer(mut line: impl io::Read + io::Write) -> io::Result<String> {
    let request = format!("GET {ORDERS} HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n\r\n");
    line.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    line.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Connects as somebody who believes an authority and has no certificate.
pub(crate) fn stranger(
    authority: &Path,
    name: &'static str,
    port: u16,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    let own = CertificateDer::from_pem_file(authority).expect("a certificate");
    roots.add(own).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name).expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(StreamOwned::new(connection, stream))
}

/// Answers that were not 200.
pub(crate) fn harm(answers: &Answers) -> Answers {
    let harmed = answers.iter().filter(|((_, status), _)| *status != 200);
    harmed.map(|(key, count)| (key.clone(), *count)).collect()
}

#[test]
fn a_service_with_certificates_answers_the_gateway_and_nobody_without_one() {
    let shop = Shop::new();
    shop.deploys("mtls", "90d");
    let answers = || crate::responder::ask(shop.port, ORDERS).is_some();
    assert!(answers());
    let port = shop.instance("r1");
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let clear = answer(stream);
    assert!(
        !clear.as_ref().is_ok_and(|text| text.starts_with("HTTP")),
        "{clear:?}"
    );
    let authority = shop.file("TLS_CLIENT_CA_FILE");
    let mut line = stranger(&authority, "orders", port).expect("it listens");
    // It shows who it is, and then wants to know the same.
    let refused = answer(&mut line).expect_err("no answer").to_string();
    assert!(
        line.conn.peer_certificates().is_some() && refused.contains("CertificateRequired"),
        "{refused}"
    );

    // Nothing lies open: neither in the state folder, nor in what was told.
    let key = std::fs::metadata(shop.file("TLS_KEY_FILE")).expect("the key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&key.permissions());
    assert_eq!(mode & 0o777, 0o400);
    let open = Command::new("grep")
        .args(["-rl", "PRIVATE KEY", "."])
        .current_dir(shop.sandbox.project())
        .output();
    let open = String::from_utf8(open.expect("grep runs").stdout).expect("text");
    assert_eq!(open, "");

    // The same once more is no change, and what took everything over after a death goes on checking.
    let plan = ["plan", "--detailed-exitcode"];
    shop.sandbox.run(&plan).ok();
    let shown = shop.shown();
    let read = || -> serde_json::Value {
        let text = shop.sandbox.read(".platform/local/agent.json");
        serde_json::from_str(&text).unwrap_or_default()
    };
    let pid = || read()["process"]["pid"].as_u64();
    let before = pid().expect("an agent");
    let killed = Command::new("kill")
        .args(["-9", &before.to_string()])
        .status();
    assert!(killed.expect("kill runs").success());
    eventually("another agent is at work", || {
        pid().is_some_and(|pid| pid != before) && shop.shown() != shown
    });
    shop.sandbox.run(&["wait", "--timeout", "20s"]).ok();
    shop.sandbox.run(&plan).ok();
    assert!(answers());
}

#[test]
fn certificates_are_replaced_in_time_and_no_request_is_lost() {
    let shop = Shop::new();
    shop.deploys("mtls", "90d");
    let file = shop.file("TLS_CERTIFICATE_FILE");
    let issued = || std::fs::read_to_string(&file).expect("the certificate");
    let (first, shown) = (issued(), shop.shown());
    assert_eq!(shown.len(), 3, "{shown:?}");
    let users = shop.users();
    // What lasts longer than it is to is replaced at once, and then again and again.
    shop.deploys("mtls", "10s");
    let mut known = vec![first];
    while known.len() < 4 {
        eventually("a fresh certificate", || !known.contains(&issued()));
        known.push(issued());
    }
    eventually("the gateway shows another one", || {
        let now = shop.shown();
        now.len() == 3 && now != shown
    });
    let answers = users.end();
    assert_eq!(harm(&answers), Answers::new(), "{answers:?}");
    let log = shop.sandbox.run(&["logs", "orders", "--raw"]).ok().stdout;
    assert!(log.contains("certificates were replaced"), "{log}");
    assert!(!log.contains("failed"), "{log}");
}

#[test]
fn a_service_that_begins_to_speak_otherwise_loses_no_request() {
    let shop = Shop::new();
    shop.deploys("http", "90d");
    let users = shop.users();
    shop.deploys("mtls", "90d");
    shop.deploys("mtls-h2", "90d");
    shop.deploys("http", "90d");
    let answers = users.end();
    assert_eq!(harm(&answers), Answers::new(), "{answers:?}");
    for release in ["r1", "r2", "r3", "r4"] {
        let served = answers.keys().any(|(version, _)| version == release);
        assert!(served, "{release}: {answers:?}");
    }
}
