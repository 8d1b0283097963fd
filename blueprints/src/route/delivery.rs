//! How answers reach the client: kept, compressed, and requests copied elsewhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shorthand::{Never, Refused, Shorthand, deserialize_shorthand};
use crate::{ByteSize, Method, Percent, Period, ServiceName};

/// Whether and how answers are kept; `true` as the answers themselves say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(with = "CacheForms")]
pub struct Cache {
    /// How long an answer is fresh that does not say; not kept if absent.
    pub fresh_for: Option<Period>,
    /// How long a stale answer is given while a fresh one is fetched.
    pub stale_while_revalidate: Period,
    /// How long a stale answer is given when the service fails.
    pub stale_if_error: Period,
    /// Request headers that tell answers apart, beside what `Vary` says.
    pub vary: Vec<String>,
    /// The largest answer that is kept.
    pub max_body: Option<ByteSize>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum CacheForms {
    Short(bool),
    Full(CacheKeys),
}

/// A cache in full.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CacheKeys {
    /// How long an answer is fresh that does not say.
    fresh_for: Option<Period>,
    /// How long a stale answer is given while a fresh one is fetched.
    stale_while_revalidate: Period,
    /// How long a stale answer is given when the service fails.
    stale_if_error: Period,
    /// Request headers that tell answers apart.
    vary: Vec<String>,
    /// The largest answer that is kept.
    max_body: Option<ByteSize>,
}

impl Shorthand for Cache {
    type Table = CacheKeys;
    const EXPECTED: &'static str = "true or { fresh_for = \"1m\" }";
    const TABLES: bool = true;
    fn from_bool(on: bool) -> Result<Self, Refused> {
        if on {
            Ok(Self::default())
        } else {
            Err(Refused::Value(
                "nothing is cached unless asked; remove `cache`".to_owned(),
            ))
        }
    }
    fn from_table(keys: CacheKeys) -> Result<Self, Refused> {
        Ok(Self {
            fresh_for: keys.fresh_for,
            stale_while_revalidate: keys.stale_while_revalidate,
            stale_if_error: keys.stale_if_error,
            vary: keys.vary,
            max_body: keys.max_body,
        })
    }
}

deserialize_shorthand!(Cache);

/// The encodings that answers are compressed with, the best first; `true` for
/// all, `false` for none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "CompressionForms")]
#[serde(transparent)]
pub struct Compression(pub Vec<Encoding>);

impl Default for Compression {
    fn default() -> Self {
        Self(vec![Encoding::Zstd, Encoding::Br, Encoding::Gzip])
    }
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum CompressionForms {
    Short(bool),
    Full(Vec<Encoding>),
}

/// A content encoding.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Zstandard.
    Zstd,
    /// Brotli.
    Br,
    /// gzip.
    Gzip,
}

impl Shorthand for Compression {
    type Table = Never;
    const EXPECTED: &'static str = "true, false or a list of \"zstd\", \"br\" and \"gzip\"";
    const LISTS: bool = true;
    fn from_bool(on: bool) -> Result<Self, Refused> {
        Ok(if on {
            Self::default()
        } else {
            Self(Vec::new())
        })
    }
    fn from_list(list: Vec<String>) -> Result<Self, Refused> {
        list.iter()
            .map(|name| match name.as_str() {
                "zstd" => Ok(Encoding::Zstd),
                "br" => Ok(Encoding::Br),
                "gzip" => Ok(Encoding::Gzip),
                _ => Err(Refused::Value(format!(
                    "`{name}` is not an encoding; write `zstd`, `br` or `gzip`"
                ))),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

deserialize_shorthand!(Compression);

/// Another service that gets a copy of the requests; a text is its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "MirrorForms")]
pub struct Mirror {
    /// The service.
    pub service: ServiceName,
    /// The share of the requests.
    pub share: Percent,
    /// Those of which requests are copied.
    pub methods: Vec<Method>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum MirrorForms {
    Short(ServiceName),
    Full(MirrorKeys),
}

/// A mirror in full.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MirrorKeys {
    /// The service.
    service: ServiceName,
    /// The share of the requests; all if not given.
    #[serde(default)]
    share: Option<Percent>,
    /// Methods of which requests are copied; GET and HEAD if not given, as what others do would be done twice.
    #[serde(default)]
    methods: Option<Vec<Method>>,
}

impl Shorthand for Mirror {
    type Table = MirrorKeys;
    const EXPECTED: &'static str =
        "the name of a service, or { service = \"…\", share = \"10%\", methods = [\"GET\"] }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        let service = text
            .parse()
            .map_err(|error: crate::BadName| Refused::Value(error.to_string()))?;
        Self::from_table(MirrorKeys {
            service,
            share: None,
            methods: None,
        })
    }
    fn from_table(keys: MirrorKeys) -> Result<Self, Refused> {
        let methods = keys.methods.unwrap_or(vec![Method::Get, Method::Head]);
        if methods.is_empty() {
            let why = "a mirror of no method copies nothing; take `mirror` out, or name methods";
            return Err(Refused::Value(why.to_owned()));
        }
        Ok(Self {
            service: keys.service,
            share: keys.share.unwrap_or(Percent::FULL),
            methods,
        })
    }
}

deserialize_shorthand!(Mirror);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_copies_what_changes_nothing_unless_it_names_methods() {
        let check = |written: serde_json::Value, expected: Result<&[Method], &str>| {
            let read = serde_json::from_value::<Mirror>(written);
            match (read, expected) {
                (Ok(mirror), expected) => assert_eq!(Ok(&mirror.methods[..]), expected),
                (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{error}"),
                (Err(error), Ok(_)) => panic!("{error}"),
            }
        };
        let safe = [Method::Get, Method::Head];
        check(serde_json::json!("audit"), Ok(&safe));
        let full = |methods: &[&str]| serde_json::json!({ "service": "audit", "methods": methods });
        check(
            serde_json::json!({ "service": "audit", "share": "10%" }),
            Ok(&safe),
        );
        check(full(&["POST"]), Ok(&[Method::Post]));
        check(full(&[]), Err("copies nothing"));
        check(full(&["post"]), Err("unknown variant"));
    }
}
