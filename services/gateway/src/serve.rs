//! A client's connection from its acceptance to its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use tokio::net::TcpStream;

use crate::app::App;
use crate::clock::limit;
use crate::connection::{self, ClientStream, ConnectionState, Transport};
use crate::figures;
use crate::gateway::Gateway;
use crate::tally::{Gauge, Held};
use crate::tls::Secured;

/// A connection that was accepted. Known, and counted, while this lives.
pub(crate) struct Accepted {
    gateway: Arc<Gateway>,
    state: Arc<ConnectionState>,
    id: u64,
    head_ms: u64,
    secured: Option<Arc<Secured>>,
    metrics: bool,
    _place: Held,
}

impl Accepted {
    /// `None` if it is one too many, or its listener was taken away just now.
    pub(crate) fn new(
        gateway: &Arc<Gateway>,
        peer: SocketAddr,
        listener: &Arc<str>,
        open: &Arc<Gauge>,
    ) -> Option<Self> {
        let snapshot = gateway.snapshot.load();
        let known = snapshot.listeners.get(&**listener)?;
        let limits = &known.limits;
        let place = open.hold(u64::from(limits.connections))?;
        let state = Arc::new(ConnectionState::new(
            listener.clone(),
            peer,
            known.secured.is_some(),
            limits.head_ms,
            limits.keep_alive_ms,
        ));
        Some(Self {
            gateway: gateway.clone(),
            id: gateway.connections.add(state.clone()),
            state,
            head_ms: limits.head_ms,
            secured: known.secured.clone(),
            metrics: known.metrics,
            _place: place,
        })
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.gateway.connections.remove(self.id);
    }
}

/// Serves a connection until its client leaves or it is let go.
pub(crate) async fn serve(accepted: Accepted, app: Arc<App>, stream: TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set a socket option");
    }
    let work = async {
        let spoken = match &accepted.secured {
            None => in_clear(&accepted, &app, stream).await,
            // Apart, as a handshake would make every connection's memory larger.
            Some(secured) => Box::pin(over_tls(&accepted, &app, stream, secured)).await,
        };
        if let Err(error) = spoken {
            tracing::debug!(%error, "a client left before it said anything");
        }
    };
    tokio::select! {
        biased;
        () = work => (),
        () = accepted.state.closing() => (),
    }
}

async fn in_clear(accepted: &Accepted, app: &Arc<App>, stream: TcpStream) -> io::Result<()> {
    let stream = connection::plain(stream, accepted.state.clone()).await?;
    speak(accepted, app, stream).await;
    Ok(())
}

async fn over_tls(
    accepted: &Accepted,
    app: &Arc<App>,
    stream: TcpStream,
    secured: &Secured,
) -> io::Result<()> {
    let stream = {
        let handshake = secured.acceptor().accept(stream);
        match limit(accepted.head_ms) {
            Some(limit) => tokio::time::timeout(limit, handshake).await??,
            None => handshake.await?,
        }
    };
    let stream = connection::secured(stream, accepted.state.clone())?;
    speak(accepted, app, stream).await;
    Ok(())
}

async fn speak<T: Transport>(accepted: &Accepted, app: &Arc<App>, stream: ClientStream<T>) {
    if accepted.metrics {
        return Box::pin(figures::serve(
            accepted.gateway.clone(),
            stream,
            accepted.head_ms,
        ))
        .await;
    }
    let shutdown = accepted.gateway.shutdown();
    let stream = Box::new(stream);
    if stream.speaks_http2() {
        app.process_new(stream, &shutdown).await;
    } else {
        in_turn(app, stream, &shutdown).await;
    }
}

/// Serves the requests of a connection that has one at a time. What a request needs is made when
/// its first byte is there, so that an idle connection holds little.
async fn in_turn<T: Transport>(
    app: &App,
    mut stream: Box<ClientStream<T>>,
    shutdown: &ShutdownWatch,
) {
    let mut settings = None;
    while stream.heard().await.is_ok() {
        let mut session = ServerSession::new_http1(stream);
        match settings.take() {
            // Whoever says nothing is looked after by the list of connections.
            None => session.set_keepalive(Some(0)),
            Some(kept) => HttpPersistentSettings::apply_to_session(kept, &mut session),
        }
        let Some(reused) = app.proxy.process_new_http(session, shutdown).await else {
            return;
        };
        let (same, kept) = reused.consume();
        let Ok(same) = same.into_any().downcast() else {
            return;
        };
        stream = same;
        settings = kept;
    }
}
