//! Which requests a route takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shorthand::{Refused, Shorthand, deserialize_shorthand};

/// Which paths a route takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(with = "PathForms")]
pub enum PathMatch {
    /// This path and all below it, by whole segments.
    Prefix(String),
    /// This path alone.
    Exact(String),
    /// A path with `{name}` for one segment and a last `{name...}` for the rest.
    Template(String),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum PathForms {
    Short(String),
    Full(PathKeys),
}

/// A path in full: one of the keys.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PathKeys {
    /// This path and all below it.
    prefix: Option<String>,
    /// This path alone.
    exact: Option<String>,
    /// A path with `{name}` for one segment and a last `{name...}` for the rest.
    template: Option<String>,
}

impl PathMatch {
    /// The path as written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Prefix(path) | Self::Exact(path) | Self::Template(path) => path,
        }
    }
}

pub(super) fn check_path(path: String) -> Result<String, Refused> {
    let wrong = |why: &str| Err(Refused::Value(format!("`{path}` is not a path; {why}")));
    if !path.starts_with('/') {
        return wrong("begin it with `/`");
    }
    if path.contains(|letter: char| {
        letter.is_whitespace() || letter.is_control() || "?#".contains(letter)
    }) {
        return wrong("leave out spaces, `?` and `#`");
    }
    if path
        .split('/')
        .any(|segment| segment == "." || segment == "..")
    {
        return wrong("leave out `.` and `..`");
    }
    Ok(path)
}

/// Checks a path that requests are matched by: none has these.
fn check_matched(path: String) -> Result<String, Refused> {
    let path = check_path(path)?;
    let lower = path.to_ascii_lowercase();
    let never = ["\\", "%2f", "%5c", "%00"];
    if never.iter().any(|part| lower.contains(part)) {
        return Err(Refused::Value(format!(
            "`{path}` matches no request; leave out backslashes, and slashes, backslashes and NUL in escapes"
        )));
    }
    Ok(path)
}

fn check_template(path: String) -> Result<PathMatch, Refused> {
    let path = check_matched(path)?;
    let count = path.split('/').count();
    let mut names = std::collections::BTreeSet::new();
    for (at, segment) in path.split('/').enumerate() {
        if !segment.contains(['{', '}']) {
            continue;
        }
        let name = segment
            .strip_prefix('{')
            .and_then(|segment| segment.strip_suffix('}'))
            .map(|name| match name.strip_suffix("...") {
                Some(name) if at + 1 == count => name,
                _ => name,
            });
        let good = name.is_some_and(|name| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && names.insert(name.to_owned())
        });
        if !good {
            return Err(Refused::Value(format!(
                "`{segment}` does not stand for a segment; write `{{name}}` with a name of its \
                 own, or `{{name...}}` as the last one"
            )));
        }
    }
    Ok(PathMatch::Template(path))
}

impl Shorthand for PathMatch {
    type Table = PathKeys;
    const EXPECTED: &'static str =
        "a path such as \"/api\", { exact = \"/api\" } or { template = \"/api/{id}\" }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        if text.contains(['{', '}']) {
            check_template(text.to_owned())
        } else {
            check_matched(text.to_owned()).map(Self::Prefix)
        }
    }
    fn from_table(keys: PathKeys) -> Result<Self, Refused> {
        match keys {
            PathKeys {
                prefix: Some(path),
                exact: None,
                template: None,
            } => check_matched(path).map(Self::Prefix),
            PathKeys {
                prefix: None,
                exact: Some(path),
                template: None,
            } => check_matched(path).map(Self::Exact),
            PathKeys {
                prefix: None,
                exact: None,
                template: Some(path),
            } => check_template(path),
            _ => Err(Refused::Value(
                "a path is matched in one way; write one of `prefix`, `exact` and `template`"
                    .to_owned(),
            )),
        }
    }
}

deserialize_shorthand!(PathMatch);

/// What becomes of a path with an escaped slash or backslash (`%2F`, `%5C`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EscapedSlashes {
    /// It is answered 400, as some services take it for the character itself and some do not.
    #[default]
    Refuse,
    /// It reaches the service as it is, unless another route would take it if the escapes were resolved.
    Keep,
}

/// An HTTP method.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "they are the methods of HTTP")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Connect,
    Trace,
}

impl Method {
    /// The method as it stands in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Connect => "CONNECT",
            Self::Trace => "TRACE",
        }
    }
}

/// What a header or query parameter must be: a text, `{ prefix = "…" }` or
/// `{ present = true }`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ValueMatch {
    /// This text.
    Exact(String),
    /// A text that begins so.
    Prefix {
        /// The beginning.
        prefix: String,
    },
    /// Anything (true), or not there (false).
    Present {
        /// Whether it must be there.
        present: bool,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ValueKeys {
    prefix: Option<String>,
    present: Option<bool>,
}

impl Shorthand for ValueMatch {
    type Table = ValueKeys;
    const EXPECTED: &'static str = "a text, { prefix = \"…\" } or { present = true }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        Ok(Self::Exact(text.to_owned()))
    }
    fn from_table(keys: ValueKeys) -> Result<Self, Refused> {
        match keys {
            ValueKeys {
                prefix: Some(prefix),
                present: None,
            } => Ok(Self::Prefix { prefix }),
            ValueKeys {
                prefix: None,
                present: Some(present),
            } => Ok(Self::Present { present }),
            _ => Err(Refused::Value(
                "the condition is not one; write `{ prefix = \"…\" }` or `{ present = true }`"
                    .to_owned(),
            )),
        }
    }
}

deserialize_shorthand!(ValueMatch);
