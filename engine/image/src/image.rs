//! Images: made from files, written as a layout or an archive, read back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::blob::{Blob, Manifest, Platform, media};
use crate::error::ImageError;
use crate::extras;
use crate::layer::{Compression, Entries, Entry, Layer};

/// The folder of the program within an image.
pub const HOME: &str = "/app";

/// What an image is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageSpec {
    /// Files by their path below [`HOME`], and where they are now.
    pub files: BTreeMap<String, SourceFile>,
    /// The program and its first arguments; absolute.
    pub entrypoint: Vec<String>,
    /// The architecture as Go names it: `amd64`.
    pub architecture: String,
    /// Variables besides `PATH`.
    pub env: BTreeMap<String, String>,
    /// The port it says it listens on.
    pub port: Option<u16>,
    /// The signal that asks it to stop, where it is not `SIGTERM`.
    pub stop_signal: Option<String>,
    /// Labels of the configuration; those of OCI are annotations of the manifest too.
    pub labels: BTreeMap<String, String>,
    /// Whether certificates of the usual authorities go in.
    pub certificates: bool,
    /// Whether time zones go in.
    pub time_zones: bool,
    /// The time that everything in it carries, in seconds since 1970.
    pub time: u64,
    /// How layers are packed.
    pub compression: Compression,
}

/// A file for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceFile {
    /// A regular file.
    File {
        /// Where it is.
        from: PathBuf,
        /// Whether it can be executed.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Where it points.
        target: String,
    },
}

/// An image: its manifest, its configuration, its layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub(crate) manifest: Blob,
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
    pub(crate) platform: Platform,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Config {
    architecture: String,
    os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(default, rename = "config")]
    execution: Execution,
    #[serde(default)]
    rootfs: RootFs,
    #[serde(default)]
    history: Vec<History>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Execution {
    user: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<String, BTreeMap<String, String>>,
    env: Vec<String>,
    entrypoint: Vec<String>,
    working_dir: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct History {
    #[serde(default)]
    created: String,
    #[serde(default)]
    created_by: String,
}

impl Image {
    /// Makes an image. The same files make the same image to the last bit, wherever and whenever.
    ///
    /// Two layers: what images have in common, which registries then keep once, and the program.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn assemble(spec: &ImageSpec) -> Result<Self, ImageError> {
        let mut common = Entries::default();
        extras::basics(&mut common);
        if spec.certificates {
            extras::certificates(&mut common);
        }
        if spec.time_zones {
            extras::time_zones(&mut common);
        }
        let mut program = Entries::default();
        program.add(HOME, Entry::Folder { mode: 0o755 });
        for (path, file) in &spec.files {
            let entry = match file {
                SourceFile::File { from, executable } => Entry::File {
                    from: from.clone(),
                    mode: if *executable { 0o755 } else { 0o644 },
                },
                SourceFile::Link { target } => Entry::Link {
                    target: target.clone(),
                },
            };
            program.add(&format!("{HOME}/{path}"), entry);
        }
        let layers = [
            (common, "users, folders and what was asked for"),
            (program, "the program"),
        ];
        let mut packed: Vec<(Layer, &str)> = Vec::new();
        for (entries, what) in layers {
            if !entries.is_empty() {
                packed.push((entries.pack(spec.time, spec.compression)?, what));
            }
        }
        let platform = Platform {
            architecture: spec.architecture.clone(),
            os: "linux".to_owned(),
        };
        let config = Blob::json(media::CONFIG, &configuration(spec, &platform, &packed));
        let layers: Vec<Blob> = packed.into_iter().map(|(layer, _)| layer.blob).collect();
        let annotations = spec
            .labels
            .iter()
            .filter(|(name, _)| name.starts_with("org.opencontainers.image."))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let manifest = Manifest {
            schema_version: 2,
            media_type: media::MANIFEST.to_owned(),
            config: config.descriptor(),
            layers: layers.iter().map(Blob::descriptor).collect(),
            annotations,
            ..Manifest::default()
        };
        Ok(Self {
            manifest: Blob::json(media::MANIFEST, &manifest),
            config,
            layers,
            platform,
        })
    }

    /// An image from its parts, as they were read. Which platform it is for is what its configuration says.
    pub(crate) fn from_parts(manifest: Blob, config: Blob, layers: Vec<Blob>) -> Self {
        let read: Config = serde_json::from_slice(&config.bytes).unwrap_or_default();
        Self {
            manifest,
            config,
            layers,
            platform: Platform {
                architecture: read.architecture,
                os: read.os,
            },
        }
    }

    /// The digest of its manifest, by which registries know it: `sha256:…`.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// The digest of its configuration, by which engines know it: `sha256:…`.
    pub fn id(&self) -> &str {
        &self.config.digest
    }

    /// What it runs on.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Bytes in its layers as they are sent.
    pub fn size(&self) -> u64 {
        self.layers
            .iter()
            .map(|layer| layer.bytes.len() as u64)
            .sum()
    }

    /// The bytes of the manifest.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest.bytes
    }

    /// The bytes of the configuration.
    pub fn configuration(&self) -> &[u8] {
        &self.config.bytes
    }
}

