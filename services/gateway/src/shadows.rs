//! Connections to shadow versions, which are spoken to as their service is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::endpoint::EndpointState;
use crate::fetch::Failure;
use crate::forward::host_with_port;
use crate::mirror::{Copy, MARK};
use crate::upstream_tls::{self, Trust};

type Sender = http2::SendRequest<Full<Bytes>>;

/// Asks shadows.
pub(crate) struct Shadows {
    plain: Client<HttpConnector, Full<Bytes>>,
    /// One connection of HTTP/2 for each address and each way of securing it.
    shared: Mutex<HashMap<(SocketAddr, Option<u64>), Sender>>,
}

impl Shadows {
    pub(crate) fn new() -> Self {
        Self {
            plain: Client::builder(TokioExecutor::new()).build_http(),
            shared: Mutex::default(),
        }
    }

    /// Sends a copy and returns the answer's head with what is to come.
    ///
    /// - `http2`, `trust`: how the shadow is spoken to
    pub(crate) async fn ask(
        &self,
        (http2, trust): (bool, Option<&Arc<Trust>>),
        endpoint: &Arc<EndpointState>,
        copy: &Copy,
    ) -> Result<Response<Incoming>, Failure> {
        let secure = trust.is_some();
        let address = endpoint.resolve().await?;
        if http2 {
            let mut sender = self.shared(trust, endpoint, address).await?;
            return Ok(sender.send_request(request_http2(copy, secure)?).await?);
        }
        let request = request(copy, address, secure)?;
        if !secure {
            return Ok(self.plain.request(request).await?);
        }
        let stream = upstream_tls::connect(endpoint, trust, false).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?)
    }

    /// The connection of HTTP/2 to an endpoint, made where there is none that still holds.
    async fn shared(
        &self,
        trust: Option<&Arc<Trust>>,
        endpoint: &Arc<EndpointState>,
        address: SocketAddr,
    ) -> Result<Sender, Failure> {
        let key = (address, trust.map(|trust| trust.key()));
        let known = self.lock().get(&key).cloned();
        if let Some(sender) = known.filter(|sender| !sender.is_closed()) {
            return Ok(sender);
        }
        let stream = upstream_tls::connect(endpoint, trust, true).await?;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut shared = self.lock();
        shared.retain(|_, sender| !sender.is_closed());
        shared.insert(key, sender.clone());
        Ok(sender)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(SocketAddr, Option<u64>), Sender>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The copy as a request of HTTP/1.
fn request(
    copy: &Copy,
    address: SocketAddr,
    secure: bool,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::new(Full::new(copy.body.clone().freeze()));
    *request.uri_mut() = if secure {
        // On a connection of its own, after which it ends.
        target(copy).parse()?
    } else {
        uri(copy, "http", &address.to_string())?
    };
    fill(&mut request, copy);
    if secure {
        let close = HeaderValue::from_static("close");
        request.headers_mut().insert(header::CONNECTION, close);
    }
    Ok(request)
}

/// The copy as a request of HTTP/2, which has the host beside the target (RFC 9113, 8.3.1).
fn request_http2(copy: &Copy, secure: bool) -> Result<Request<Full<Bytes>>, Failure> {
    let host = host_with_port(&copy.head).ok_or("the request names no host")?;
    let mut request = Request::new(Full::new(copy.body.clone().freeze()));
    let scheme = if secure { "https" } else { "http" };
    *request.uri_mut() = uri(copy, scheme, &host)?;
    fill(&mut request, copy);
    request.headers_mut().remove(header::HOST);
    Ok(request)
}

fn target(copy: &Copy) -> &str {
    let target = copy.head.uri.path_and_query();
    target.map_or("/", |target| target.as_str())
}

fn uri(copy: &Copy, scheme: &str, authority: &str) -> Result<Uri, http::Error> {
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(target(copy))
        .build()
}

fn fill(request: &mut Request<Full<Bytes>>, copy: &Copy) {
    request.method_mut().clone_from(&copy.head.method);
    let headers = request.headers_mut();
    for (name, value) in &copy.head.headers {
        // The body is framed anew.
        if *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
            headers.append(name, value.clone());
        }
    }
    headers.insert(MARK, HeaderValue::from_static("1"));
}
