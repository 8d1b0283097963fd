//! Client connections: what requests must know of theirs, and when one is closed.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use http::HeaderValue;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use pingora_http::ResponseHeader;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::server::TlsStream;

use crate::clock::now_ms;

/// Requests that a connection may take back before it is looked at what share of all they are.
const MOST_TAKEN_BACK: u32 = 500;

/// An address as a field's value, made once for all requests of a connection.
fn text_of(address: IpAddr) -> HeaderValue {
    let text = address.to_canonical().to_string();
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("unknown"))
}

/// What the requests of one connection share.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    /// Name of the listener that accepted it.
    pub(crate) listener: Arc<str>,
    pub(crate) peer: SocketAddr,
    /// The peer's address as services are told it.
    pub(crate) peer_text: HeaderValue,
    pub(crate) tls: bool,
    /// Requests under way.
    requests: AtomicU32,
    /// Requests that ever came.
    all: AtomicU32,
    /// Of these, how many the client took back soon.
    taken_back: AtomicU32,
    /// Since when no request is under way.
    idle_since: AtomicU64,
    /// When the first byte of a request's head came; 0 while none did.
    head_since: AtomicU64,
    /// Whether frames may come between requests.
    http2: AtomicBool,
    /// Bytes that came and belong to no request of HTTP/1 yet; wraps around while a body is still
    /// to come. Chunks of a body, whose length nobody states, stay in here.
    ahead: AtomicU64,
    head_ms: u64,
    keep_alive_ms: u64,
    close: Notify,
}

impl ConnectionState {
    pub(crate) fn new(
        listener: Arc<str>,
        peer: SocketAddr,
        tls: bool,
        head_ms: u64,
        keep_alive_ms: u64,
    ) -> Self {
        Self {
            listener,
            peer,
            peer_text: text_of(peer.ip()),
            tls,
            requests: AtomicU32::new(0),
            all: AtomicU32::new(0),
            taken_back: AtomicU32::new(0),
            idle_since: AtomicU64::new(now_ms()),
            head_since: AtomicU64::new(0),
            http2: AtomicBool::new(false),
            ahead: AtomicU64::new(0),
            head_ms,
            keep_alive_ms,
            close: Notify::new(),
        }
    }

    /// A request's head has come.
    pub(crate) fn begin(&self, http2: bool) {
        if http2 {
            self.http2.store(true, Ordering::Relaxed);
        }
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.all.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// A request was taken back soon after it came. Whoever mostly does that only makes work,
    /// and is let go; in HTTP/2 it costs a client next to nothing.
    pub(crate) fn took_back(&self) {
        let back = self.taken_back.fetch_add(1, Ordering::Relaxed) + 1;
        if back >= MOST_TAKEN_BACK && back > self.all.load(Ordering::Relaxed) / 2 {
            tracing::debug!(peer = %self.peer, back, "a client takes back most requests and is let go");
            self.let_go();
        }
    }

    /// A request is over.
    pub(crate) fn end(&self) {
        self.idle_since.store(now_ms(), Ordering::Relaxed);
        self.requests.fetch_sub(1, Ordering::AcqRel);
    }

    /// Since when no request is under way; `None` while one is.
    pub(crate) fn idle_since(&self) -> Option<u64> {
        let idle = self.requests.load(Ordering::Acquire) == 0;
        idle.then(|| self.idle_since.load(Ordering::Relaxed))
    }

    /// Has it closed.
    pub(crate) fn let_go(&self) {
        self.close.notify_one();
    }

    /// Resolves when the connection must be closed.
    pub(crate) async fn closing(&self) {
        self.close.notified().await;
    }

    /// A request of HTTP/1 is so many bytes, as far as its head says.
    pub(crate) fn took(&self, bytes: u64) {
        self.ahead.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn read_some(&self, bytes: usize) {
        self.ahead.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.requests.load(Ordering::Relaxed) == 0
            && !self.http2.load(Ordering::Relaxed)
            && self.head_since.load(Ordering::Relaxed) == 0
        {
            self.head_since.store(now_ms(), Ordering::Relaxed);
        }
    }

    /// Whether it waits in vain: for the rest of a head, or for a next request.
    ///
    /// - `grace_ms`: how long it may stay idle while the gateway drains
    pub(crate) fn is_overdue(&self, now: u64, grace_ms: Option<u64>) -> bool {
        let idle_ms = grace_ms.unwrap_or(u64::MAX).min(self.keep_alive_ms);
        if self.requests.load(Ordering::Acquire) > 0 {
            return false;
        }
        let head_since = self.head_since.load(Ordering::Relaxed);
        if head_since > 0 {
            return self.head_ms > 0 && now.saturating_sub(head_since) > self.head_ms;
        }
        let idle = now.saturating_sub(self.idle_since.load(Ordering::Relaxed));
        idle > idle_ms
    }

    /// Until when it cannot be overdue, whatever comes: a head may begin right now.
    pub(crate) fn never_overdue_before(&self, now: u64) -> u64 {
        let head_ms = if self.head_ms > 0 {
            self.head_ms
        } else {
            u64::MAX
        };
        let head_since = self.head_since.load(Ordering::Relaxed);
        let head = if head_since > 0 { head_since } else { now };
        let idle = self.idle_since().unwrap_or(now);
        let head = head.saturating_add(head_ms);
        head.min(idle.saturating_add(self.keep_alive_ms))
    }
}

/// A client connection as Pingora reads and writes it.
#[derive(Debug)]
pub(crate) struct ClientStream<T> {
    inner: T,
    /// Written but not sent yet: a head waits here for its body's first part.
    pending: Vec<u8>,
    sent: usize,
    id: UniqueIDType,
    http2: bool,
    tls: Option<TlsFacts>,
    socket: Arc<SocketDigest>,
    carried: Arc<ProxyDigest>,
    state: Arc<ConnectionState>,
}

/// What a TLS handshake settled.
#[derive(Debug)]
pub(crate) struct TlsFacts {
    pub(crate) digest: Arc<SslDigest>,
    pub(crate) protocol: ALPN,
}

/// What carries a client's bytes.
pub(crate) trait Transport:
    AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin + 'static
{
    fn socket(&self) -> &TcpStream;

    /// Whether bytes left the socket that nobody has read yet, or an end did.
    fn holds_some(&self) -> bool;
}

impl Transport for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }

