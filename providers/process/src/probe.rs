//! Health checks: HTTP, TCP or a command.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper::client::conn::http2;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use platform_blueprint::Check;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::health_watch::Round;

/// Where and how an instance is checked.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    /// Where it listens.
    pub(crate) address: Option<SocketAddr>,
    /// It speaks HTTP/2.
    pub(crate) http2: bool,
    /// Programs are looked for here.
    pub(crate) search: Vec<PathBuf>,
    /// Commands run here,
    pub(crate) folder: PathBuf,
    /// with this environment,
    pub(crate) environment: BTreeMap<String, String>,
    /// for so long.
    pub(crate) timeout: Duration,
}

/// How an instance is asked over TLS.
#[derive(Clone)]
pub(crate) struct Secured {
    connector: TlsConnector,
    name: ServerName<'static>,
    /// What is told where it cannot be asked so.
    fault: &'static str,
}

impl Secured {
    /// Asks for a certificate of this name.
    ///
    /// # Errors
    ///
    /// If no certificate is for such a name, in words.
    pub(crate) fn new(
        connector: TlsConnector,
        name: &str,
        fault: &'static str,
    ) -> Result<Self, String> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| format!("no certificate is for `{name}`: {error}"))?;
        Ok(Self {
            connector,
            name,
            fault,
        })
    }
}

impl Probe {
    /// Runs the checks that are due, both over one connection where the server keeps it: most of what a check costs is
    /// the making of a connection.
    ///
    /// - `secured`: how HTTP is spoken over TLS, where it is
    pub(crate) async fn round(
        &self,
        secured: Option<&Secured>,
        ready: Option<Check>,
        live: Option<Check>,
    ) -> Round {
        let mut kept = None;
        let mut run = async |check: Option<Check>, goes_on: bool| match check {
            Some(check) => Some(self.run(&check, secured, &mut kept, goes_on).await),
            None => None,
        };
        let both_http = matches!(
            (&ready, &live),
            (Some(Check::Http(_)), Some(Check::Http(_)))
        );
        Round {
            ready: run(ready, both_http).await,
            live: run(live, false).await,
        }
    }

    /// Runs one check.
    ///
    /// - `kept`: a connection to use, and where one is left if it `goes_on`
    async fn run(
        &self,
        check: &Check,
        secured: Option<&Secured>,
        kept: &mut Option<Line>,
        goes_on: bool,
    ) -> Result<(), String> {
        let passed = tokio::time::timeout(self.timeout, async {
            match check {
                Check::Http(path) => self.http(path, secured, kept, goes_on).await,
                Check::Tcp { .. } => self.connect().await.map(drop),
                Check::Command { command } => self.command(command).await,
            }
        });
        passed.await.unwrap_or_else(|_| {
            Err(format!(
                "{} took longer than {} ms",
                describe(check),
                self.timeout.as_millis()
            ))
        })
    }

    async fn connect(&self) -> Result<TcpStream, String> {
        let address = self.address.ok_or("it has no port to check")?;
        TcpStream::connect(address)
            .await
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::ConnectionRefused => {
                    format!("nothing listens on its port {}", address.port())
                }
                _ => format!("cannot connect to port {}: {error}", address.port()),
            })
    }

    async fn channel(&self, secured: Option<&Secured>) -> Result<Box<dyn Channel>, String> {
        let stream = self.connect().await?;
        let Some(Secured {
            connector,
            name,
            fault,
        }) = secured
        else {
            return Ok(Box::new(stream));
        };
        match connector.connect(name.clone(), stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(format!("{fault}: {error}")),
        }
    }

    async fn http(
        &self,
        path: &str,
        secured: Option<&Secured>,
        kept: &mut Option<Line>,
        goes_on: bool,
    ) -> Result<(), String> {
        let answered = match kept.take() {
            Some(line) => line.get(path, goes_on).await.ok(),
            None => None,
        };
        let (status, left) = if let Some(answered) = answered {
            answered
        } else if self.http2 {
            (self.get_http2(path, secured).await?, None)
        } else {
            // A server may close what it kept at any time, and that says nothing of its health.
            let fresh = Line::over(self.channel(secured).await?).await?;
            fresh.get(path, goes_on).await?
        };
        *kept = left;
        if status.is_success() || status.is_redirection() {
            return Ok(());
        }
        Err(format!("GET {path} answered {}", status.as_u16()))
    }

    async fn get_http2(&self, path: &str, secured: Option<&Secured>) -> Result<StatusCode, String> {
        let stream = TokioIo::new(self.channel(secured).await?);
        let no_answer = |_| format!("GET {path} got no answer in HTTP/2");
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream)
            .await
            .map_err(no_answer)?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let scheme = secured.map_or("http", |_| "https");
        let request = Request::get(format!("{scheme}://localhost{path}"))
            .header("user-agent", "platform")
            .body(Empty::<Bytes>::new())
            .map_err(|error| format!("GET {path}: {error}"))?;
        let answer = sender.send_request(request).await.map_err(no_answer)?;
        Ok(answer.status())
    }

    async fn command(&self, command: &[String]) -> Result<(), String> {
        let (name, arguments) = command.split_first().ok_or("the check has no command")?;
        let program = crate::surroundings::find_program(name, &self.search, &self.folder)
            .ok_or_else(|| format!("`{name}` of the check was not found"))?;
        let mut child = tokio::process::Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot run `{name}`: {error}"))?;
        let status = child
            .wait()
            .await
            .map_err(|error| format!("cannot wait for `{name}`: {error}"))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("`{name}` ended with {status}"))
        }
    }
}

