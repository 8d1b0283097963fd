//! TLS, with certificates on both sides where clients are to show one, from files that may be replaced while the service runs.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Files of certificates, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The chain that is shown to clients.
    pub certificate: PathBuf,
    /// The key of its first certificate.
    pub key: PathBuf,
    /// The authorities, one of which must have signed a client's certificate; without them clients are asked for none.
    pub client_ca: Option<PathBuf>,
}

/// What a connection is secured with; read again once a file is another.
pub(crate) struct Secured {
    files: Certificates,
    in_use: Mutex<InUse>,
}

struct InUse {
    config: Arc<ServerConfig>,
    /// What the files were when they were last read.
    seen: Seen,
}

/// When each file was changed, and which it is.
type Seen = [Option<(SystemTime, u64)>; 3];

impl Secured {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// What is wrong with which file, in words.
    pub(crate) fn open(files: &Certificates) -> Result<Self, String> {
        let seen = seen(files);
        Ok(Self {
            in_use: Mutex::new(InUse {
                config: read(files)?,
                seen,
            }),
            files: files.clone(),
        })
    }

    /// Secures a connection.
    ///
    /// # Errors
    ///
    /// If the client shows no certificate that is believed, or does not speak TLS.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.config()).accept(stream).await
    }

    /// What the files hold now, or held last as far as they can be used.
    fn config(&self) -> Arc<ServerConfig> {
        let seen = seen(&self.files);
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if in_use.seen != seen {
            // Files are replaced one after the other: those that do not fit together yet are read again with the next.
            in_use.seen = seen;
            match read(&self.files) {
                Ok(config) => {
                    in_use.config = config;
                    tracing::info!("certificates were replaced");
                }
                Err(error) => tracing::warn!(error, "the certificates before stay in use"),
            }
        }
        in_use.config.clone()
    }
}

/// Whether HTTP/2 was agreed on with the client.
pub(crate) fn speaks_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

fn seen(files: &Certificates) -> Seen {
    let paths = [
        Some(&files.certificate),
        Some(&files.key),
        files.client_ca.as_ref(),
    ];
    paths.map(|path| {
        let found = std::fs::metadata(path?).ok()?;
        Some((found.modified().ok()?, found.ino()))
    })
}