    fn holds_some(&self) -> bool {
        false
    }
}

impl Transport for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }

    fn holds_some(&self) -> bool {
        !self.get_ref().1.wants_read()
    }
}

/// Most that is gathered into one write.
const GATHERED: usize = 8 * 1024;

/// How a client that speaks HTTP/2 without TLS begins (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Wraps an accepted connection in clear text, once its client has sent something.
pub(crate) async fn plain(
    stream: TcpStream,
    state: Arc<ConnectionState>,
) -> io::Result<ClientStream<TcpStream>> {
    let mut start = [0; PREFACE.len()];
    let seen = stream.peek(&mut start).await?;
    // No method of HTTP/1 begins with these three letters.
    let preface = seen >= 3 && PREFACE.starts_with(&start[..seen]);
    let id = stream.as_raw_fd();
    let (socket, carried) = digests(&stream, &state)?;
    Ok(ClientStream {
        inner: stream,
        pending: Vec::new(),
        sent: 0,
        id,
        http2: preface,
        tls: None,
        socket,
        carried,
        state,
    })
}

/// Wraps a connection whose TLS handshake is done.
pub(crate) fn secured(
    stream: TlsStream<TcpStream>,
    state: Arc<ConnectionState>,
) -> io::Result<ClientStream<TlsStream<TcpStream>>> {
    let (transport, session) = stream.get_ref();
    let id = transport.as_raw_fd();
    let (socket, carried) = digests(transport, &state)?;
    let cipher = session
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        .unwrap_or("");
    let version = session
        .protocol_version()
        .and_then(|version| version.as_str())
        .unwrap_or("");
    let protocol = if session.alpn_protocol() == Some(b"h2") {
        ALPN::H2
    } else {
        ALPN::H1
    };
    let tls = TlsFacts {
        digest: Arc::new(SslDigest::new(cipher, version, None, None, Vec::new())),
        protocol,
    };
    Ok(ClientStream {
        inner: stream,
        pending: Vec::new(),
        sent: 0,
        id,
        http2: tls.protocol == ALPN::H2,
        tls: Some(tls),
        socket,
        carried,
        state,
    })
}

impl<T: Transport> ClientStream<T> {
    pub(crate) fn speaks_http2(&self) -> bool {
        self.http2
    }

    /// Waits until there is something to read, or was before, or the client has left; reads nothing.
    pub(crate) async fn heard(&self) -> io::Result<()> {
        if self.state.ahead.load(Ordering::Relaxed) != 0 || self.inner.holds_some() {
            return Ok(());
        }
        self.inner.socket().readable().await
    }
}

