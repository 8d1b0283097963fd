//! The project we work in: its folder, its blueprint, its environments.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use miette::Diagnostic as _;
use platform_blueprint::{Blueprint, EnvironmentName, Parsed, Problems, Resolved};

use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::error::CliError;
use crate::excerpt::Excerpt;
use crate::exit::Exit;

/// The blueprint's name in a project's folder.
pub(crate) const BLUEPRINT: &str = "platform.toml";

/// A project with its blueprint, read and parsed.
#[derive(Debug)]
pub(crate) struct Project {
    /// The folder of the blueprint, absolute.
    pub(crate) folder: PathBuf,
    /// The blueprint's path as people should see it.
    pub(crate) shown: String,
    /// The blueprint.
    pub(crate) blueprint: Blueprint,
    /// What somebody should look at.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// Finds the blueprint: the one that is named, or the nearest from `here` upwards.
pub(crate) fn find(here: &Path, named: Option<&Path>) -> Result<PathBuf, CliError> {
    if let Some(named) = named {
        return Ok(here.join(named));
    }
    here.ancestors()
        .map(|folder| folder.join(BLUEPRINT))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            CliError::new(
                "blueprint::not-found",
                format!("there is no `{BLUEPRINT}` in `{}` or above", here.display()),
            )
            .help("run `platform init` to make one, or name one with `--file`")
        })
}

/// The folder of the blueprint at `path`, absolute.
pub(crate) fn folder(here: &Path, path: &Path) -> PathBuf {
    let folder = path.parent().unwrap_or(here);
    fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned())
}

/// Reads a blueprint's text.
pub(crate) fn read(path: &Path, shown: &str) -> Result<String, CliError> {
    let bytes = fs::read(path).map_err(|error| {
        let missing = error.kind() == io::ErrorKind::NotFound;
        let failed = CliError::new("blueprint::unreadable", format!("cannot read `{shown}`"))
            .because(&error);
        if missing {
            failed.help("run `platform init` to make one")
        } else {
            failed
        }
    })?;
    String::from_utf8(bytes).map_err(|error| {
        CliError::new(
            "blueprint::unreadable",
            format!("`{shown}` is not UTF-8 text"),
        )
        .because(&error.utf8_error())
    })
}

impl Project {
    /// Reads and parses the blueprint at `path`.
    pub(crate) fn open(here: &Path, path: &Path) -> Result<Self, CliError> {
        let shown = shown(here, path);
        let text = read(path, &shown)?;
        let Parsed {
            blueprint,
            warnings,
        } = Blueprint::parse(&text, &shown).map_err(|found| problems(&found))?;
        let folder = folder(here, path);
        Ok(Self {
            folder,
            shown,
            blueprint,
            warnings: diagnostics(&warnings),
        })
    }

    /// The environments' names.
    pub(crate) fn environments(&self) -> Vec<EnvironmentName> {
        let environments = self.blueprint.environments();
        environments
            .map(|environment| environment.name.clone())
            .collect()
    }

    /// The blueprint with an environment applied: the one asked for, else `local`, else the only one.
    pub(crate) fn resolve(&self, asked: Option<&EnvironmentName>) -> Result<Resolved, CliError> {
        // The blueprint is valid, so what can be wrong is what was asked for.
        self.blueprint
            .resolve(asked)
            .map_err(|found| problems(&found).exit(Exit::Usage))
    }
}

/// A path as people should see it: from here where it is below, whole otherwise.
pub(crate) fn shown(here: &Path, path: &Path) -> String {
    path.strip_prefix(here)
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Everything that is wrong with a blueprint, as an error.
pub(crate) fn problems(found: &Problems) -> CliError {
    CliError::many(Exit::BadBlueprint, diagnostics(found))
}

/// Everything found in a blueprint, one by one.
pub(crate) fn diagnostics(found: &Problems) -> Vec<Diagnostic> {
    found
        .iter()
        .map(|problem| {
            let severity = match problem.severity {
                platform_blueprint::Severity::Error => Severity::Error,
                platform_blueprint::Severity::Warning => Severity::Warning,
            };
            let mut diagnostic = Diagnostic::error(problem.code.as_str(), problem.message.clone())
                .severity(severity)
                .maybe_help(problem.help.clone());
            diagnostic.place = found.position(problem).map(|position| Place {
                file: found.name().to_owned(),
                line: position.line,
                column: position.column,
            });
            diagnostic.excerpt = problem
                .labels()
                .map(|labels| Excerpt::new(found.name(), found.text(), labels.collect()));
            diagnostic
        })
        .collect()
}