fn read(files: &Certificates) -> Result<Arc<ServerConfig>, String> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
        format!("cannot use `{}`: {error}", path.display())
    };
    let chain = |path: &Path| {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unreadable(path, &error))
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = match &files.client_ca {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in chain(path)? {
                roots
                    .add(authority)
                    .map_err(|error| unreadable(path, &error))?;
            }
            WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
                .build()
                .map_err(|error| unreadable(path, &error))?
        }
    };
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unreadable(&files.key, &error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set TLS up: {error}"))?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain(&files.certificate)?, key)
        .map_err(|error| unreadable(&files.certificate, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::routing::get;
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    use rustls::ClientConfig;
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client;

    use super::*;
    use crate::health::{Health, Phase};
    use crate::listener::{self, Ending, Limits};

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        certificate: String,
    }

    impl Authority {
        fn new() -> Self {
            let mut wanted = CertificateParams::default();
            wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let certificate = wanted.self_signed(&key).unwrap().pem();
            Self {
                issuer: Issuer::new(wanted, key),
                certificate,
            }
        }

        fn signs(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
            let mut wanted = CertificateParams::new(vec![name.to_owned()]).unwrap();
            wanted.extended_key_usages = vec![usage];
            let key = KeyPair::generate().unwrap();
            let signed = wanted.signed_by(&key, &self.issuer).unwrap();
            (signed.pem(), key.serialize_pem())
        }

        /// Replaces the files of a service as whoever deploys does: each at once, one after the other.
        fn hands_over(&self, files: &Certificates) {
            let (certificate, key) = self.signs("orders", ExtendedKeyUsagePurpose::ServerAuth);
            let texts = [&certificate, &key, &self.certificate];
            let authorities = files.client_ca.as_ref().unwrap();
            let paths = [&files.certificate, &files.key, authorities];
            for (path, text) in paths.into_iter().zip(texts) {
                let fresh = path.with_extension("new");
                std::fs::write(&fresh, text).unwrap();
                std::fs::rename(&fresh, path).unwrap();
            }
        }

        /// A client that believes this authority.
        fn client(&self, own: Option<(String, String)>) -> TlsConnector {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
            roots.add(root).unwrap();
            let builder =
                ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_root_certificates(roots);
            let config = match own {
                None => builder.with_no_client_auth(),
                Some((certificate, key)) => builder
                    .with_client_auth_cert(
                        vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                        PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                    )
                    .unwrap(),
            };
            TlsConnector::from(Arc::new(config))
        }
    }

    type Line = client::TlsStream<TcpStream>;

    async fn connect(connector: &TlsConnector, port: u16) -> io::Result<Line> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from("orders").unwrap();
        connector.connect(name, stream).await
    }

    /// The head of the answer to one more request over a connection.
    async fn ask(line: &mut Line) -> io::Result<String> {
        line.write_all(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n")
            .await?;
        let mut answer = Vec::new();
        let mut part = [0; 1024];
        while !answer.ends_with(b"hello") {
            match line.read(&mut part).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => answer.extend_from_slice(&part[..read]),
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Serves by these certificates; the port, and how that is told to end and ends.
    async fn serve(files: &Certificates) -> (u16, Arc<Health>, tokio::task::JoinHandle<Ending>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let health = Arc::new(Health::default());
        let serving = tokio::spawn(listener::serve(
            listener,
            Some(Secured::open(files).unwrap()),
            Router::new().route("/", get(async || "hello")),
            health.clone(),
            Limits {
                header_timeout: Duration::from_secs(10),
                max_connections: 100,
                shutdown_deadline: Duration::from_secs(10),
            },
        ));
        (port, health, serving)
    }

    #[tokio::test]
    async fn only_who_shows_a_certificate_is_answered_also_after_they_were_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let files = Certificates {
            certificate: place("certificate"),
            key: place("key"),
            client_ca: Some(place("ca")),
        };
        let (before, after) = (Authority::new(), Authority::new());
        before.hands_over(&files);
        let (port, health, serving) = serve(&files).await;
        let client = |authority: &Authority| {
            let own = authority.signs("gateway", ExtendedKeyUsagePurpose::ClientAuth);
            authority.client(Some(own))
        };
        let known = client(&before);
        let mut line = connect(&known, port).await.unwrap();
        assert!(ask(&mut line).await.unwrap().starts_with("HTTP/1.1 200"));

        // No certificate, that of another service, and no TLS at all.
        let other = before.signs("users", ExtendedKeyUsagePurpose::ServerAuth);
        for own in [None, Some(other)] {
            let refused = match connect(&before.client(own), port).await {
                Ok(mut line) => ask(&mut line).await,
                Err(error) => Err(error),
            };
            assert!(refused.is_err(), "{refused:?}");
        }
        let mut plain = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        plain
            .write_all(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        // The connection may be reset in place of being closed.
        let _ = plain.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

        after.hands_over(&files);
        let mut fresh = connect(&client(&after), port).await.unwrap();
        assert!(ask(&mut fresh).await.unwrap().starts_with("HTTP/1.1 200"));
        assert!(connect(&known, port).await.is_err());
        // Whoever was connected stays so.
        assert!(ask(&mut line).await.unwrap().starts_with("HTTP/1.1 200"));

        // What cannot be used changes nothing.
        std::fs::write(&files.key, "none").unwrap();
        let mut fresh = connect(&client(&after), port).await.unwrap();
        assert!(ask(&mut fresh).await.unwrap().starts_with("HTTP/1.1 200"));
        drop((line, fresh, plain));
        health.enter(Phase::Closing);
        assert_eq!(serving.await.unwrap(), Ending::Complete);
    }

    #[tokio::test]
    async fn without_authorities_of_clients_nobody_is_asked_for_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let authority = Authority::new();
        let mut files = Certificates {
            certificate: place("certificate"),
            key: place("key"),
            client_ca: Some(place("ca")),
        };
        authority.hands_over(&files);
        files.client_ca = None;
        let (port, health, serving) = serve(&files).await;
        let stranger = authority.client(None);
        let mut line = connect(&stranger, port).await.unwrap();
        assert!(ask(&mut line).await.unwrap().starts_with("HTTP/1.1 200"));

        // In HTTP/2 where that is what is offered.
        let mut config = (**stranger.config()).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let line2 = connect(&TlsConnector::from(Arc::new(config)), port).await;
        let line2 = line2.unwrap();
        assert_eq!(line2.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let shaken = hyper::client::conn::http2::handshake(
            hyper_util::rt::TokioExecutor::new(),
            hyper_util::rt::TokioIo::new(line2),
        );
        let (mut sender, connection) = shaken.await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get("https://orders/").body(axum::body::Body::empty());
        let answer = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        drop((line, sender, answer));
        health.enter(Phase::Closing);
        assert_eq!(serving.await.unwrap(), Ending::Complete);
        connection.abort();
    }

    #[test]
    fn a_key_that_is_not_the_certificates_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["certificate", "key", "ca"].map(|name| folder.path().join(name));
        let [certificate, key, client_ca] = files;
        let files = Certificates {
            certificate,
            key,
            client_ca: Some(client_ca),
        };
        let authority = Authority::new();
        authority.hands_over(&files);
        let (_, key) = authority.signs("orders", ExtendedKeyUsagePurpose::ServerAuth);
        std::fs::write(&files.key, key).unwrap();
        let told = Secured::open(&files).err().unwrap();
        assert!(told.contains("certificate`: "), "{told}");
        assert!(!told.contains("PRIVATE"), "{told}");
    }
}
