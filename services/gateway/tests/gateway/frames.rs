//! HTTP/2 written frame by frame, for clients that mean no good (RFC 9113).

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::bench::PATIENCE;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// `GET /` of `a` over `http`, by the static table of HPACK.
pub(crate) const GET: &[u8] = &[0x82, 0x86, 0x84, 0x01, 1, b'a'];
/// `POST /` of `a` over `http`.
pub(crate) const POST: &[u8] = &[0x83, 0x86, 0x84, 0x01, 1, b'a'];

/// One frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length");
    let mut all = length.to_be_bytes()[1..].to_vec();
    all.extend_from_slice(&[kind, flags]);
    all.extend_from_slice(&stream.to_be_bytes());
    all.extend_from_slice(payload);
    all
}

/// A frame that the gateway sent.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The reason of a GOAWAY (RFC 9113, 6.8).
    pub(crate) fn goes_away_for(&self) -> Option<u32> {
        let reason = self.payload.get(4..8)?.try_into().ok()?;
        (self.kind == GOAWAY).then(|| u32::from_be_bytes(reason))
    }
}

/// How a connection came to its end.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// The reason of the last GOAWAY.
    pub(crate) reason: Option<u32>,
    /// Streams that were reset, with the reason of the last.
    pub(crate) resets: usize,
}

/// A client that writes frames, and keeps reading what comes back.
pub(crate) struct Frames {
    writer: OwnedWriteHalf,
    read: UnboundedReceiver<Frame>,
}

impl Frames {
    /// Connects and greets, with settings of the client's own.
    pub(crate) async fn connect(address: SocketAddr, settings: &[u8]) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let (reader, writer) = stream.into_split();
        let (sender, read) = unbounded_channel();
        tokio::spawn(async move {
            let mut reader = reader;
            while let Some(frame) = next(&mut reader).await {
                if sender.send(frame).is_err() {
                    break;
                }
            }
        });
        let mut all = Self { writer, read };
        let mut start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        start.extend(frame(SETTINGS, 0, 0, settings));
        start.extend(frame(SETTINGS, ACK, 0, &[]));
        assert!(all.send(&start).await, "the greeting is taken");
        all
    }

    /// Sends bytes; `false` once the gateway takes no more.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = tokio::time::timeout(PATIENCE, self.writer.write_all(bytes)).await;
        sent.expect("it is taken or refused in time").is_ok()
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let next = tokio::time::timeout(PATIENCE, self.read.recv()).await;
        next.expect("a frame or the end in time")
    }

    /// Waits for a frame; `None` if the connection ends before.
    pub(crate) async fn wait_for(&mut self, fits: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if fits(&frame) {
                return Some(frame);
            }
        }
    }

    /// Waits until the gateway has worked through all that was sent; `false` if it went away instead.
    pub(crate) async fn settled(&mut self, mark: u64) -> bool {
        let mark = mark.to_be_bytes();
        self.send(&frame(PING, 0, 0, &mark)).await
            && self
                .wait_for(|frame| {
                    frame.kind == PING && frame.flags & ACK != 0 && frame.payload == mark
                })
                .await
                .is_some()
    }

    /// Waits for the end of the connection.
    pub(crate) async fn end(&mut self) -> End {
        let mut end = End::default();
        while let Some(frame) = self.next().await {
            end.reason = frame.goes_away_for().or(end.reason);
            end.resets += usize::from(frame.kind == RESET);
        }
        end
    }
}

async fn next(reader: &mut OwnedReadHalf) -> Option<Frame> {
    let mut head = [0; 9];
    reader.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    reader.read_exact(&mut payload).await.ok()?;
    Some(Frame {
        kind: head[3],
        flags: head[4],
        stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff,
        payload,
    })
}
