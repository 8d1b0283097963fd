//! GitHub Actions: annotations, outputs and the run's page.
//!
//! Source: "Workflow commands for GitHub Actions", docs.github.com.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Severity};

/// A job of GitHub Actions that we run in.
#[derive(Debug)]
pub(crate) struct GitHub {
    outputs: Option<PathBuf>,
    summary: Option<PathBuf>,
}

impl GitHub {
    /// Looks whether we run in one.
    pub(crate) fn from_env() -> Option<Self> {
        let path = |variable: &str| {
            env::var_os(variable)
                .filter(|p| !p.is_empty())
                .map(PathBuf::from)
        };
        env::var_os("GITHUB_ACTIONS")
            .filter(|value| value == "true")
            .map(|_| Self {
                outputs: path("GITHUB_OUTPUT"),
                summary: path("GITHUB_STEP_SUMMARY"),
            })
    }

    /// Marks a problem on the code of the change under review.
    #[expect(clippy::unused_self, reason = "only a job of GitHub Actions annotates")]
    pub(crate) fn annotate(&self, diagnostic: &Diagnostic) {
        // The runner reads both streams; standard output is kept for data.
        let _ = writeln!(io::stderr().lock(), "{}", annotation(diagnostic));
    }

    /// Hands a result to later steps.
    pub(crate) fn output(&self, key: &str, value: &str) {
        append(self.outputs.as_deref(), &output_line(key, value));
    }

    /// Adds to the run's page.
    pub(crate) fn summary(&self, markdown: &str) {
        append(self.summary.as_deref(), &format!("{markdown}\n"));
    }
}

fn append(path: Option<&Path>, text: &str) {
    if let Some(path) = path
        && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path)
    {
        let _ = file.write_all(text.as_bytes());
    }
}

fn output_line(key: &str, value: &str) -> String {
    if !value.contains('\n') {
        return format!("{key}={value}\n");
    }
    // A delimiter that the value does not hold.
    let mut end = "PLATFORM_END".to_owned();
    while value.contains(&end) {
        end.push('_');
    }
    format!("{key}<<{end}\n{value}\n{end}\n")
}

fn annotation(diagnostic: &Diagnostic) -> String {
    let level = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let mut properties = Vec::new();
    if let Some(place) = &diagnostic.place {
        properties.push(format!("file={}", property(&place.file)));
        properties.push(format!("line={}", place.line));
        properties.push(format!("col={}", place.column));
    }
    properties.push(format!("title={}", property(&diagnostic.code)));
    let mut message = diagnostic.message.clone();
    for cause in &diagnostic.causes {
        message.push_str(": ");
        message.push_str(cause);
    }
    if let Some(help) = &diagnostic.help {
        message.push_str("\nhelp: ");
        message.push_str(help);
    }
    format!("::{level} {}::{}", properties.join(","), data(&message))
}

fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Place;

    #[test]
    fn an_annotation_names_the_place_and_escapes_the_rest() {
        let mut diagnostic = Diagnostic::error("blueprint::unknown-key", "100% wrong").help("a\nb");
        diagnostic.place = Some(Place {
            file: "a,b.toml".to_owned(),
            line: 3,
            column: 7,
        });
        insta::assert_snapshot!(
            annotation(&diagnostic),
            @"::error file=a%2Cb.toml,line=3,col=7,title=blueprint%3A%3Aunknown-key::100%25 wrong%0Ahelp: a%0Ab"
        );
    }

    #[test]
    fn an_output_of_several_lines_has_an_end_of_its_own() {
        assert_eq!(output_line("release", "r3"), "release=r3\n");
        assert_eq!(
            output_line("text", "a\nPLATFORM_END"),
            "text<<PLATFORM_END_\na\nPLATFORM_END\nPLATFORM_END_\n"
        );
    }
}
