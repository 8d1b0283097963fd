//! What is written, where, and for whom.
//!
//! A command says what happens and what came of it; a [`View`] writes that for people or for programs. What was asked for goes
//! to standard output, all else to standard error. For programs everything is one stream of JSON lines.

mod human;
mod json;
mod outlet;
mod quoted;
mod recorder;
mod screen;

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::error::CliError;
use crate::paint::Paint;

pub(crate) use human::HumanView;
pub(crate) use json::{JsonView, header};
pub(crate) use recorder::{Case, Recorder, Verdict};

/// What was asked for: a table, a document, a list.
pub(crate) trait Shown {
    /// The `type` of its JSON line.
    fn kind(&self) -> &'static str;
    /// Its JSON line; anything but an object is put under `value`.
    fn json(&self) -> Value;
    /// What people read, with its line end.
    fn human(&self, paint: Paint) -> String;
    /// The same within so many columns and rows, where it changes before people's eyes; what does not fit is cut.
    fn fitted(&self, paint: Paint, _room: (u16, u16)) -> String {
        self.human(paint)
    }
    /// The same in a line, for those who see one after another where others see a picture change.
    fn brief(&self) -> Option<String> {
        None
    }
    /// What a script needs of it, in a line.
    fn result(&self) -> Option<String> {
        None
    }
}

/// How a happening is told to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// Only programs are told.
    Nothing,
    /// Worth a line, unless they want quiet.
    Note(String),
    /// The same, with the time of day where no picture shows how it goes on.
    Moment(String),
    /// Worth a line even then.
    Important(String),
    /// Worth a line only to those who want more.
    Detail(String),
    /// Something begins that takes a while.
    Begin(String, String),
    /// It says how it is getting on.
    Update(String, String),
    /// The same in a line, and in colour as a picture that a terminal shows in place of the one before.
    Live(String, String, String),
    /// It is done.
    Done(String, String),
    /// It failed.
    Failed(String, String),
}

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// The JSON line; an object with a `type`.
    pub(crate) json: Value,
    /// What people read.
    pub(crate) line: Line,
}

impl Told {
    /// A happening of this `type` with the fields of `value`.
    pub(crate) fn new(kind: &str, value: &impl Serialize, line: Line) -> Self {
        Self {
            json: typed(kind, serde_json::to_value(value).unwrap_or_default()),
            line,
        }
    }

    /// A sentence for whoever reads.
    pub(crate) fn note(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            json: typed("message", serde_json::json!({ "message": text })),
            line: Line::Note(text),
        }
    }

    /// A sentence that is told even to those who want quiet.
    pub(crate) fn important(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            json: typed("message", serde_json::json!({ "message": text })),
            line: Line::Important(text),
        }
    }
}

/// Writes for one kind of reader. Never fails: whoever closed a stream is not written to any more.
pub(crate) trait View: Send + Sync {
    /// Writes what was asked for.
    fn show(&self, shown: &dyn Shown);
    /// Writes what comes with what was asked for; of that its result alone to those who want quiet.
    fn accompany(&self, shown: &dyn Shown) {
        self.show(shown);
    }
    /// Tells what happens.
    fn tell(&self, told: &Told);
    /// Tells of a problem.
    fn diagnose(&self, diagnostic: &Diagnostic);
    /// Replaces what was shown last, on a terminal; otherwise writes it after that.
    fn redraw(&self, shown: &dyn Shown);
    /// Nothing is under way any more: takes away pictures of what was.
    fn settle(&self) {}
    /// Whether nobody reads what was asked for any more.
    fn closed(&self) -> bool;
    /// Why something that was asked for could not be written, other than that nobody reads it.
    fn lost(&self) -> Option<CliError>;
    /// Takes down what was checked, for `JUnit`.
    fn case(&self, _case: Case) {}
    /// Takes down a result that a later CI step may read.
    fn output(&self, _key: &str, _value: &str) {}
    /// Takes down a piece of Markdown for the CI run's page.
    fn summary(&self, _markdown: &str) {}
}

/// A view that the parts of a run share.
pub(crate) type SharedView = Arc<dyn View>;

/// Puts `type` first on an object.
pub(crate) fn typed(kind: &str, value: Value) -> Value {
    let mut line = serde_json::Map::new();
    line.insert("type".to_owned(), kind.into());
    match value {
        Value::Object(fields) => {
            line.extend(fields.into_iter().filter(|(key, _)| key != "type"));
        }
        Value::Null => {}
        other => {
            line.insert("value".to_owned(), other);
        }
    }
    Value::Object(line)
}
