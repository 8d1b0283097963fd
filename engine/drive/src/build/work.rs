//! The work of one job: what is run, and what it leaves.

use std::path::{Path, PathBuf};

use platform_blueprint::{CommandBuild, ProgramBuild, ServiceName};

use super::builder::BuildOptions;
use super::cargo::normal;
use super::cargo_output::{CargoOutput, sources_of};
use super::error::{BuildError, BuildFailure};
use super::events::{BuildEvent, BuildSink};
use super::images::{static_arguments, static_variable};
use super::jobs::{Job, Work, cargo_arguments};
use super::process::{Ended, Invocation, find, run};

/// Where and how a job is done.
pub(super) struct Workplace<'a> {
    pub project: &'a Path,
    pub logs: &'a Path,
    pub options: &'a BuildOptions,
    pub sink: &'a dyn BuildSink,
    /// Whether programs must run without libraries beside them.
    pub standing_alone: bool,
}

/// What one service got from a job.
#[derive(Debug, Clone)]
pub(super) struct Yield {
    /// What was run.
    pub command: String,
    /// Files and folders, and where they go within the artifact.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// The sources it was made from, where the compiler says.
    pub read: Vec<PathBuf>,
}

/// What came of a job.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub yields: Vec<(ServiceName, Yield)>,
    pub errors: Vec<BuildError>,
}

impl Outcome {
    fn failed(error: BuildError) -> Self {
        Self {
            yields: Vec::new(),
            errors: vec![error],
        }
    }
}

