//! Images as one file, and as a folder.
//!
//! The file is an archive that `docker load` of Engine 20.10 takes, and an OCI layout at the same time.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::attach::Attachment;
use crate::blob::{Blob, Descriptor, Index, Manifest, digits, media};
use crate::error::ImageError;
use crate::image::Image;
use crate::layer::{Entry, write_entry};

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image as `docker save` lists it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn place(digest: &str) -> String {
    format!("blobs/sha256/{}", digits(digest))
}

impl Image {
    fn blobs(&self) -> impl Iterator<Item = &Blob> {
        [&self.manifest, &self.config]
            .into_iter()
            .chain(&self.layers)
    }

    fn index(&self, name: Option<&str>, attachments: &[Attachment]) -> Index {
        let mut entry = self.manifest.descriptor();
        entry.platform = Some(self.platform.clone());
        if let Some(name) = name {
            entry.annotations = BTreeMap::from([
                ("io.containerd.image.name".to_owned(), name.to_owned()),
                (
                    "org.opencontainers.image.ref.name".to_owned(),
                    tag_of(name).to_owned(),
                ),
            ]);
        }
        let attached = attachments.iter().map(Attachment::descriptor);
        Index::of(std::iter::once(entry).chain(attached).collect())
    }

    /// Writes the image as one file for `docker load`.
    ///
    /// - `name`: what the engine shall call it, `shop/orders:1`
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being written.
    pub fn write_archive(&self, name: Option<&str>, out: impl Write) -> Result<(), ImageError> {
        let broken = |error: io::Error| ImageError::file("write", Path::new("archive"))(error);
        let listed = [Listed {
            config: place(self.id()),
            repo_tags: Some(name.map(str::to_owned).into_iter().collect()),
            layers: self
                .layers
                .iter()
                .map(|layer| place(&layer.digest))
                .collect(),
        }];
        let index = Blob::json(media::INDEX, &self.index(name, &[]));
        let list = Blob::json("application/json", &listed);
        let mut files: BTreeMap<String, &[u8]> = self
            .blobs()
            .map(|blob| (place(&blob.digest), blob.bytes.as_slice()))
            .collect();
        files.insert("index.json".to_owned(), &index.bytes);
        files.insert("manifest.json".to_owned(), &list.bytes);
        files.insert("oci-layout".to_owned(), LAYOUT);
        let mut tar = tar::Builder::new(out);
        for folder in ["blobs", "blobs/sha256"] {
            write_entry(&mut tar, folder, &Entry::Folder { mode: 0o755 }, 0)?;
        }
        for (path, bytes) in files {
            let mut header =
                crate::layer::header(tar::EntryType::Regular, 0o644, bytes.len() as u64, 0);
            tar.append_data(&mut header, &path, bytes).map_err(broken)?;
        }
        tar.into_inner()
            .and_then(|mut out| out.flush())
            .map_err(broken)
    }

    /// Writes the image and what is attached to it as an OCI layout, a folder that skopeo, crane and their like take.
    ///
    /// # Errors
    ///
    /// Whatever keeps a file from being written.
    pub fn write_layout(
        &self,
        name: Option<&str>,
        attachments: &[Attachment],
        folder: &Path,
    ) -> Result<(), ImageError> {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(ImageError::file("make", &blobs))?;
        let attached = attachments.iter().flat_map(Attachment::blobs);
        for blob in self.blobs().chain(attached) {
            write(&blobs.join(digits(&blob.digest)), &blob.bytes)?;
        }
        let index = Blob::json(media::INDEX, &self.index(name, attachments));
        write(&folder.join("index.json"), &index.bytes)?;
        // Last, as by this others know that it is a layout.
        write(&folder.join("oci-layout"), LAYOUT)
    }

