//! Layers: files as a tar archive that depends on nothing but them.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression as Level, GzBuilder};
use sha2::{Digest as _, Sha256};

use crate::blob::{Blob, media};
use crate::error::ImageError;

/// How a layer's bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// As they are: what an engine on this machine takes soonest.
    None,
    /// With gzip, for registries.
    #[default]
    Gzip,
}

impl Compression {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
        }
    }
}

/// Something in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A folder.
    Folder {
        /// Permissions, `0o755`.
        mode: u32,
    },
    /// A file with these bytes.
    Bytes {
        /// The bytes.
        bytes: Vec<u8>,
        /// Permissions.
        mode: u32,
    },
    /// A file with the bytes of another.
    File {
        /// Where the bytes are.
        from: PathBuf,
        /// Permissions.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// Where it points.
        target: String,
    },
}

/// A layer, and the digest of it unpacked, by which a configuration knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) blob: Blob,
    pub(crate) diff_id: String,
}

/// What goes into one layer, by path without a leading slash.
///
/// Folders above an entry come along by themselves, before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entries(BTreeMap<String, Entry>);

impl Entries {
    pub(crate) fn add(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            self.0
                .entry(path[..at].to_owned())
                .or_insert(Entry::Folder { mode: 0o755 });
        }
        self.0.insert(path.to_owned(), entry);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Packs everything: in order of the paths, owned by root, at one time.
    pub(crate) fn pack(&self, time: u64, packing: Compression) -> Result<Layer, ImageError> {
        let broken = |error| ImageError::file("pack", Path::new("layer"))(error);
        let sink = match packing {
            Compression::None => Sink::Plain(Vec::new()),
            // No name and no time in its head.
            Compression::Gzip => {
                Sink::Gzip(GzBuilder::new().mtime(0).write(Vec::new(), Level::new(6)))
            }
        };
        let mut tar = tar::Builder::new(Digested {
            inner: sink,
            hasher: Sha256::new(),
        });
        for (path, entry) in &self.0 {
            write_entry(&mut tar, path, entry, time)?;
        }
        let digested = tar.into_inner().map_err(broken)?;
        let diff_id = format!("sha256:{}", hex::encode(digested.hasher.finalize()));
        let blob = match digested.inner {
            Sink::Plain(bytes) => Blob {
                media_type: media::LAYER.to_owned(),
                digest: diff_id.clone(),
                bytes,
            },
            Sink::Gzip(packer) => Blob::new(media::LAYER_GZIP, packer.finish().map_err(broken)?),
        };
        Ok(Layer { blob, diff_id })
    }
}

enum Sink {
    Plain(Vec<u8>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

/// Passes bytes on and digests them on the way.
struct Digested {
    inner: Sink,
    hasher: Sha256,
}

impl Write for Digested {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.inner {
            Sink::Plain(inner) => inner.write(bytes)?,
            Sink::Gzip(inner) => inner.write(bytes)?,
        };
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The head of an entry, with nothing in it that two machines could differ in.
pub(crate) fn header(kind: tar::EntryType, mode: u32, size: u64, time: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Writes one entry.
pub(crate) fn write_entry<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    entry: &Entry,
    time: u64,
) -> Result<(), ImageError> {
    let failed = |error| ImageError::file("pack", Path::new(path))(error);
    match entry {
        Entry::Folder { mode } => {
            let mut header = header(tar::EntryType::Directory, *mode, 0, time);
            tar.append_data(&mut header, format!("{path}/"), io::empty())
        }
        Entry::Bytes { bytes, mode } => {
            let mut header = header(tar::EntryType::Regular, *mode, bytes.len() as u64, time);
            tar.append_data(&mut header, path, bytes.as_slice())
        }
        Entry::File { from, mode } => {
            let file = std::fs::File::open(from).map_err(ImageError::file("read", from))?;
            let size = file
                .metadata()
                .map_err(ImageError::file("read", from))?
                .len();
            let mut header = header(tar::EntryType::Regular, *mode, size, time);
            // What grows while it is read must not spill over into the next entry.
            tar.append_data(
                &mut header,
                path,
                Exact {
                    inner: file,
                    left: size,
                },
            )
        }
        Entry::Link { target } => {
            let mut header = header(tar::EntryType::Symlink, 0o777, 0, time);
            tar.append_link(&mut header, path, target)
        }
    }
    .map_err(failed)
}

/// Reads so many bytes, neither more nor fewer.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Entries {
        let mut entries = Entries::default();
        entries.add(
            "/app/bin/run",
            Entry::Bytes {
                bytes: b"run".to_vec(),
                mode: 0o755,
            },
        );
        entries.add(
            "app/link",
            Entry::Link {
                target: "bin/run".to_owned(),
            },
        );
        entries
    }

    #[test]
    fn a_layer_depends_on_nothing_but_its_files() {
        let plain = entries().pack(0, Compression::None).unwrap();
        assert_eq!(plain, entries().pack(0, Compression::None).unwrap());
        assert_eq!(plain.blob.digest, plain.diff_id);
        // Fixed for ever: a change here changes every image there is.
        assert_eq!(
            plain.diff_id,
            "sha256:26430999b4fe0e6d720017d3317daf362e84b85aa276c7cde31f7c55af3fbe57"
        );
        let packed = entries().pack(0, Compression::Gzip).unwrap();
        assert_eq!(packed.diff_id, plain.diff_id);
        assert_eq!(packed, entries().pack(0, Compression::Gzip).unwrap());
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let layer = entries().pack(0, Compression::None).unwrap();
        let mut archive = tar::Archive::new(layer.blob.bytes.as_slice());
        let paths: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        assert_eq!(paths, ["app/", "app/bin/", "app/bin/run", "app/link"]);
    }

    #[test]
    fn long_paths_survive() {
        let mut entries = Entries::default();
        let path = format!("app/{}/end", "folder/".repeat(40).trim_end_matches('/'));
        let bytes = b"x".to_vec();
        entries.add(&path, Entry::Bytes { bytes, mode: 0o644 });
        let layer = entries.pack(0, Compression::None).unwrap();
        let mut archive = tar::Archive::new(layer.blob.bytes.as_slice());
        let last = archive.entries().unwrap().last().unwrap().unwrap();
        assert_eq!(last.path().unwrap().to_string_lossy(), path);
    }
}
