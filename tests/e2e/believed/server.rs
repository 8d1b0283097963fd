//! A server with a certificate of its own, and who signed that.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate and its key, PEM.
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut wanted = CertificateParams::default();
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let names = &mut wanted.distinguished_name;
        names.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = wanted.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(wanted, key),
            certificate,
        }
    }

    /// Its own certificate, PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Signs a certificate for a host.
    pub(crate) fn signs(&self, host: &str) -> Signed {
        self.signs_for(host, &KeyPair::generate().expect("a key"))
    }

    /// The same, for a key that is there.
    pub(crate) fn signs_for(&self, host: &str, key: &KeyPair) -> Signed {
        let wanted = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        let signed = wanted.signed_by(key, &self.issuer).expect("a certificate");
        Signed {
            certificate: signed.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Answers over TLS as long as the test runs.
pub(crate) struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// - `answer`: the body of the answer to what begins with such a line
    pub(crate) fn start(
        shown: &Signed,
        answer: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        let chain = CertificateDer::from_pem_slice(shown.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_no_client_auth()
            .with_single_cert(vec![chain.expect("a certificate")], key.expect("a key"))
            .expect("a certificate with its key");
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (config, seen, answer) = (Arc::new(config), Arc::clone(&asked), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, seen, answer) = (config.clone(), seen.clone(), answer.clone());
                thread::spawn(move || serve(stream, config, &seen, &*answer));
            }
        });
        Self { port, asked }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The first lines of what was asked.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

/// Answers one request; `None` where it does not come whole.
fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    seen: &Mutex<Vec<String>>,
    answer: &dyn Fn(&str) -> String,
) -> Option<()> {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .ok()?;
    let mut line = StreamOwned::new(ServerConnection::new(config).ok()?, stream);
    let mut came = Vec::new();
    let end = loop {
        let mut part = [0; 4096];
        let read = line.read(&mut part).ok().filter(|read| *read > 0)?;
        came.extend_from_slice(&part[..read]);
        let end = came.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&came[..end]).to_ascii_lowercase();
    let (_, stated) = head.split_once("content-length:").unwrap_or_default();
    let length = stated.split_whitespace().next().map_or(Ok(0), str::parse);
    let left = (end + length.unwrap_or(0)).saturating_sub(came.len());
    line.read_exact(&mut vec![0; left]).ok()?;
    let first = String::from_utf8_lossy(&came).lines().next()?.to_owned();
    let body = answer(&first);
    seen.lock().expect("nobody panicked").push(first);
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    line.write_all(head.as_bytes()).ok()?;
    line.write_all(body.as_bytes()).ok()?;
    line.conn.send_close_notify();
    line.flush().ok()
}
