//! The text of a secret file, and how a value is wrapped in it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{self, Read, Write};
use std::iter;
use std::path::Path;
use std::str::FromStr;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::x25519;
use platform_blueprint::SecretName;
use platform_port::SecretValue;
use serde::Deserialize;

use crate::error::SecretsError;
use crate::keyring::Keyring;

/// A public key that secrets are encrypted to, written `age1…`.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

impl Recipient {
    pub(crate) fn new(recipient: x25519::Recipient) -> Self {
        Self(recipient)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Recipient {}

impl FromStr for Recipient {
    type Err = SecretsError;

    fn from_str(text: &str) -> Result<Self, SecretsError> {
        text.parse().map(Self).map_err(|_| {
            // Whoever mixes up the two halves must not see the private one printed.
            let shown = if text.starts_with("age1") {
                text
            } else {
                "…"
            };
            SecretsError::NotRecipientText {
                text: shown.to_owned(),
            }
        })
    }
}

/// One secret as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Grows at each change and is never used again, not even after a removal.
    pub version: u32,
    /// When it was last set, as RFC 3339 in UTC.
    pub updated_at: String,
    /// The encrypted value, ASCII-armoured.
    pub(crate) armoured: String,
}

/// The content of a secret file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) secrets: BTreeMap<SecretName, Entry>,
    /// The last version of secrets that were removed, so that none is used twice.
    pub(crate) removed: BTreeMap<SecretName, u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    recipients: Vec<String>,
    #[serde(default)]
    secrets: BTreeMap<SecretName, WrittenEntry>,
    #[serde(default)]
    removed: BTreeMap<SecretName, u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEntry {
    version: u32,
    updated_at: String,
    value: String,
}

const FORMAT: u32 = 1;

impl Content {
    /// Reads a file's text.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, SecretsError> {
        let damaged = |line, reason| SecretsError::FileDamaged {
            path: path.to_owned(),
            line,
            reason,
        };
        // The parser's own message quotes the text, which somebody may have put a value into.
        let written: Written = toml::from_str(text).map_err(|error| {
            let before = error.span().map_or(0, |span| span.start);
            let line = 1 + text
                .bytes()
                .take(before)
                .filter(|byte| *byte == b'\n')
                .count();
            damaged(line, "it is not as `platform secrets` writes it")
        })?;
        if written.format != FORMAT {
            return Err(damaged(
                1,
                "it is of a format that this version does not know",
            ));
        }
        let recipients = written
            .recipients
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()
            .map_err(|_| damaged(1, "a recipient is not an age recipient"))?;
        let secrets = written
            .secrets
            .into_iter()
            .map(|(name, entry)| {
                let entry = Entry {
                    version: entry.version,
                    updated_at: entry.updated_at,
                    armoured: entry.value.trim().to_owned(),
                };
                (name, entry)
            })
            .collect();
        Ok(Self {
            recipients,
            secrets,
            removed: written.removed,
        })
    }

    /// Writes the text, the same for the same content.
    pub(crate) fn render(&self, environment: &str) -> String {
        let mut text = format!(
            "# Secrets of environment `{environment}`: names in the clear, values encrypted with age.\n\
             # Commit this file; change it with `platform secrets` only.\n\
             format = {FORMAT}\nrecipients = [\n"
        );
        for recipient in &self.recipients {
            let _ = writeln!(text, "  \"{recipient}\",");
        }
        text.push_str("]\n");
        for (name, entry) in &self.secrets {
            let _ = write!(
                text,
                "\n[secrets.{name}]\nversion = {}\nupdated_at = \"{}\"\nvalue = '''\n{}\n'''\n",
                entry.version, entry.updated_at, entry.armoured
            );
        }
        if !self.removed.is_empty() {
            text.push_str("\n[removed]\n");
            for (name, version) in &self.removed {
                let _ = writeln!(text, "{name} = {version}");
            }
        }
        text
    }

    /// The version that the next value of a secret gets.
    pub(crate) fn next_version(&self, name: &SecretName) -> u32 {
        let kept = self.secrets.get(name).map_or(0, |entry| entry.version);
        let removed = self.removed.get(name).copied().unwrap_or(0);
        kept.max(removed).saturating_add(1)
    }
}

/// Encrypts a value together with its name and version, so that it is good for nothing elsewhere.
pub(crate) fn wrap(
    name: &SecretName,
    version: u32,
    value: &SecretValue,
    recipients: &[Recipient],
) -> Result<String, SecretsError> {
    let failed = |source: io::Error| SecretsError::NotSealed {
        what: format!("secret `{name}`"),
        source,
    };
    let encryptor = age::Encryptor::with_recipients(
        recipients
            .iter()
            .map(|recipient| &recipient.0 as &dyn age::Recipient),
    )
    .map_err(|error| failed(io::Error::other(error)))?;
    let mut bytes = Vec::new();
    let armour = ArmoredWriter::wrap_output(&mut bytes, Format::AsciiArmor).map_err(failed)?;
    let mut writer = encryptor.wrap_output(armour).map_err(failed)?;
    writer
        .write_all(binding(name, version).as_bytes())
        .and_then(|()| writer.write_all(value.reveal().as_bytes()))
        .and_then(|()| writer.finish())
        .and_then(ArmoredWriter::finish)
        .map_err(failed)?;
    String::from_utf8(bytes)
        .map(|text| text.trim().to_owned())
        .map_err(|_| failed(io::Error::other("the armour is not text")))
}

/// Decrypts what [`wrap`] made.
pub(crate) fn unwrap(
    name: &SecretName,
    entry: &Entry,
    keyring: &Keyring,
) -> Result<SecretValue, SecretsError> {
    let locked = || SecretsError::NotDecrypted {
        name: name.to_string(),
        you: keyring.recipient().to_string(),
    };
    let misplaced = || SecretsError::Misplaced {
        name: name.to_string(),
    };
    let armoured = ArmoredReader::new(entry.armoured.as_bytes());
    let decryptor = age::Decryptor::new_buffered(armoured).map_err(|_| misplaced())?;
    let mut plain = String::new();
    decryptor
        .decrypt(iter::once(keyring.identity()))
        .map_err(|_| locked())?
        .read_to_string(&mut plain)
        .map_err(|_| misplaced())?;
    plain
        .strip_prefix(&binding(name, entry.version))
        .map(SecretValue::new)
        .ok_or_else(misplaced)
}

fn binding(name: &SecretName, version: u32) -> String {
    format!("{name} {version}\n")
}
