//! Documents attached to an image: what it was made from, and how.
//!
//! Each is an artifact with the image as its subject, as OCI 1.1 has it. A registry lists them as referrers of the image;
//! where it does not, an index under the tag `sha256-…` does.

use std::collections::BTreeMap;

use crate::blob::{Blob, Descriptor, Manifest, media};
use crate::image::Image;

/// The media type of a software bill of materials.
pub const CYCLONEDX: &str = "application/vnd.cyclonedx+json";

/// The media type of a statement about how something was made.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// A document attached to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub(crate) manifest: Blob,
    pub(crate) content: Blob,
    pub(crate) empty: Blob,
    kind: String,
}

impl Attachment {
    /// Attaches a document.
    ///
    /// - `kind`: its media type
    pub fn new(image: &Image, kind: &str, document: Vec<u8>) -> Self {
        let content = Blob::new(kind, document);
        let empty = Blob::new(media::EMPTY, b"{}".to_vec());
        let manifest = Manifest {
            schema_version: 2,
            media_type: media::MANIFEST.to_owned(),
            artifact_type: Some(kind.to_owned()),
            config: empty.descriptor(),
            layers: vec![content.descriptor()],
            subject: Some(image.manifest.descriptor()),
            annotations: BTreeMap::new(),
        };
        Self {
            manifest: Blob::json(media::MANIFEST, &manifest),
            content,
            empty,
            kind: kind.to_owned(),
        }
    }

    /// The digest of its manifest.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// Its media type.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The document.
    pub fn document(&self) -> &[u8] {
        &self.content.bytes
    }

    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor {
            artifact_type: Some(self.kind.clone()),
            ..self.manifest.descriptor()
        }
    }

    pub(crate) fn blobs(&self) -> [&Blob; 3] {
        [&self.empty, &self.content, &self.manifest]
    }
}
