//! What a command works with: where it is, what it was told, whom it can ask.

use std::cell::OnceCell;
use std::env;
use std::future::Future;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use platform_blueprint::{Blueprint, EnvironmentName, ProviderKind, Resolved};
use platform_drive::clock::{Clock, SystemClock};
use platform_drive::releases::History;
use platform_port::Target;
use platform_secrets::{Overrides, SecretFile};

use crate::diagnostic::{Diagnostic, Severity};
use crate::error::CliError;
use crate::exit::Exit;
use crate::globals::Globals;
use crate::project::{self, Project};
use crate::stop::Stop;
use crate::target;
use crate::terminal;
use crate::view::SharedView;

/// Everything around a command. Parts are made when they are first asked for.
pub(crate) struct World {
    /// The flags that every command takes.
    pub(crate) globals: Globals,
    /// The folder we work in, absolute.
    pub(crate) here: PathBuf,
    /// The time of day.
    pub(crate) clock: Arc<dyn Clock>,
    /// The word to stop.
    pub(crate) stop: Stop,
    /// Where to write.
    pub(crate) view: SharedView,
    project: OnceCell<Project>,
    resolved: OnceCell<Resolved>,
    run: OnceCell<String>,
}

impl World {
    /// Makes the world of a command that works in `here`.
    pub(crate) fn new(globals: Globals, here: PathBuf, view: SharedView) -> Self {
        Self {
            globals,
            here,
            clock: Arc::new(SystemClock),
            stop: Stop::default(),
            view,
            project: OnceCell::new(),
            resolved: OnceCell::new(),
            run: OnceCell::new(),
        }
    }

    /// Where the blueprint is.
    pub(crate) fn blueprint_path(&self) -> Result<PathBuf, CliError> {
        project::find(&self.here, self.globals.file.as_deref())
    }

    /// The project, with its blueprint read and parsed.
    pub(crate) fn project(&self) -> Result<&Project, CliError> {
        if let Some(project) = self.project.get() {
            return Ok(project);
        }
        let project = Project::open(&self.here, &self.blueprint_path()?)?;
        Ok(self.project.get_or_init(|| project))
    }

    /// The environment that is meant.
    pub(crate) fn environment(&self) -> Result<EnvironmentName, CliError> {
        Ok(self.resolved()?.environment.name.clone())
    }

    /// The blueprint with the environment applied.
    pub(crate) fn resolved(&self) -> Result<&Resolved, CliError> {
        if let Some(resolved) = self.resolved.get() {
            return Ok(resolved);
        }
        let resolved = self.project()?.resolve(self.globals.env.as_ref())?;
        Ok(self.resolved.get_or_init(|| resolved))
    }

    /// Has a blueprint with mistakes be good enough for this command, which is about what is deployed and needs to know only
    /// where that is: from what can be read of it, else from what was deployed from this folder last.
    pub(crate) async fn tolerate(&self) -> Result<(), CliError> {
        let wrong = match self.resolved() {
            Err(wrong) if wrong.ends() == Exit::BadBlueprint => wrong,
            resolved => return resolved.map(|_| ()),
        };
        let path = self.blueprint_path()?;
        let shown = self.shown(&path);
        let asked = self.globals.env.as_ref();
        let text = project::read(&path, &shown);
        let read = text
            .ok()
            .and_then(|text| Blueprint::whereabouts(&text, asked));
        let found = match read {
            Some(read) => Some(read),
            None => target::deployed_last(&self.folder()?, asked).await,
        };
        let Some(found) = found else {
            return Err(wrong);
        };
        // Where nothing was ever deployed there is nothing to go on by.
        let deployed = target::of(&found, &self.folder()?)?;
        let history = History::read(deployed.store()).await;
        if history.is_ok_and(|history| history.head.last.is_none()) {
            return Err(wrong);
        }
        let first = wrong.diagnostics().first();
        let at = first.and_then(|first| Some((first, first.place.as_ref()?)));
        let at = at.map(|(first, place)| format!(", with `{}` in line {}", first.code, place.line));
        let message = format!(
            "`{shown}` is not a valid blueprint{}; going on by what is deployed in `{}`",
            at.unwrap_or_default(),
            found.environment.name
        );
        self.view.diagnose(
            &Diagnostic::error("blueprint::set-aside", message)
                .severity(Severity::Warning)
                .help("`platform validate` shows all that is wrong with it"),
        );
        self.resolved.get_or_init(|| found);
        Ok(())
    }

    /// The project's folder, whatever its blueprint says.
    pub(crate) fn folder(&self) -> Result<PathBuf, CliError> {
        Ok(project::folder(&self.here, &self.blueprint_path()?))
    }

