//! How a service comes to be: its build.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SecretName;
use crate::one_or_many::OneOrMany;

/// How the artifact of a service is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "BuildKeys", untagged)]
#[schemars(with = "BuildKeys")]
pub enum Build {
    /// `cargo build` of one package: `{ cargo = "orders" }`.
    Cargo(CargoBuild),
    /// Any command: `{ command = "npm run build", output = "dist" }`.
    Command(CommandBuild),
    /// A Dockerfile: `{ dockerfile = "." }`.
    Dockerfile(DockerfileBuild),
    /// A program that is there already: `{ program = "bin/orders" }`.
    Program(ProgramBuild),
    /// An image given by reference: `{ image = "registry/orders@sha256:…" }`.
    Image(ImageBuild),
}

/// `cargo build` of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CargoBuild {
    /// The package.
    pub cargo: String,
    /// The binary, if the package has several or it is named otherwise.
    pub bin: Option<String>,
    /// The cargo profile.
    pub profile: String,
    /// Features to switch on.
    pub features: Vec<String>,
    /// The target triple; the host's if none.
    pub target: Option<String>,
    /// Globs of files it reads besides those of the package and the local
    /// packages it depends on, relative to `folder`.
    pub inputs: Vec<String>,
    /// The folder of the workspace, relative to the blueprint.
    pub folder: String,
    /// What its image holds besides the program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_with: Vec<ImageContent>,
}

/// Any command that leaves something behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandBuild {
    /// A line for `sh -c`.
    pub command: String,
    /// Files and folders it leaves, relative to `folder`: the artifact. If
    /// empty, the service runs in `folder` as it is.
    pub output: Vec<String>,
    /// Globs of the files it reads, relative to `folder`; all if empty.
    pub inputs: Vec<String>,
    /// The folder it runs in, relative to the blueprint.
    pub folder: String,
    /// What its image holds besides the program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_with: Vec<ImageContent>,
}

/// An image made from a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerfileBuild {
    /// The folder that is the build's context.
    pub dockerfile: String,
    /// The Dockerfile, relative to the context.
    pub file: String,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The stage to stop at.
    pub target: Option<String>,
    /// Secrets mounted for the build, which never enter a layer.
    pub secrets: Vec<SecretName>,
}

/// A program that is there already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramBuild {
    /// Its path, relative to the blueprint.
    pub program: String,
    /// Files and folders it needs beside it.
    pub with: Vec<String>,
    /// What its image holds besides the program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_with: Vec<ImageContent>,
}

/// What an image can hold besides its program.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ImageContent {
    /// Certificates of the usual authorities, for calls over TLS.
    Certificates,
    /// The time zones of the world.
    TimeZones,
}

/// An image given by reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageBuild {
    /// The reference.
    pub image: ImageReference,
}

/// How the artifact of a service is made: exactly one of `cargo`, `command`,
/// `dockerfile`, `program` and `image`, and the keys that go with it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Build")]
#[serde(default, deny_unknown_fields)]
struct BuildKeys {
    /// The cargo package to build.
    cargo: Option<String>,
    /// With `cargo`: the binary, if the package has several.
    bin: Option<String>,
    /// With `cargo`: the profile; `release` if not given.
    profile: Option<String>,
    /// With `cargo`: the features to switch on.
    features: Option<Vec<String>>,
    /// With `cargo`: the target triple. With `dockerfile`: the stage to stop at.
    target: Option<String>,
    /// With `cargo` and `command`: the folder to work in.
    folder: Option<String>,
    /// A line for the shell that builds the service.
    command: Option<String>,
    /// With `command`: what it leaves behind, files and folders.
    output: Option<OneOrMany>,
    /// With `command`: globs of the files it reads; all if not given. With
    /// `cargo`: globs of those outside its packages.
    inputs: Option<OneOrMany>,
    /// The folder that holds a Dockerfile and is its context.
    dockerfile: Option<String>,
    /// With `dockerfile`: the file, relative to the context.
    file: Option<String>,
    /// With `dockerfile`: build arguments.
    args: Option<BTreeMap<String, String>>,
    /// With `dockerfile`: secrets mounted for the build.
    secrets: Option<Vec<SecretName>>,
    /// A program that is there already.
    program: Option<String>,
    /// With `program`: files and folders it needs beside it.
    with: Option<OneOrMany>,
    /// An image given by reference.
    image: Option<ImageReference>,
    /// With `cargo`, `command` and `program`, where images are made of them: what
    /// goes in besides the program.
    image_with: Option<Vec<ImageContent>>,
}

