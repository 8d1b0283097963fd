//! Flags that every command takes, each mirrored by a `PLATFORM_*` variable.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use platform_blueprint::{EnvironmentName, Period};

use crate::paint::Color;

/// Who reads what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// People: data on standard output, all else on standard error
    #[default]
    Human,
    /// Programs: JSON lines on standard output, the first one of type `version`
    Json,
}

/// Flags that every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Work in this folder
    #[arg(
        short = 'C',
        long,
        global = true,
        env = "PLATFORM_CHDIR",
        value_name = "DIR"
    )]
    pub(crate) chdir: Option<PathBuf>,

    /// The blueprint; otherwise `platform.toml`, here or in a folder above
    #[arg(short, long, global = true, env = "PLATFORM_FILE", value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,

    /// The environment; otherwise the only one, or `local`
    #[arg(short, long, global = true, env = "PLATFORM_ENV", value_name = "NAME")]
    pub(crate) env: Option<EnvironmentName>,

    /// Who reads what is written
    #[arg(
        long,
        global = true,
        env = "PLATFORM_FORMAT",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "human|json"
    )]
    pub(crate) format: Format,

    /// Write JSON lines to this file as well, whatever the format
    #[arg(long, global = true, env = "PLATFORM_EVENTS", value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,

    /// Whether to colour
    #[arg(
        long,
        global = true,
        env = "PLATFORM_COLOR",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "auto|always|never"
    )]
    pub(crate) color: Color,

    /// Say only what goes wrong, and the result
    #[arg(short, long, global = true, env = "PLATFORM_QUIET", value_parser = FalseyValueParser::new(), conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say more; twice, also what libraries log
    #[arg(short, long, global = true, env = "PLATFORM_VERBOSE", action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Answer yes to every question
    #[arg(short = 'y', long, global = true, env = "PLATFORM_YES", value_parser = FalseyValueParser::new(), visible_alias = "auto-approve")]
    pub(crate) yes: bool,

    /// Never ask; refuse what would need an answer
    #[arg(long, global = true, env = "PLATFORM_NON_INTERACTIVE", value_parser = FalseyValueParser::new())]
    pub(crate) non_interactive: bool,

    /// How long to wait for the environment's lock, such as `5m`
    #[arg(
        long,
        global = true,
        env = "PLATFORM_LOCK_TIMEOUT",
        default_value = "0s",
        value_name = "TIME"
    )]
    pub(crate) lock_timeout: Period,

    /// At most so many builds and steps at once; 0 chooses
    #[arg(
        long,
        global = true,
        env = "PLATFORM_PARALLELISM",
        default_value_t = 0,
        value_name = "COUNT"
    )]
    pub(crate) parallelism: usize,

    /// Write what was checked to this file as `JUnit` XML
    #[arg(long, global = true, env = "PLATFORM_JUNIT", value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,

    /// Write the problems found to this file as SARIF
    #[arg(long, global = true, env = "PLATFORM_SARIF", value_name = "FILE")]
    pub(crate) sarif: Option<PathBuf>,
}

impl Globals {
    /// How long to wait for the environment's lock.
    pub(crate) fn lock_timeout(&self) -> Duration {
        self.lock_timeout.duration()
    }
}
