//! What was looked at, and what is wrong with it.

use std::fmt::Write as _;

use platform_port::{Finding, Severity};
use serde::Serialize;
use serde_json::{Value, json};

use crate::paint::Paint;
use crate::view::Shown;

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    /// What was found, in a few words.
    pub(super) seen: String,
    /// What is wrong, if anything is.
    pub(super) finding: Option<Finding>,
}

/// All that was looked at, in order.
pub(super) struct Report(pub(super) Vec<Check>);

impl Report {
    pub(super) fn well(&mut self, name: &str, seen: impl Into<String>) {
        self.0.push(Check {
            name: name.to_owned(),
            seen: seen.into(),
            finding: None,
        });
    }

    pub(super) fn found(
        &mut self,
        name: &str,
        severity: Severity,
        code: &str,
        message: impl Into<String>,
        help: &str,
    ) {
        let message = message.into();
        self.0.push(Check {
            name: name.to_owned(),
            seen: message.clone(),
            finding: Some(Finding {
                code: code.to_owned(),
                severity,
                subject: None,
                message,
                help: Some(help.to_owned()),
            }),
        });
    }

    pub(super) fn worst(&self) -> Option<Severity> {
        let findings = self.0.iter().filter_map(|check| check.finding.as_ref());
        findings.map(|finding| finding.severity).max()
    }
}

impl Shown for Report {
    fn kind(&self) -> &'static str {
        "doctor"
    }

    fn json(&self) -> Value {
        json!({ "checks": self.0, "worst": self.worst() })
    }

    fn human(&self, paint: Paint) -> String {
        let mut text = String::new();
        let width = self
            .0
            .iter()
            .map(|check| check.name.chars().count())
            .max()
            .unwrap_or(0);
        for check in &self.0 {
            let mark = match check.finding.as_ref().map(|finding| finding.severity) {
                None => paint.green("✓"),
                Some(Severity::Note) => paint.dim("·"),
                Some(Severity::Warning) => paint.yellow("!"),
                Some(Severity::Error) => paint.red("✗"),
            };
            let _ = writeln!(text, "{mark} {:width$}  {}", check.name, check.seen);
            if let Some(help) = check
                .finding
                .as_ref()
                .and_then(|finding| finding.help.as_ref())
            {
                let _ = writeln!(text, "  {:width$}  {}", "", paint.dim(help));
            }
        }
        text
    }
}
