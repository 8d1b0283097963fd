//! The authority of `local_ca`: it is the project's, so that a browser which believes it does so in every environment.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use platform_port::{SecretValue, TargetError};
use platform_traffic::LOCAL_AUTHORITY;
use platform_traffic::authority::{Authority, Pair};

use crate::PROVIDER;

/// Its certificate, in its folder.
const CERTIFICATE: &str = "ca.pem";
/// Its key.
const KEY: &str = "ca.key";

/// A file of the authority as the gateway is to find it, below the folder of its certificates.
pub(crate) struct File {
    /// Its path there.
    pub(crate) path: String,
    /// Its text; a secret where it is the key.
    pub(crate) text: SecretValue,
    pub(crate) is_key: bool,
}

/// The files of the authority, which is made beside the blueprint where there is none.
///
/// - `root`: the folder of the blueprint
///
/// # Errors
///
/// If they can neither be read nor made.
pub(crate) fn files(root: &Path) -> Result<[File; 2], TargetError> {
    let folder = root.join(LOCAL_AUTHORITY);
    let pair = taken_up(&folder).map_err(|error| {
        let action = format!("take up the local authority in `{}`", folder.display());
        TargetError::refused(PROVIDER, action, error)
    })?;
    let file = |name: &str, text, is_key| File {
        path: format!("{LOCAL_AUTHORITY}/{name}"),
        text,
        is_key,
    };
    Ok([
        file(CERTIFICATE, SecretValue::new(pair.certificate), false),
        file(KEY, pair.key, true),
    ])
}

fn taken_up(folder: &Path) -> io::Result<Pair> {
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    if !certificate.exists() || !key.exists() {
        make(folder)?;
    }
    Ok(Pair {
        certificate: fs::read_to_string(certificate)?,
        key: SecretValue::new(fs::read_to_string(key)?),
    })
}

fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let name = "platform, local authority for development";
    let pair = Authority::make(name, SystemTime::now()).map_err(io::Error::other)?;
    // The key first, each whole or not at all: who finds the certificate finds its key.
    for (name, text) in [
        (KEY, pair.key.reveal()),
        (CERTIFICATE, pair.certificate.as_str()),
    ] {
        let fresh = folder.join(format!("{name}.new"));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, folder.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_authority_is_made_once_and_its_key_is_for_its_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let texts = || {
            files(root.path())
                .unwrap()
                .map(|file| file.text.reveal().to_owned())
        };
        let first = texts();
        assert_eq!(texts(), first);
        let [certificate, key] = first;
        let key_file = root.path().join(LOCAL_AUTHORITY).join(KEY);
        assert_eq!(
            fs::metadata(key_file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        Authority::of(&Pair {
            certificate,
            key: SecretValue::new(key),
        })
        .unwrap();
    }
}
