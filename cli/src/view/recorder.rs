//! What outlives the view: the event file, the CI run's page, `JUnit` and SARIF.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Mutex;

use super::{JsonView, SharedView, Shown, Told, View};
use crate::diagnostic::Diagnostic;
use crate::error::CliError;
use crate::report::github::GitHub;

/// How a check came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It held.
    Passed,
    /// It did not; why.
    Failed(String),
    /// It could not be made; why.
    #[expect(dead_code, reason = "drills and gates that could not be tried")]
    Skipped(String),
}

/// One thing that was checked, for `JUnit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    /// What kind of check: `validate`, `health`, `doctor`.
    pub(crate) suite: String,
    /// What was checked.
    pub(crate) name: String,
    /// How it came out.
    pub(crate) verdict: Verdict,
}

/// Takes down everything on its way to the view.
pub(crate) struct Recorder {
    view: SharedView,
    events: Option<JsonView<File>>,
    github: Option<GitHub>,
    diagnostics: Mutex<Vec<Diagnostic>>,
    cases: Mutex<Vec<Case>>,
}

impl Recorder {
    /// Records what goes to `view`, and writes JSON lines to `events` as well.
    ///
    /// # Errors
    ///
    /// If that file cannot be written.
    pub(crate) fn new(view: SharedView, events: Option<&Path>) -> io::Result<Self> {
        let events = events
            .map(|path| {
                let name = format!("`{}`", path.display());
                File::create(path).map(|file| JsonView::new(name, file))
            })
            .transpose()?;
        Ok(Self {
            view,
            events,
            github: GitHub::from_env(),
            diagnostics: Mutex::default(),
            cases: Mutex::default(),
        })
    }

    /// Every problem told of.
    pub(crate) fn diagnostics(&self) -> Vec<Diagnostic> {
        lock(&self.diagnostics).clone()
    }

    /// Everything checked.
    pub(crate) fn cases(&self) -> Vec<Case> {
        lock(&self.cases).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl View for Recorder {
    fn show(&self, shown: &dyn Shown) {
        self.view.show(shown);
        if let Some(events) = &self.events {
            events.show(shown);
        }
    }

    fn accompany(&self, shown: &dyn Shown) {
        self.view.accompany(shown);
        if let Some(events) = &self.events {
            events.show(shown);
        }
    }

    fn tell(&self, told: &Told) {
        self.view.tell(told);
        if let Some(events) = &self.events {
            events.tell(told);
        }
    }

    fn diagnose(&self, diagnostic: &Diagnostic) {
        self.view.diagnose(diagnostic);
        if let Some(events) = &self.events {
            events.diagnose(diagnostic);
        }
        if let Some(github) = &self.github {
            github.annotate(diagnostic);
        }
        lock(&self.diagnostics).push(diagnostic.clone());
    }

    fn redraw(&self, shown: &dyn Shown) {
        self.view.redraw(shown);
        if let Some(events) = &self.events {
            events.show(shown);
        }
    }

    fn settle(&self) {
        self.view.settle();
    }

    fn closed(&self) -> bool {
        self.view.closed()
    }

    fn lost(&self) -> Option<CliError> {
        let events = self.events.as_ref().and_then(JsonView::lost);
        self.view.lost().or(events)
    }

    fn case(&self, case: Case) {
        lock(&self.cases).push(case);
    }

    fn output(&self, key: &str, value: &str) {
        if let Some(github) = &self.github {
            github.output(key, value);
        }
    }

    fn summary(&self, markdown: &str) {
        if let Some(github) = &self.github {
            github.summary(markdown);
        }
    }
}
