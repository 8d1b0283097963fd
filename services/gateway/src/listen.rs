//! Listening sockets: bound by configuration, handed over, served, closed.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdTcpStream};
use std::sync::Arc;
use std::time::Duration;

use platform_gateway_api::admin::Listening;
use platform_gateway_api::{Config, Reason};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::gateway::Gateway;
use crate::serve::{Accepted, serve};
use crate::tally::Gauge;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;
/// Pause after accepting failed, as when descriptors ran out.
const PAUSE: Duration = Duration::from_millis(20);
/// Pause while idle connections are closed in favour of new ones.
const ROOM: Duration = Duration::from_millis(2);

/// A socket that listens already.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) name: String,
    /// As the configuration asked for it.
    pub(crate) wanted: String,
    pub(crate) listener: StdListener,
}

impl Socket {
    fn local(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Served {
    socket: Socket,
    stop: CancellationToken,
}

/// The listeners of the configuration in force.
#[derive(Default)]
pub(crate) struct Listeners {
    served: BTreeMap<String, Served>,
}

/// Sockets made ready for a configuration that is not in force yet: to serve them cannot fail.
pub(crate) struct Prepared {
    fresh: Vec<(Socket, TcpListener)>,
}

impl Listeners {
    /// Binds what a configuration needs beyond what is served now, and does all else that the system
    /// may refuse.
    ///
    /// - `inherited`: sockets of a predecessor, used where they fit
    /// - `before`: addresses that listeners with port 0 had in an earlier process
    ///
    /// # Errors
    ///
    /// A reason for each listener that cannot be served; what was bound is closed again.
    pub(crate) fn prepare(
        &self,
        config: &Config,
        inherited: &mut Vec<Socket>,
        before: &BTreeMap<String, String>,
    ) -> Result<Prepared, Vec<Reason>> {
        let mut fresh = Vec::new();
        let mut reasons = Vec::new();
        for (index, listener) in config.listeners.iter().enumerate() {
            let served = self.served.get(&listener.name);
            if served.is_some_and(|served| served.socket.wanted == listener.address) {
                continue;
            }
            let fits =
                |socket: &Socket| socket.name == listener.name && socket.wanted == listener.address;
            let inherited = inherited
                .iter()
                .position(fits)
                .map(|position| inherited.swap_remove(position).listener);
            let free = listener.address.ends_with(":0");
            let earlier = || before.get(&listener.name).filter(|_| free);
            let bound = match inherited.or_else(|| earlier().and_then(|it| bind(it).ok())) {
                Some(bound) => Ok(bound),
                // Two names may trade addresses: the old holder's socket is taken over.
                None => match self.holder(&listener.address).filter(|_| !free) {
                    Some(holder) => holder.listener.try_clone(),
                    None => bind(&listener.address),
                },
            };
            let ready =
                bound.and_then(|bound| Ok((TcpListener::from_std(bound.try_clone()?)?, bound)));
            match ready {
                Ok((accepting, bound)) => fresh.push((
                    Socket {
                        name: listener.name.clone(),
                        wanted: listener.address.clone(),
                        listener: bound,
                    },
                    accepting,
                )),
                Err(error) => reasons.push(Reason {
                    path: format!("listeners.{index}.address"),
                    message: format!("cannot listen on {}: {error}", listener.address),
                }),
            }
        }
        if reasons.is_empty() {
            Ok(Prepared { fresh })
        } else {
            Err(reasons)
        }
    }

    /// Serves the sockets made ready and stops those that are not asked for any more.
    pub(crate) fn switch(
        &mut self,
        config: &Config,
        prepared: Prepared,
        gateway: &Arc<Gateway>,
        app: &Arc<App>,
    ) {
        let wanted: HashMap<&str, &str> = config
            .listeners
            .iter()
            .map(|listener| (listener.name.as_str(), listener.address.as_str()))
            .collect();
        self.served.retain(|name, served| {
            let stays = wanted.get(name.as_str()) == Some(&served.socket.wanted.as_str());
            if !stays {
                served.stop.cancel();
            }
            stays
        });
        for (socket, listener) in prepared.fresh {
            let stop = CancellationToken::new();
            tokio::spawn(accept(
                gateway.clone(),
                app.clone(),
                listener,
                socket.name.as_str().into(),
                stop.clone(),
            ));
            let served = Served { socket, stop };
            self.served.insert(served.socket.name.clone(), served);
        }
    }

    /// The socket that serves an address now.
    fn holder(&self, address: &str) -> Option<&Socket> {
        self.sockets().find(|socket| socket.wanted == address)
    }

    /// Stops accepting. What was handed over goes on elsewhere.
    pub(crate) fn stop(&mut self) {
        for served in std::mem::take(&mut self.served).into_values() {
            served.stop.cancel();
        }
    }

    pub(crate) fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.served.values().map(|served| &served.socket)
    }

    pub(crate) fn listening(&self) -> Vec<Listening> {
        self.sockets()
            .map(|socket| Listening {
                name: socket.name.clone(),
                address: socket
                    .local()
                    .map_or_else(|_| socket.wanted.clone(), |address| address.to_string()),
            })
            .collect()
    }
}

fn bind(address: &str) -> io::Result<StdListener> {
    let address: SocketAddr = address
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Accepts until told to stop, then takes what waits already.
async fn accept(
    gateway: Arc<Gateway>,
    app: Arc<App>,
    listener: TcpListener,
    name: Arc<str>,
    stop: CancellationToken,
) {
    let open = Arc::new(Gauge::default());
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        while gateway.connections.make_room(gateway.descriptors) {
            tokio::time::sleep(ROOM).await;
        }
        match accepted {
            Ok((stream, peer)) => match stream.into_std() {
                Ok(stream) => hand_on(&gateway, &app, &name, &open, stream, peer),
                Err(error) => tracing::warn!(listener = %name, %error, "cannot serve a connection"),
            },
            Err(error) => {
                tracing::warn!(listener = %name, %error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    let Ok(listener) = listener.into_std() else {
        return;
    };
    while let Ok((stream, peer)) = listener.accept() {
        match stream.set_nonblocking(true) {
            Ok(()) => hand_on(&gateway, &app, &name, &open, stream, peer),
            Err(error) => tracing::warn!(listener = %name, %error, "cannot serve a connection"),
        }
    }
}

/// Gives an accepted connection to the one who serves it.
fn hand_on(
    gateway: &Arc<Gateway>,
    app: &Arc<App>,
    listener: &Arc<str>,
    open: &Arc<Gauge>,
    stream: StdTcpStream,
    peer: SocketAddr,
) {
    if let Some(accepted) = Accepted::new(gateway, peer, listener, open) {
        let app = app.clone();
        gateway
            .workers
            .serve(stream, |stream| serve(accepted, app, stream));
    }
}