/// What a connection is made of: a socket, secured or not.
trait Channel: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Channel for T {}

/// What goes on over a connection.
type Talk = Connection<TokioIo<Box<dyn Channel>>, Empty<Bytes>>;

/// A connection to an instance.
struct Line {
    sender: SendRequest<Empty<Bytes>>,
    connection: Pin<Box<Talk>>,
}

impl Line {
    async fn over(stream: Box<dyn Channel>) -> Result<Self, String> {
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        Ok(Self {
            sender,
            connection: Box::pin(connection),
        })
    }

    /// Sends one request and reads its answer to the end; leaves the connection where it `goes_on` and is open.
    async fn get(
        mut self,
        path: &str,
        goes_on: bool,
    ) -> Result<(StatusCode, Option<Self>), String> {
        let request = Request::get(path)
            .header("host", "localhost")
            .header("user-agent", "platform")
            .header("connection", if goes_on { "keep-alive" } else { "close" })
            .body(Empty::<Bytes>::new())
            .map_err(|error| format!("GET {path}: {error}"))?;
        let (status, open) = {
            let sender = &mut self.sender;
            let answer = async {
                sender.ready().await?;
                let answer = sender.send_request(request).await?;
                let status = answer.status();
                // Read to its end, so that the server does not see a broken connection.
                let _ = Limited::new(answer.into_body(), 64 * 1024).collect().await;
                Ok::<_, hyper::Error>(status)
            };
            let mut answer = std::pin::pin!(answer);
            tokio::select! {
                biased;
                status = &mut answer => (status, goes_on),
                ended = &mut self.connection => match ended {
                    Ok(()) => (answer.await, false),
                    Err(error) => (Err(error), false),
                },
            }
        };
        let status = status.map_err(|_| format!("GET {path} got no answer"))?;
        Ok((status, open.then_some(self)))
    }
}

fn describe(check: &Check) -> String {
    match check {
        Check::Http(path) => format!("GET {path}"),
        Check::Tcp { .. } => "connecting".to_owned(),
        Check::Command { command } => {
            format!("`{}`", command.first().map_or("", String::as_str))
        }
    }
}

/// The loopback address of a port.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::Response;
    use hyper::service::service_fn;
    use tokio::net::TcpListener;

    use super::*;

    /// A server that speaks HTTP/2 alone, and is well at `/well`.
    async fn server() -> SocketAddr {
        let listener = TcpListener::bind(local(0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = service_fn(|request: Request<hyper::body::Incoming>| async move {
                    let well = request.uri().path() == "/well";
                    let status = if well { 204 } else { 503 };
                    let answer = Response::builder().status(status);
                    Ok::<_, Infallible>(answer.body(Empty::<Bytes>::new()).unwrap())
                });
                let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(serving);
            }
        });
        address
    }

    #[tokio::test]
    async fn a_service_is_asked_in_the_http_that_it_speaks() {
        let address = server().await;
        let check = async |http2: bool, path: &str| {
            let probe = Probe {
                address: Some(address),
                http2,
                search: Vec::new(),
                folder: PathBuf::new(),
                environment: BTreeMap::new(),
                timeout: Duration::from_secs(10),
            };
            let paths = [path, path].map(|path| Some(Check::Http(path.to_owned())));
            let [ready, live] = paths;
            let round = probe.round(None, ready, live).await;
            (round.ready.unwrap(), round.live.unwrap())
        };
        assert_eq!(check(true, "/well").await, (Ok(()), Ok(())));
        let (unwell, _) = check(true, "/unwell").await;
        assert_eq!(unwell, Err("GET /unwell answered 503".to_owned()));
        assert!(check(false, "/well").await.0.is_err());
    }
}