impl<T: AsyncWrite + Unpin> ClientStream<T> {
    /// Sends what was gathered. Its memory is given back, so idle connections hold none.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.pending.len() {
            let rest = &self.pending[self.sent..];
            let count = ready!(Pin::new(&mut self.inner).poll_write(context, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        self.pending = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

fn digests(
    stream: &TcpStream,
    state: &Arc<ConnectionState>,
) -> io::Result<(Arc<SocketDigest>, Arc<ProxyDigest>)> {
    let socket = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // Filled in now, so that nothing asks a descriptor that may be another's later.
    let _ = socket.peer_addr.set(Some(state.peer.into()));
    let _ = socket
        .local_addr
        .set(stream.local_addr().ok().map(Into::into));
    // Pingora hands the digest of a connection to each of its requests, in
    // HTTP/1 and HTTP/2 alike; that is how they come by the state.
    let head = ResponseHeader::build_no_case(200, Some(0))
        .map_err(|error| io::Error::other(error.to_string()))?;
    let carried = ProxyDigest::new(Box::new(head), Some(Box::new(state.clone())));
    Ok((Arc::new(socket), Arc::new(carried)))
}

/// The state of the connection that a request came on.
pub(crate) fn of_digest(digest: &pingora_core::protocols::Digest) -> Option<Arc<ConnectionState>> {
    digest
        .proxy_digest
        .as_ref()?
        .user_data
        .as_ref()?
        .downcast_ref::<Arc<ConnectionState>>()
        .cloned()
}

impl<T: AsyncRead + Unpin> AsyncRead for ClientStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let count = buffer.filled().len() - before;
        if count > 0 {
            self.state.read_some(count);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ClientStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.sent == 0 && self.pending.len() + bytes.len() <= GATHERED {
            self.pending.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[async_trait]
impl<T: AsyncWrite + Unpin + Send + Sync> Shutdown for ClientStream<T> {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            tracing::debug!(%error, "cannot shut a client connection down");
        }
    }
}

impl<T> UniqueID for ClientStream<T> {
    fn id(&self) -> UniqueIDType {
        self.id
    }
}

impl<T> Ssl for ClientStream<T> {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.tls.as_ref().map(|facts| facts.digest.clone())
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.tls.as_ref().map(|facts| facts.protocol.clone())
    }
}

impl<T> GetTimingDigest for ClientStream<T> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl<T> GetProxyDigest for ClientStream<T> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.carried.clone())
    }
}

impl<T> GetSocketDigest for ClientStream<T> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.socket.clone())
    }
}

#[async_trait]
impl<T: Send + Sync> Peek for ClientStream<T> {
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        // Asked for once, to find the preface; that was looked for before.
        if self.http2 && buffer.len() == PREFACE.len() {
            buffer.copy_from_slice(PREFACE);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> ConnectionState {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        ConnectionState::new("public".into(), peer, false, 10, 100)
    }

    #[test]
    fn a_busy_connection_is_never_overdue() {
        let state = state();
        state.begin(false);
        assert!(!state.is_overdue(now_ms() + 1_000_000, Some(0)));
        state.end();
        assert!(state.is_overdue(now_ms() + 101, None));
    }

    #[test]
    fn who_takes_most_requests_back_is_let_go() {
        let closes = |state: &ConnectionState| {
            let closing = std::pin::pin!(state.closing());
            let mut nothing = Context::from_waker(std::task::Waker::noop());
            closing.poll(&mut nothing).is_ready()
        };
        let ask = |state: &ConnectionState, count: u32, back: bool| {
            for _ in 0..count {
                state.begin(true);
                state.end();
                if back {
                    state.took_back();
                }
            }
        };
        let all = state();
        ask(&all, MOST_TAKEN_BACK - 1, true);
        assert!(!closes(&all));
        ask(&all, 1, true);
        assert!(closes(&all));
        let some = state();
        ask(&some, 3 * MOST_TAKEN_BACK, false);
        ask(&some, 2 * MOST_TAKEN_BACK, true);
        assert!(!closes(&some));
    }

    #[test]
    fn a_head_that_does_not_end_is_overdue() {
        let state = state();
        state.read_some(1);
        assert!(!state.is_overdue(now_ms() + 5, None));
        assert!(state.is_overdue(now_ms() + 11, None));
    }
}
