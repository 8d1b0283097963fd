//! TLS to the endpoints of a service.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use pingora_core::prelude::HttpPeer;
use pingora_core::protocols::tls::CaType;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use platform_gateway_api::UpstreamTls;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::endpoint::EndpointState;

/// A connection to an endpoint, secured or not.
pub(crate) trait Channel: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Channel for T {}

/// When each file was changed, and which it is; `None` where it cannot be told.
type Stamps = [Option<(SystemTime, u64)>; 3];

/// What is believed of endpoints, and what is shown to them.
pub(crate) struct Trust {
    settings: UpstreamTls,
    stamps: Stamps,
    connector: TlsConnector,
    /// As the other, but it asks for HTTP/2.
    connector_http2: TlsConnector,
    authorities: Arc<CaType>,
    own: Option<Arc<CertKey>>,
    /// Tells settings apart, so that a connection made under others is not used any more.
    key: u64,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never a key.
        formatter
            .debug_struct("Trust")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// What is wrong with which file, in words.
    pub(crate) fn new(settings: &UpstreamTls) -> Result<Self, String> {
        let stamps = stamps(settings);
        let authorities = match &settings.ca {
            Some(path) => authorities(path)?,
            None => public_authorities(),
        };
        let own = settings.certificate.as_deref().zip(settings.key.as_deref());
        let mut config = client(settings)?;
        let connector = TlsConnector::from(Arc::new(config.clone()));
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            connector,
            connector_http2: TlsConnector::from(Arc::new(config)),
            authorities,
            own: own.map(|(chain, key)| pair(chain, key)).transpose()?,
            key: key_of(settings),
            settings: settings.clone(),
            stamps,
        })
    }

    /// Has a connection to an endpoint secured.
    ///
    /// - `address`: the endpoint's, as configured
    pub(crate) fn secure(&self, peer: &mut HttpPeer, address: &str) {
        peer.scheme = pingora_core::upstreams::peer::Scheme::HTTPS;
        peer.group_key ^= self.key;
        self.name_of(address).clone_into(&mut peer.sni);
        peer.options.ca = Some(self.authorities.clone());
        peer.client_cert_key.clone_from(&self.own);
    }

    fn name_of<'a>(&'a self, address: &'a str) -> &'a str {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        self.settings
            .name
            .as_deref()
            .unwrap_or(host.trim_matches(['[', ']']))
    }

    /// Whether a file is another by now.
    pub(crate) fn is_outdated(&self) -> bool {
        self.stamps != stamps(&self.settings)
    }

    /// Tells settings, with what their files held, from others.
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    /// Secures a connection that Pingora does not make.
    async fn connect(
        &self,
        address: &str,
        stream: TcpStream,
        http2: bool,
    ) -> std::io::Result<Box<dyn Channel>> {
        let name = ServerName::try_from(self.name_of(address).to_owned())
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
        let connector = if http2 {
            &self.connector_http2
        } else {
            &self.connector
        };
        Ok(Box::new(connector.connect(name, stream).await?))
    }
}

fn stamps(settings: &UpstreamTls) -> Stamps {
    [&settings.ca, &settings.certificate, &settings.key].map(|path| {
        let found = std::fs::metadata(path.as_deref()?).ok()?;
        Some((found.modified().ok()?, found.ino()))
    })
}

/// A number for the settings and what their files hold now.
fn key_of(settings: &UpstreamTls) -> u64 {
    let mut hasher = DefaultHasher::new();
    let files = [&settings.ca, &settings.certificate, &settings.key];
    for file in files {
        let held = file.as_ref().and_then(|path| std::fs::read(path).ok());
        held.hash(&mut hasher);
    }
    settings.name.hash(&mut hasher);
    hasher.finish()
}

/// Connects to an endpoint, over TLS where its service speaks it.
///
/// - `http2`: whether HTTP/2 is going to be spoken
pub(crate) async fn connect(
    endpoint: &Arc<EndpointState>,
    trust: Option<&Arc<Trust>>,
    http2: bool,
) -> std::io::Result<Box<dyn Channel>> {
    let stream = TcpStream::connect(endpoint.resolve().await?).await?;
    stream.set_nodelay(true)?;
    match trust {
        Some(trust) => trust.connect(&endpoint.address, stream, http2).await,
        None => Ok(Box::new(stream)),
    }
}

fn client(settings: &UpstreamTls) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match &settings.ca {
        // The same as in `public_authorities`.
        None => {
            roots.add_parsable_certificates(
                webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned(),
            );
        }
        Some(path) => {
            for one in chain(path)? {
                roots
                    .add(one)
                    .map_err(|error| format!("cannot use `{path}`: {error}"))?;
            }
        }
    }
    let unusable = |error: rustls::Error| format!("cannot set TLS up: {error}");
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots);
    match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => {
            let own = PrivateKeyDer::from_pem_file(Path::new(key))
                .map_err(|error| format!("cannot read the key in `{key}`: {error}"))?;
            builder
                .with_client_auth_cert(chain(certificate)?, own)
                .map_err(unusable)
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn chain(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_file_iter(Path::new(path))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("cannot read `{path}`: {error}"))?;
    if chain.is_empty() {
        return Err(format!("`{path}` holds no certificate"));
    }
    // Pingora takes for granted that they can be read.
    let mut looked_at = RootCertStore::empty();
    for one in &chain {
        looked_at
            .add(one.clone())
            .map_err(|error| format!("cannot use the certificate in `{path}`: {error}"))?;
    }
    Ok(chain)
}

fn authorities(path: &str) -> Result<Arc<CaType>, String> {
    Ok(chain(path)?
        .into_iter()
        .map(|one| WrappedX509::new(one.to_vec(), parse_x509))
        .collect())
}

/// The public ones, which the machine need not have: Pingora would look for its own.
fn public_authorities() -> Arc<CaType> {
    static PUBLIC: OnceLock<Arc<CaType>> = OnceLock::new();
    let all = || {
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
        roots
            .map(|one| WrappedX509::new(one.to_vec(), parse_x509))
            .collect()
    };
    PUBLIC.get_or_init(all).clone()
}

fn pair(chain_path: &str, key_path: &str) -> Result<Arc<CertKey>, String> {
    let chain = chain(chain_path)?;
    let key = PrivateKeyDer::from_pem_file(Path::new(key_path))
        .map_err(|error| format!("cannot read the key in `{key_path}`: {error}"))?;
    let signing = aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|error| format!("cannot use the key in `{key_path}`: {error}"))?;
    rustls::sign::CertifiedKey::new(chain.clone(), signing)
        .keys_match()
        .map_err(|error| format!("`{key_path}` is not the key of `{chain_path}`: {error}"))?;
    let chain = chain.iter().map(|one| one.to_vec()).collect();
    Ok(Arc::new(CertKey::new(chain, key.secret_der().to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file_the_public_authorities_are_believed_and_nobody_else() {
        let trust = Trust::new(&UpstreamTls::default()).unwrap();
        let mut peer = HttpPeer::new("127.0.0.1:443", false, String::new());
        trust.secure(&mut peer, "own.example:443");
        let believed = peer.options.ca.unwrap();
        assert_eq!(
            believed.len(),
            webpki_root_certs::TLS_SERVER_ROOT_CERTS.len()
        );
        let mut roots = RootCertStore::empty();
        for one in believed.iter() {
            roots.add(CertificateDer::from(one)).unwrap();
        }
        assert!(peer.options.verify_cert && peer.options.verify_hostname);
        assert_eq!(peer.sni, "own.example");
    }
}
