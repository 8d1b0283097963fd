//! One connection: which HTTP its client speaks, and how it ends.

use std::error::Error;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use crate::health::{Health, Phase};

/// What a client begins with that knows that HTTP/2 is spoken here (RFC 9113, section 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long what a client sent before we closed may take to be seen.
const LAST_BYTES: Duration = Duration::from_millis(100);
/// Most memory for the head of a request, in bytes.
const HEAD: u32 = 64 * 1024;
/// Most requests at a time over one connection of HTTP/2.
const STREAMS: u32 = 256;
/// Most requests of HTTP/2 that were taken back and still cost us something.
const RESETS: usize = 32;
/// How often a connection of HTTP/2 is asked whether its client is there, and how long that may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// How an end came about that is none of ours.
pub(crate) type Broken = Box<dyn Error + Send + Sync>;

/// Serves connections.
#[derive(Clone)]
pub(crate) struct Serving {
    app: Router,
    health: Arc<Health>,
    header_timeout: Duration,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Serving {
    pub(crate) fn new(app: Router, health: Arc<Health>, header_timeout: Duration) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_buf_size(HEAD as usize);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        let (every, within) = KEEP_ALIVE;
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEAD)
            .max_pending_accept_reset_streams(RESETS)
            .max_local_error_reset_streams(RESETS)
            .keep_alive_interval(every)
            .keep_alive_timeout(within);
        Self {
            app,
            health,
            header_timeout,
            http1,
            http2,
        }
    }

    /// Serves HTTP/1.1, or HTTP/2 where the client begins with that, until the client goes or the health's phase is closing
    /// and all that was asked is answered.
    ///
    /// # Errors
    ///
    /// If the client went away or sent nonsense.
    pub(crate) async fn in_the_clear(&self, stream: TcpStream) -> Result<(), Broken> {
        let (mut read, write) = stream.into_split();
        let begins = tokio::time::timeout(self.header_timeout, begins(&mut read));
        let closed = async {
            self.health.reached(Phase::Closing).await;
            tokio::time::sleep(LAST_BYTES).await;
        };
        let begun = tokio::select! {
            begun = begins => begun.unwrap_or(Ok(Vec::new()))?,
            () = closed => Vec::new(),
        };
        if begun.is_empty() {
            return Ok(());
        }
        let speaks_http2 = begun == PREFACE;
        let stream = tokio::io::join(Cursor::new(begun).chain(read), write);
        if speaks_http2 {
            self.http2(stream).await
        } else {
            self.http1(stream).await
        }
    }

    /// Serves HTTP/2, over what may be secured already, in the same way.
    ///
    /// # Errors
    ///
    /// If the client went away or sent nonsense.
    pub(crate) async fn http2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(), Broken> {
        let service = TowerToHyperService::new(self.app.clone());
        let connection = self.http2.serve_connection(TokioIo::new(stream), service);
        Ok(self.to_its_end(connection).await?)
    }

    /// The same in HTTP/1.1.
    ///
    /// # Errors
    ///
    /// If the client went away or sent nonsense.
    pub(crate) async fn http1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(), Broken> {
        let service = TowerToHyperService::new(self.app.clone());
        let connection = self.http1.serve_connection(TokioIo::new(stream), service);
        Ok(self.to_its_end(connection).await?)
    }

    async fn to_its_end<C: GracefulConnection>(&self, connection: C) -> Result<(), C::Error> {
        let closing = self.health.reached(Phase::Closing);
        tokio::pin!(connection, closing);
        tokio::select! {
            // First of all it sees what has come: who asked before we closed is answered.
            biased;
            ended = connection.as_mut() => return ended,
            () = &mut closing => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }
}

