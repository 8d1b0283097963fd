//! Accepts connections, and lets go of them without dropping a request.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::connection::Serving;
use crate::health::{Health, Phase};
use crate::secured::{Secured, speaks_http2};

/// How long connections are taken at the most that the kernel had accepted when the listener was to close.
const LAST_CONNECTIONS: Duration = Duration::from_millis(100);
/// How long it may take to be told of one.
const TOLD_WITHIN: Duration = Duration::from_millis(10);

/// Limits of a listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) header_timeout: Duration,
    pub(crate) max_connections: usize,
    pub(crate) shutdown_deadline: Duration,
}

/// How a listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Every request was answered.
    Complete,
    /// This many connections were still busy at the deadline.
    CutOff(usize),
}

/// Serves `app`, over TLS where it is `secured`, until the health's phase is closing, then finishes what was accepted.
pub(crate) async fn serve(
    listener: TcpListener,
    secured: Option<Secured>,
    app: Router,
    health: Arc<Health>,
    limits: Limits,
) -> Ending {
    let secured = secured.map(Arc::new);
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(limits.max_connections));
    let serving = Serving::new(app, health.clone(), limits.header_timeout);
    let open = |stream: TcpStream, permit| {
        // Small answers must not wait for more data.
        let _ = stream.set_nodelay(true);
        let (serving, secured) = (serving.clone(), secured.clone());
        connections.spawn(async move {
            let ended = match secured {
                None => serving.in_the_clear(stream).await,
                Some(secured) => {
                    let shaken = secured.accept(stream);
                    match tokio::time::timeout(limits.header_timeout, shaken).await {
                        Ok(Ok(stream)) if speaks_http2(&stream) => serving.http2(stream).await,
                        Ok(Ok(stream)) => serving.http1(stream).await,
                        Ok(Err(error)) => {
                            tracing::debug!(%error, "a client was not believed");
                            Ok(())
                        }
                        Err(_) => Ok(()),
                    }
                }
            };
            // An error here is a client that went away or sent nonsense.
            if let Err(error) = ended {
                tracing::debug!(%error, "connection ended early");
            }
            drop(permit);
        });
    };
    let closing = health.reached(Phase::Closing);
    tokio::pin!(closing);
    loop {
        let next = async {
            let permit = room.clone().acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        tokio::select! {
            () = &mut closing => break,
            (accepted, permit) = next => match accepted {
                Ok((stream, _)) => open(stream, permit),
                Err(error) => pause(&error).await,
            },
        }
    }
    // The kernel may have accepted connections that we have not been told of yet.
    let until = Instant::now() + LAST_CONNECTIONS;
    loop {
        let soon = until.min(Instant::now() + TOLD_WITHIN);
        match tokio::time::timeout_at(soon, listener.accept()).await {
            Ok(Ok((stream, _))) => open(stream, None),
            _ => break,
        }
    }
    drop(listener);
    connections.close();
    let busy = connections.len();
    tokio::select! {
        () = connections.wait() => Ending::Complete,
        () = tokio::time::sleep(limits.shutdown_deadline) => Ending::CutOff(busy),
    }
}

/// Out of file descriptors or memory: waiting is all that helps. Anything else concerned one connection.
async fn pause(error: &io::Error) {
    let own = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    );
    if !own {
        tracing::error!(%error, "cannot accept connections");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
