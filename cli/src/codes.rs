//! What every error code means, for `explain` and reports.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

/// The codes that are not the blueprint's: a TOML table of `code`, `title` and `text`.
const TABLE: &str = include_str!("../codes.toml");

/// A code as it is explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explained {
    /// The code.
    pub(crate) code: Cow<'static, str>,
    /// What it is, in a line.
    pub(crate) title: Cow<'static, str>,
    /// Why it is a problem and what to do.
    pub(crate) text: Cow<'static, str>,
    /// A blueprint that has the problem.
    pub(crate) example: Option<&'static str>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    title: String,
    text: String,
}

/// Every code there is, sorted.
pub(crate) fn all() -> Vec<Explained> {
    let table: BTreeMap<String, Written> = match toml::from_str(TABLE) {
        Ok(table) => table,
        Err(error) => unreachable!("the table of codes is checked by a test: {error}"),
    };
    let blueprint = platform_blueprint::codes().iter().map(|known| Explained {
        code: known.code.into(),
        title: known.title.into(),
        text: known.explanation.into(),
        example: Some(known.example),
    });
    let others = table.into_iter().map(|(code, written)| Explained {
        code: code.into(),
        title: written.title.into(),
        text: written.text.trim().replace('\n', " ").into(),
        example: None,
    });
    let mut all: Vec<Explained> = blueprint.chain(others).collect();
    all.sort_by(|one, other| one.code.cmp(&other.code));
    all
}

/// One code; `None` where nothing is known of it.
pub(crate) fn explain(code: &str) -> Option<Explained> {
    all().into_iter().find(|known| known.code == code)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Whether a text is a code: two lower-case names joined by `::`.
    fn is_code(text: &str) -> bool {
        let name = |name: &str| {
            !name.is_empty()
                && !name.starts_with('-')
                && !name.ends_with('-')
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        text.split_once("::")
            .is_some_and(|(area, rest)| name(area) && name(rest))
    }

    fn codes_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                codes_in(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let source = fs::read_to_string(&path).unwrap_or_default();
                // What tests make up is no code of ours.
                let source = source.split("#[cfg(test)]").next().unwrap_or_default();
                let quoted = source.split('"').filter(|text| is_code(text));
                found.extend(quoted.map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_code_in_the_sources_is_explained() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut used = BTreeSet::new();
        for folder in [
            "cli/src",
            "blueprints/src",
            "engine/decide/src",
            "engine/drive/src",
            "engine/secrets/src",
            "providers/port/src",
            "providers/process/src",
            "providers/docker/src",
            "providers/kubernetes/src",
            "providers/terraform/src",
        ] {
            codes_in(&root.join(folder), &mut used);
        }
        assert!(
            used.contains("lock::held"),
            "the search finds nothing: {used:?}"
        );
        let known: BTreeSet<String> = all().into_iter().map(|k| k.code.into_owned()).collect();
        let missing: Vec<&String> = used.difference(&known).collect();
        assert!(
            missing.is_empty(),
            "write these into cli/codes.toml: {missing:#?}"
        );
    }

    #[test]
    fn every_code_is_of_its_form_and_said_in_words() {
        for known in all() {
            assert!(is_code(&known.code), "{}", known.code);
            assert!(
                known.title.ends_with('.'),
                "{}: {}",
                known.code,
                known.title
            );
            assert!(!known.text.is_empty(), "{}", known.code);
        }
    }
}
