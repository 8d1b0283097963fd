//! Entity tags and the conditions that callers attach to them.

use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::store::Precondition;

/// Returns the entity tag of a version.
pub(crate) fn entity_tag(version: i64) -> (HeaderName, HeaderValue) {
    let tag = HeaderValue::from_str(&format!("\"{version}\""));
    (
        ETAG,
        tag.unwrap_or_else(|_| HeaderValue::from_static("\"0\"")),
    )
}

/// Reads `If-Match`; a tag we never gave matches nothing.
pub(crate) fn if_match(headers: &HeaderMap) -> Option<Precondition> {
    let tags = tags(headers, &IF_MATCH)?;
    if tags.contains(&"*") {
        return Some(Precondition::Any);
    }
    // A weak tag never matches here (RFC 9110, 13.1.1); neither does one we cannot read.
    Some(Precondition::OneOf(
        tags.into_iter().filter_map(version).collect(),
    ))
}

/// Returns whether the caller has this version already.
pub(crate) fn is_known(headers: &HeaderMap, current: i64) -> bool {
    tags(headers, &IF_NONE_MATCH).is_some_and(|tags| {
        tags.into_iter()
            .map(|tag| tag.strip_prefix("W/").unwrap_or(tag))
            .any(|tag| tag == "*" || version(tag) == Some(current))
    })
}

/// Splits the tags; ours hold no comma, so what a comma breaks is not ours.
fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Vec<&'a str>> {
    headers.contains_key(name).then(|| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect()
    })
}

fn version(tag: &str) -> Option<i64> {
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn if_match_reads_lists_and_stars() {
        let read = |value| if_match(&with(IF_MATCH, value));
        assert_eq!(read("\"1\", \"3\""), Some(Precondition::OneOf(vec![1, 3])));
        assert_eq!(read("*"), Some(Precondition::Any));
        assert_eq!(read("W/\"1\""), Some(Precondition::OneOf(vec![])));
        assert_eq!(if_match(&HeaderMap::new()), None);
    }

    #[test]
    fn if_none_match_compares_weakly() {
        assert!(is_known(&with(IF_NONE_MATCH, "W/\"2\""), 2));
        assert!(is_known(&with(IF_NONE_MATCH, "*"), 2));
        assert!(!is_known(&with(IF_NONE_MATCH, "\"1\""), 2));
        assert!(!is_known(&HeaderMap::new(), 2));
    }
}
