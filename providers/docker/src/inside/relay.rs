//! A connection inside the network, over standard input and output.

use std::io;

use tokio::io::{AsyncWriteExt, copy};
use tokio::net::TcpStream;

/// Connects to `address` and carries bytes both ways until both sides are done.
pub(super) async fn relay(address: &str) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut from, mut to) = stream.into_split();
    let there = async {
        copy(&mut tokio::io::stdin(), &mut to).await?;
        to.shutdown().await
    };
    let back = async {
        let mut out = tokio::io::stdout();
        copy(&mut from, &mut out).await?;
        out.flush().await
    };
    tokio::pin!(there, back);
    // What comes back may outlast what goes there; the other way round nobody listens any more.
    tokio::select! {
        done = &mut back => done,
        sent = &mut there => {
            sent?;
            back.await
        }
    }
}