/// Reads until it is plain whether a client speaks HTTP/2; nothing where it left.
async fn begins(read: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut begun = [0; PREFACE.len()];
    let mut length = 0;
    while length < PREFACE.len() && PREFACE.starts_with(&begun[..length]) {
        match read.read(&mut begun[length..]).await? {
            0 => break,
            more => length += more,
        }
    }
    Ok(begun[..length].to_vec())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use http::{Request, Version};
    use http_body_util::BodyExt;
    use hyper::client::conn::http2::SendRequest;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::listener::{self, Ending, Limits};

    /// A service that answers `/` at once, and `/slow` once it is let.
    struct Service {
        port: u16,
        health: Arc<Health>,
        asked: Arc<Notify>,
        answer: Arc<Notify>,
        serving: JoinHandle<Ending>,
    }

    impl Service {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let (asked, answer) = (Arc::<Notify>::default(), Arc::<Notify>::default());
            let notes = (asked.clone(), answer.clone());
            let slow = move || {
                let (asked, answer) = notes.clone();
                async move {
                    asked.notify_one();
                    answer.notified().await;
                    "at last"
                }
            };
            let app = Router::new()
                .route("/", get(async || "hello"))
                .route("/slow", get(slow));
            let health = Arc::new(Health::default());
            let limits = Limits {
                header_timeout: Duration::from_secs(10),
                max_connections: 100,
                shutdown_deadline: Duration::from_secs(10),
            };
            let serving = listener::serve(listener, None, app, health.clone(), limits);
            Self {
                port,
                health,
                asked,
                answer,
                serving: tokio::spawn(serving),
            }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
        }

        /// A client that knows that HTTP/2 is spoken, and its connection's end.
        async fn http2(&self) -> (SendRequest<Body>, JoinHandle<hyper::Result<()>>) {
            let stream = TokioIo::new(self.connect().await);
            let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
            let (client, connection) = shaken.await.unwrap();
            (client, tokio::spawn(connection))
        }

        async fn ends(self) {
            self.health.enter(Phase::Closing);
            assert_eq!(self.serving.await.unwrap(), Ending::Complete);
        }
    }

    fn request(path: &str) -> Request<Body> {
        let uri = format!("http://orders{path}");
        Request::get(uri).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn both_kinds_of_http_are_spoken_on_one_port() {
        let service = Service::start().await;
        let (mut client, _) = service.http2().await;
        let answer = client.send_request(request("/")).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.version()),
            (200, Version::HTTP_2)
        );
        let mut line = service.connect().await;
        // In two pieces, the first of which could be the beginning of HTTP/2.
        line.write_all(b"P").await.unwrap();
        line.write_all(b"UT / HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        line.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        service.ends().await;
    }

    #[tokio::test]
    async fn what_was_asked_over_http2_is_answered_before_it_closes() {
        let service = Service::start().await;
        let (mut client, connection) = service.http2().await;
        let asked = tokio::spawn(client.send_request(request("/slow")));
        service.asked.notified().await;
        service.health.enter(Phase::Closing);
        // Once it has been told that nothing more is taken, it can ask nothing more.
        while client.send_request(request("/")).await.is_ok() {}
        service.answer.notify_one();
        let answer = asked.await.unwrap().unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "at last");
        assert!(connection.await.unwrap().is_ok());
        service.ends().await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_say_what_they_speak_is_let_go() {
        let service = Service::start().await;
        for begun in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n"] {
            let mut line = service.connect().await;
            line.write_all(begun).await.unwrap();
            let mut answer = Vec::new();
            let _ = line.read_to_end(&mut answer).await;
            assert_eq!(answer, b"", "{begun:?}");
        }
        service.ends().await;
    }

    #[tokio::test]
    async fn who_asked_just_before_it_closed_is_answered() {
        use std::io::{Read, Write};

        for begins in ["GET", "PUT"] {
            let service = Service::start().await;
            tokio::task::yield_now().await;
            // Nothing else runs meanwhile, so nobody is told of it before it is to close.
            let mut line = std::net::TcpStream::connect(("127.0.0.1", service.port)).unwrap();
            let request = format!("{begins} / HTTP/1.1\r\nhost: orders\r\n\r\n");
            line.write_all(request.as_bytes()).unwrap();
            service.health.enter(Phase::Closing);
            let read = move || {
                let mut answer = String::new();
                line.read_to_string(&mut answer).map(|_| answer)
            };
            let answer = tokio::task::spawn_blocking(read).await.unwrap().unwrap();
            assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
            service.ends().await;
        }
    }

    #[tokio::test]
    async fn who_began_nothing_does_not_hold_a_shutdown_up() {
        let service = Service::start().await;
        let (mut client, _) = service.http2().await;
        client.send_request(request("/")).await.unwrap();
        let _silent = service.connect().await;
        service.ends().await;
    }
}
