//! `.dockerignore`: what of a folder does not go into a build's context.
//!
//! Patterns are as Docker reads them: from the context's root, `**` for any folders, a pattern of a folder for all that
//! is in it, and the last that fits decides, `!` bringing back.
//!
//! Source: Docker's documentation of build contexts, and moby/patternmatcher's treatment of parents.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

use crate::error::ImageError;

/// The patterns of one file.
#[derive(Debug, Default)]
pub(crate) struct Ignored {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// Brings back what an earlier rule left out.
    back: bool,
    matcher: GlobMatcher,
}

impl Ignored {
    /// Reads the text of a file at `path`.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, ImageError> {
        let mut rules = Vec::new();
        for line in text.trim_start_matches('\u{feff}').lines() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (back, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let clean = clean(pattern);
            if clean.is_empty() {
                continue;
            }
            let matcher = GlobBuilder::new(&clean)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|source| ImageError::BadPattern {
                    path: path.to_owned(),
                    pattern: pattern.to_owned(),
                    source: Box::new(source),
                })?
                .compile_matcher();
            rules.push(Rule { back, matcher });
        }
        Ok(Self { rules })
    }

    /// Whether a path, relative to the context, is left out.
    pub(crate) fn leaves_out(&self, path: &str) -> bool {
        let mut out = false;
        for rule in &self.rules {
            if rule.back == out && fits(&rule.matcher, path) {
                out = !rule.back;
            }
        }
        out
    }

    /// Whether something below a folder that is left out may be brought back.
    pub(crate) fn may_bring_back(&self) -> bool {
        self.rules.iter().any(|rule| rule.back)
    }
}

/// Whether a pattern fits a path or a folder above it.
fn fits(matcher: &GlobMatcher, path: &str) -> bool {
    matcher.is_match(path)
        || path
            .match_indices('/')
            .any(|(at, _)| matcher.is_match(&path[..at]))
}

/// A pattern without what does not matter: slashes around it, `./`, `..` that climb back.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, out: &[&str], within: &[&str]) {
        let ignored = Ignored::parse(text, Path::new(".dockerignore")).unwrap();
        for path in out {
            assert!(ignored.leaves_out(path), "{path} of {text:?}");
        }
        for path in within {
            assert!(!ignored.leaves_out(path), "{path} of {text:?}");
        }
    }

    #[test]
    fn patterns_are_from_the_root_and_folders_stand_for_what_they_hold() {
        check(
            "# a comment\n/target/\n*.log\n./docs\n",
            &["target", "target/debug/x", "a.log", "docs/a/b.md"],
            &["src/target", "src/a.log", "#", "doc"],
        );
        check("**/*.log\n", &["a.log", "x/y/a.log"], &["a.logs"]);
        check(
            "*/temp*\n",
            &["a/temp", "a/temporary/x"],
            &["temp", "a/b/temp"],
        );
        check("a?c\n", &["abc"], &["ac", "a/c"]);
    }

    #[test]
    fn the_last_pattern_that_fits_decides() {
        check(
            "*\n!src\n!Cargo.toml\nsrc/secret*\n",
            &["a", "src/secret.txt"],
            &["src/a/b.rs", "Cargo.toml"],
        );
        check(
            "*.md\n!README*.md\nREADME-secret.md\n",
            &["a.md", "README-secret.md"],
            &["README.md", "README-1.md"],
        );
        check("!a\na\n", &["a"], &["b"]);
    }

    #[test]
    fn a_pattern_that_is_none_is_told() {
        let error = Ignored::parse("a[", Path::new(".dockerignore")).unwrap_err();
        assert_eq!(error.code(), "image::bad-pattern");
    }
}
