//! What a route changes of requests and answers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matching::check_path;
use crate::shorthand::{Refused, Shorthand, deserialize_shorthand};

/// An answer that sends the client elsewhere; a text is where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "RedirectForms")]
pub struct Redirect {
    /// A URL or path, in whose path `{name}` stands for a segment of the route's template. The request's query stays.
    pub to: String,
    /// The status: 301, 302, 303, 307 or 308.
    pub status: u16,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum RedirectForms {
    Short(String),
    Full(RedirectKeys),
}

/// A redirect in full.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedirectKeys {
    /// A URL or path.
    to: String,
    /// The status: 301, 302, 303, 307 or 308, the last if not given.
    #[serde(default)]
    status: Option<u16>,
}

impl Shorthand for Redirect {
    type Table = RedirectKeys;
    const EXPECTED: &'static str = "a URL or path, or { to = \"…\", status = 308 }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        Self::from_table(RedirectKeys {
            to: text.to_owned(),
            status: None,
        })
    }
    fn from_table(keys: RedirectKeys) -> Result<Self, Refused> {
        let status = keys.status.unwrap_or(308);
        if ![301, 302, 303, 307, 308].contains(&status) {
            return Err(Refused::Value(format!(
                "{status} does not redirect; write 301, 302, 303, 307 or 308"
            )));
        }
        if keys.to.is_empty()
            || keys
                .to
                .contains(|letter: char| letter.is_whitespace() || letter.is_control())
        {
            return Err(Refused::Value(format!(
                "`{}` is nowhere to go; write a URL or a path",
                keys.to
            )));
        }
        if !["/", "http://", "https://"]
            .iter()
            .any(|begin| keys.to.starts_with(begin))
        {
            return Err(Refused::Value(format!(
                "`{}` is neither a path nor a URL; begin it with `/`, `https://` or `http://`",
                keys.to
            )));
        }
        Ok(Self {
            to: keys.to,
            status,
        })
    }
}

deserialize_shorthand!(Redirect);

/// What the service sees: a text stands in place of the matched path.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(with = "RewriteForms")]
pub struct Rewrite {
    /// What stands in place of the matched prefix, or of the whole path where
    /// the match is exact or a template; of that, `{name}` stands for a segment.
    pub path: Option<String>,
    /// The host that the service sees.
    pub host: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum RewriteForms {
    Short(String),
    Full(RewriteKeys),
}

/// A rewrite in full.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RewriteKeys {
    /// What stands in place of the matched path.
    path: Option<String>,
    /// The host that the service sees.
    host: Option<String>,
}

impl Shorthand for Rewrite {
    type Table = RewriteKeys;
    const EXPECTED: &'static str = "a path such as \"/\", or { path = \"…\", host = \"…\" }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        Self::from_table(RewriteKeys {
            path: Some(text.to_owned()),
            host: None,
        })
    }
    fn from_table(keys: RewriteKeys) -> Result<Self, Refused> {
        Ok(Self {
            path: keys.path.map(check_path).transpose()?,
            host: keys.host,
        })
    }
}

deserialize_shorthand!(Rewrite);

/// Changes to headers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderChanges {
    /// Headers that are set, whatever they were.
    pub set: BTreeMap<String, String>,
    /// Headers that are added to what is there.
    pub add: BTreeMap<String, String>,
    /// Headers that are removed.
    pub remove: Vec<String>,
}
