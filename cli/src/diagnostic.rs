//! Problems as every reader is told of them: people, programs, CI.

use std::fmt;

use miette::{LabeledSpan, SourceCode};
use platform_port::{Finding, LogLine};
use serde_json::{Value, json};

use crate::excerpt::Excerpt;

/// How much a problem weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Good to know.
    Note,
    /// Goes on, less well than it might.
    Warning,
    /// Does not go on.
    Error,
}

impl Severity {
    /// The word programs read.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A place in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The text's name, a path as the user gave it.
    pub(crate) file: String,
    /// The line, from 1.
    pub(crate) line: usize,
    /// The character in the line, from 1.
    pub(crate) column: usize,
}

/// One problem.
#[derive(Clone)]
pub(crate) struct Diagnostic {
    /// Stable code, such as `lock::held`.
    pub(crate) code: String,
    /// How much it weighs.
    pub(crate) severity: Severity,
    /// What was tried and did not go; lower case, no period.
    pub(crate) message: String,
    /// Why, outermost first.
    pub(crate) causes: Vec<String>,
    /// What to do.
    pub(crate) help: Option<String>,
    /// Where, if it is about a place in a text.
    pub(crate) place: Option<Place>,
    /// The text around that place.
    pub(crate) excerpt: Option<Excerpt>,
    /// The last log lines of what failed, oldest first.
    pub(crate) log: Vec<LogLine>,
}

impl Diagnostic {
    /// An error.
    pub(crate) fn error(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            severity: Severity::Error,
            message: message.into(),
            causes: Vec::new(),
            help: None,
            place: None,
            excerpt: None,
            log: Vec::new(),
        }
    }

    /// The same, of another weight.
    pub(crate) fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// The same, with what to do.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same, with what to do where something is known.
    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// The same, because of `error` and what lies behind it.
    pub(crate) fn because(mut self, error: &dyn std::error::Error) -> Self {
        self.causes.push(error.to_string());
        self.behind(error)
    }

    /// The same, with what lies behind `error`, which is the message already.
    pub(crate) fn behind(mut self, error: &dyn std::error::Error) -> Self {
        let mut source = error.source();
        while let Some(cause) = source {
            self.causes.push(cause.to_string());
            source = cause.source();
        }
        self
    }

    /// The same in other words.
    pub(crate) fn reworded(mut self, other: impl Fn(&str) -> String) -> Self {
        self.message = other(&self.message);
        self.help = self.help.as_deref().map(&other);
        for cause in &mut self.causes {
            *cause = other(cause);
        }
        self
    }

    /// The same, with the last log lines of what failed.
    pub(crate) fn log(mut self, log: Vec<LogLine>) -> Self {
        self.log = log;
        self
    }

    /// What programs read.
    pub(crate) fn json(&self) -> Value {
        let mut line = json!({
            "type": "diagnostic",
            "code": self.code,
            "severity": self.severity.as_str(),
            "message": self.message,
        });
        let fields = [
            ("causes", (!self.causes.is_empty()).then(|| json!(self.causes))),
            ("help", self.help.as_ref().map(|help| json!(help))),
            (
                "place",
                self.place.as_ref().map(|place| {
                    json!({ "file": place.file, "line": place.line, "column": place.column })
                }),
            ),
            ("log", (!self.log.is_empty()).then(|| json!(self.log))),
        ];
        for (key, value) in fields {
            if let Some(value) = value {
                line[key] = value;
            }
        }
        line
    }
}

impl From<&Finding> for Diagnostic {
    fn from(finding: &Finding) -> Self {
        let severity = match finding.severity {
            platform_port::Severity::Note => Severity::Note,
            platform_port::Severity::Warning => Severity::Warning,
            platform_port::Severity::Error => Severity::Error,
        };
        let message = match &finding.subject {
            Some(subject) => format!("{subject}: {}", finding.message),
            None => finding.message.clone(),
        };
        Self::error(finding.code.clone(), message)
            .severity(severity)
            .maybe_help(finding.help.clone())
    }
}

/// The cause of an error, so that miette draws the chain.
#[derive(Debug)]
struct Cause {
    message: String,
    next: Option<Box<Cause>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.next.as_deref().map(|next| next as _)
    }
}

/// A diagnostic as miette draws it.
#[derive(Debug)]
pub(crate) struct Drawn<'a> {
    diagnostic: &'a Diagnostic,
    cause: Option<Box<Cause>>,
}

impl fmt::Debug for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl<'a> Drawn<'a> {
    /// Prepares a diagnostic.
    pub(crate) fn new(diagnostic: &'a Diagnostic) -> Self {
        let mut cause = None;
        for message in diagnostic.causes.iter().rev() {
            cause = Some(Box::new(Cause {
                message: message.clone(),
                next: cause,
            }));
        }
        Self { diagnostic, cause }
    }
}

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.message)
    }
}

impl std::error::Error for Drawn<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl miette::Diagnostic for Drawn<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.diagnostic.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            Severity::Note => miette::Severity::Advice,
            Severity::Warning => miette::Severity::Warning,
            Severity::Error => miette::Severity::Error,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.diagnostic.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.diagnostic
            .excerpt
            .as_ref()
            .map(|excerpt| excerpt.source.as_ref() as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let excerpt = self.diagnostic.excerpt.as_ref()?;
        Some(Box::new(excerpt.labels.iter().cloned()))
    }
}
