//! The secret file of one environment.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use chrono::{DateTime, SecondsFormat, Utc};
use nix::fcntl::{Flock, FlockArg};
use platform_blueprint::{EnvironmentName, SecretName};
use platform_port::{SecretValue, SecretValues};
use rand::Rng as _;
use serde::Serialize;

use crate::document::{self, Content, Entry, Recipient};
use crate::error::SecretsError;
use crate::keyring::Keyring;
use crate::overrides::Overrides;

/// How long a change waits for another one to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest value: what a variable of a Linux process can hold.
const LONGEST_VALUE: usize = 128 * 1024 - 256;

/// Where a secret's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The project's secret file.
    File,
    /// A variable of the environment.
    Environment,
}

/// A secret as a listing shows it; never its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: SecretName,
    /// Its version; 0 where it comes from the environment alone.
    pub version: u32,
    /// When it was last set, where it is in the file.
    pub updated_at: Option<String>,
    /// Where its value comes from.
    pub source: Source,
}

/// The secrets of one project and environment, in `secrets.<environment>.toml`.
///
/// Each change reads the file anew under a lock on the project's folder and replaces it in one step.
#[derive(Debug, Clone)]
pub struct SecretFile {
    folder: PathBuf,
    path: PathBuf,
    environment: EnvironmentName,
    overrides: Overrides,
}

impl SecretFile {
    /// Names the file of an environment of the project in `folder`, whether it is there yet or not.
    pub fn new(folder: &Path, environment: &EnvironmentName) -> Self {
        Self {
            folder: folder.to_owned(),
            path: folder.join(format!("secrets.{environment}.toml")),
            environment: environment.clone(),
            overrides: Overrides::default(),
        }
    }

