//! Values of variables that services are handed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SecretName;
use crate::shorthand::{Refused, Shorthand, deserialize_shorthand};

/// The value of an environment variable: a text, number or flag, or
/// `{ secret = "name" }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum EnvValue {
    /// A flag; handed over as `true` or `false`.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// A text, in which `${…}` references are replaced.
    Text(String),
    /// A secret, by its name.
    Secret(SecretReference),
    /// A text that looks like a secret and is none.
    Plain(PlainText),
}

/// A secret handed to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretReference {
    /// The name of the secret.
    pub secret: SecretName,
    /// How it is handed over.
    #[serde(default, rename = "as")]
    pub handed_as: SecretForm,
}

/// How a secret is handed to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecretForm {
    /// The variable holds the value.
    #[default]
    Env,
    /// The variable holds the path of a file that holds the value.
    File,
}

/// `{ plain = "…" }`: a text that looks like a secret and is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlainText {
    /// The text.
    pub plain: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EnvKeys {
    secret: Option<SecretName>,
    #[serde(rename = "as")]
    handed_as: Option<SecretForm>,
    plain: Option<String>,
}

impl Shorthand for EnvValue {
    type Table = EnvKeys;
    const EXPECTED: &'static str = "a text, a whole number, true, false or { secret = \"name\" }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        Ok(Self::Text(text.to_owned()))
    }
    fn from_bool(flag: bool) -> Result<Self, Refused> {
        Ok(Self::Flag(flag))
    }
    fn from_integer(number: i64) -> Result<Self, Refused> {
        Ok(Self::Number(number))
    }
    fn from_table(keys: EnvKeys) -> Result<Self, Refused> {
        match keys {
            EnvKeys {
                secret: Some(secret),
                handed_as,
                plain: None,
            } => Ok(Self::Secret(SecretReference {
                secret,
                handed_as: handed_as.unwrap_or_default(),
            })),
            EnvKeys {
                secret: None,
                handed_as: None,
                plain: Some(plain),
            } => Ok(Self::Plain(PlainText { plain })),
            _ => Err(Refused::Value(
                "the variable has no value; write `{ secret = \"name\" }`, \
                 `{ secret = \"name\", as = \"file\" }` or `{ plain = \"text\" }`"
                    .to_owned(),
            )),
        }
    }
}

deserialize_shorthand!(EnvValue);

impl EnvValue {
    /// The value as it is handed over, if it is not a secret.
    pub fn text(&self) -> Option<std::borrow::Cow<'_, str>> {
        match self {
            Self::Flag(flag) => Some(flag.to_string().into()),
            Self::Number(number) => Some(number.to_string().into()),
            Self::Text(text) | Self::Plain(PlainText { plain: text }) => Some(text.into()),
            Self::Secret(_) => None,
        }
    }

    /// The secret it refers to, if it does.
    pub fn secret(&self) -> Option<&SecretReference> {
        match self {
            Self::Secret(reference) => Some(reference),
            _ => None,
        }
    }
}
