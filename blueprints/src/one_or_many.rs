//! Lists of texts that may be written as one text.

use schemars::JsonSchema;
use serde::Deserializer;

use crate::shorthand::{Never, Refused, Shorthand, deserialize_shorthand, shorthand};

/// `"a"` or `["a", "b"]`.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum Forms {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

#[derive(Debug, JsonSchema)]
#[schemars(with = "Forms")]
pub(crate) struct OneOrMany(Vec<String>);

impl Shorthand for OneOrMany {
    type Table = Never;
    const EXPECTED: &'static str = "a text or a list of texts";
    const LISTS: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        Ok(Self(vec![text.to_owned()]))
    }
    fn from_list(list: Vec<String>) -> Result<Self, Refused> {
        Ok(Self(list))
    }
}

deserialize_shorthand!(OneOrMany);

impl From<OneOrMany> for Vec<String> {
    fn from(list: OneOrMany) -> Self {
        list.0
    }
}

/// For `#[serde(deserialize_with)]` on a `Vec<String>`.
pub(crate) fn one_or_many<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    shorthand::<D, OneOrMany>(deserializer).map(Into::into)
}
