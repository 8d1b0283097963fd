//! What happened in a rollout, as values: for events, the report and people.

use std::fmt;

use platform_blueprint::{Period, WhenQuiet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::metric_side::MetricSide;
use super::plain::plain;
use super::words::Why;
use crate::analysis::Tally;
use crate::group::GroupId;

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub note: Note,
}

/// Something that happened in a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "note", rename_all = "kebab-case")]
pub enum Note {
    /// It began.
    Began {
        /// The groups that take over.
        groups: Vec<GroupId>,
        /// Names of the stages.
        stages: Vec<String>,
    },
    /// A run took it up again.
    TakenUp {
        /// The run.
        run: String,
    },
    /// Instances of a stage come up.
    Starting {
        /// Name of the stage.
        stage: String,
    },
    /// A second colour is up, and is asked through the preview until the switch.
    Held {
        /// Name of the stage.
        stage: String,
        /// For how long at the least, in milliseconds.
        millis: u64,
    },
    /// A stage's shares come into force.
    Serving {
        /// Name of the stage.
        stage: String,
    },
    /// A stage is over, and the rollout goes on.
    StageOver {
        /// What it showed.
        result: StageResult,
    },
    /// No request has come, so that there is nothing to judge a stage by that waits for a verdict.
    Quiet {
        /// The group it is about.
        group: GroupId,
        /// For how long, in seconds.
        seconds: u64,
        /// The longest time of the stage, in seconds.
        at_most: u64,
        /// What becomes of it then.
        then: WhenQuiet,
    },
    /// The comparison cannot be decided in its time, and the rollout stays until somebody says what to do.
    Holding {
        /// The group it is about.
        group: GroupId,
        /// The verdict in words.
        verdict: String,
    },
    /// No instance of the old release is ready, so that there is nothing to compare with.
    OldIsDown {
        /// The old group.
        group: GroupId,
        /// The group that gets its requests.
        to: GroupId,
        /// What an instance last said.
        reason: Option<String>,
    },
    /// No instance of the old release is ready that stays for the way back.
    WayBackIsDown {
        /// The old group.
        group: GroupId,
        /// What an instance last said.
        reason: Option<String>,
    },
    /// A side gets hardly any of the requests that it should.
    Starved {
        /// The group it is about.
        group: GroupId,
        /// Its instances that are ready.
        ready: u32,
        /// Requests that it got.
        requests: u64,
        /// Of so many.
        of: u64,
        /// The share that it should get, in thousandths.
        share: u16,
        /// Requests besides, by a header or a cookie or of heavy clients, that it answered badly.
        bad_besides: u64,
    },
    /// Something that only reports would have gone back.
    WouldGoBack {
        /// Why.
        why: Why,
    },
    /// A gate answered.
    Gate {
        /// Its name.
        gate: String,
        /// What it said when it did not agree.
        refused: Option<String>,
    },
    /// An operator paused it.
    Paused {
        /// Who.
        by: String,
    },
    /// An operator let it go on.
    Resumed {
        /// Who.
        by: String,
    },
    /// An operator sent it on without waiting for a verdict.
    SentOn {
        /// Who.
        by: String,
        /// Whether to the very end.
        to_the_end: bool,
    },
    /// A word came at a time when it means nothing.
    NotNow {
        /// The word.
        word: String,
        /// Why it means nothing.
        because: String,
    },
    /// The new release serves for good.
    Promoting,
    /// The new release serves alone.
    Promoted,
    /// It goes back.
    GoingBack {
        /// Why.
        why: Why,
    },
    /// The old release takes all requests again.
    Back,
    /// The old release serves alone.
    RolledBack,
    /// Something is left over that could not be removed in time; the next run does.
    LeftOver {
        /// The groups.
        groups: Vec<GroupId>,
    },
    /// The history is long, and here so much of it is left out.
    LeftOut {
        /// How many entries.
        entries: u64,
    },
    /// It was told to stop and stopped at a safe point.
    Interrupted {
        /// Name of the stage.
        stage: String,
    },
    /// The old release does not come up again.
    Stuck {
        /// Why it wanted to go back.
        why: Why,
    },
}

impl fmt::Display for Note {
    /// In one line, whatever gates and instances said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Said<'a>(&'a Note);
        impl fmt::Display for Said<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.say(f)
            }
        }
        f.write_str(&plain(&Said(self).to_string()))
    }
}

