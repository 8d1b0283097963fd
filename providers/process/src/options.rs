//! What the agent is told on its command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::{agent, keeper, launch};

/// Which environment an agent is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentOptions {
    /// The state folder of the environment.
    pub state: PathBuf,
    /// The folder of the blueprint.
    pub root: PathBuf,
    /// The project's name.
    pub project: String,
    /// The environment's name.
    pub environment: String,
}

impl AgentOptions {
    /// The arguments that start an agent process in `mode`: `--detach`, `--keep`, or none for the agent itself.
    pub(crate) fn arguments(&self, mode: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["agent".into()];
        if !mode.is_empty() {
            arguments.push(mode.into());
        }
        arguments.extend([
            "--state".into(),
            self.state.clone().into(),
            "--root".into(),
            self.root.clone().into(),
            "--project".into(),
            self.project.clone().into(),
            "--environment".into(),
            self.environment.clone().into(),
        ]);
        arguments
    }

    fn parse(arguments: impl Iterator<Item = OsString>) -> Option<(String, Self)> {
        let mut mode = String::new();
        let (mut state, mut root) = (None, None);
        let (mut project, mut environment) = (String::new(), String::new());
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.to_str()? {
                word @ ("--detach" | "--keep" | "--launch") => word.clone_into(&mut mode),
                "--state" => state = Some(PathBuf::from(arguments.next()?)),
                "--root" => root = Some(PathBuf::from(arguments.next()?)),
                "--project" => project = arguments.next()?.into_string().ok()?,
                "--environment" => environment = arguments.next()?.into_string().ok()?,
                _ => return None,
            }
        }
        if mode == "--launch" {
            state.get_or_insert_default();
            root.get_or_insert_default();
        }
        let options = Self {
            state: state?,
            root: root?,
            project,
            environment,
        };
        Some((mode, options))
    }
}

/// Runs what `platform agent …` asks for: a detached keeper, a keeper, a launch or the agent itself.
///
/// - `arguments`: everything after `agent`
///
/// The command line calls this before it does anything else when its first argument is `agent`.
pub fn serve(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some((mode, options)) = AgentOptions::parse(arguments) else {
        return ExitCode::from(64);
    };
    if mode == "--launch" {
        return launch::run();
    }
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        // Where a line cannot be written, as on a full disk, saying so would not work either.
        .log_internal_errors(false)
        .try_init();
    match mode.as_str() {
        "--detach" => keeper::detach(&options),
        "--keep" => keeper::run(&options),
        _ => agent::run(&options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_read_back_what_they_said() {
        let options = AgentOptions {
            state: "/p/.platform/local".into(),
            root: "/p".into(),
            project: "shop".to_owned(),
            environment: "local".to_owned(),
        };
        let arguments = options.arguments("--keep").into_iter().skip(1);
        assert_eq!(
            AgentOptions::parse(arguments),
            Some(("--keep".to_owned(), options))
        );
        assert_eq!(AgentOptions::parse(["--what".into()].into_iter()), None);
    }
}
