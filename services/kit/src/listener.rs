//! Accepts connections, and lets go of them without dropping a request.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::FutureExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::health::{Health, Phase};
use crate::secured::Secured;

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
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(limits.max_connections));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(64 * 1024);
    let open = |stream: TcpStream, permit| {
        // Small answers must not wait for more data.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(app.clone());
        // Taken before the handshake, so that a shutdown waits for who is in the middle of one.
        let (builder, watcher) = (builder.clone(), graceful.watcher());
        let secured = secured.clone();
        tokio::spawn(async move {
            let ended = match secured {
                None => {
                    let connection = builder.serve_connection(TokioIo::new(stream), service);
                    watcher.watch(connection).await
                }
                Some(secured) => {
                    let shaken = secured.accept(stream);
                    match tokio::time::timeout(limits.header_timeout, shaken).await {
                        Ok(Ok(stream)) => {
                            let connection =
                                builder.serve_connection(TokioIo::new(stream), service);
                            watcher.watch(connection).await
                        }
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
    // The kernel may have accepted connections that we have not seen yet.
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        open(stream, None);
    }
    drop(listener);
    let busy = graceful.count();
    tokio::select! {
        () = graceful.shutdown() => Ending::Complete,
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
