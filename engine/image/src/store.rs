//! Images that builds left on this machine.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::attach::Attachment;
use crate::blob::digits;
use crate::error::ImageError;
use crate::image::Image;
use crate::reference;

/// What is known of the image that a build key stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// The digest of its configuration: `sha256:…`.
    pub id: String,
    /// The digest of its manifest, where one was made.
    pub digest: Option<String>,
    /// Bytes in its layers as they are sent.
    pub size: u64,
    /// Whether its layers are packed, as they are for registries.
    #[serde(default)]
    pub packed: bool,
    /// Names it was pushed under.
    #[serde(default)]
    pub pushed: Vec<String>,
    /// Documents attached to it: their media types, and the digests of their manifests.
    #[serde(default)]
    pub attached: Vec<(String, String)>,
}

/// The folder of images of a project: `.platform/images`.
#[derive(Debug, Clone)]
pub struct ImageStore {
    folder: PathBuf,
}

impl ImageStore {
    /// A store in `folder`, which is made when the first image comes.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    fn archive_path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{}.tar", digits(id)))
    }

    fn record_path(&self, key: &str) -> PathBuf {
        self.folder
            .join("keys")
            .join(format!("{}.json", digits(key)))
    }

    fn document_path(&self, digest: &str) -> PathBuf {
        self.folder.join("documents").join(digits(digest))
    }

    /// The archive of an image that is on no registry, for an engine to load.
    ///
    /// - `reference`: its name, as [`reference::local`] makes it
    pub fn archive(&self, reference: &str) -> Option<PathBuf> {
        let id = reference::is_local(reference)
            .then(|| reference::identity(reference))
            .flatten()?;
        Some(self.archive_path(&id)).filter(|path| path.is_file())
    }

    /// What the image of a build key is, if it was built here and its archive is still there.
    ///
    /// - `key`: the digest of the build's inputs
    pub fn built(&self, key: &str) -> Option<Built> {
        let text = fs::read(self.record_path(key)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Whether an image is kept here, so that it can be loaded or pushed.
    pub fn holds(&self, id: &str) -> bool {
        self.archive_path(id).is_file()
    }

    /// Keeps an image, with the name that the engine shall give it.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being written.
    pub fn keep(
        &self,
        key: &str,
        name: &str,
        image: &Image,
        attachments: &[Attachment],
    ) -> Result<Built, ImageError> {
        self.whole(&self.archive_path(image.id()), |out| {
            image.write_archive(Some(name), out)
        })?;
        let attached = self.attach(attachments)?;
        let built = Built {
            id: image.id().to_owned(),
            digest: Some(image.digest().to_owned()),
            size: image.size(),
            packed: image.is_packed(),
            pushed: Vec::new(),
            attached,
        };
        self.record(key, &built)?;
        Ok(built)
    }

    /// Keeps documents that are attached to an image; returns them as [`Built`] has them.
    ///
    /// # Errors
    ///
    /// Whatever keeps one from being written.
    pub fn attach(&self, attachments: &[Attachment]) -> Result<Vec<(String, String)>, ImageError> {
        let mut attached = Vec::new();
        for attachment in attachments {
            self.whole(&self.document_path(attachment.digest()), |out| {
                out.write_all(attachment.document())
                    .map_err(ImageError::file("write", &self.folder))
            })?;
            attached.push((attachment.kind().to_owned(), attachment.digest().to_owned()));
        }
        Ok(attached)
    }

    /// Notes what the image of a build key is.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being written.
    pub fn record(&self, key: &str, built: &Built) -> Result<(), ImageError> {
        let text = serde_json::to_vec_pretty(built).unwrap_or_default();
        self.whole(&self.record_path(key), |out| {
            out.write_all(&text)
                .map_err(ImageError::file("write", &self.folder))
        })
    }

    /// Reads an image that is kept here, and what is attached to it.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn image(&self, built: &Built) -> Result<(Image, Vec<Attachment>), ImageError> {
        let image = Image::read_archive(&self.archive_path(&built.id))?;
        let mut attachments = Vec::new();
        for (kind, digest) in &built.attached {
            let path = self.document_path(digest);
            let document = fs::read(&path).map_err(ImageError::file("read", &path))?;
            attachments.push(Attachment::new(&image, kind, document));
        }
        Ok((image, attachments))
    }

    /// Where the archive of an image goes that comes from elsewhere.
    ///
    /// # Errors
    ///
    /// Whatever keeps the folder from being made.
    pub fn place(&self, id: &str) -> Result<PathBuf, ImageError> {
        fs::create_dir_all(&self.folder).map_err(ImageError::file("make", &self.folder))?;
        Ok(self.archive_path(id))
    }

    /// Removes images that no build key stands for any more.
    ///
    /// - `wanted`: whether the image of a key stays
    /// - returns: how many images went
    ///
    /// # Errors
    ///
    /// What keeps one from being removed.
    pub fn gc(&self, wanted: impl Fn(&str) -> bool) -> Result<usize, ImageError> {
        let mut stay = std::collections::BTreeSet::new();
        for entry in fs::read_dir(self.folder.join("keys"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let key = format!("sha256:{}", name.trim_end_matches(".json"));
            if wanted(&key) {
                if let Some(built) = self.built(&key) {
                    stay.insert(self.archive_path(&built.id));
                    stay.extend(
                        built
                            .attached
                            .iter()
                            .map(|(_, digest)| self.document_path(digest)),
                    );
                }
            } else {
                fs::remove_file(entry.path()).map_err(ImageError::file("remove", &entry.path()))?;
            }
        }
        let mut gone = 0;
        for folder in [self.folder.clone(), self.folder.join("documents")] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_file() && !stay.contains(&path) {
                    fs::remove_file(&path).map_err(ImageError::file("remove", &path))?;
                    gone += usize::from(path.extension().is_some_and(|kind| kind == "tar"));
                }
            }
        }
        Ok(gone)
    }

    /// Writes a file whole or not at all.
    fn whole(
        &self,
        path: &Path,
        write: impl FnOnce(&mut BufWriter<&mut tempfile::NamedTempFile>) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(ImageError::file("make", folder))?;
        let mut draft =
            tempfile::NamedTempFile::new_in(folder).map_err(ImageError::file("write", path))?;
        let mut out = BufWriter::with_capacity(1 << 20, &mut draft);
        write(&mut out)?;
        out.flush().map_err(ImageError::file("write", path))?;
        drop(out);
        draft
            .persist(path)
            .map_err(|error| ImageError::file("write", path)(error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::CYCLONEDX;
    use crate::image::tests::example;

    #[test]
    fn an_image_is_found_by_its_key_and_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::new(folder.path().join("images"));
        let image = example(folder.path(), |_| {});
        let key = format!("sha256:{}", "a".repeat(64));
        assert!(store.built(&key).is_none());
        let name = reference::local("shop-orders", image.id());
        let sbom = Attachment::new(&image, CYCLONEDX, b"{}".to_vec());
        let built = store
            .keep(&key, &name, &image, std::slice::from_ref(&sbom))
            .unwrap();
        assert_eq!(store.built(&key), Some(built.clone()));
        assert!(store.archive(&name).is_some());
        assert!(store.archive("nginx").is_none());
        assert_eq!(store.image(&built).unwrap(), (image, vec![sbom]));
        assert_eq!(store.gc(|_| true).unwrap(), 0);
        assert!(store.holds(&built.id));
        assert_eq!(store.gc(|_| false).unwrap(), 1);
        assert!(store.built(&key).is_none() && !store.holds(&built.id));
    }
}
