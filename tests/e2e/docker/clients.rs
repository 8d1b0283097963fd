//! A gateway that lets in who shows a certificate of the right authority, and nobody else.

use std::fs;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::{AT_ONCE, Project, has_engine};
use crate::sandbox::free_port;

/// An authority that certificates of clients are signed by.
struct Clients {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Clients {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut wanted = CertificateParams::default();
        wanted.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = wanted.self_signed(&key).expect("an authority").pem();
        Self {
            issuer: Issuer::new(wanted, key),
            certificate,
        }
    }

    /// A client's certificate and its key.
    fn sign(&self) -> [String; 2] {
        let key = KeyPair::generate().expect("a key");
        let wanted = CertificateParams::new(["somebody".to_owned()]).expect("a certificate");
        let signed = wanted.signed_by(&key, &self.issuer).expect("signed");
        [signed.pem(), key.serialize_pem()]
    }
}

/// Asks as a client with this certificate; what it is answered, if it is.
fn ask(project: &Project, port: u16, shown: Option<&[String; 2]>) -> Option<String> {
    let folder = project.sandbox.project();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--cacert"])
        .arg(folder.join(".platform/development-ca/ca.pem"));
    if let Some([certificate, key]) = shown {
        for (option, name, text) in [
            ("--cert", "own.pem", certificate),
            ("--key", "own.key", key),
        ] {
            fs::write(folder.join(name), text).expect("written");
            curl.arg(option).arg(folder.join(name));
        }
    }
    let told = curl.arg(format!("https://localhost:{port}/")).output();
    let told = told.expect("curl");
    let answer = String::from_utf8_lossy(&told.stdout).into_owned();
    told.status.success().then_some(answer)
}

#[test]
fn a_gateway_on_an_engine_lets_in_clients_of_one_authority_alone() {
    if !has_engine() {
        return;
    }
    let project = Project::new("clients");
    project.responder();
    let port = free_port();
    let deploys = |client_ca: &str| {
        let rest = format!(
            "{AT_ONCE}\n[gateway.tls]\nlocal_ca = true\nport = {port}\nclient_ca = \"{client_ca}\"\n"
        );
        project.blueprint(
            "build = { program = \"api\" }\nenv = { RESPOND = \"one\" }",
            &rest,
        );
        project.deploy();
    };
    let (ours, others) = (Clients::new(), Clients::new());
    project
        .sandbox
        .write("certificates/ours.pem", &ours.certificate);
    project
        .sandbox
        .write("certificates/others.pem", &others.certificate);
    let (known, unknown) = (ours.sign(), others.sign());
    let answers = |shown| ask(&project, port, shown).is_some_and(|said| said.starts_with("one"));

    deploys("certificates/ours.pem");
    assert!(answers(Some(&known)));
    assert!(!answers(Some(&unknown)));
    assert!(!answers(None));
    project.run(&["plan", "--detailed-exitcode"]).ok();

    // By a path that leads to anywhere on this machine, too.
    let elsewhere = project.sandbox.project().join("certificates/others.pem");
    deploys(elsewhere.to_str().expect("a path"));
    assert!(!answers(Some(&known)));
    assert!(answers(Some(&unknown)));
    project.down();
}
