//! What an operator may say to a rollout, and why one goes back.

use std::fmt;

use platform_blueprint::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plain::plain;
use crate::group::GroupId;
use crate::release::ReleaseNumber;

/// What an operator asks of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Stay where it is; what goes wrong still goes back.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Go to the next step without waiting for its verdict.
    Next,
    /// Go to the end without waiting for holds, gates or verdicts; instances still have to be ready and to stay up.
    Promote,
    /// Go back.
    Abort,
}

impl Order {
    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Next => "next",
            Self::Promote => "promote",
            Self::Abort => "abort",
        }
    }
}

/// An operator's word, as it is left in the store for the driver to find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Word {
    /// Its place among all words said in the environment; each is heard once, in this order.
    pub number: u64,
    /// What is asked.
    pub order: Order,
    /// The release it is about.
    pub release: ReleaseNumber,
    /// Who asks.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// Why a rollout goes back, or stops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Why {
    /// The analysis found the new release worse.
    Worse {
        /// The group that is worse.
        group: GroupId,
        /// The verdict in words.
        verdict: String,
    },
    /// The analysis came to no verdict in its time, and the policy says that this goes back.
    Undecided {
        /// The group that nothing could be said of.
        group: GroupId,
        /// The verdict in words.
        verdict: String,
    },
    /// Another metric found the new release worse.
    Metric {
        /// The metric.
        metric: String,
        /// The group that is worse.
        group: GroupId,
        /// The verdict in words.
        verdict: String,
    },
    /// An instance of the new release ended, was killed for its memory, or is ready no more.
    Guardrail {
        /// The instance.
        instance: String,
        /// What became of it, in words.
        what: String,
    },
    /// Instances did not become ready in time.
    NotReady {
        /// Their group.
        group: GroupId,
        /// How many of how many were ready.
        ready: (u32, u32),
        /// How long was waited, in milliseconds.
        waited: u64,
        /// The part of it that is `start_within`; the rest the target had to notice.
        #[serde(default)]
        within: Option<u64>,
        /// What an instance last said.
        reason: Option<String>,
    },
    /// A gate did not agree.
    Gate {
        /// Its name.
        gate: String,
        /// What it said.
        answer: String,
    },
    /// The policy's longest time has passed.
    TookTooLong {
        /// The longest time, in milliseconds.
        at_most: u64,
        /// What it still waited for and could not see, where there is something.
        #[serde(default)]
        unseen: Option<String>,
    },
    /// The run that drives it was given so long, and it had not ended by then.
    OutOfTime {
        /// How long, in milliseconds.
        within: u64,
        /// What it still waited for and could not see, where there is something.
        unseen: Option<String>,
    },
    /// An operator asked for it.
    Operator {
        /// Who.
        by: String,
    },
    /// A later run deployed another release in its place.
    GivenUp {
        /// The release that it deployed.
        to: ReleaseNumber,
    },
    /// The target refused what was asked of it.
    Refused {
        /// What it said.
        message: String,
    },
}

impl fmt::Display for Why {
    /// In one line, whatever gates and instances said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Said<'a>(&'a Why);
        impl fmt::Display for Said<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.say(f)
            }
        }
        f.write_str(&plain(&Said(self).to_string()))
    }
}

impl Why {
    /// In words, what others said being as they said it.
    fn say(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worse { group, verdict } | Self::Undecided { group, verdict } => {
                write!(f, "{group}: {verdict}")
            }
            Self::Metric {
                metric,
                group,
                verdict,
            } => write!(f, "{group}: metric `{metric}` is {verdict}"),
            Self::Guardrail { instance, what } => write!(f, "{instance} {what}"),
            Self::NotReady {
                group,
                ready: (ready, of),
                waited,
                within,
                reason,
            } => {
                let within = within.unwrap_or(*waited);
                write!(
                    f,
                    "{ready} of {of} instances of {group} were ready within {}",
                    Period::from_millis(within)
                )?;
                let more = Period::from_secs(waited.saturating_sub(within) / 1000);
                if !more.is_zero() {
                    write!(f, " and {more} more that the target had to notice")?;
                }
                reason
                    .as_ref()
                    .map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::Gate { gate, answer } => write!(f, "gate `{gate}` does not agree: {answer}"),
            Self::TookTooLong { at_most, unseen } => {
                let at_most = Period::from_millis(*at_most);
                write!(f, "it took longer than {at_most}")?;
                unseen
                    .as_ref()
                    .map_or(Ok(()), |unseen| write!(f, ": {unseen}"))
            }
            Self::OutOfTime { within, unseen } => {
                let within = Period::from_millis(*within);
                write!(f, "it had not ended within the {within} of `--timeout`")?;
                unseen
                    .as_ref()
                    .map_or(Ok(()), |unseen| write!(f, ": {unseen}"))
            }
            Self::Operator { by } => write!(f, "{by} asked for it"),
            Self::GivenUp { to } => write!(f, "{to} took its place"),
            Self::Refused { message } => f.write_str(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Why;

    #[test]
    fn times_are_told_as_they_were_stated() {
        let took = |at_most| Why::TookTooLong {
            at_most,
            unseen: None,
        };
        assert_eq!(took(1_500).to_string(), "it took longer than 1500ms");
        assert_eq!(took(600_000).to_string(), "it took longer than 10m");
        let out = Why::OutOfTime {
            within: 500,
            unseen: None,
        };
        assert_eq!(
            out.to_string(),
            "it had not ended within the 500ms of `--timeout`"
        );
    }
}
