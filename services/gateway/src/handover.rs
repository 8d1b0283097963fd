//! Listening sockets go from one process to the next without closing.
//!
//! The successor connects to the predecessor's socket and gets one message: a
//! length, a JSON document, and then the descriptors in portions. Once it
//! accepts connections it sends one byte, on which the predecessor stops
//! accepting and drains. If it dies before, nothing has happened.

mod document;

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use platform_gateway_api::Config;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::net::UnixListener;

use self::document::{Document, Named};
use crate::control::Control;
use crate::listen::Socket;

/// Descriptors in one message; the kernel takes up to 253.
const PORTION: usize = 64;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the successor says when it accepts connections.
const READY: u8 = b'R';

/// What a predecessor gave.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) config: Config,
    pub(crate) sockets: Vec<Socket>,
    stream: UnixStream,
}

impl Inheritance {
    /// Tells the predecessor that connections are accepted here now.
    pub(crate) fn confirm(mut self) -> io::Result<()> {
        self.stream.write_all(&[READY])
    }
}

/// Asks a predecessor for its sockets; `None` when there is none.
pub(crate) fn inherit(path: &Path) -> io::Result<Option<Inheritance>> {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let document = document::read(&mut stream)?;
    let mut descriptors = Vec::new();
    while descriptors.len() < document.sockets.len() {
        let before = descriptors.len();
        receive(&stream, &mut descriptors)?;
        if descriptors.len() == before {
            return Err(io::Error::other("the predecessor sent too few sockets"));
        }
    }
    let sockets = document
        .sockets
        .into_iter()
        .zip(descriptors)
        .map(|(named, descriptor)| Socket {
            name: named.name,
            wanted: named.wanted,
            listener: TcpListener::from(descriptor),
        })
        .collect();
    Ok(Some(Inheritance {
        config: document.config,
        sockets,
        stream,
    }))
}

fn receive(stream: &UnixStream, descriptors: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PORTION))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(
        stream.as_fd(),
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(())
}

/// Waits for a successor; returns once one has taken over.
pub(crate) async fn offer(listener: UnixListener, control: Arc<Control>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        match give(stream.into_std()?, &control).await {
            Ok(()) => return Ok(()),
            Err(error) => tracing::warn!(%error, "a hand-over failed; this gateway goes on"),
        }
    }
}

async fn give(stream: UnixStream, control: &Control) -> io::Result<()> {
    // Held until the end: no configuration may change what is being given.
    let listeners = control.lock_listeners().await;
    let mut named = Vec::new();
    let mut sockets = Vec::new();
    for socket in listeners.sockets() {
        named.push(Named {
            name: socket.name.clone(),
            wanted: socket.wanted.clone(),
        });
        sockets.push(socket.listener.try_clone()?);
    }
    let config = control.gateway.snapshot.load().config.clone();
    let document = Document {
        config: (*config).clone(),
        sockets: named,
    };
    let given = tokio::task::spawn_blocking(move || send(stream, &document, &sockets));
    given.await.map_err(io::Error::other)??;
    // Before the lock is free, so that no configuration gets lost on a leaving process.
    control.gateway.begin_draining();
    drop(listeners);
    Ok(())
}

fn send(mut stream: UnixStream, document: &Document, sockets: &[TcpListener]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    document::write(document, &mut stream)?;
    for portion in sockets.chunks(PORTION) {
        let descriptors: Vec<BorrowedFd<'_>> = portion.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PORTION))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other(
                "the descriptors do not fit into a message",
            ));
        }
        sendmsg(
            stream.as_fd(),
            &[IoSlice::new(&[0])],
            &mut ancillary,
            SendFlags::empty(),
        )?;
    }
    let mut said = [0];
    stream.read_exact(&mut said)?;
    if said[0] == READY {
        Ok(())
    } else {
        Err(io::Error::other("the successor gave up"))
    }
}
