//! Secret values on their way to a target.

use std::collections::BTreeMap;
use std::fmt;

use platform_blueprint::SecretName;

/// A secret's value; prints as `[redacted]` and has no serialised form.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl SecretValue {
    /// Takes a value in.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that hands it over.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Values by name.
pub type SecretValues = BTreeMap<SecretName, SecretValue>;
