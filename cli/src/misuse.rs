//! What somebody meant who mistyped a command, or brought it from another tool.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use platform_blueprint::Percent;

/// Commands as other tools call them, and what to run instead.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &["up", "apply", "ship", "start", "run", "update", "upgrade"],
        "`platform deploy` brings the environment to what the blueprint says",
    ),
    (
        &["restart", "reload"],
        "`platform stop` and then `platform deploy` start everything anew",
    ),
    (
        &["down"],
        "`platform stop` keeps everything for the next deploy, `platform destroy` takes it away",
    ),
    (
        &["delete", "remove", "rm"],
        "`platform destroy` takes an environment away",
    ),
    (
        &["ps", "ls", "list", "top", "info", "get", "health"],
        "`platform status` shows what runs",
    ),
    (
        &["undo", "revert"],
        "`platform rollback` goes back to the release before",
    ),
    (
        &["canary"],
        "`platform deploy --canary` shifts traffic step by step",
    ),
    (
        &["promote", "abort", "pause", "resume", "next"],
        "`platform rollout` has it, for the rollout under way",
    ),
    (
        &["scale"],
        "set `replicas` in the blueprint and run `platform deploy`",
    ),
    (
        &["check", "lint", "config"],
        "`platform validate` checks the blueprint",
    ),
    (
        &["diff", "preview"],
        "`platform plan` shows what a deploy would change",
    ),
    (
        &["shell", "ssh", "attach"],
        "`platform exec SERVICE -- sh` runs a shell beside a service",
    ),
    (
        &["forward", "tunnel"],
        "`platform port-forward NAME` leads to a service or resource",
    ),
    (
        &["history"],
        "`platform releases` and `platform runs` list what was",
    ),
    (
        &["add", "generate", "create"],
        "`platform new service NAME` adds a service, `platform init` makes a project",
    ),
    (
        &["help"],
        "`platform --help` lists the commands, `platform COMMAND --help` tells of one",
    ),
];

/// Letters by which a command that removes things may be mistyped, and still be suggested.
const SLIPS: usize = 2;

/// What to do in place of a command line that is wrong.
pub(crate) struct Meant {
    /// In words, one or more.
    pub(crate) instead: Vec<String>,
    /// Whether clap's own suggestions help, too.
    pub(crate) similar: bool,
}

/// Finds out what was meant.
///
/// - `path`: the command as far as it is known, such as `platform rollout`
pub(crate) fn meant(error: &clap::Error, path: &str) -> Meant {
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => word.as_str(),
        _ => "",
    };
    let mut meant = Meant {
        instead: Vec::new(),
        similar: true,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand if path == "platform" => {
            let word = word(ContextKind::InvalidSubcommand);
            let known = ELSEWHERE.iter().find(|(words, _)| words.contains(&word));
            meant
                .instead
                .extend(known.map(|(_, instead)| (*instead).to_owned()));
            // What is near by its letters may be far by what it does.
            let likeness = strsim::osa_distance(word, "destroy");
            meant.similar = known.is_none() && (likeness <= SLIPS || !suggests(error, "destroy"));
        }
        ErrorKind::UnknownArgument if path == "platform deploy" || path == "platform plan" => {
            let word = word(ContextKind::InvalidArg);
            if word.starts_with('-') {
                return meant;
            }
            let steps = word.split(',').all(|step| step.parse::<Percent>().is_ok());
            meant.instead.push(if steps {
                format!("for the steps of a canary write `--canary={word}`")
            } else {
                format!("`--service {word}` names a service, `--env {word}` an environment")
            });
        }
        _ => {}
    }
    meant
}

/// Whether another tool has a command of this name that we have not.
#[cfg(test)]
pub(crate) fn is_elsewhere(command: &str) -> bool {
    ELSEWHERE.iter().any(|(words, _)| words.contains(&command))
}

fn suggests(error: &clap::Error, command: &str) -> bool {
    match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::String(suggested)) => suggested == command,
        Some(ContextValue::Strings(suggested)) => suggested.iter().any(|one| one == command),
        _ => false,
    }
}
