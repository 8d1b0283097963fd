//! Small jobs for which an image need not bring a program: asking a server over HTTP, giving a folder to a user,
//! telling what space there is.

use std::io;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
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

/// The same in HTTP/2, where every answer of 2xx and 3xx is good.
///
/// - `scheme`: `https` where the connection is secured
pub(super) async fn reach_in_http2(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    scheme: &str,
    path: &str,
) -> io::Result<()> {
    let request = Request::get(format!("{scheme}://localhost{path}"))
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = shaken.await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    connection.abort();
    let status = answer.map_err(io::Error::other)?.status();
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{path} answered {}",
        status.as_u16()
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::server::conn::http2::Builder;
    use hyper::service::service_fn;
    use hyper::{Response, body::Incoming};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_speaks_http2_alone_is_reached_in_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = service_fn(|request: Request<Incoming>| async move {
                    let status = if request.uri().path() == "/well" {
                        204
                    } else {
                        503
                    };
                    let answer = Response::builder().status(status);
                    Ok::<_, Infallible>(answer.body(Empty::<Bytes>::new()).unwrap())
                });
                let serving = Builder::new(TokioExecutor::new());
                tokio::spawn(serving.serve_connection(TokioIo::new(stream), answer));
            }
        });
        let asked = async |path: &str| {
            let stream = TcpStream::connect(&address).await.unwrap();
            reach_in_http2(stream, "http", path).await
        };
        asked("/well").await.unwrap();
        let why = asked("/unwell").await.unwrap_err().to_string();
        assert_eq!(why, "/unwell answered 503");
        assert!(reach(&address, "/well", b"2").await.is_err());
    }
}