impl BuildKeys {
    /// The keys that are set, in the order of the language.
    fn set(&self) -> impl Iterator<Item = &'static str> {
        [
            ("cargo", self.cargo.is_some()),
            ("command", self.command.is_some()),
            ("dockerfile", self.dockerfile.is_some()),
            ("program", self.program.is_some()),
            ("image", self.image.is_some()),
            ("bin", self.bin.is_some()),
            ("profile", self.profile.is_some()),
            ("features", self.features.is_some()),
            ("target", self.target.is_some()),
            ("folder", self.folder.is_some()),
            ("output", self.output.is_some()),
            ("inputs", self.inputs.is_some()),
            ("file", self.file.is_some()),
            ("args", self.args.is_some()),
            ("secrets", self.secrets.is_some()),
            ("with", self.with.is_some()),
            ("image_with", self.image_with.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, set)| set.then_some(key))
    }
}

/// The ways to build, each with the keys that go with it.
const WAYS: [(&str, &[&str]); 5] = [
    (
        "cargo",
        &[
            "bin",
            "profile",
            "features",
            "target",
            "inputs",
            "folder",
            "image_with",
        ],
    ),
    ("command", &["output", "inputs", "folder", "image_with"]),
    ("dockerfile", &["file", "args", "target", "secrets"]),
    ("program", &["with", "image_with"]),
    ("image", &[]),
];

impl TryFrom<BuildKeys> for Build {
    type Error = String;

    fn try_from(keys: BuildKeys) -> Result<Self, String> {
        let ways: Vec<_> = WAYS
            .iter()
            .filter(|(way, _)| keys.set().any(|key| key == *way))
            .collect();
        let [(way, allowed)] = ways.as_slice() else {
            let named: Vec<_> = ways.iter().map(|(way, _)| format!("`{way}`")).collect();
            return Err(if named.is_empty() {
                "the build does not say how; write one of `cargo`, `command`, `dockerfile`, \
                 `program` or `image`"
                    .to_owned()
            } else {
                format!(
                    "a build is one of {}, not all; keep one",
                    named.join(" and ")
                )
            });
        };
        if let Some(key) = keys.set().find(|key| key != way && !allowed.contains(key)) {
            return Err(format!(
                "`{key}` does not go with a `{way}` build; remove it"
            ));
        }
        let here = || ".".to_owned();
        let image_with = keys.image_with.unwrap_or_default();
        let many = |list: Option<OneOrMany>| list.map(Into::into).unwrap_or_default();
        Ok(if let Some(cargo) = keys.cargo {
            Self::Cargo(CargoBuild {
                cargo,
                bin: keys.bin,
                profile: keys.profile.unwrap_or_else(|| "release".to_owned()),
                features: keys.features.unwrap_or_default(),
                target: keys.target,
                inputs: many(keys.inputs),
                folder: keys.folder.unwrap_or_else(here),
                image_with,
            })
        } else if let Some(command) = keys.command {
            Self::Command(CommandBuild {
                command,
                output: many(keys.output),
                inputs: many(keys.inputs),
                folder: keys.folder.unwrap_or_else(here),
                image_with,
            })
        } else if let Some(dockerfile) = keys.dockerfile {
            if names_a_file(&dockerfile) {
                return Err(format!(
                    "`{dockerfile}` is a file, and `dockerfile` is its folder; write the folder that is the build's context, \
                     such as `dockerfile = \".\"`, and another name than `Dockerfile` as `file`"
                ));
            }
            Self::Dockerfile(DockerfileBuild {
                dockerfile,
                file: keys.file.unwrap_or_else(|| "Dockerfile".to_owned()),
                args: keys.args.unwrap_or_default(),
                target: keys.target,
                secrets: keys.secrets.unwrap_or_default(),
            })
        } else if let Some(program) = keys.program {
            Self::Program(ProgramBuild {
                program,
                with: many(keys.with),
                image_with,
            })
        } else {
            Self::Image(ImageBuild {
                image: keys.image.ok_or("the build does not say how")?,
            })
        })
    }
}

