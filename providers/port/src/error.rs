//! What goes wrong on a target, in words the user can act on.

use platform_decide::group::GroupId;

/// Whether asking again could help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same request may go through in a while.
    Later,
    /// It will fail the same way until something is changed.
    Never,
}

/// A request that a target could not fulfil.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} on {provider}")]
pub struct TargetError {
    /// Stable code, such as `target::unreachable`.
    pub code: &'static str,
    /// Verb phrase, such as "start orders@r5".
    pub action: String,
    /// Provider name as written in the blueprint.
    pub provider: &'static str,
    /// Whether asking again could help.
    pub retry: Retry,
    /// What to do, a line the reader can act on.
    pub help: Option<String>,
    /// The group it is about, so that its last log lines can be shown.
    pub group: Option<Box<GroupId>>,
    /// The adapter's own error.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl TargetError {
    /// The target itself cannot be reached; asking again may help.
    pub fn unreachable(
        provider: &'static str,
        action: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            code: "target::unreachable",
            action: action.into(),
            provider,
            retry: Retry::Later,
            help: None,
            group: None,
            source: source.into(),
        }
    }

    /// The target answered that it will not.
    pub fn refused(
        provider: &'static str,
        action: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            code: "target::refused",
            action: action.into(),
            provider,
            retry: Retry::Never,
            help: None,
            group: None,
            source: source.into(),
        }
    }

    /// The same error with another code.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    /// The same error with a line that says what to do.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same error, about a group.
    #[must_use]
    pub fn about(mut self, group: GroupId) -> Self {
        self.group = Some(Box::new(group));
        self
    }
}
