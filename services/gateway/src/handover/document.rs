//! What a predecessor tells its successor: a length (four bytes, the highest first) and a document in JSON.

use std::io::{self, Read, Write};

use platform_gateway_api::Config;
use serde::{Deserialize, Serialize};

/// Largest document, in bytes.
const LARGEST: u32 = 64 * 1024 * 1024;

/// The configuration in force, and the sockets whose descriptors follow in this order.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Document {
    pub(crate) config: Config,
    pub(crate) sockets: Vec<Named>,
}

/// A listening socket.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Named {
    /// Name of its listener.
    pub(crate) name: String,
    /// The address as it is configured.
    pub(crate) wanted: String,
}

/// Reads one, whole or not at all.
///
/// # Errors
///
/// What cannot be read, is larger than any document, or is none. Nothing after it was read.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Document> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LARGEST {
        return Err(io::Error::other("the predecessor's document is too large"));
    }
    // As much memory as came is taken, not as much as was announced.
    let mut text = Vec::new();
    from.take(length.into()).read_to_end(&mut text)?;
    if text.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&text)?)
}

/// Writes one.
///
/// # Errors
///
/// What cannot be written, or is too large to be read.
pub(crate) fn write(document: &Document, to: &mut impl Write) -> io::Result<()> {
    let text = serde_json::to_vec(document)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    if length > LARGEST {
        return Err(io::Error::other("the document is too large"));
    }
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_read_as_it_was_written_and_nothing_else_is() {
        let document = Document {
            config: Config::default(),
            sockets: vec![Named {
                name: "public".into(),
                wanted: "127.0.0.1:0".into(),
            }],
        };
        let mut written = Vec::new();
        write(&document, &mut written).unwrap();
        let whole = written.len();
        // Descriptors come right behind it.
        written.push(0);
        let mut rest = &written[..];
        assert_eq!(read(&mut rest).unwrap(), document);
        assert_eq!(rest, [0]);
        for length in 0..whole {
            assert!(read(&mut &written[..length]).is_err(), "{length}");
        }
        let kind = |bytes: &[u8]| read(&mut &bytes[..]).unwrap_err().kind();
        assert_eq!(kind(b"\xff\xff\xff\xff{}"), io::ErrorKind::Other);
        assert_eq!(kind(b"\0\0\0\x02{}"), io::ErrorKind::InvalidData);
    }
}
