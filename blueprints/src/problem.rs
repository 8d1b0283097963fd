//! What is wrong with a blueprint, where, and what to write instead.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde::{Serialize, Serializer};

use crate::Code;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The blueprint is refused.
    Error,
    /// The blueprint is taken; somebody should look.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Which kind of problem it is.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong; lower case, no period.
    pub message: String,
    /// The bytes of the text it is about, if it is about any.
    #[serde(serialize_with = "start_and_end")]
    pub span: Option<Range<usize>>,
    /// What to say at that place.
    pub label: String,
    /// Other places that have to do with it.
    #[serde(skip)]
    pub also: Vec<(Range<usize>, String)>,
    /// What to do.
    pub help: Option<String>,
}

#[expect(
    clippy::ref_option,
    reason = "serde hands over a reference to the field"
)]
fn start_and_end<S: Serializer>(
    span: &Option<Range<usize>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    span.as_ref()
        .map(|span| (span.start, span.end))
        .serialize(serializer)
}

impl Problem {
    /// An error at a place, which is labelled "here" unless told otherwise.
    pub(crate) fn new(code: Code, message: impl Into<String>, span: Option<Range<usize>>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            span,
            label: "here".to_owned(),
            also: Vec::new(),
            help: None,
        }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn also(mut self, span: Option<Range<usize>>, label: impl Into<String>) -> Self {
        self.also.extend(span.map(|span| (span, label.into())));
        self
    }

    pub(crate) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.help.as_ref()?;
        Some(Box::new(help))
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let main = self
            .span
            .iter()
            .map(|span| LabeledSpan::new_primary_with_span(Some(self.label.clone()), span.clone()));
        let also = self
            .also
            .iter()
            .map(|(span, label)| LabeledSpan::new_with_span(Some(label.clone()), span.clone()));
        Some(Box::new(main.chain(also)))
    }
}

/// A place in a text, as people count: from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character within it.
    pub column: usize,
}

impl Position {
    /// Where a byte of a text is.
    pub(crate) fn of(text: &str, at: usize) -> Option<Self> {
        let before = text.get(..at)?;
        let same_line = before.chars().rev().take_while(|letter| *letter != '\n');
        Some(Self {
            line: before.matches('\n').count() + 1,
            column: same_line.count() + 1,
        })
    }
}

/// All that is wrong with one blueprint, with its text; or all that somebody
/// should look at.
#[derive(Debug, Clone)]
pub struct Problems {
    source: Arc<NamedSource<String>>,
    list: Vec<Problem>,
}

impl Problems {
    /// Sorts by place, and keeps one of each kind and place.
    pub(crate) fn new(source: Arc<NamedSource<String>>, mut list: Vec<Problem>) -> Self {
        let place = |problem: &Problem| {
            let span = problem.span.clone().unwrap_or(0..0);
            (span.start, span.end, problem.code)
        };
        list.sort_by_key(place);
        list.dedup_by_key(|problem| place(problem));
        Self { source, list }
    }

    /// The problems in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The name of the text, as it was given to the parser.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.source.inner()
    }

    /// Where a problem begins, as people count.
    pub fn position(&self, problem: &Problem) -> Option<Position> {
        Position::of(self.text(), problem.span.as_ref()?.start)
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .count();
        let name = self.name();
        match (errors, self.len() - errors) {
            (0, 1) => write!(formatter, "`{name}` has something to look at"),
            (0, warnings) => write!(formatter, "`{name}` has {warnings} things to look at"),
            (1, _) => write!(formatter, "`{name}` is not a valid blueprint: 1 problem"),
            (errors, _) => {
                write!(
                    formatter,
                    "`{name}` is not a valid blueprint: {errors} problems"
                )
            }
        }
    }
}

impl std::error::Error for Problems {}

impl Diagnostic for Problems {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        // One problem lends its code to the whole; of several each has its own.
        match self.list.as_slice() {
            [only] => Some(Box::new(only.code)),
            _ => None,
        }
    }

    fn severity(&self) -> Option<miette::Severity> {
        let worst = self.iter().map(|problem| problem.severity).min();
        Some(match worst {
            Some(Severity::Warning) => miette::Severity::Warning,
            _ => miette::Severity::Error,
        })
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source.as_ref())
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(
            self.list.iter().map(|problem| problem as &dyn Diagnostic),
        ))
    }
}