impl Note {
    /// In words, what others said being as they said it.
    fn say(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Began { groups, stages } => {
                let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
                let takes = if groups.len() > 1 { "take" } else { "takes" };
                write!(
                    f,
                    "{} {takes} over by {}",
                    groups.join(", "),
                    stages.join(", ")
                )
            }
            Self::TakenUp { run } => write!(f, "run {run} takes it up"),
            Self::Starting { stage } => write!(f, "{stage}: instances start"),
            Self::Held { stage, millis } => write!(
                f,
                "{stage}: instances are up, and only the preview leads to them for {}; `platform rollout next` switches at once",
                Period::from_millis(*millis)
            ),
            Self::Serving { stage } => write!(f, "{stage}: the gateway shares requests out"),
            Self::StageOver { result } => write!(f, "{result}"),
            Self::Quiet { .. } => self.say_quiet(f),
            Self::Holding { group, verdict } => {
                write!(
                    f,
                    "{group}: {verdict}; it stays until there is more to see, or `platform rollout next`, `promote` or `abort`"
                )
            }
            Self::OldIsDown { group, to, reason } => {
                write!(f, "{group}: no instance is ready")?;
                if let Some(reason) = reason {
                    write!(f, " ({reason})")?;
                }
                write!(
                    f,
                    "; {to} gets its requests, and with nothing to compare with there may be no verdict: `platform rollout promote` goes \
                     to the end without one"
                )
            }
            Self::WayBackIsDown { group, reason } => {
                write!(f, "{group}: no instance is ready")?;
                if let Some(reason) = reason {
                    write!(f, " ({reason})")?;
                }
                f.write_str("; going back would have to wait until one is")
            }
            Self::Starved { .. } => self.say_starved(f),
            Self::WouldGoBack { why } => write!(f, "would go back, but only reports: {why}"),
            Self::Gate {
                gate,
                refused: None,
            } => write!(f, "gate `{gate}` agrees"),
            Self::Gate {
                gate,
                refused: Some(answer),
            } => write!(f, "gate `{gate}` does not agree: {answer}"),
            Self::Paused { by } => write!(f, "{by} paused it"),
            Self::Resumed { by } => write!(f, "{by} let it go on"),
            Self::SentOn {
                by,
                to_the_end: true,
            } => write!(f, "{by} sent it to the end"),
            Self::SentOn {
                by,
                to_the_end: false,
            } => write!(f, "{by} sent it to the next step"),
            Self::NotNow { word, because } => write!(f, "`{word}` means nothing now: {because}"),
            Self::Promoting => f.write_str("the new release serves; old instances go"),
            Self::Promoted => f.write_str("promoted"),
            Self::GoingBack { why } => write!(f, "goes back: {why}"),
            Self::Back => f.write_str("the old release takes all requests"),
            Self::RolledBack => f.write_str("rolled back"),
            Self::LeftOver { groups } => {
                let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "{} could not be removed in time; the next run does",
                    groups.join(", ")
                )
            }
            Self::LeftOut { entries } => write!(f, "… {entries} entries are left out here"),
            Self::Interrupted { stage } => write!(f, "stopped at {stage}; the next deploy goes on"),
            Self::Stuck { why } => write!(
                f,
                "wanted to go back ({why}) and the old release does not come up"
            ),
        }
    }

    fn say_quiet(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Quiet {
            group,
            seconds,
            at_most,
            then,
        } = self
        else {
            return Ok(());
        };
        let next = match then {
            WhenQuiet::Hold => "it stays, however long that takes, until there are some",
            WhenQuiet::Advance => "it goes on without a verdict",
            WhenQuiet::RollBack => "it goes back",
        };
        write!(
            f,
            "{group}: no request in {seconds} s, and without any there is no verdict: after {at_most} s of this step {next} \
             (`when_quiet = \"{}\"`); `platform rollout next`, `promote` or `abort` decides now",
            then.as_str()
        )
    }

    fn say_starved(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Starved {
            group,
            ready,
            requests,
            of,
            share,
            bad_besides,
        } = self
        else {
            return Ok(());
        };
        let (whole, tenth) = (share / 10, share % 10);
        write!(
            f,
            "{group} got {requests} of {of} requests, where {whole}.{tenth} % are asked for: "
        )?;
        match (ready, bad_besides) {
            (0, _) => f.write_str("no instance is ready")?,
            (_, 0) => f.write_str(
                "the gateway sets its instances aside or they are full, or few clients stay with one side each",
            )?,
            (_, bad) => write!(
                f,
                "the gateway sets aside what answers badly, and it answered {bad} requests by a header or a cookie or of heavy \
                 clients so, which are in no comparison"
            )?,
        }
        f.write_str(
            "; `platform rollout abort` takes it back, `promote` goes to the end without a verdict",
        )
    }
}

/// What a stage showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageResult {
    /// Its name.
    pub stage: String,
    /// Time with its shares in force, in milliseconds.
    pub lasted: u64,
    /// Each service that requests reach.
    pub sides: Vec<StageSide>,
}

/// What a stage showed of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageSide {
    /// The new group.
    pub group: GroupId,
    /// What the new release answered during the stage.
    pub new: Tally,
    /// What it was compared with.
    pub old: Tally,
    /// The verdict in words, where it was judged.
    pub verdict: Option<String>,
    /// What extra metrics showed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricSide>,
}

impl fmt::Display for StageResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: over after {} s", self.stage, self.lasted / 1000)?;
        for side in &self.sides {
            match &side.verdict {
                Some(verdict) => write!(f, "; {}: {verdict}", side.group)?,
                None => write!(
                    f,
                    "; {}: {} requests, {} bad",
                    side.group, side.new.requests, side.new.bad
                )?,
            }
            for metric in &side.metrics {
                write!(f, "; {metric}")?;
            }
        }
        Ok(())
    }
}
