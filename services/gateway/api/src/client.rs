//! A client for the admin socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::admin::{Applied, Refused, Status};
use crate::{Config, Reason, Tallies};

/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Talks to one gateway. Each call opens its own connection.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why a call to the gateway failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket, or the exchange broke.
    #[error("cannot reach the gateway at `{}`", socket.display())]
    Unreachable {
        /// The admin socket.
        socket: PathBuf,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The gateway did not answer in time.
    #[error("the gateway at `{}` did not answer within {} s", socket.display(), PATIENCE.as_secs())]
    Silent {
        /// The admin socket.
        socket: PathBuf,
    },
    /// The configuration was refused.
    #[error("the gateway refused the configuration: {}", list(.0))]
    Refused(Vec<Reason>),
    /// The gateway answered something else than the protocol says.
    #[error("the gateway answered {status} to {request}: {body}")]
    Unexpected {
        /// Method and path.
        request: String,
        /// Status of the answer.
        status: u16,
        /// Start of its body.
        body: String,
    },
}

fn list(reasons: &[Reason]) -> String {
    let lines: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

impl Client {
    /// A client for the gateway whose admin socket is at `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The admin socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Pushes a configuration and returns the revision now in force.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] with all reasons if it is invalid or older
    /// than the one in force.
    pub async fn put_config(&self, config: &Config) -> Result<u64, ClientError> {
        let body = serde_json::to_vec(config).map_err(|error| self.broken(error))?;
        let (status, answer) = self.exchange(Method::PUT, "/config", body).await?;
        match status {
            StatusCode::OK => {
                let applied: Applied = self.parse(&answer)?;
                Ok(applied.revision)
            }
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::CONFLICT => {
                let refused: Refused = self.parse(&answer)?;
                Err(ClientError::Refused(refused.reasons))
            }
            _ => Err(unexpected("PUT /config", status, &answer)),
        }
    }

    /// The configuration in force.
    ///
    /// # Errors
    ///
    /// When the gateway cannot be reached.
    pub async fn config(&self) -> Result<Config, ClientError> {
        self.get("/config").await
    }

    /// All counts.
    ///
    /// # Errors
    ///
    /// When the gateway cannot be reached.
    pub async fn tallies(&self) -> Result<Tallies, ClientError> {
        self.get("/tallies").await
    }

    /// What the gateway is doing.
    ///
    /// # Errors
    ///
    /// When the gateway cannot be reached.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/status").await
    }

    /// The metrics, as Prometheus text.
    ///
    /// # Errors
    ///
    /// When the gateway cannot be reached.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let (status, answer) = self.exchange(Method::GET, "/metrics", Vec::new()).await?;
        if status != StatusCode::OK {
            return Err(unexpected("GET /metrics", status, &answer));
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Asks the gateway to finish what is under way and exit.
    ///
    /// # Errors
    ///
    /// When the gateway cannot be reached.
    pub async fn drain(&self) -> Result<(), ClientError> {
        let (status, answer) = self.exchange(Method::POST, "/drain", Vec::new()).await?;
        if status != StatusCode::ACCEPTED {
            return Err(unexpected("POST /drain", status, &answer));
        }
        Ok(())
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let (status, answer) = self.exchange(Method::GET, path, Vec::new()).await?;
        if status != StatusCode::OK {
            return Err(unexpected(&format!("GET {path}"), status, &answer));
        }
        self.parse(&answer)
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.broken(error))
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Unreachable {
            socket: self.socket.clone(),
            source: source.into(),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let exchange = async {
            let stream = UnixStream::connect(&self.socket)
                .await
                .map_err(|error| self.broken(error))?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(|error| self.broken(error))?;
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "gateway")
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body)))
                .map_err(|error| self.broken(error))?;
            let answer = async {
                let answer = sender.send_request(request).await?;
                let status = answer.status();
                Ok::<_, hyper::Error>((status, answer.into_body().collect().await?.to_bytes()))
            };
            tokio::pin!(answer, connection);
            // The connection must be polled for the answer to come.
            tokio::select! {
                answer = &mut answer => answer.map_err(|error| self.broken(error)),
                ended = &mut connection => match ended {
                    Ok(()) => answer.await.map_err(|error| self.broken(error)),
                    Err(error) => Err(self.broken(error)),
                },
            }
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .map_err(|_| ClientError::Silent {
                socket: self.socket.clone(),
            })?
    }
}

fn unexpected(request: &str, status: StatusCode, body: &[u8]) -> ClientError {
    let start = &body[..body.len().min(300)];
    ClientError::Unexpected {
        request: request.into(),
        status: status.as_u16(),
        body: String::from_utf8_lossy(start).into_owned(),
    }
}
