//! Registries, by the OCI distribution specification.

mod answer;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};

use self::answer::{Answer, Kind, kind, retried};
use crate::attach::Attachment;
use crate::blob::{Blob, Descriptor, Index, Manifest, digest_of, media};
use crate::credentials::{Credentials, credentials};
use crate::error::ImageError;
use crate::image::Image;
use crate::reference;

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The image's name with its digest.
    pub reference: String,
    /// Bytes that the registry did not have yet.
    pub sent: u64,
}

/// A registry, and who we are there.
pub struct Registry {
    client: Client,
    host: String,
    auth: RegistryAuth,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// The registry that a reference is on, with the credentials that Docker's configuration has for it.
    ///
    /// # Errors
    ///
    /// If the reference is none, or the credentials cannot be read.
    pub async fn of(reference: &str) -> Result<Self, ImageError> {
        let host = reference::registry_of(reference)?;
        let credentials = credentials(&host).await?;
        Ok(Self::with(&host, credentials.as_ref()))
    }

    /// A registry with credentials, or without.
    ///
    /// On this machine itself HTTP will do, as engines have it too; elsewhere it is HTTPS. Certificates of private
    /// authorities are read from where engines look for them: `/etc/docker/certs.d/HOST/*.crt`.
    pub fn with(host: &str, credentials: Option<&Credentials>) -> Self {
        let certificates = private_authorities(&Path::new("/etc/docker/certs.d").join(host));
        let plain = is_here(host) && certificates.is_empty();
        let client = Client::new(ClientConfig {
            protocol: if plain {
                ClientProtocol::HttpsExcept(vec![host.to_owned()])
            } else {
                ClientProtocol::Https
            },
            extra_root_certificates: certificates,
            use_monolithic_push: true,
            connect_timeout: Some(Duration::from_secs(10)),
            read_timeout: Some(Duration::from_secs(60)),
            user_agent: concat!("platform/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        });
        Self {
            client,
            host: host.to_owned(),
            auth: credentials.map_or(RegistryAuth::Anonymous, Credentials::auth),
        }
    }

    /// The digest of the manifest that a reference stands for now.
    ///
    /// The manifest itself is read: a login page has a digest, too.
    ///
    /// # Errors
    ///
    /// [`ImageError::NotFound`], [`ImageError::Unauthorized`], [`ImageError::NoManifest`] or [`ImageError::Registry`].
    pub async fn digest(&self, reference: &str) -> Result<String, ImageError> {
        let parsed = reference::parse(reference)?;
        let failed = |error| self.told("look up", reference, error);
        self.log_in(&parsed, RegistryOperation::Pull)
            .await
            .map_err(failed)?;
        let (_, digest) = retried(|| self.client.pull_manifest(&parsed, &self.auth))
            .await
            .map_err(failed)?;
        Ok(digest)
    }

    /// Asks the registry for something that need not be there.
    ///
    /// # Errors
    ///
    /// [`ImageError::Unauthorized`] or [`ImageError::Registry`], if it does not answer, or not us.
    pub async fn answers(&self, repository: &str) -> Result<(), ImageError> {
        match self.digest(repository).await {
            Ok(_) | Err(ImageError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends an image and what is attached to it. What the registry has already is not sent again.
    ///
    /// - `repository`: host and name: `ghcr.io/me/shop-orders`
    /// - `tag`: a tag besides the digest, so that registries that clean up leave it alone
    ///
    /// # Errors
    ///
    /// [`ImageError::Unauthorized`] or [`ImageError::Registry`].
    pub async fn push(
        &self,
        image: &Image,
        attachments: &[Attachment],
        repository: &str,
        tag: &str,
    ) -> Result<Pushed, ImageError> {
        let parsed = reference::parse(&format!("{repository}:{tag}"))?;
        let failed = |error| self.told("push", repository, error);
        self.log_in(&parsed, RegistryOperation::Push)
            .await
            .map_err(failed)?;
        self.log_in(&parsed, RegistryOperation::Pull)
            .await
            .map_err(failed)?;
        let mut sent = 0;
        for blob in std::iter::once(&image.config).chain(&image.layers) {
            sent += self.send(&parsed, blob).await.map_err(failed)?;
        }
        self.send_manifest(&parsed, &image.manifest)
            .await
            .map_err(failed)?;
        for attachment in attachments {
            let [empty, content, _] = attachment.blobs();
            for blob in [empty, content] {
                sent += self.send(&parsed, blob).await.map_err(failed)?;
            }
            let place = at(&parsed, attachment.digest());
            self.send_manifest(&place, &attachment.manifest)
                .await
                .map_err(failed)?;
        }
        if !attachments.is_empty() {
            self.list_referrers(&parsed, image, attachments)
                .await
                .map_err(failed)?;
        }
        Ok(Pushed {
            reference: format!("{repository}@{}", image.digest()),
            sent,
        })
    }

    /// Fetches an image: of several platforms, the one of this machine.
    ///
    /// # Errors
    ///
    /// [`ImageError::NotFound`], [`ImageError::Unauthorized`], [`ImageError::NoManifest`] or [`ImageError::Registry`].
    pub async fn pull(&self, reference: &str) -> Result<Image, ImageError> {
        let parsed = reference::parse(reference)?;
        let failed = |error| self.told("pull", reference, error);
        self.log_in(&parsed, RegistryOperation::Pull)
            .await
            .map_err(failed)?;
        let (_, digest) = retried(|| self.client.pull_image_manifest(&parsed, &self.auth))
            .await
            .map_err(failed)?;
        let place = parsed.clone_with_digest(digest);
        let (manifest, read) = self.manifest(&place).await.map_err(failed)?;
        let config = self.fetch(&place, &read.config).await.map_err(failed)?;
        let mut layers = Vec::new();
        for layer in &read.layers {
            layers.push(self.fetch(&place, layer).await.map_err(failed)?);
        }
        Ok(Image::from_parts(manifest, config, layers))
    }

    /// Fetches what is attached to an image: media types and documents.
    ///
    /// - `reference`: with a digest
    ///
    /// # Errors
    ///
    /// [`ImageError::Unauthorized`] or [`ImageError::Registry`].
    pub async fn attached(&self, reference: &str) -> Result<Vec<(String, Vec<u8>)>, ImageError> {
        let parsed = reference::parse(reference)?;
        let failed = |error| self.told("pull what is attached to", reference, error);
        self.log_in(&parsed, RegistryOperation::Pull)
            .await
            .map_err(failed)?;
        let index = retried(|| self.client.pull_referrers(&parsed, None))
            .await
            .map_err(failed)?;
        let mut found = Vec::new();
        for entry in index.manifests {
            let place = parsed.clone_with_digest(entry.digest);
            let (_, manifest) = self.manifest(&place).await.map_err(failed)?;
            for layer in &manifest.layers {
                let document = self.fetch(&place, layer).await.map_err(failed)?;
                found.push((layer.media_type.clone(), document.bytes));
            }
        }
        Ok(found)
    }

    async fn log_in(&self, place: &Reference, operation: RegistryOperation) -> Answer<()> {
        retried(|| self.client.auth(place, &self.auth, operation)).await?;
        Ok(())
    }

    async fn send(&self, place: &Reference, blob: &Blob) -> Answer<u64> {
        if retried(|| self.client.blob_exists(place, &blob.digest)).await? {
            return Ok(0);
        }
        let bytes = bytes_of(blob);
        retried(|| self.client.push_blob(place, bytes.clone(), &blob.digest)).await?;
        Ok(blob.bytes.len() as u64)
    }

    async fn send_manifest(&self, place: &Reference, manifest: &Blob) -> Answer<()> {
        let bytes = bytes_of(manifest);
        retried(|| {
            let kind = header(&manifest.media_type);
            self.client.push_manifest_raw(place, bytes.clone(), kind)
        })
        .await?;
        Ok(())
    }

    /// Sees to it that what is attached is found: by the registry itself, or by the index that stands in for it.
    async fn list_referrers(
        &self,
        place: &Reference,
        image: &Image,
        attachments: &[Attachment],
    ) -> Answer<()> {
        let subject = place.clone_with_digest(image.digest().to_owned());
        let listed = retried(|| self.client.pull_referrers(&subject, None)).await?;
        let known = |digest: &str| listed.manifests.iter().any(|entry| entry.digest == digest);
        if attachments
            .iter()
            .all(|attachment| known(attachment.digest()))
        {
            return Ok(());
        }
        let mut manifests: Vec<Descriptor> = listed
            .manifests
            .iter()
            .filter_map(|entry| serde_json::from_value(serde_json::to_value(entry).ok()?).ok())
            .collect();
        for attachment in attachments {
            let descriptor = attachment.descriptor();
            if !manifests
                .iter()
                .any(|entry| entry.digest == descriptor.digest)
            {
                manifests.push(descriptor);
            }
        }
        let index = Blob::json(media::INDEX, &Index::of(manifests));
        self.send_manifest(&at(place, &image.digest().replace(':', "-")), &index)
            .await
    }

    async fn manifest(&self, place: &Reference) -> Answer<(Blob, Manifest)> {
        let kinds = [
            media::MANIFEST,
            "application/vnd.docker.distribution.manifest.v2+json",
        ];
        let (bytes, _) =
            retried(|| self.client.pull_manifest_raw(place, &self.auth, &kinds)).await?;
        let manifest: Manifest = serde_json::from_slice(&bytes)?;
        let kind = if manifest.media_type.is_empty() {
            media::MANIFEST
        } else {
            &manifest.media_type
        };
        Ok((Blob::new(kind, bytes.to_vec()), manifest))
    }

    async fn fetch(&self, place: &Reference, wanted: &Descriptor) -> Answer<Blob> {
        let bytes = retried(|| async {
            let mut bytes = Vec::new();
            self.client
                .pull_blob(place, wanted.digest.as_str(), &mut bytes)
                .await?;
            Ok(bytes)
        })
        .await?;
        debug_assert_eq!(
            digest_of(&bytes),
            wanted.digest,
            "the client checks digests"
        );
        Ok(Blob {
            media_type: wanted.media_type.clone(),
            digest: wanted.digest.clone(),
            bytes,
        })
    }

    fn told(
        &self,
        action: &'static str,
        reference: &str,
        error: OciDistributionError,
    ) -> ImageError {
        let registry = self.host.clone();
        let reference = reference.to_owned();
        match kind(&error) {
            Kind::Refused => ImageError::Unauthorized {
                registry,
                action,
                reference,
                anonymous: self.auth == RegistryAuth::Anonymous,
                source: Box::new(error),
            },
            Kind::Missing => ImageError::NotFound {
                registry,
                reference,
                source: Box::new(error),
            },
            Kind::NoManifest => ImageError::NoManifest {
                registry,
                reference,
                source: Box::new(error),
            },
            Kind::Passing | Kind::Other => ImageError::Registry {
                registry,
                action,
                reference,
                source: Box::new(error),
            },
        }
    }
}

/// A place in the same repository. The client takes what stands where a tag would be, also a digest.
fn at(place: &Reference, tag: &str) -> Reference {
    Reference::with_tag(
        place.registry().to_owned(),
        place.repository().to_owned(),
        tag.to_owned(),
    )
}

fn bytes_of(blob: &Blob) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&blob.bytes)
}

fn header(kind: &str) -> http::HeaderValue {
    http::HeaderValue::from_str(kind)
        .unwrap_or_else(|_| http::HeaderValue::from_static(media::MANIFEST))
}

/// Whether a registry is on this machine.
fn is_here(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_matches(['[', ']']);
    name == "localhost"
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn private_authorities(folder: &Path) -> Vec<Certificate> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "crt"))
        .filter_map(|path| std::fs::read(path).ok())
        .map(|data| Certificate {
            encoding: CertificateEncoding::Pem,
            data,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registries_on_this_machine_may_go_without_tls() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "[::1]:5000",
            "127.1.2.3",
        ] {
            assert!(is_here(host), "{host}");
        }
        for host in [
            "ghcr.io",
            "localhost.example:5000",
            "10.0.0.1:5000",
            "docker.io",
        ] {
            assert!(!is_here(host), "{host}");
        }
    }
}
