//! Secrets at rest: encrypted with age, listed without a key, never printed.
//!
//! A [`Keyring`] holds the identity of whoever works here and seals bytes for it. A [`SecretFile`] is the committable file
//! of one environment, `secrets.<environment>.toml`: names and versions in the clear, values encrypted to every recipient.
//! In CI a value may come from the environment instead: [`Overrides`].

mod document;
mod error;
mod file;
mod keyring;
mod overrides;

pub use document::{Entry, Recipient};
pub use error::SecretsError;
pub use file::{Listed, SecretFile, Source};
pub use keyring::{IDENTITY_VARIABLE, Keyring};
pub use overrides::Overrides;
