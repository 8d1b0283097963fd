//! Names that cannot be built wrong.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The longest name: leaves room for the prefixes and suffixes that targets
/// add within the 63 characters of a DNS label.
pub const LONGEST_NAME: usize = 40;

/// A text that is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a name: {reason}; {}", Self::RULE)]
pub struct BadName {
    text: String,
    reason: &'static str,
}

impl BadName {
    const RULE: &'static str = "write lower-case letters, digits and single words joined by `-`, \
         beginning with a letter, at most 40 characters";
}

fn check_name(text: &str) -> Result<(), BadName> {
    let reason = if text.is_empty() {
        "it is empty"
    } else if text.len() > LONGEST_NAME {
        "it is too long"
    } else if !text.starts_with(|first: char| first.is_ascii_lowercase()) {
        "it does not begin with a lower-case letter"
    } else if text.ends_with('-') {
        "it ends with `-`"
    } else if !text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        "it has a character that is not allowed"
    } else {
        return Ok(());
    };
    Err(BadName {
        text: text.to_owned(),
        reason,
    })
}

macro_rules! names {
    ($($(#[$doc:meta])+ $name:ident),+ $(,)?) => {$(
        $(#[$doc])+
        ///
        /// A DNS label of at most 40 characters: lower-case letters, digits
        /// and `-`, beginning with a letter.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and takes it as a name.
            ///
            /// # Errors
            ///
            /// [`BadName`] says which rule it breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, BadName> {
                let text = text.into();
                check_name(&text)?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                "Name".into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "description": "Lower-case letters, digits and `-`, beginning with a letter.",
                    "pattern": "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$",
                })
            }
        }
    )+};
}

names! {
    /// The name of a project.
    ProjectName,
    /// The name of an environment.
    EnvironmentName,
    /// The name of a service.
    ServiceName,
    /// The name of a resource.
    ResourceName,
    /// What a service needs: the name of another service or of a resource.
    NeedName,
    /// The name of a secret; never its value.
    SecretName,
    /// The name of a drill.
    DrillName,
    /// The name of a zone: what may be lost at once, such as a rack or a site.
    ZoneName,
}

impl From<ServiceName> for NeedName {
    fn from(name: ServiceName) -> Self {
        Self(name.0)
    }
}

impl From<ResourceName> for NeedName {
    fn from(name: ResourceName) -> Self {
        Self(name.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "orders", "orders-db", "v2", &"x".repeat(40)] {
            assert!(ServiceName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "Orders",
            "2nd",
            "a_b",
            "a.b",
            "ä",
            &"x".repeat(41),
        ] {
            assert!(ServiceName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_one_namespace_are_looked_up_by_text() {
        let map = std::collections::BTreeMap::from([(ServiceName::new("orders").unwrap(), 1)]);
        assert_eq!(map.get("orders"), Some(&1));
    }
}