    /// The same file, with values from the environment that go before its own.
    #[must_use]
    pub fn with_overrides(mut self, overrides: Overrides) -> Self {
        self.overrides = overrides;
        self
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lists the secrets; needs no key.
    ///
    /// # Errors
    ///
    /// Where the file is there and cannot be read or made out.
    pub fn list(&self) -> Result<Vec<Listed>, SecretsError> {
        let content = self.read()?;
        let mut listed: BTreeMap<SecretName, Listed> = content
            .secrets
            .into_iter()
            .map(|(name, entry)| {
                let row = Listed {
                    name: name.clone(),
                    version: entry.version,
                    updated_at: Some(entry.updated_at),
                    source: Source::File,
                };
                (name, row)
            })
            .collect();
        for name in self.overrides.names() {
            listed
                .entry(name.clone())
                .and_modify(|row| row.source = Source::Environment)
                .or_insert_with(|| Listed {
                    name: name.clone(),
                    version: 0,
                    updated_at: None,
                    source: Source::Environment,
                });
        }
        Ok(listed.into_values().collect())
    }

    /// The version of each secret that is set; needs no key.
    ///
    /// # Errors
    ///
    /// As [`SecretFile::list`].
    pub fn versions(&self) -> Result<BTreeMap<SecretName, u32>, SecretsError> {
        let listed = self.list()?;
        Ok(listed
            .into_iter()
            .map(|row| (row.name, row.version))
            .collect())
    }

    /// Sets a secret and returns its new version.
    ///
    /// The first one makes the file, with `keyring` as its only recipient.
    ///
    /// # Errors
    ///
    /// Where the value cannot be handed to a process, you are no recipient, or the file cannot be changed.
    pub fn set(
        &self,
        keyring: &Keyring,
        name: &SecretName,
        value: &SecretValue,
        now: DateTime<Utc>,
    ) -> Result<u32, SecretsError> {
        check(name, value)?;
        self.change(|content| {
            self.join(content, keyring)?;
            self.put(content, name, value, now)
        })
    }

    /// Gives a secret that is set another value, a random one where none is given, and returns its new version.
    ///
    /// # Errors
    ///
    /// As [`SecretFile::set`], and where the secret is not set.
    pub fn rotate(
        &self,
        keyring: &Keyring,
        name: &SecretName,
        value: Option<&SecretValue>,
        now: DateTime<Utc>,
    ) -> Result<u32, SecretsError> {
        let random;
        let value = if let Some(value) = value {
            check(name, value)?;
            value
        } else {
            random = random_value();
            &random
        };
        self.change(|content| {
            if !content.secrets.contains_key(name) {
                return Err(self.not_set(name));
            }
            self.join(content, keyring)?;
            self.put(content, name, value, now)
        })
    }

    /// Removes a secret; its versions are never used again.
    ///
    /// # Errors
    ///
    /// Where the secret is not set or the file cannot be changed.
    pub fn remove(&self, name: &SecretName) -> Result<(), SecretsError> {
        self.change(|content| {
            let entry = content
                .secrets
                .remove(name)
                .ok_or_else(|| self.not_set(name))?;
            content.removed.insert(name.clone(), entry.version);
            Ok(())
        })
    }

    /// Decrypts one secret.
    ///
    /// # Errors
    ///
    /// Where the secret is not set or not encrypted for you.
    pub fn reveal(
        &self,
        keyring: &Keyring,
        name: &SecretName,
    ) -> Result<SecretValue, SecretsError> {
        if let Some(value) = self.overrides.get(name) {
            return Ok(value.clone());
        }
        let content = self.read()?;
        let entry = content
            .secrets
            .get(name)
            .ok_or_else(|| self.not_set(name))?;
        document::unwrap(name, entry, keyring)
    }

    /// Decrypts the secrets that are named.
    ///
    /// The key is asked for only where one of them comes from the file.
    ///
    /// # Errors
    ///
    /// As [`SecretFile::reveal`], and what `keyring` fails with.
    pub fn values<'a>(
        &self,
        names: impl IntoIterator<Item = &'a SecretName>,
        keyring: impl FnOnce() -> Result<Keyring, SecretsError>,
    ) -> Result<SecretValues, SecretsError> {
        let mut values = SecretValues::new();
        let mut from_file = Vec::new();
        for name in names {
            match self.overrides.get(name) {
                Some(value) => {
                    values.insert(name.clone(), value.clone());
                }
                None => from_file.push(name),
            }
        }
        if from_file.is_empty() {
            return Ok(values);
        }
        let content = self.read()?;
        let mut entries: Vec<(&SecretName, &Entry)> = Vec::new();
        for name in from_file {
            let entry = content
                .secrets
                .get(name)
                .ok_or_else(|| self.not_set(name))?;
            entries.push((name, entry));
        }
        let keyring = keyring()?;
        for (name, entry) in entries {
            values.insert(name.clone(), document::unwrap(name, entry, &keyring)?);
        }
        Ok(values)
    }

    /// Who can decrypt; needs no key.
    ///
    /// # Errors
    ///
    /// As [`SecretFile::list`].
    pub fn recipients(&self) -> Result<Vec<Recipient>, SecretsError> {
        Ok(self.read()?.recipients)
    }

    /// Lets `added` decrypt too, and `removed` no longer; every value is encrypted anew.
    ///
    /// What was removed may have been read before: rotate the secrets as well.
    ///
    /// # Errors
    ///
    /// Where you are no recipient, or would be none afterwards.
    pub fn change_recipients(
        &self,
        keyring: &Keyring,
        added: &[Recipient],
        removed: &[Recipient],
    ) -> Result<Vec<Recipient>, SecretsError> {
        self.change(|content| {
            self.join(content, keyring)?;
            content
                .recipients
                .retain(|recipient| !removed.contains(recipient));
            for recipient in added {
                if !content.recipients.contains(recipient) {
                    content.recipients.push(recipient.clone());
                }
            }
            if !content.recipients.contains(&keyring.recipient()) {
                return Err(SecretsError::LastRecipient {
                    recipient: keyring.recipient().to_string(),
                });
            }
            for (name, entry) in &mut content.secrets {
                let value = document::unwrap(name, entry, keyring)?;
                entry.armoured = document::wrap(name, entry.version, &value, &content.recipients)?;
            }
            Ok(content.recipients.clone())
        })
    }

