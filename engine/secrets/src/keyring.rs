//! The identity of whoever works here, and what is sealed for it.

use std::env;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;
use age::x25519;

use crate::document::Recipient;
use crate::error::SecretsError;

/// The variable that names an identity: a file's path, or the key itself.
pub const IDENTITY_VARIABLE: &str = "PLATFORM_IDENTITY";

const KEY_PREFIX: &str = "AGE-SECRET-KEY-";

/// An age identity. Prints as its public recipient.
#[derive(Clone)]
pub struct Keyring {
    identity: x25519::Identity,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({})", self.recipient())
    }
}

impl Keyring {
    /// Loads the identity of whoever runs this; makes one at the default place where there is none yet.
    ///
    /// `$PLATFORM_IDENTITY` is looked at first, a path or a key; then `$XDG_CONFIG_HOME/platform/identity.age-key`.
    ///
    /// # Errors
    ///
    /// Where the identity is missing although it was named, cannot be read, is no identity, or can be read by others.
    pub fn load_or_create() -> Result<Self, SecretsError> {
        if let Some(named) = named()? {
            return Ok(named);
        }
        let path = default_path()?;
        match Self::load(&path) {
            Err(SecretsError::NoIdentity { .. }) => Self::create(&path),
            other => other,
        }
    }

    /// Loads the identity of whoever runs this; `None` where there is none yet.
    ///
    /// # Errors
    ///
    /// As [`Keyring::load_or_create`].
    pub fn load_existing() -> Result<Option<Self>, SecretsError> {
        if let Some(named) = named()? {
            return Ok(Some(named));
        }
        match Self::load(&default_path()?) {
            Ok(keyring) => Ok(Some(keyring)),
            Err(SecretsError::NoIdentity { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Loads the identity kept in a file.
    ///
    /// # Errors
    ///
    /// Where it is missing, unreadable, no identity, or can be read by others.
    pub fn load(path: &Path) -> Result<Self, SecretsError> {
        let unreadable = |source: io::Error| {
            if source.kind() == io::ErrorKind::NotFound {
                SecretsError::NoIdentity {
                    path: path.to_owned(),
                }
            } else {
                SecretsError::IdentityUnreadable {
                    action: "read",
                    path: path.to_owned(),
                    source,
                }
            }
        };
        // The permissions are those of the file that is read, so both come of one open handle.
        let mut file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SecretsError::IdentityExposed {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&text, || format!("`{}`", path.display()))
    }

    /// Makes a new identity and keeps it in a file that only its owner can read.
    ///
    /// Where somebody else makes one at the same time, theirs is loaded.
    fn create(path: &Path) -> Result<Self, SecretsError> {
        let unwritable = |source: io::Error| SecretsError::IdentityUnreadable {
            action: "write",
            path: path.to_owned(),
            source,
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(unwritable)?;
        let keyring = Self::generate();
        // A temporary file is made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(unwritable)?;
        writeln!(
            file,
            "# Identity of `platform`. Keep it; without it your secrets cannot be read."
        )
        .and_then(|()| writeln!(file, "# public key: {}", keyring.recipient()))
        .and_then(|()| writeln!(file, "{}", keyring.identity.to_string().expose_secret()))
        .and_then(|()| file.as_file().sync_all())
        .map_err(unwritable)?;
        match file.persist_noclobber(path) {
            Ok(_) => {
                File::open(folder)
                    .and_then(|folder| folder.sync_all())
                    .map_err(unwritable)?;
                Ok(keyring)
            }
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
            Err(error) => Err(unwritable(error.error)),
        }
    }

    /// Where the identity is kept when no other is named.
    ///
    /// # Errors
    ///
    /// [`SecretsError::NoHome`] where there is no home.
    pub fn default_path() -> Result<PathBuf, SecretsError> {
        default_path()
    }

    /// Whether an identity is named or kept, without reading it.
    pub fn exists() -> bool {
        env::var_os(IDENTITY_VARIABLE).is_some_and(|named| !named.is_empty())
            || default_path().is_ok_and(|path| path.exists())
    }

    pub(crate) fn identity(&self) -> &dyn age::Identity {
        &self.identity
    }

    /// Makes an identity that is kept nowhere.
    pub fn generate() -> Self {
        Self {
            identity: x25519::Identity::generate(),
        }
    }

    fn parse(text: &str, place: impl Fn() -> String) -> Result<Self, SecretsError> {
        text.lines()
            .map(str::trim)
            .find(|line| line.starts_with(KEY_PREFIX))
            .and_then(|line| line.parse().ok())
            .map(|identity| Self { identity })
            .ok_or_else(|| SecretsError::NotAnIdentity { place: place() })
    }

    /// The public half, to which others encrypt.
    pub fn recipient(&self) -> Recipient {
        Recipient::new(self.identity.to_public())
    }

    /// Encrypts bytes for this identity alone.
    ///
    /// # Errors
    ///
    /// Where the encryption itself fails.
    pub fn seal(&self, bytes: &[u8]) -> Result<Vec<u8>, SecretsError> {
        age::encrypt(&self.identity.to_public(), bytes).map_err(|error| SecretsError::NotSealed {
            what: format!("{} bytes", bytes.len()),
            source: io::Error::other(error),
        })
    }

    /// Decrypts what [`Keyring::seal`] made, and anything else that was encrypted for this identity.
    ///
    /// # Errors
    ///
    /// [`SecretsError::NotOpened`] where it is damaged or was sealed for another identity.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, SecretsError> {
        age::decrypt(&self.identity, sealed).map_err(|_| SecretsError::NotOpened)
    }
}

fn named() -> Result<Option<Keyring>, SecretsError> {
    let Some(named) = env::var_os(IDENTITY_VARIABLE).filter(|named| !named.is_empty()) else {
        return Ok(None);
    };
    match named.to_str() {
        Some(text) if text.trim_start().starts_with(KEY_PREFIX) => {
            Keyring::parse(text, || IDENTITY_VARIABLE.to_owned()).map(Some)
        }
        _ => Keyring::load(Path::new(&named)).map(Some),
    }
}

fn default_path() -> Result<PathBuf, SecretsError> {
    let absolute = |variable: &str| {
        env::var_os(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let folder = absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .ok_or(SecretsError::NoHome)?;
    Ok(folder.join("platform").join("identity.age-key"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_sealed_opens_again_and_for_nobody_else() {
        let keyring = Keyring::generate();
        let sealed = keyring.seal(b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(keyring.open(&sealed).unwrap(), b"hunter2");
        let error = Keyring::generate().open(&sealed).unwrap_err();
        assert_eq!(error.code(), "secrets::not-opened");
    }

    #[test]
    fn an_identity_is_made_once_and_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("platform/identity.age-key");
        let made = Keyring::create(&path).unwrap();
        let again = Keyring::create(&path).unwrap();
        assert_eq!(made.recipient(), again.recipient());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(!format!("{made:?}").contains(KEY_PREFIX));
    }

    #[test]
    fn an_identity_that_others_can_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("identity");
        Keyring::create(&path).unwrap();
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Keyring::load(&path).unwrap_err();
            assert_eq!(error.code(), "secrets::identity-exposed");
        }
    }

    #[test]
    fn a_file_without_an_identity_is_not_quoted() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("identity");
        fs::write(&path, "AGE-SECRET-KEY-1NOTREALLY\nhunter2\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = Keyring::load(&path).unwrap_err();
        assert_eq!(error.code(), "secrets::not-an-identity");
        assert!(!format!("{error} {error:?}").contains("NOTREALLY"));
    }
}
