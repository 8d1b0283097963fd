//! Requests of the gateway's own: for keys, to a collector of traces.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Largest answer that is read.
const LARGEST: usize = 1024 * 1024;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Asks once, over a connection of its own, and reads the answer.
///
/// - `authorities`: PEM file of those that are believed for `https`, instead of the public ones
pub(crate) async fn fetch(
    url: &str,
    request: http::request::Builder,
    body: Bytes,
    authorities: Option<&str>,
) -> Result<(StatusCode, Bytes), Failure> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().ok_or("the URL has no host")?;
    let secure = uri.scheme_str() == Some("https");
    let port = authority
        .port_u16()
        .unwrap_or(if secure { 443 } else { 80 });
    let host = authority.host().trim_matches(['[', ']']);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let request = request
        .uri(target)
        .header("host", authority.as_str())
        .header(
            "user-agent",
            concat!("platform-gateway/", env!("CARGO_PKG_VERSION")),
        )
        .body(Full::new(body))?;
    let stream = TcpStream::connect((host, port)).await?;
    if !secure {
        return exchange(stream, request).await;
    }
    let connector = TlsConnector::from(client(authorities)?);
    let name = ServerName::try_from(host.to_owned())?;
    exchange(connector.connect(name, stream).await?, request).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Failure> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let asking = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await?;
        Ok((status, body.to_bytes()))
    };
    let connection = tokio::spawn(connection);
    let answered = asking.await;
    connection.abort();
    answered
}

/// Whether authorities can be believed.
///
/// - `path`: PEM file
///
/// # Errors
///
/// What is wrong with it, in words.
pub(crate) fn look_at(path: &str) -> Result<(), String> {
    client(Some(path))
        .map(drop)
        .map_err(|error| format!("cannot use `{path}`: {error}"))
}

/// How servers are told from impostors.
fn client(authorities: Option<&str>) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    match authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            for one in CertificateDer::pem_file_iter(Path::new(path))? {
                roots.add(one?)?;
            }
            if roots.is_empty() {
                return Err("it holds no certificate".into());
            }
        }
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
