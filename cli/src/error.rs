//! How a command fails.

use std::error::Error;
use std::io;
use std::path::Path;

use platform_drive::error::DriveError;
use platform_drive::lease::LeaseError;
use platform_port::{StoreError, TargetError};
use platform_secrets::SecretsError;

use crate::diagnostic::Diagnostic;
use crate::exit::Exit;

/// What ended a command early: how the program ends, and the problems to show. Boxed, for it is large.
#[derive(Debug)]
pub(crate) struct CliError(Box<Failure>);

#[derive(Debug)]
struct Failure {
    exit: Exit,
    diagnostics: Vec<Diagnostic>,
}

impl CliError {
    /// An error of this code, which decides how the program ends.
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Diagnostic::error(code, message).into()
    }

    /// Several problems at once.
    pub(crate) fn many(exit: Exit, diagnostics: Vec<Diagnostic>) -> Self {
        Self(Box::new(Failure { exit, diagnostics }))
    }

    /// A file that could not be read or written.
    pub(crate) fn file(action: &str, path: &Path, error: &io::Error) -> Self {
        Diagnostic::error(
            format!("file::cannot-{action}"),
            format!("cannot {action} `{}`", path.display()),
        )
        .because(error)
        .into()
    }

    /// The same, with what to do.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        self.map(|diagnostic| diagnostic.help(help))
    }

    /// The same, because of `error`.
    pub(crate) fn because(self, error: &dyn Error) -> Self {
        self.map(|diagnostic| diagnostic.because(error))
    }

    /// The same, ending the program in another way.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.0.exit = exit;
        self
    }

    fn map(mut self, change: impl FnOnce(Diagnostic) -> Diagnostic) -> Self {
        if let Some(last) = self.0.diagnostics.pop() {
            self.0.diagnostics.push(change(last));
        }
        self
    }

    /// How the program ends.
    pub(crate) fn ends(&self) -> Exit {
        self.0.exit
    }

    /// The problems to show.
    pub(crate) fn diagnostics(&self) -> &[Diagnostic] {
        &self.0.diagnostics
    }
}

impl From<Diagnostic> for CliError {
    fn from(diagnostic: Diagnostic) -> Self {
        let exit = Exit::of_code(&diagnostic.code);
        Self::many(exit, vec![diagnostic])
    }
}

impl From<SecretsError> for CliError {
    fn from(error: SecretsError) -> Self {
        Diagnostic::error(error.code(), error.to_string())
            .behind(&error)
            .maybe_help(error.help())
            .into()
    }
}

impl From<TargetError> for CliError {
    fn from(error: TargetError) -> Self {
        Diagnostic::error(error.code, error.to_string())
            .behind(&error)
            .maybe_help(error.help.clone())
            .into()
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        DriveError::from(error).into()
    }
}

impl From<LeaseError> for CliError {
    fn from(error: LeaseError) -> Self {
        DriveError::from(error).into()
    }
}

impl From<DriveError> for CliError {
    fn from(error: DriveError) -> Self {
        let log = match &error {
            DriveError::Failed { failure, .. }
            | DriveError::Unfinished { failure, .. }
            | DriveError::NotTakenBack { failure, .. } => failure.log.clone(),
            _ => Vec::new(),
        };
        let (code, help) = (error.code(), error.help());
        let diagnostic = Diagnostic::error(code, error.to_string());
        let diagnostic = match &error {
            // The failure stands in the message already; its cause is what is behind it.
            DriveError::Failed { failure, .. } | DriveError::Unfinished { failure, .. } => {
                diagnostic.behind(failure.as_ref())
            }
            other => diagnostic.behind(other),
        };
        diagnostic.maybe_help(help).log(log).into()
    }
}
