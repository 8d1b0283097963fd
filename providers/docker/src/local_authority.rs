//! The authority of `local_ca`: it is the project's, so that a browser which believes it does so in every environment.

use std::path::Path;

use platform_gateway_api::local_authority::{CERTIFICATE, KEY, LocalAuthority};
use platform_port::{SecretValue, TargetError};
use platform_traffic::LOCAL_AUTHORITY;

use crate::PROVIDER;

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
    let own = LocalAuthority::take_up(&folder).map_err(|error| {
        let action = format!("take up the local authority in `{}`", folder.display());
        TargetError::refused(PROVIDER, action, error)
    })?;
    let file = |name: &str, text, is_key| File {
        path: format!("{LOCAL_AUTHORITY}/{name}"),
        text: SecretValue::new(text),
        is_key,
    };
    Ok([
        file(CERTIFICATE, own.certificate, false),
        file(KEY, own.key, true),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_files_are_found_again_where_the_gateway_looks_for_them() {
        let root = tempfile::tempdir().unwrap();
        let texts = || {
            let files = files(root.path()).unwrap();
            files.map(|file| (file.path, file.text.reveal().to_owned(), file.is_key))
        };
        let first = texts();
        assert_eq!(texts(), first);
        let [certificate, key] = first;
        assert_eq!(certificate.0, ".platform/development-ca/ca.pem");
        assert_eq!(
            (key.0.as_str(), key.2),
            (".platform/development-ca/ca.key", true)
        );
        assert!(key.1.contains("PRIVATE KEY") && !certificate.1.contains("PRIVATE KEY"));
    }
}