    /// Reads an archive that [`Image::write_archive`] or `docker save` wrote.
    ///
    /// An archive of `docker save` has no manifest, so one is made for it; its layers stay as they are.
    ///
    /// # Errors
    ///
    /// [`ImageError::BadArchive`] if it does not hold exactly one image, whole.
    pub fn read_archive(path: &Path) -> Result<Self, ImageError> {
        let bad = |why: &str| ImageError::BadArchive {
            path: path.to_owned(),
            why: why.to_owned(),
        };
        let file = fs::File::open(path).map_err(ImageError::file("read", path))?;
        let mut archive = tar::Archive::new(io::BufReader::new(file));
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut links: BTreeMap<String, String> = BTreeMap::new();
        let broken = |error: io::Error| bad(&error.to_string());
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let name = entry.path().map_err(broken)?.to_string_lossy().into_owned();
            match entry.header().entry_type() {
                tar::EntryType::Regular => {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes).map_err(broken)?;
                    files.insert(name, bytes);
                }
                // Equal layers of several images are links to the first.
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    if let Some(target) = entry.link_name().map_err(broken)? {
                        links.insert(name, target.to_string_lossy().into_owned());
                    }
                }
                _ => {}
            }
        }
        let listed: Vec<Listed> = files
            .get("manifest.json")
            .and_then(|bytes| serde_json::from_slice(bytes).ok())
            .ok_or_else(|| bad("it has no list of images"))?;
        let [listed] = listed.as_slice() else {
            return Err(bad("it holds several images"));
        };
        let read = |name: &String| {
            let target = links.get(name).map(|target| resolve(name, target));
            files
                .get(target.as_ref().unwrap_or(name))
                .cloned()
                .ok_or_else(|| bad(&format!("`{name}` is missing")))
        };
        let config = Blob::new(media::CONFIG, read(&listed.config)?);
        let mut layers = Vec::new();
        for layer in &listed.layers {
            let bytes = read(layer)?;
            let kind = if bytes.starts_with(&[0x1f, 0x8b]) {
                media::LAYER_GZIP
            } else {
                media::LAYER
            };
            layers.push(Blob::new(kind, bytes));
        }
        let known: Option<Index> = files
            .get("index.json")
            .and_then(|bytes| serde_json::from_slice(bytes).ok());
        let manifest = known
            .and_then(|index| index.manifests.into_iter().next())
            .and_then(|entry: Descriptor| {
                Some((entry.digest.clone(), files.get(&place(&entry.digest))?))
            })
            .map(|(digest, bytes)| (digest, Blob::new(media::MANIFEST, bytes.clone())));
        let manifest = match manifest {
            Some((digest, blob)) if blob.digest == digest && names(&blob, &config, &layers) => blob,
            Some((digest, blob)) if blob.digest != digest => {
                return Err(bad("its manifest was changed"));
            }
            _ => Blob::json(
                media::MANIFEST,
                &Manifest {
                    schema_version: 2,
                    media_type: media::MANIFEST.to_owned(),
                    config: config.descriptor(),
                    layers: layers.iter().map(Blob::descriptor).collect(),
                    ..Manifest::default()
                },
            ),
        };
        Ok(Self::from_parts(manifest, config, layers))
    }

    /// Whether all its layers are packed.
    pub fn is_packed(&self) -> bool {
        let plain = |layer: &Blob| layer.media_type == media::LAYER;
        !self.layers.iter().any(plain)
    }

    /// Packs layers that are not, as they are better sent to a registry. The image's own identity stays.
    ///
    /// # Errors
    ///
    /// None that depends on the image.
    pub fn packed(self) -> Result<Self, ImageError> {
        if self.is_packed() {
            return Ok(self);
        }
        let mut layers = Vec::new();
        for layer in self.layers {
            layers.push(if layer.media_type == media::LAYER {
                let mut encoder = flate2::GzBuilder::new()
                    .mtime(0)
                    .write(Vec::new(), flate2::Compression::new(6));
                let packed = encoder
                    .write_all(&layer.bytes)
                    .and_then(|()| encoder.finish());
                Blob::new(
                    media::LAYER_GZIP,
                    packed.map_err(ImageError::file("pack", Path::new("layer")))?,
                )
            } else {
                layer
            });
        }
        let mut manifest: Manifest =
            serde_json::from_slice(&self.manifest.bytes).unwrap_or_default();
        manifest.layers = layers.iter().map(Blob::descriptor).collect();
        Ok(Self {
            manifest: Blob::json(media::MANIFEST, &manifest),
            config: self.config,
            layers,
            platform: self.platform,
        })
    }
}

/// Whether a manifest is of just this configuration and these layers, in OCI's words: an engine that keeps images in containerd
/// saves what it built with a manifest in Docker's.
fn names(manifest: &Blob, config: &Blob, layers: &[Blob]) -> bool {
    serde_json::from_slice::<Manifest>(&manifest.bytes).is_ok_and(|manifest| {
        manifest.media_type == media::MANIFEST
            && manifest.config.digest == config.digest
            && manifest
                .layers
                .iter()
                .map(|layer| &layer.digest)
                .eq(layers.iter().map(|layer| &layer.digest))
    })
}

