//! What goes wrong with secrets, without ever showing one.

use std::io;
use std::path::PathBuf;

/// Something that could not be done with a secret, a secret file or an identity.
///
/// No variant carries a value, a key or a piece of a file's text.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// There is no home to keep an identity in.
    #[error("cannot tell where to keep your identity: neither XDG_CONFIG_HOME nor HOME is set")]
    NoHome,
    /// The identity that was asked for is not there.
    #[error("there is no identity at `{}`", path.display())]
    NoIdentity {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The identity cannot be read or written.
    #[error("cannot {action} the identity at `{}`", path.display())]
    IdentityUnreadable {
        /// `read` or `write`.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others on this machine could read the identity.
    #[error("the identity at `{}` can be read by others (mode {mode:03o})", path.display())]
    IdentityExposed {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What should hold an identity holds none.
    #[error("{place} holds no age identity (a line that begins with AGE-SECRET-KEY-1)")]
    NotAnIdentity {
        /// A path, or the name of the variable.
        place: String,
    },
    /// Sealed bytes cannot be opened with this identity.
    #[error("cannot open what was sealed: it is damaged or was sealed for another identity")]
    NotOpened,
    /// The encryption itself failed.
    #[error("cannot encrypt {what}")]
    NotSealed {
        /// What was to be encrypted, never its value.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The secret file cannot be read or written.
    #[error("cannot {action} `{}`", path.display())]
    FileUnavailable {
        /// `read`, `write` or `lock`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The secret file is not as it was written.
    #[error("`{}` is damaged at line {line}: {reason}", path.display())]
    FileDamaged {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong, in fixed words.
        reason: &'static str,
    },
    /// Another command is changing the secrets of this project.
    #[error("another command is changing the secrets in `{}`", path.display())]
    Busy {
        /// The project's folder.
        path: PathBuf,
    },
    /// No such secret is set.
    #[error("secret `{name}` is not set in environment `{environment}`")]
    NotSet {
        /// The secret.
        name: String,
        /// The environment.
        environment: String,
    },
    /// The value is encrypted for others.
    #[error("secret `{name}` cannot be decrypted with your identity")]
    NotDecrypted {
        /// The secret.
        name: String,
        /// Who could be added by one who can.
        you: String,
    },
    /// The value was moved here from another name or version.
    #[error("secret `{name}` was not encrypted under this name and version")]
    Misplaced {
        /// The secret.
        name: String,
    },
    /// You are not among the recipients, so what you write you could not read.
    #[error("you are not a recipient of the secrets of environment `{environment}`")]
    NotARecipient {
        /// The environment.
        environment: String,
        /// Your recipient.
        you: String,
    },
    /// The text is not a recipient.
    #[error("`{text}` is not an age recipient, such as age1…")]
    NotRecipientText {
        /// What was given; recipients are public.
        text: String,
    },
    /// The last recipient, or the caller, would be shut out.
    #[error("removing `{recipient}` would leave nobody who can decrypt, or shut you out")]
    LastRecipient {
        /// Whom.
        recipient: String,
    },
    /// The value cannot be handed to a process.
    #[error("the value for secret `{name}` {reason}")]
    BadValue {
        /// The secret.
        name: String,
        /// Why, in fixed words.
        reason: &'static str,
    },
    /// A variable of the environment names no secret.
    #[error("`{variable}` does not name a secret")]
    BadOverride {
        /// The variable's name.
        variable: String,
    },
}

impl SecretsError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoHome | Self::NoIdentity { .. } => "secrets::no-identity",
            Self::IdentityUnreadable { .. } => "secrets::identity-unreadable",
            Self::IdentityExposed { .. } => "secrets::identity-exposed",
            Self::NotAnIdentity { .. } => "secrets::not-an-identity",
            Self::NotOpened => "secrets::not-opened",
            Self::NotSealed { .. } => "secrets::not-sealed",
            Self::FileUnavailable { .. } => "secrets::file-unavailable",
            Self::FileDamaged { .. } => "secrets::file-damaged",
            Self::Busy { .. } => "secrets::busy",
            Self::NotSet { .. } => "secrets::not-set",
            Self::NotDecrypted { .. } => "secrets::not-decrypted",
            Self::Misplaced { .. } => "secrets::misplaced",
            Self::NotARecipient { .. } => "secrets::not-a-recipient",
            Self::NotRecipientText { .. } => "secrets::bad-recipient",
            Self::LastRecipient { .. } => "secrets::last-recipient",
            Self::BadValue { .. } => "secrets::bad-value",
            Self::BadOverride { .. } => "secrets::bad-override",
        }
    }

    /// What to do, a line the reader can act on.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoHome => "set HOME, or PLATFORM_IDENTITY to a file or a key".to_owned(),
            Self::NoIdentity { .. } => {
                "point PLATFORM_IDENTITY at your identity, or unset it to have one made".to_owned()
            }
            Self::IdentityExposed { path, .. } => format!("run `chmod 600 {}`", path.display()),
            Self::FileDamaged { .. } => {
                "take the file from your version control; `platform secrets` is the only one that should write it".to_owned()
            }
            Self::Busy { .. } => "wait for it to end and try again".to_owned(),
            Self::NotSet { name, environment } => format!(
                "run `platform secrets set {name} -e {environment}`, or set {}",
                crate::overrides::variable(name)
            ),
            Self::NotDecrypted { you, .. } | Self::NotARecipient { you, .. } => {
                format!("ask one who can to run `platform secrets recipients --add {you}`")
            }
            Self::Misplaced { name } => {
                format!("take the file from your version control, or run `platform secrets set {name}`")
            }
            _ => return None,
        })
    }
}
