//! The `platform` command line: arguments, views, exit codes; the only place that prints.

mod arguments;
mod authorities;
mod certificates;
mod codes;
mod command;
mod deployment;
mod diagnostic;
mod error;
mod excerpt;
mod exit;
mod file;
mod globals;
mod images;
mod misuse;
mod moment;
mod paint;
mod parties;
mod project;
mod report;
mod rollout_view;
mod run_events;
mod saved_plan;
mod shown_plan;
mod status;
mod stop;
mod strategy;
mod table;
mod target;
mod terminal;
mod under_way;
mod view;
mod world;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use clap::error::ErrorKind;

use crate::arguments::Arguments;
use crate::error::CliError;
use crate::exit::Exit;
use crate::globals::{Format, Globals};
use crate::view::{HumanView, JsonView, Recorder, SharedView, View};
use crate::world::World;

/// A plan of many services is thousands of small values, made once; the gateway's requests are no different.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut words = env::args_os();
    // The agent outlives us and is started often: it goes past everything that is for people.
    if env::args_os().nth(1).is_some_and(|word| word == "agent") {
        words.nth(1);
        return platform_process::serve(words);
    }
    // What runs inside containers does, too.
    if env::args_os().nth(1).is_some_and(|word| word == "inside") {
        words.nth(1);
        return platform_docker::inside::serve(words);
    }
    let words: Vec<OsString> = words.collect();
    let format = arguments::wanted_format(&words);
    explain_panics(format);
    panic::catch_unwind(|| run(&words, format))
        .unwrap_or(Exit::Bug)
        .into()
}

fn run(words: &[OsString], format: Format) -> Exit {
    match Arguments::try_parse_from(words) {
        Ok(arguments) => start(arguments),
        Err(error) => misused(&error, words, format),
    }
}

/// Runs the command and shows how it ended.
fn start(arguments: Arguments) -> Exit {
    let globals = arguments.globals;
    let plain: SharedView = match globals.format {
        Format::Human => Arc::new(HumanView::new(
            globals.color,
            globals.quiet,
            0 < globals.verbose,
        )),
        Format::Json => Arc::new(JsonView::stdout()),
    };
    log_for(&globals);
    let recorder = match Recorder::new(Arc::clone(&plain), globals.events.as_deref()) {
        Ok(recorder) => Arc::new(recorder),
        Err(error) => {
            let path = globals.events.as_deref().unwrap_or(Path::new(""));
            return fail(plain.as_ref(), &CliError::file("write", path, &error));
        }
    };
    let (junit, sarif) = (globals.junit.clone(), globals.sarif.clone());
    let exit = match folder(&globals) {
        Ok(here) => {
            let view: SharedView = Arc::clone(&recorder) as _;
            let world = World::new(globals, here, view);
            let ended = arguments.command.run(&world);
            recorder.settle();
            match ended {
                Ok(exit) => exit,
                Err(error) => {
                    let exit = fail(recorder.as_ref(), &error);
                    recorder.summary(&failed_markdown(&error));
                    match world.stop.exit() {
                        Some(stopped) if exit == Exit::Interrupted => stopped,
                        _ => exit,
                    }
                }
            }
        }
        Err(error) => fail(recorder.as_ref(), &error),
    };
    let reported = reports(&recorder, junit.as_deref(), sarif.as_deref());
    match reported.err().or_else(|| recorder.lost()) {
        None => exit,
        Some(error) => {
            let failed = fail(plain.as_ref(), &error);
            if exit == Exit::Done { failed } else { exit }
        }
    }
}

/// The folder to work in. Relative paths on the command line are of that folder.
fn folder(globals: &Globals) -> Result<PathBuf, CliError> {
    if let Some(folder) = &globals.chdir {
        env::set_current_dir(folder)
            .map_err(|error| CliError::file("enter", folder, &error).exit(Exit::Usage))?;
    }
    env::current_dir().map_err(|error| CliError::file("enter", Path::new("."), &error))
}

fn fail(view: &dyn View, error: &CliError) -> Exit {
    for diagnostic in error.diagnostics() {
        view.diagnose(diagnostic);
    }
    error.ends()
}

/// A failure for a CI run's page.
fn failed_markdown(error: &CliError) -> String {
    let lines = error.diagnostics().iter().map(|diagnostic| {
        let help = diagnostic
            .help
            .as_deref()
            .unwrap_or_default()
            .replace('\n', " ");
        format!(
            "- **{}**: {}  \n  {help}\n",
            diagnostic.code, diagnostic.message
        )
    });
    format!("### platform failed\n\n{}", lines.collect::<String>())
}

fn reports(
    recorder: &Recorder,
    junit: Option<&Path>,
    sarif: Option<&Path>,
) -> Result<(), CliError> {
    if let Some(path) = junit {
        let text = report::junit::render(&recorder.cases());
        fs::write(path, text).map_err(|error| CliError::file("write", path, &error))?;
    }
    if let Some(path) = sarif {
        let text = format!("{:#}\n", report::sarif::render(&recorder.diagnostics()));
        fs::write(path, text).map_err(|error| CliError::file("write", path, &error))?;
    }
    Ok(())
}

/// What cannot be parsed: help that was asked for, or a mistake.
fn misused(error: &clap::Error, words: &[OsString], format: Format) -> Exit {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        // Whoever closed the stream does not want the help any more.
        let _ = error.print();
        return Exit::Done;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        && format == Format::Human
    {
        let _ = error.print();
        return Exit::Usage;
    }
    let diagnostic = arguments::diagnostic(error, words);
    let view: Box<dyn View> = match format {
        Format::Human => Box::new(HumanView::new(paint::Color::Auto, false, false)),
        Format::Json => Box::new(JsonView::stdout()),
    };
    if let Some(github) = report::github::GitHub::from_env() {
        github.annotate(&diagnostic);
    }
    view.diagnose(&diagnostic);
    Exit::Usage
}

/// Lets libraries log to standard error where that is asked for.
fn log_for(globals: &Globals) {
    let level = match globals.verbose {
        0 => return,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(globals.color.for_stderr().colours())
        .try_init();
}

/// Says that a panic is our bug and how to report it.
fn explain_panics(format: Format) {
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map_or_else(String::new, |place| {
            format!(" at {}:{}", place.file(), place.line())
        });
        let what = info
            .payload()
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| info.payload().downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        let diagnostic = diagnostic::Diagnostic::error(
            "bug::panic",
            format!(
                "this is a bug in platform {}: {what}{place}",
                env!("CARGO_PKG_VERSION")
            ),
        )
        .help("what ran before still runs; please report this with the command you gave");
        if format == Format::Json {
            let _ = writeln!(io::stdout().lock(), "{}", diagnostic.json());
        } else {
            let view = HumanView::new(paint::Color::Auto, false, false);
            view.diagnose(&diagnostic);
        }
    }));
}

/// The providers and parts that this program carries.
fn features() -> Vec<&'static str> {
    vec!["process", "docker", "gateway"]
}