fn tag_of(name: &str) -> &str {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split_once(':').map_or("latest", |(_, tag)| tag)
}

/// Where a link within an archive leads.
fn resolve(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    fs::write(path, bytes).map_err(ImageError::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::example;
    use crate::layer::Compression;

    #[test]
    fn an_archive_reads_back_as_the_image_it_was() {
        let folder = tempfile::tempdir().unwrap();
        for compression in [Compression::None, Compression::Gzip] {
            let image = example(folder.path(), |spec| spec.compression = compression);
            let mut once = Vec::new();
            image
                .write_archive(Some("shop/orders:1"), &mut once)
                .unwrap();
            let mut twice = Vec::new();
            image
                .write_archive(Some("shop/orders:1"), &mut twice)
                .unwrap();
            assert_eq!(once, twice);
            let path = folder.path().join("image.tar");
            fs::write(&path, once).unwrap();
            assert_eq!(Image::read_archive(&path).unwrap(), image);
        }
    }

    #[test]
    fn a_manifest_in_dockers_words_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let image = example(folder.path(), |_| {});
        let bytes = String::from_utf8(image.manifest.bytes.clone()).unwrap();
        let [manifest, config, layer] = ["manifest", "config", "layer"].map(|part| {
            let kind = format!("application/vnd.oci.image.{part}.v1");
            assert!(bytes.contains(&kind), "{bytes}");
            kind
        });
        let docker = bytes
            .replace(
                &format!("{manifest}+json"),
                "application/vnd.docker.distribution.manifest.v2+json",
            )
            .replace(
                &format!("{config}+json"),
                "application/vnd.docker.container.image.v1+json",
            )
            .replace(
                &format!("{layer}.tar+gzip"),
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            );
        let saved = Image::from_parts(
            Blob::new(media::MANIFEST, docker.into_bytes()),
            image.config.clone(),
            image.layers.clone(),
        );
        let path = folder.path().join("image.tar");
        saved
            .write_archive(None, fs::File::create(&path).unwrap())
            .unwrap();
        let read = Image::read_archive(&path).unwrap();
        assert_eq!(read.id(), image.id());
        let manifest: Manifest = serde_json::from_slice(&read.manifest.bytes).unwrap();
        let kinds = manifest.layers.iter().map(|layer| &layer.media_type);
        assert_eq!(manifest.media_type, media::MANIFEST);
        assert_eq!(manifest.config.media_type, media::CONFIG);
        assert!(kinds.into_iter().all(|kind| kind == media::LAYER_GZIP));
    }

    #[test]
    fn packing_later_is_as_good_as_packing_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at_once = example(folder.path(), |_| {});
        let later = example(folder.path(), |spec| spec.compression = Compression::None);
        assert_eq!(later.packed().unwrap(), at_once);
    }

    #[test]
    fn a_layout_holds_every_blob_under_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let image = example(folder.path(), |_| {});
        let sbom = crate::attach::Attachment::new(
            &image,
            "application/vnd.cyclonedx+json",
            b"{}".to_vec(),
        );
        let layout = folder.path().join("layout");
        image
            .write_layout(Some("orders"), &[sbom], &layout)
            .unwrap();
        for entry in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
            let entry = entry.unwrap();
            let digest = crate::blob::digest_of(&fs::read(entry.path()).unwrap());
            assert_eq!(digits(&digest), entry.file_name().to_str().unwrap());
        }
        let index: Index =
            serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        assert_eq!(index.manifests.len(), 2);
        assert_eq!(index.manifests[0].digest, image.digest());
    }

    #[test]
    fn a_file_that_is_no_image_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.tar");
        fs::write(&path, "no").unwrap();
        assert!(matches!(
            Image::read_archive(&path),
            Err(ImageError::BadArchive { .. })
        ));
    }

    #[test]
    fn links_within_an_archive_are_followed() {
        assert_eq!(resolve("b/layer.tar", "../a/layer.tar"), "a/layer.tar");
        assert_eq!(tag_of("localhost:5000/a"), "latest");
        assert_eq!(tag_of("localhost:5000/a:2"), "2");
    }
}