/// Whether a path is that of a Dockerfile, as files of Compose name it, not of its folder.
fn names_a_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name == "Dockerfile" || name.starts_with("Dockerfile.") || name.ends_with(".dockerfile")
}

/// A reference to an OCI image: `[registry/]name[:tag][@sha256:…]`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ImageReference(String);

impl ImageReference {
    /// The reference as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digest it is pinned to, `sha256:…`, if it is.
    pub fn digest(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, digest)| digest)
    }

    /// The reference without its digest.
    pub fn without_digest(&self) -> &str {
        self.0.split_once('@').map_or(&self.0, |(name, _)| name)
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// A text that is not a reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not an image; write a reference such as `nginx:1.27`, `ghcr.io/me/app:2` or \
     `app@sha256:` and 64 hexadecimal digits"
)]
pub struct BadImage {
    text: String,
}

impl FromStr for ImageReference {
    type Err = BadImage;

    fn from_str(text: &str) -> Result<Self, BadImage> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let last = name.rsplit('/').next().unwrap_or(name);
        let good = name.len() <= 255
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && !name.contains("//")
            && !last.is_empty()
            && !last.ends_with(':')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte))
            && digest.is_none_or(|digest| {
                digest.strip_prefix("sha256:").is_some_and(|hex| {
                    hex.len() == 64
                        && hex
                            .bytes()
                            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
                })
            });
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadImage {
                text: text.to_owned(),
            })
        }
    }
}

impl TryFrom<String> for ImageReference {
    type Error = BadImage;
    fn try_from(text: String) -> Result<Self, BadImage> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(image: ImageReference) -> Self {
        image.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(json: &str) -> Result<Build, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn each_way_to_build_has_its_defaults_and_survives_a_round_trip() {
        for written in [
            r#"{"cargo": "orders"}"#,
            r#"{"command": "npm run build", "output": "dist"}"#,
            r#"{"dockerfile": "."}"#,
            r#"{"program": "bin/x"}"#,
            r#"{"image": "nginx:1.27"}"#,
        ] {
            let read = build(written).unwrap();
            let again = serde_json::to_string(&read).unwrap();
            // Absent values are written as null, which reads as absent.
            assert_eq!(build(&again).unwrap(), read);
        }
    }

    #[test]
    fn a_build_is_one_way_with_its_own_keys() {
        assert!(build("{}").unwrap_err().contains("does not say how"));
        assert!(
            build(r#"{"cargo": "a", "image": "b"}"#)
                .unwrap_err()
                .contains("not all")
        );
        assert!(
            build(r#"{"image": "b", "features": []}"#)
                .unwrap_err()
                .contains("does not go")
        );
    }

    #[test]
    fn images_are_references() {
        for good in [
            "nginx",
            "nginx:1.27",
            "localhost:5000/a/b:c",
            "ghcr.io/me/app",
        ] {
            assert!(good.parse::<ImageReference>().is_ok(), "{good}");
        }
        let pinned: ImageReference = format!("app@sha256:{}", "a".repeat(64)).parse().unwrap();
        assert!(pinned.digest().is_some());
        assert_eq!(pinned.without_digest(), "app");
        for bad in ["", "a b", "app@sha256:12", "/app", "app:", "a//b", "app@"] {
            assert!(bad.parse::<ImageReference>().is_err(), "{bad}");
        }
    }
}
