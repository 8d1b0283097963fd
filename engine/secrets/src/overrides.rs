//! Values from the environment, for CI.

use std::collections::BTreeMap;

use platform_blueprint::SecretName;
use platform_port::SecretValue;

use crate::error::SecretsError;

const PREFIX: &str = "PLATFORM_SECRET_";

/// Secrets handed over in variables named `PLATFORM_SECRET_<NAME>`: `PLATFORM_SECRET_STRIPE_KEY` is `stripe-key`.
#[derive(Debug, Clone, Default)]
pub struct Overrides(BTreeMap<SecretName, SecretValue>);

impl Overrides {
    /// Reads the variables of this process.
    ///
    /// # Errors
    ///
    /// Where one of them names no secret or holds no text.
    pub fn from_env() -> Result<Self, SecretsError> {
        let mut found = BTreeMap::new();
        for (variable, value) in std::env::vars_os() {
            let variable = variable.to_string_lossy();
            let Some(name) = variable.strip_prefix(PREFIX) else {
                continue;
            };
            let name = name_of(name).ok_or_else(|| SecretsError::BadOverride {
                variable: variable.clone().into_owned(),
            })?;
            let value = value.into_string().map_err(|_| SecretsError::BadValue {
                name: name.to_string(),
                reason: "is not UTF-8 text",
            })?;
            found.insert(name, SecretValue::new(value));
        }
        Ok(Self(found))
    }

    /// Takes values from elsewhere.
    pub fn new(values: BTreeMap<SecretName, SecretValue>) -> Self {
        Self(values)
    }

    /// The value of a secret, where it is handed over.
    pub fn get(&self, name: &SecretName) -> Option<&SecretValue> {
        self.0.get(name)
    }

    /// The names that are handed over.
    pub fn names(&self) -> impl Iterator<Item = &SecretName> {
        self.0.keys()
    }
}

fn name_of(suffix: &str) -> Option<SecretName> {
    SecretName::new(suffix.to_ascii_lowercase().replace('_', "-")).ok()
}

/// The variable that hands a secret over.
pub(crate) fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_variable_go_both_ways() {
        let variable = variable("stripe-key");
        assert_eq!(variable, "PLATFORM_SECRET_STRIPE_KEY");
        let suffix = variable.strip_prefix(PREFIX).unwrap();
        assert_eq!(name_of(suffix).unwrap().as_str(), "stripe-key");
        assert!(name_of("").is_none());
    }
}
