//! How the program ends: the one table of exit codes.

/// What the shell is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All was done, or there was nothing to do.
    Done,
    /// It failed.
    Failed,
    /// Changes were found, and `--detailed-exitcode` asked to be told.
    Changes,
    /// The rollout went back to the release that served before.
    RolledBack,
    /// A drill missed its objective.
    #[expect(dead_code, reason = "named here so that the table is whole")]
    ObjectiveMissed,
    /// A policy was violated.
    PolicyViolated,
    /// What had not ended in its time was taken back.
    OutOfTime,
    /// The command line was wrong.
    Usage,
    /// The blueprint was wrong.
    BadBlueprint,
    /// The target cannot be reached.
    Unreachable,
    /// A bug of ours.
    Bug,
    /// Somebody else holds the environment's lock, or took it away.
    LockHeld,
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// What the command that `exec` ran ended with.
    Passed(u8),
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Changes => 2,
            Self::RolledBack => 10,
            Self::ObjectiveMissed => 11,
            Self::PolicyViolated => 12,
            Self::OutOfTime => 13,
            Self::Usage => 64,
            Self::BadBlueprint => 65,
            Self::Unreachable => 69,
            Self::Bug => 70,
            Self::LockHeld => 75,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::Passed(code) => code,
        }
    }

    /// How a command ends that failed with an error of this code.
    pub(crate) fn of_code(code: &str) -> Self {
        match code {
            "target::unreachable" => Self::Unreachable,
            "lock::held" | "lock::lost" | "rollout::under-way" => Self::LockHeld,
            "rollout::rolled-back" => Self::RolledBack,
            "rollout::out-of-time" => Self::OutOfTime,
            "run::stopped" | "build::interrupted" => Self::Interrupted,
            _ => match code.split_once("::").map_or(code, |(area, _)| area) {
                "usage" => Self::Usage,
                "blueprint" => Self::BadBlueprint,
                "bug" => Self::Bug,
                "policy" => Self::PolicyViolated,
                _ => Self::Failed,
            },
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_code_decides_how_the_program_ends() {
        for (code, exit) in [
            ("target::unreachable", 69),
            ("target::refused", 1),
            ("lock::held", 75),
            ("lock::lost", 75),
            ("lock::expired", 1),
            ("rollout::under-way", 75),
            ("rollout::rolled-back", 10),
            ("rollout::out-of-time", 13),
            ("run::stopped", 130),
            ("build::interrupted", 130),
            ("usage::unknown-flag", 64),
            ("blueprint::unknown-key", 65),
            ("bug::panic", 70),
            ("deploy::not-ready", 1),
        ] {
            assert_eq!(Exit::of_code(code).code(), exit, "{code}");
        }
    }
}
