//! The command line, and how it fails to be one.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use crate::command::Command;
use crate::diagnostic::Diagnostic;
use crate::globals::{Format, Globals};
use crate::misuse;

/// Scaffold, build, deploy, roll out and watch a system of services on any target
#[derive(Debug, Parser)]
#[command(
    name = "platform",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 changes found (--detailed-exitcode), 10 rolled back,\n13 taken back as time was up (deploy --timeout), 64 usage, 65 bad blueprint,\n69 target unreachable, 70 our bug, 75 lock held, 130/143 interrupted.\n`platform explain CODE` tells more about an error."
)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Flags that every command takes.
    #[command(flatten)]
    pub(crate) globals: Globals,
}

impl Arguments {
    /// The whole command line as clap knows it.
    pub(crate) fn definition() -> clap::Command {
        <Self as CommandFactory>::command()
    }
}

/// Whether a command line that could not be parsed asks for JSON.
pub(crate) fn wanted_format(arguments: &[OsString]) -> Format {
    let mut words = arguments.iter().filter_map(|word| word.to_str());
    let mut format = std::env::var("PLATFORM_FORMAT").ok();
    while let Some(word) = words.next() {
        if let Some(value) = word.strip_prefix("--format=") {
            format = Some(value.to_owned());
        } else if word == "--format" {
            format = words.next().map(str::to_owned);
        }
    }
    if format.is_some_and(|format| format == "json") {
        Format::Json
    } else {
        Format::Human
    }
}

/// The command of a command line as far as it is known, such as `platform rollout`.
fn path(words: &[OsString]) -> String {
    let mut command = Arguments::definition();
    let mut path = command.get_name().to_owned();
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        if let Some(below) = command.find_subcommand(word) {
            path.extend([" ", word]);
            command = below.clone();
        }
    }
    path
}

/// What is wrong with a command line.
///
/// - `words`: the command line, the program first
pub(crate) fn diagnostic(error: &clap::Error, words: &[OsString]) -> Diagnostic {
    let code = match error.kind() {
        ErrorKind::InvalidSubcommand => "usage::unknown-command",
        ErrorKind::UnknownArgument => "usage::unknown-flag",
        ErrorKind::InvalidValue
        | ErrorKind::ValueValidation
        | ErrorKind::NoEquals
        | ErrorKind::TooManyValues
        | ErrorKind::TooFewValues
        | ErrorKind::WrongNumberOfValues
        | ErrorKind::InvalidUtf8 => "usage::bad-value",
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "usage::missing",
        ErrorKind::ArgumentConflict => "usage::conflict",
        _ => "usage::wrong",
    };
    let text = error.render().to_string();
    let message: Vec<&str> = text
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .map(str::trim)
        .collect();
    let message = message.join(" ");
    let message = message
        .strip_prefix("error: ")
        .unwrap_or(&message)
        .to_owned();
    let path = path(words);
    let meant = misuse::meant(error, &path);
    let mut help = meant.instead;
    if meant.similar {
        let tips = text.lines();
        let tips = tips.filter_map(|line| line.trim().strip_prefix("tip: "));
        help.extend(tips.map(str::to_owned));
    }
    if let Some(ContextValue::Strings(values)) = error.get(ContextKind::ValidValue)
        && code == "usage::bad-value"
        && !values.is_empty()
        && !message.contains("possible values")
    {
        help.push(format!("possible values: {}", values.join(", ")));
    }
    let usage = text
        .lines()
        .skip_while(|line| !line.starts_with("Usage: "))
        .take_while(|line| !line.trim().is_empty());
    let usage: Vec<&str> = usage.map(str::trim).collect();
    if let Some(usage) = usage.join(" ").strip_prefix("Usage: ") {
        help.push(format!("usage: {usage}"));
    }
    if help.is_empty() {
        help.push(format!("run `{path} --help`"));
    }
    Diagnostic::error(code, message).help(help.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_flags_get_in_each_others_way() {
        Arguments::definition().debug_assert();
    }

    /// What somebody is told who types this.
    fn check(line: &str, told: &str) {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = Arguments::try_parse_from(&words).unwrap_err();
        let help = diagnostic(&error, &words).help.unwrap_or_default();
        let help = help.lines().filter(|line| !line.starts_with("usage: "));
        assert_eq!(help.collect::<Vec<_>>().join("\n"), told, "{line}");
    }

    #[test]
    fn what_was_meant_is_told() {
        check("platform log", "a similar subcommand exists: 'logs'");
        check(
            "platform destory",
            "some similar subcommands exist: 'stop', 'deploy', 'doctor', 'destroy'",
        );
        let anew = "`platform stop` and then `platform deploy` start everything anew";
        check("platform restart", anew);
        check("platform -e local ps", "`platform status` shows what runs");
        check(
            "platform rollout stat",
            "a similar subcommand exists: 'status'",
        );
        let canary = "for the steps of a canary write `--canary=1%,10%`";
        check("platform deploy --canary 1%,10%", canary);
        let named = "`--service orders` names a service, `--env orders` an environment";
        check("platform deploy orders", named);
        check(
            "platform releases show 1",
            "run `platform releases show --help`",
        );
        check("platform status --env", "run `platform status --help`");
    }

    #[test]
    fn no_command_of_ours_is_taken_for_another_tools() {
        for command in Arguments::definition().get_subcommands() {
            let known = misuse::is_elsewhere(command.get_name());
            assert!(!known, "{}", command.get_name());
        }
    }

    #[test]
    fn logs_follow_with_the_short_flag_and_still_know_the_file() {
        let parsed = Arguments::try_parse_from(["platform", "logs", "-f", "--file", "a.toml"]);
        let parsed = parsed.unwrap();
        assert_eq!(parsed.globals.file.as_deref(), Some("a.toml".as_ref()));
    }

    /// Where a command or one of its flags is not in the text.
    fn undocumented(command: &clap::Command, path: &str, text: &str, missing: &mut Vec<String>) {
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            if !["help", "version"].contains(&flag) && !text.contains(&format!("--{flag}")) {
                missing.push(format!("{path} --{flag}"));
            }
        }
        for below in command.get_subcommands() {
            let path = format!("{path} {}", below.get_name());
            if !text.contains(&format!("`{path}")) {
                missing.push(path.clone());
            }
            undocumented(below, &path, text, missing);
        }
    }

    /// Commands and other quoted words of every page of help that a line end tears apart.
    fn torn(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        for width in [80, 100] {
            let page = command.clone().term_width(width).render_long_help();
            let page = page.to_string();
            let quoted = page.split('`').skip(1).step_by(2);
            let torn = quoted.filter(|words| words.contains('\n'));
            found.extend(torn.map(|words| format!("{path} --help ({width}): {words}")));
        }
        for below in command.get_subcommands() {
            torn(below, &format!("{path} {}", below.get_name()), found);
        }
    }

    #[test]
    fn what_somebody_copies_from_a_page_of_help_is_on_one_line() {
        let (mut definition, mut found) = (Arguments::definition(), Vec::new());
        definition.build();
        torn(&definition, "platform", &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn every_command_and_flag_is_documented() {
        let text = include_str!("../../docs/cli.md");
        let mut missing = Vec::new();
        undocumented(&Arguments::definition(), "platform", text, &mut missing);
        assert!(
            missing.is_empty(),
            "write these into docs/cli.md: {missing:#?}"
        );
    }
}
