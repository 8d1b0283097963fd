//! Small jobs for which an image need not bring a program: asking a server over HTTP, giving a folder to a user,
//! telling what space there is.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Asks for `path`, and fails unless the first figure of the answer's status is one of these.
pub(super) async fn reach(address: &str, path: &str, good: &[u8]) -> io::Result<()> {
    reach_over(TcpStream::connect(address).await?, address, path, good).await
}

/// The same over a connection that is there.
pub(super) async fn reach_over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    address: &str,
    path: &str,
    good: &[u8],
) -> io::Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await?;
    // `HTTP/1.1 200`
    if start.get(9).is_some_and(|figure| good.contains(figure)) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&start);
    Err(io::Error::other(format!(
        "{path} answered {}",
        said.get(9..).unwrap_or_default()
    )))
}

/// Gives a folder to `uid:gid`.
pub(super) fn own(user: &str, folder: &str) -> io::Result<()> {
    let bad = || io::Error::new(io::ErrorKind::InvalidInput, "a user is `uid:gid`");
    let (user, group) = user.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| bad());
    std::os::unix::fs::chown(folder, Some(number(user)?), Some(number(group)?))
}

/// Bytes that are free on the file system of a folder, and those there are in all.
pub(crate) fn space(folder: &str) -> io::Result<(u64, u64)> {
    let seen = nix::sys::statvfs::statvfs(folder)?;
    let block = seen.fragment_size();
    Ok((seen.blocks_available() * block, seen.blocks() * block))
}
