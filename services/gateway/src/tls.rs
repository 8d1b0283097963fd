//! Certificates of TLS listeners: chosen by name; they and whom clients must be signed by are reread
//! when their files change.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use platform_gateway_api::{Tls, TlsCertificate, TlsVersion};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::development::Authority;
use crate::router::host_fits;

/// Certificates with the names they are for.
type Shown = Vec<(Vec<String>, Arc<CertifiedKey>)>;
/// What tells that a file was changed; `None` if it cannot be told.
type Stamp = Option<FileStamp>;

/// What is other of a file that was written, replaced, or put back with the times of another: the time of the last change of
/// its contents can be set, as that of an archive's file is, and the time of its inode cannot.
#[derive(Debug, PartialEq)]
struct FileStamp {
    /// Device and inode.
    file: (u64, u64),
    /// Seconds and nanoseconds.
    changed: (i64, i64),
    bytes: u64,
}

/// How the files in use were.
#[derive(Debug, PartialEq)]
struct Stamps {
    certificates: Vec<Stamp>,
    client_ca: Option<Stamp>,
}

/// What a TLS listener shows its clients.
pub(crate) struct Secured {
    settings: Tls,
    chosen: Arc<Certificates>,
    stamps: Mutex<Stamps>,
    acceptor: ArcSwap<ServerConfig>,
}

impl std::fmt::Debug for Secured {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never a key.
        formatter
            .debug_struct("Secured")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Certificates {
    shown: ArcSwap<Shown>,
    authority: Option<Authority>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let all = self.shown.load();
        let asked = hello.server_name();
        let name = asked.unwrap_or("");
        let exact = |hosts: &Vec<String>| hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
        let fits = |hosts: &Vec<String>| hosts.iter().any(|host| host_fits(host, name));
        all.iter()
            .find(|(hosts, _)| exact(hosts))
            .or_else(|| all.iter().find(|(hosts, _)| fits(hosts)))
            .map(|(_, key)| key.clone())
            .or_else(|| self.authority.as_ref()?.sign(asked))
            .or_else(|| all.first().map(|(_, key)| key.clone()))
    }
}

impl Secured {
    /// Reads the certificates.
    ///
    /// # Errors
    ///
    /// What is wrong with which file, in words.
    pub(crate) fn new(settings: &Tls) -> Result<Self, String> {
        let stamps = stamps(settings);
        let folder = settings.development.as_deref().map(Path::new);
        let chosen = Arc::new(Certificates {
            shown: ArcSwap::from_pointee(load(settings)?),
            authority: folder.map(Authority::open).transpose()?,
        });
        Ok(Self {
            acceptor: ArcSwap::from_pointee(server(settings, chosen.clone())?),
            settings: settings.clone(),
            chosen,
            stamps: Mutex::new(stamps),
        })
    }

    /// What shakes hands with the next client.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.acceptor.load_full())
    }

    pub(crate) fn is_for(&self, settings: &Tls) -> bool {
        self.settings == *settings
    }

    /// Reads the files again if one has changed. Files that do not fit together,
    /// as in the middle of a renewal, leave what they were in use.
    pub(crate) fn reload_if_changed(&self) {
        let now = stamps(&self.settings);
        let mut known = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == now {
            return;
        }
        if known.certificates != now.certificates {
            match load(&self.settings) {
                Ok(certificates) => {
                    self.chosen.shown.store(Arc::new(certificates));
                    known.certificates = now.certificates;
                    tracing::info!("certificates were read again");
                }
                Err(error) => tracing::warn!(error, "the old certificates stay in use"),
            }
        }
        if known.client_ca != now.client_ca {
            match server(&self.settings, self.chosen.clone()) {
                Ok(fresh) => {
                    self.acceptor.store(Arc::new(fresh));
                    known.client_ca = now.client_ca;
                    tracing::info!("the authorities of clients were read again");
                }
                Err(error) => tracing::warn!(error, "the old authorities of clients stay in use"),
            }
        }
    }
}

/// How TLS is spoken. Sessions of one made before are not taken up: whoever resumes one shows no
/// certificate again, and its authority may be gone.
fn server(settings: &Tls, chosen: Arc<Certificates>) -> Result<ServerConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[&rustls::SupportedProtocolVersion] = match settings.minimum {
        TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| format!("cannot set TLS up: {error}"))?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(clients(path, provider)?),
    };
    let mut config = builder.with_cert_resolver(chosen);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer =
        aws_lc_rs::Ticketer::new().map_err(|error| format!("cannot set TLS up: {error}"))?;
    Ok(config)
}

/// Takes clients only whose certificate one of the authorities in a file has signed.
fn clients(
    path: &str,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let unusable = |error: &dyn std::fmt::Display| format!("cannot use `{path}`: {error}");
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(Path::new(path)).map_err(|error| unusable(&error))?;
    for one in found {
        let one = one.map_err(|error| unusable(&error))?;
        roots.add(one).map_err(|error| unusable(&error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| unusable(&error))
}

fn stamps(settings: &Tls) -> Stamps {
    let stamp = |path: &String| {
        let found = std::fs::metadata(path).ok()?;
        Some(FileStamp {
            file: (found.dev(), found.ino()),
            changed: (found.ctime(), found.ctime_nsec()),
            bytes: found.len(),
        })
    };
    let certificates = settings.certificates.iter();
    Stamps {
        certificates: certificates
            .flat_map(|one| [&one.certificate, &one.key])
            .map(stamp)
            .collect(),
        client_ca: settings.client_ca.as_ref().map(stamp),
    }
}

fn load(settings: &Tls) -> Result<Shown, String> {
    settings
        .certificates
        .iter()
        .map(|one| {
            let key = load_one(one)?;
            let hosts = if one.hosts.is_empty() {
                names(&key)
            } else {
                one.hosts.clone()
            };
            Ok((hosts, Arc::new(key)))
        })
        .collect()
}

/// The names that a certificate is for.
fn names(key: &CertifiedKey) -> Vec<String> {
    let leaf = key.cert.first();
    leaf.and_then(|leaf| webpki::EndEntityCert::try_from(leaf).ok())
        .map(|leaf| leaf.valid_dns_names().map(str::to_owned).collect())
        .unwrap_or_default()
}

fn load_one(one: &TlsCertificate) -> Result<CertifiedKey, String> {
    let chain = CertificateDer::pem_file_iter(Path::new(&one.certificate))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("cannot read `{}`: {error}", one.certificate))?;
    if chain.is_empty() {
        return Err(format!("`{}` holds no certificate", one.certificate));
    }
    let key = PrivateKeyDer::from_pem_file(Path::new(&one.key))
        .map_err(|error| format!("cannot read the key in `{}`: {error}", one.key))?;
    let key = aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|error| format!("cannot use the key in `{}`: {error}", one.key))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| {
        format!(
            "`{}` is not the key of `{}`: {error}",
            one.key, one.certificate
        )
    })?;
    Ok(certified)
}