impl Workplace<'_> {
    /// Does a job once.
    pub(super) async fn work(&self, job: &Job) -> Outcome {
        match &job.work {
            Work::Cargo { .. } => self.cargo(job).await,
            Work::Command { folder, build } => self.command(job, folder, build).await,
            Work::Program { build } => self.program(job, build),
        }
    }

    async fn cargo(&self, job: &Job) -> Outcome {
        let Work::Cargo {
            folder,
            profile,
            target,
            builds,
            along,
        } = &job.work
        else {
            return Outcome::default();
        };
        let Some(program) = find("cargo") else {
            return Outcome::failed(missing(job, "cargo"));
        };
        let asked = builds.values().chain(along);
        let mut arguments = cargo_arguments(profile, target.as_deref(), asked, self.options.color);
        let alone = target.as_deref().filter(|_| self.standing_alone);
        arguments.extend(
            alone
                .map(static_arguments)
                .unwrap_or_default()
                .into_iter()
                .map(Into::into),
        );
        let command = format!(
            "cargo build --profile {profile} {}",
            builds
                .values()
                .map(|build| format!("-p {}", build.cargo))
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
                .join(" ")
        );
        let invocation = Invocation {
            program,
            arguments,
            folder: folder.clone(),
            variables: alone.and_then(static_variable).into_iter().collect(),
        };
        let mut output = CargoOutput::default();
        let ended = self
            .run(job, &command, &invocation, |line| match output.take(line) {
                Ok(compiled) => {
                    if let Some(part) = compiled {
                        for service in &job.services {
                            self.sink.event(BuildEvent::Progress {
                                service: service.clone(),
                                done: output.done,
                                part: part.clone(),
                            });
                        }
                    }
                    None
                }
                Err(line) => Some(line),
            })
            .await;
        let (ended, log) = match ended {
            Ok(ended) => ended,
            Err(error) => return Outcome::failed(error),
        };
        let mut outcome = Outcome::default();
        let mut without = Vec::new();
        for (name, build) in builds {
            let programs = output.programs(&build.cargo, build.bin.as_deref());
            if !programs.is_empty() {
                outcome.yields.push((
                    name.clone(),
                    Yield {
                        command: command.clone(),
                        read: programs.iter().flat_map(|path| sources_of(path)).collect(),
                        files: programs
                            .into_iter()
                            .filter_map(|path| Some((path.to_owned(), path.file_name()?.into())))
                            .collect(),
                    },
                ));
            } else if ended.status.success() {
                let bin = build.bin.as_ref().unwrap_or(&build.cargo);
                outcome.errors.push(BuildError::NoOutput {
                    service: name.clone(),
                    missing: format!("program `{bin}`"),
                });
            } else {
                without.push(name.clone());
            }
        }
        if !without.is_empty() {
            outcome.errors.push(failed(without, command, &ended, log));
        }
        outcome
    }

    async fn command(&self, job: &Job, folder: &Path, build: &CommandBuild) -> Outcome {
        let Some(program) = find("sh") else {
            return Outcome::failed(missing(job, "sh"));
        };
        let invocation = Invocation {
            program,
            arguments: vec!["-c".into(), (&build.command).into()],
            folder: folder.to_owned(),
            variables: vec![(
                "PLATFORM_SERVICE".to_owned(),
                job.services[0].as_str().into(),
            )],
        };
        let ended = match self.run(job, &build.command, &invocation, Some).await {
            Ok((ended, log)) if !ended.status.success() => {
                // What a shell says of a program it does not find.
                let not_found = (ended.status.code() == Some(127))
                    .then(|| first_word(&build.command))
                    .flatten()
                    .filter(|program| find(program).is_none() && !program.contains('/'));
                return Outcome::failed(match not_found {
                    Some(program) => missing(job, program),
                    None => failed(job.services.clone(), build.command.clone(), &ended, log),
                });
            }
            other => other,
        };
        if let Err(error) = ended {
            return Outcome::failed(error);
        }
        let mut outcome = Outcome::default();
        for name in &job.services {
            match outputs(name, folder, build) {
                Ok(files) => outcome.yields.push((
                    name.clone(),
                    Yield {
                        command: build.command.clone(),
                        files,
                        read: Vec::new(),
                    },
                )),
                Err(error) => outcome.errors.push(error),
            }
        }
        outcome
    }

    fn program(&self, job: &Job, build: &ProgramBuild) -> Outcome {
        let path = normal(&self.project.join(&build.program));
        let beside = path.parent().unwrap_or(self.project);
        let mut files = vec![path.clone()];
        files.extend(
            build
                .with
                .iter()
                .map(|with| normal(&self.project.join(with))),
        );
        let files: Vec<_> = files
            .into_iter()
            .filter_map(|file| {
                // What lies beside the program stays where it is, seen from there.
                let to = file
                    .strip_prefix(beside)
                    .map(Path::to_owned)
                    .ok()
                    .or_else(|| file.file_name().map(PathBuf::from))?;
                Some((file, to))
            })
            .collect();
        let yielded = Yield {
            command: format!("copy {}", build.program),
            files,
            read: Vec::new(),
        };
        Outcome {
            yields: job
                .services
                .iter()
                .map(|name| (name.clone(), yielded.clone()))
                .collect(),
            errors: Vec::new(),
        }
    }

    async fn run(
        &self,
        job: &Job,
        command: &str,
        invocation: &Invocation,
        on_out: impl FnMut(String) -> Option<String> + Send,
    ) -> Result<(Ended, PathBuf), BuildError> {
        for service in &job.services {
            self.sink.event(BuildEvent::Started {
                service: service.clone(),
                command: command.to_owned(),
            });
        }
        let log = self.logs.join(format!("{}.log", job.services[0]));
        let on_line = |line: &str| {
            self.sink.event(BuildEvent::Output {
                services: job.services.clone(),
                line: line.to_owned(),
            });
        };
        let ended = run(invocation, &log, &self.options.stop, on_out, on_line).await?;
        Ok((ended, log))
    }
}

fn missing(job: &Job, program: &str) -> BuildError {
    BuildError::ProgramMissing {
        services: job.services.clone(),
        program: program.to_owned(),
    }
}

fn failed(services: Vec<ServiceName>, command: String, ended: &Ended, log: PathBuf) -> BuildError {
    BuildError::Failed(Box::new(BuildFailure {
        services,
        command,
        ended: ended.words(),
        exit_code: ended.status.code(),
        tail: ended.tail.clone(),
        log,
    }))
}

fn first_word(command: &str) -> Option<&str> {
    command.split_whitespace().find(|word| !word.contains('='))
}

/// What a command left, at the same paths within the artifact as within its folder.
fn outputs(
    service: &ServiceName,
    folder: &Path,
    build: &CommandBuild,
) -> Result<Vec<(PathBuf, PathBuf)>, BuildError> {
    build
        .output
        .iter()
        .map(|output| {
            let from = normal(&folder.join(output));
            let there = from.is_file()
                || std::fs::read_dir(&from).is_ok_and(|mut entries| entries.next().is_some());
            let to = from.strip_prefix(folder).map(Path::to_owned);
            match (there, to) {
                (true, Ok(to)) => Ok((from, to)),
                _ => Err(BuildError::NoOutput {
                    service: service.clone(),
                    missing: format!("`{output}` in `{}`", build.folder),
                }),
            }
        })
        .collect()
}