    fn join(&self, content: &mut Content, keyring: &Keyring) -> Result<(), SecretsError> {
        let you = keyring.recipient();
        if content.recipients.is_empty() {
            content.recipients.push(you);
            return Ok(());
        }
        if content.recipients.contains(&you) {
            return Ok(());
        }
        Err(SecretsError::NotARecipient {
            environment: self.environment.to_string(),
            you: you.to_string(),
        })
    }

    #[expect(clippy::unused_self, reason = "reads as one of the changes")]
    fn put(
        &self,
        content: &mut Content,
        name: &SecretName,
        value: &SecretValue,
        now: DateTime<Utc>,
    ) -> Result<u32, SecretsError> {
        let version = content.next_version(name);
        let entry = Entry {
            version,
            updated_at: now.to_rfc3339_opts(SecondsFormat::Secs, true),
            armoured: document::wrap(name, version, value, &content.recipients)?,
        };
        content.secrets.insert(name.clone(), entry);
        content.removed.remove(name);
        Ok(version)
    }

    fn not_set(&self, name: &SecretName) -> SecretsError {
        SecretsError::NotSet {
            name: name.to_string(),
            environment: self.environment.to_string(),
        }
    }

    fn unavailable(&self, action: &'static str) -> impl Fn(io::Error) -> SecretsError + '_ {
        move |source| SecretsError::FileUnavailable {
            action,
            path: self.path.clone(),
            source,
        }
    }

    fn read(&self) -> Result<Content, SecretsError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
            Err(error) => return Err(self.unavailable("read")(error)),
        };
        let text = str::from_utf8(&bytes).map_err(|_| SecretsError::FileDamaged {
            path: self.path.clone(),
            line: 1,
            reason: "it is not UTF-8 text",
        })?;
        Content::parse(text, &self.path)
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut Content) -> Result<T, SecretsError>,
    ) -> Result<T, SecretsError> {
        let _lock = self.lock()?;
        let mut content = self.read()?;
        let outcome = change(&mut content)?;
        let unwritable = self.unavailable("write");
        let mut file = tempfile::Builder::new()
            .prefix(".secrets-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(&self.folder)
            .map_err(&unwritable)?;
        file.write_all(content.render(self.environment.as_str()).as_bytes())
            .and_then(|()| file.as_file().sync_all())
            .map_err(&unwritable)?;
        file.persist(&self.path)
            .map_err(|error| unwritable(error.error))?;
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(&unwritable)?;
        Ok(outcome)
    }

    /// Locks the project's folder itself, which leaves no lock file behind in it.
    fn lock(&self) -> Result<Flock<File>, SecretsError> {
        let until = Instant::now() + PATIENCE;
        let mut folder = File::open(&self.folder).map_err(self.unavailable("lock"))?;
        loop {
            match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((unlocked, nix::errno::Errno::EWOULDBLOCK)) => {
                    if until <= Instant::now() {
                        return Err(SecretsError::Busy {
                            path: self.folder.clone(),
                        });
                    }
                    folder = unlocked;
                    thread::sleep(Duration::from_millis(10));
                }
                Err((_, errno)) => return Err(self.unavailable("lock")(errno.into())),
            }
        }
    }
}

fn check(name: &SecretName, value: &SecretValue) -> Result<(), SecretsError> {
    let reason = if value.reveal().is_empty() {
        "is empty"
    } else if value.reveal().contains('\0') {
        "has a NUL byte, which no variable can hold"
    } else if LONGEST_VALUE < value.reveal().len() {
        "is longer than a variable can hold (128 KiB)"
    } else {
        return Ok(());
    };
    Err(SecretsError::BadValue {
        name: name.to_string(),
        reason,
    })
}

/// 256 random bits as text that is safe in URLs, shells and files.
fn random_value() -> SecretValue {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    SecretValue::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests;