    /// The environment's target.
    pub(crate) fn target(&self) -> Result<Arc<dyn Target>, CliError> {
        target::of(self.resolved()?, &self.folder()?)
    }

    /// The environment's secrets, with those that CI hands over.
    pub(crate) fn secrets(&self) -> Result<SecretFile, CliError> {
        let file = SecretFile::new(&self.folder()?, &self.environment()?);
        Ok(file.with_overrides(Overrides::from_env()?))
    }

    /// The id of this run; sorts by time.
    pub(crate) fn run(&self) -> &str {
        self.run.get_or_init(|| uuid::Uuid::now_v7().to_string())
    }

    /// Runs what is asynchronous, on a runtime made for it, and listens for signals meanwhile.
    pub(crate) fn block_on<T>(
        &self,
        work: impl Future<Output = Result<T, CliError>>,
    ) -> Result<T, CliError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| {
                CliError::new("system::no-runtime", "cannot start threads").because(&error)
            })?;
        let outcome = runtime.block_on(async {
            self.stop.listen(&self.view);
            work.await
        });
        // A task that reads standard input cannot be stopped, and must not keep us.
        runtime.shutdown_background();
        outcome
    }

    /// The same for a command that changes nothing: the word to stop ends it wherever it is.
    pub(crate) fn look<T>(
        &self,
        work: impl Future<Output = Result<T, CliError>>,
    ) -> Result<T, CliError> {
        self.block_on(self.until_stopped(work))
    }

    /// Does what changes nothing, until the word to stop ends it.
    pub(crate) async fn until_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, CliError>>,
    ) -> Result<T, CliError> {
        let told = async {
            self.stop.token().cancelled().await;
            // A command with an end of its own for the word has it first.
            tokio::task::yield_now().await;
        };
        tokio::select! {
            biased;
            outcome = work => outcome,
            () = told => Err(stopped()),
        }
    }

    /// Whether somebody is there to be asked.
    pub(crate) fn asks(&self) -> bool {
        !self.globals.non_interactive
            && env::var_os("CI").is_none_or(|ci| ci.is_empty() || ci == "false")
            && io::stdin().is_terminal()
            && io::stderr().is_terminal()
    }

    /// Asks a question that a line answers; `None` at the end of the input.
    pub(crate) fn ask(&self, question: &str) -> Result<Option<String>, CliError> {
        terminal::ask(question, self.stop.token()).map_err(|error| unanswered(&error))
    }

    /// The same, outside of any runtime, without showing what is typed.
    pub(crate) fn ask_silently(&self, question: &str) -> Result<Option<String>, CliError> {
        // Signals are listened for, so that the terminal is put back as it was.
        self.block_on(async {
            terminal::ask_silently(question, self.stop.token()).map_err(|error| unanswered(&error))
        })
    }

    /// Asks whether to go on; `--yes` answers, and without a terminal nothing is asked but refused.
    pub(crate) fn confirm(&self, question: &str) -> Result<bool, CliError> {
        if self.globals.yes {
            return Ok(true);
        }
        if !self.asks() {
            return Err(CliError::new(
                "usage::needs-yes",
                format!("this needs an answer and nobody can be asked: {question}"),
            )
            .help("give `--yes` to answer yes"));
        }
        let answer = self.ask(&format!("{question} [y/N]"))?;
        Ok(answer.is_some_and(|answer| matches!(answer.to_lowercase().as_str(), "y" | "yes")))
    }

    /// The same, but on one's own machine, where nothing that is asked before is lost by going ahead.
    pub(crate) fn confirm_unless_own(&self, question: &str) -> Result<bool, CliError> {
        if self.is_own()? {
            Ok(true)
        } else {
            self.confirm(question)
        }
    }

    /// Whether that would ask, or refuse because it cannot.
    pub(crate) fn would_ask_unless_own(&self) -> Result<bool, CliError> {
        Ok(!self.globals.yes && !self.is_own()?)
    }

    fn is_own(&self) -> Result<bool, CliError> {
        let environment = &self.resolved()?.environment;
        Ok(environment.provider.kind() == ProviderKind::Process && !environment.protected)
    }

    /// A path as people should see it.
    pub(crate) fn shown(&self, path: &Path) -> String {
        project::shown(&self.here, path)
    }
}

fn stopped() -> CliError {
    CliError::new("run::stopped", "stopped; nothing was changed")
}

fn unanswered(error: &io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::Interrupted => stopped(),
        _ => CliError::new("system::no-answer", "cannot read an answer").because(error),
    }
}