fn configuration(spec: &ImageSpec, platform: &Platform, layers: &[(Layer, &str)]) -> Config {
    let created = rfc3339(spec.time);
    let mut env = vec![format!("PATH={HOME}")];
    if spec.certificates {
        env.push(format!("SSL_CERT_FILE=/{}", extras::CERTIFICATES));
    }
    env.extend(
        spec.env
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    let port = spec
        .port
        .map(|port| (format!("{port}/tcp"), BTreeMap::new()));
    Config {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        created: Some(created.clone()),
        execution: Execution {
            user: format!("{0}:{0}", extras::USER),
            exposed_ports: port.into_iter().collect(),
            env,
            entrypoint: spec.entrypoint.clone(),
            working_dir: HOME.to_owned(),
            labels: spec.labels.clone(),
            stop_signal: spec.stop_signal.clone(),
        },
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: layers
                .iter()
                .map(|(layer, _)| layer.diff_id.clone())
                .collect(),
        },
        history: layers
            .iter()
            .map(|(_, what)| History {
                created: created.clone(),
                created_by: format!("platform build: {what}"),
            })
            .collect(),
    }
}

/// A time as text, in UTC.
///
/// Source: days to a civil date, H. Hinnant, "chrono-compatible low-level date algorithms".
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An image of one program, with all the rest as asked.
    pub(crate) fn example(folder: &std::path::Path, change: impl FnOnce(&mut ImageSpec)) -> Image {
        let program = folder.join("orders");
        std::fs::write(&program, "the program").unwrap();
        let file = SourceFile::File {
            from: program,
            executable: true,
        };
        let mut spec = ImageSpec {
            files: BTreeMap::from([("orders".to_owned(), file)]),
            entrypoint: vec!["/app/orders".to_owned()],
            architecture: "amd64".to_owned(),
            labels: BTreeMap::from([(
                "org.opencontainers.image.title".to_owned(),
                "orders".to_owned(),
            )]),
            ..ImageSpec::default()
        };
        change(&mut spec);
        Image::assemble(&spec).unwrap()
    }

    #[test]
    fn equal_files_make_equal_images_wherever_they_lie() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let one = example(here.path(), |_| {});
        let other = example(there.path(), |_| {});
        assert_eq!(one, other);
        let changed = example(here.path(), |spec| spec.port = Some(80));
        assert_ne!(one.id(), changed.id());
    }

    #[test]
    fn packing_changes_the_manifest_and_not_the_image() {
        let folder = tempfile::tempdir().unwrap();
        let packed = example(folder.path(), |_| {});
        let plain = example(folder.path(), |spec| spec.compression = Compression::None);
        assert_eq!(packed.id(), plain.id());
        assert_ne!(packed.digest(), plain.digest());
    }

    #[test]
    fn an_image_runs_as_nobody_and_holds_what_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let small = example(folder.path(), |spec| spec.compression = Compression::None);
        let config: serde_json::Value = serde_json::from_slice(small.configuration()).unwrap();
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["created"], "1970-01-01T00:00:00Z");
        assert_eq!(
            paths(&small),
            [
                "etc/",
                "etc/group",
                "etc/passwd",
                "tmp/",
                "app/",
                "app/orders"
            ]
        );
        let large = example(folder.path(), |spec| {
            spec.certificates = true;
            spec.time_zones = true;
            spec.compression = Compression::None;
        });
        let held = paths(&large);
        assert!(held.contains(&"etc/ssl/certs/ca-certificates.crt".to_owned()));
        assert!(held.contains(&"usr/share/zoneinfo/Europe/Berlin".to_owned()));
        let config: serde_json::Value = serde_json::from_slice(large.configuration()).unwrap();
        assert_eq!(
            config["config"]["Env"][1],
            "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"
        );
    }

    fn paths(image: &Image) -> Vec<String> {
        let mut found = Vec::new();
        for layer in &image.layers {
            let mut archive = tar::Archive::new(layer.bytes.as_slice());
            for entry in archive.entries().unwrap() {
                found.push(
                    entry
                        .unwrap()
                        .path()
                        .unwrap()
                        .to_string_lossy()
                        .into_owned(),
                );
            }
        }
        found
    }

    #[test]
    fn times_are_written_as_others_read_them() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_763_887_999), "2025-11-23T08:53:19Z");
    }
}
