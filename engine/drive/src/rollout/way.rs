//! A port of this machine's that leads to the gateway, wherever that listens.

use std::sync::Arc;

use platform_decide::observed::GatewaySeen;
use platform_port::Target;
use tokio::io::{copy_bidirectional, join};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Leads to the gateway until it is dropped, with whatever is under way.
#[derive(Debug)]
pub(super) struct Way {
    /// `http` or `https`.
    scheme: String,
    port: u16,
    _leading: AbortOnDropHandle<()>,
}

impl Way {
    /// Opens a port on loopback.
    pub(super) async fn open(
        target: Arc<dyn Target>,
        gateway: GatewaySeen,
    ) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("no way to the gateway: {error}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let scheme = gateway.url.split("://").next().unwrap_or("http").to_owned();
        let leading = tokio::spawn(lead(listener, target, gateway));
        Ok(Self {
            scheme,
            port,
            _leading: AbortOnDropHandle::new(leading),
        })
    }

    /// Where requests for a host are sent.
    pub(super) fn url(&self, host: &str) -> String {
        format!("{}://{host}:{}", self.scheme, self.port)
    }
}

async fn lead(listener: TcpListener, target: Arc<dyn Target>, gateway: GatewaySeen) {
    let mut connections = JoinSet::new();
    while let Ok((here, _)) = listener.accept().await {
        connections.spawn(carry(here, Arc::clone(&target), gateway.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(mut here: TcpStream, target: Arc<dyn Target>, gateway: GatewaySeen) {
    match target.connect_gateway(&gateway).await {
        Ok(there) => {
            let mut there = join(there.output, there.input);
            // Whoever asks sees the connection end.
            let _ = copy_bidirectional(&mut here, &mut there).await;
        }
        Err(error) => {
            tracing::debug!(error = %error, cause = %error.source, "no way to the gateway");
        }
    }
}
