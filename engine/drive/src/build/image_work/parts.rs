//! What an assembled image is made from, and what is known of that.

use std::fs;
use std::path::{Path, PathBuf};

use platform_blueprint::Build;
use platform_image::{HOME, ImageSpec, LockedPackages, SourceFile, cyclonedx, static_program};

use super::LABELS;
use crate::build::cargo::normal;
use crate::build::images::contents;
use crate::build::jobs::program_of;
use crate::build::store::{Manifest, ManifestFile};

/// What an image is made from: an artifact's files, and its program.
pub(super) fn spec_of(
    build: &Build,
    manifest: &Manifest,
    place: &Path,
) -> Result<ImageSpec, platform_image::ImageError> {
    let programs: Vec<&String> = manifest
        .files
        .iter()
        .filter(|(_, file)| {
            matches!(
                file,
                ManifestFile::File {
                    executable: true,
                    ..
                }
            )
        })
        .map(|(path, _)| path)
        .collect();
    let mut architecture = None;
    for program in &programs {
        architecture = Some(static_program(&place.join(program))?.architecture);
    }
    let named = program_of(build);
    let entry = named
        .as_ref()
        .and_then(|name| programs.iter().find(|path| path.as_str() == name))
        .or_else(|| programs.first().filter(|_| programs.len() == 1));
    let (certificates, time_zones) = contents(build);
    let title = named.clone().or_else(|| entry.map(ToString::to_string));
    let labels = title.map(|title| (format!("{LABELS}.title"), title));
    Ok(ImageSpec {
        files: manifest
            .files
            .iter()
            .map(|(path, file)| {
                let file = match file {
                    ManifestFile::File { executable, .. } => SourceFile::File {
                        from: place.join(path),
                        executable: *executable,
                    },
                    ManifestFile::Link { target } => SourceFile::Link {
                        target: target.clone(),
                    },
                };
                (path.clone(), file)
            })
            .collect(),
        entrypoint: entry
            .map(|entry| format!("{HOME}/{entry}"))
            .into_iter()
            .collect(),
        architecture: architecture.unwrap_or("amd64").to_owned(),
        labels: labels.into_iter().collect(),
        certificates,
        time_zones,
        ..ImageSpec::default()
    })
}

/// The bill of materials of a cargo build, where there is a lock file.
pub(super) fn bill_of(project: &Path, build: &Build) -> Option<Vec<u8>> {
    let (lock, package) = locked(project, build)?;
    cyclonedx(&lock, package).ok().flatten()
}

/// The version of a cargo build's package, where there is a lock file.
pub(super) fn version_of(project: &Path, build: &Build) -> Option<String> {
    let (lock, package) = locked(project, build)?;
    let lock = LockedPackages::parse(&lock).ok()?;
    let mut own = lock.named(package).map(|place| lock.at(place));
    own.find(|own| own.source.is_none())
        .map(|own| own.version.clone())
}

/// The text of a cargo build's lock file, and its package.
fn locked<'build>(project: &Path, build: &'build Build) -> Option<(String, &'build str)> {
    let Build::Cargo(build) = build else {
        return None;
    };
    let folder: PathBuf = normal(&project.join(&build.folder));
    let lock = folder
        .ancestors()
        .map(|up| up.join("Cargo.lock"))
        .find(|path| path.is_file())?;
    Some((fs::read_to_string(lock).ok()?, &build.cargo))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_an_image_is_that_of_its_package() {
        let folder = tempfile::tempdir().unwrap();
        let lock = "version = 4\n\n[[package]]\nname = \"orders\"\nversion = \"9.0.0\"\nsource = \"registry+https://x\"\n\n\
                    [[package]]\nname = \"orders\"\nversion = \"1.2.3\"\n";
        std::fs::write(folder.path().join("Cargo.lock"), lock).unwrap();
        let check = |build: serde_json::Value, wanted: Option<&str>| {
            let build: Build = serde_json::from_value(build).unwrap();
            assert_eq!(version_of(folder.path(), &build).as_deref(), wanted);
        };
        check(serde_json::json!({ "cargo": "orders" }), Some("1.2.3"));
        check(serde_json::json!({ "cargo": "web" }), None);
        check(serde_json::json!({ "program": "orders" }), None);
    }
}
