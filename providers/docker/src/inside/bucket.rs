//! Sees to it that an object store has the bucket of its resource: its server is well once it has.

use std::io;
use std::path::Path;

use aws_lc_rs::{digest, hmac};
use chrono::{DateTime, Utc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::HANDED;
use super::run::read;

/// What S3 servers of one machine call where they are.
const REGION: &str = "us-east-1";

/// Who asks. Never printed.
struct Key<'a> {
    name: &'a str,
    secret: &'a str,
}

/// What is asked of a server; nothing goes along with it.
struct Request<'a> {
    method: &'a str,
    host: &'a str,
    path: &'a str,
    /// Sorted, as it is signed.
    query: &'a str,
    time: DateTime<Utc>,
}

/// Makes a bucket where it is not there.
///
/// - `address`: `host:port` of the server
pub(super) async fn ensure(address: &str, bucket: &str) -> io::Result<()> {
    let handed = read(Path::new(HANDED))?;
    let of = |name: &str| handed.files.get(name).map_or("", String::as_str);
    let key = Key {
        name: of("user"),
        secret: of("password"),
    };
    let path = format!("/{bucket}");
    let ask = |method| {
        let request = Request {
            method,
            host: address,
            path: &path,
            query: "",
            time: Utc::now(),
        };
        send(request.signed(&key), address)
    };
    let found = ask("HEAD").await?;
    if found != 404 {
        return answered(bucket, found);
    }
    match ask("PUT").await? {
        // A check before this one made it.
        409 => Ok(()),
        made => answered(bucket, made),
    }
}

fn answered(bucket: &str, status: u16) -> io::Result<()> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    let said = format!("bucket `{bucket}` answered {status} to the resource's own key");
    Err(io::Error::other(said))
}

/// The status of the answer.
async fn send(request: String, address: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    // `HTTP/1.1 200`
    let mut start = [0; 12];
    stream.read_exact(&mut start).await?;
    let status = std::str::from_utf8(&start[9..]).ok();
    let status = status.and_then(|text| text.parse().ok());
    status.ok_or_else(|| io::Error::other("what answers does not speak HTTP/1.1"))
}

impl Request<'_> {
    /// The request as it is sent, with signature version 4.
    ///
    /// Source: "Authenticating Requests: Using the Authorization Header", Amazon S3 API reference.
    fn signed(&self, key: &Key<'_>) -> String {
        let Self {
            method,
            host,
            path,
            query,
            time,
        } = self;
        let nothing = hash(b"");
        let at = time.format("%Y%m%dT%H%M%SZ").to_string();
        let day = &at[..8];
        let headers = format!("host:{host}\nx-amz-content-sha256:{nothing}\nx-amz-date:{at}\n");
        let names = "host;x-amz-content-sha256;x-amz-date";
        let canonical = format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{nothing}");
        let scope = format!("{day}/{REGION}/s3/aws4_request");
        let text = format!(
            "AWS4-HMAC-SHA256\n{at}\n{scope}\n{}",
            hash(canonical.as_bytes())
        );
        let first = format!("AWS4{}", key.secret).into_bytes();
        let signing = [day, REGION, "s3", "aws4_request"]
            .iter()
            .fold(first, |key, part| sign(&key, part));
        let signature = hex::encode(sign(&signing, &text));
        let target = match *query {
            "" => (*path).to_owned(),
            query => format!("{path}?{query}"),
        };
        format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\nx-amz-content-sha256: {nothing}\r\nx-amz-date: {at}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n",
            key.name
        )
    }
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example "GET Bucket Lifecycle" of the same page.
    #[test]
    fn a_request_is_signed_as_the_reference_shows() {
        let request = Request {
            method: "GET",
            host: "examplebucket.s3.amazonaws.com",
            path: "/",
            query: "lifecycle=",
            time: "2013-05-24T00:00:00Z".parse().unwrap(),
        };
        let signed = request.signed(&Key {
            name: "AKIAIOSFODNN7EXAMPLE",
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        });
        let wanted = "Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
        assert!(signed.contains(wanted), "{signed}");
        assert!(
            signed.starts_with("GET /?lifecycle= HTTP/1.1\r\n"),
            "{signed}"
        );
    }
}
