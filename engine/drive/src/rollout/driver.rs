//! The loop: observe, decide, save, act, wait.

mod acts;
mod heard;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join;
use platform_blueprint::{Period, ServiceName};
use platform_decide::analysis::Tally;
use platform_decide::group::GroupId;
use platform_decide::observed::Observed;
use platform_decide::plan::Plan;
use platform_decide::rollout::{
    Besides, Counts, GateAnswer, GateKey, Move, Note, Phase, Reading, Seen, State, Unread, Why,
    Word, advance, ahead,
};
use platform_port::{LaneTally, LogLine, Part, Retry, StoreError, Tallies, TargetError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use acts::Done;
pub(super) use heard::Told;

use super::Outcome;
use super::ahead::Ahead;
use super::document::{self, Document};
use super::metric;
use super::progress::{self, Latency};
use super::report::Report;
use super::specs::Specs;
use crate::apply::{Crew, Means, Time};
use crate::error::{Cause, in_words};
use crate::events::Event;
use crate::last_lines::last_lines;

/// How long the last lines of new instances may take to be read before these go without.
const LISTENED_WITHIN: Duration = Duration::from_secs(5);

/// The longest time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The shortest, however often the target says that something changed.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(40);

/// How long to wait before asking again what the target did not do.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Looks that may fail in a row.
const PATIENCE: u32 = 60;

/// How often numbers are told.
const TELL_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Driver<'a> {
    crew: &'a Crew,
    plan: &'a Plan,
    means: Means<'a>,
    specs: Specs,
    document: Document,
    abandon: &'a CancellationToken,
    asked: BTreeMap<GateKey, AbortOnDropHandle<()>>,
    metrics: Vec<AbortOnDropHandle<()>>,
    /// The sides that they are read of.
    measured: Vec<metric::Answering>,
    /// Groups of which instances are being taken down, with how many shall be left.
    leaving: BTreeMap<GroupId, (u32, AbortOnDropHandle<()>)>,
    /// What the target makes ready meanwhile.
    ahead: Ahead,
    /// What instances of groups are made from, on its way to the target.
    fetching: BTreeMap<GroupId, AbortOnDropHandle<Result<(), TargetError>>>,
    /// The moves of the last look.
    made: Vec<Move>,
    /// The target did not do something that it was not waited for; it is not asked again at once.
    rests: bool,
    telling: mpsc::UnboundedSender<Told>,
    told: mpsc::UnboundedReceiver<Told>,
    /// What was told and not decided upon yet.
    gates: BTreeMap<GateKey, GateAnswer>,
    readings: Vec<Reading>,
    unread: Vec<Unread>,
    /// What was told of each metric that cannot be read, by service and name.
    told_unread: BTreeMap<(ServiceName, String), String>,
    /// It was told that the gateway's counts cannot be read.
    told_uncounted: bool,
    refused: Option<String>,
    /// What the target said of a move that it did not do and may do yet; until all is done.
    hindered: Option<String>,
    progress_told: Option<Instant>,
    /// How long the answers of each group took when it was last seen to answer.
    latencies: BTreeMap<GroupId, Latency>,
    /// What the new instances last wrote, where it went back.
    log: Option<Vec<LogLine>>,
}

impl<'a> Driver<'a> {
    pub(super) fn new(
        crew: &'a Crew,
        plan: &'a Plan,
        means: Means<'a>,
        specs: Specs,
        document: Document,
        abandon: &'a CancellationToken,
    ) -> Self {
        let (telling, told) = mpsc::unbounded_channel();
        Self {
            crew,
            plan,
            means,
            specs,
            document,
            abandon,
            asked: BTreeMap::new(),
            metrics: Vec::new(),
            measured: Vec::new(),
            leaving: BTreeMap::new(),
            ahead: Ahead::until(abandon),
            fetching: BTreeMap::new(),
            made: Vec::new(),
            rests: false,
            telling,
            told,
            gates: BTreeMap::new(),
            readings: Vec::new(),
            unread: Vec::new(),
            told_unread: BTreeMap::new(),
            told_uncounted: false,
            refused: None,
            hindered: None,
            progress_told: None,
            latencies: BTreeMap::new(),
            log: None,
        }
    }

    pub(super) async fn drive(mut self) -> Result<Outcome, Cause> {
        if let Some(last) = self.document.state.log.last()
            && matches!(last.note, Note::TakenUp { .. })
        {
            let note = last.note.clone();
            self.tell(note);
        }
        let mut failed = 0;
        let mut first = true;
        loop {
            let earliest = Instant::now() + LOOK_AT_MOST_EVERY;
            let observed = match self.crew.target.observe().await {
                Ok(observed) => observed,
                Err(error) if error.retry == Retry::Later && failed < PATIENCE => {
                    failed += 1;
                    self.trouble(&error);
                    tokio::time::sleep(ASK_AGAIN_AFTER).await;
                    continue;
                }
                Err(error) if self.is_promoted() => return self.leave(&error).await,
                Err(error) => return Err(Cause::Unseen(Arc::new(error))),
            };
            if std::mem::take(&mut first) {
                self.document.state.begin_anew_if_all_ended(&observed);
            }
            let store = self.crew.target.store();
            let (tallies, words) = join(self.tallies(), document::words(store)).await;
            match self.decide(&observed, tallies.as_ref(), words).await {
                Ok(()) => failed = 0,
                // What cannot be saved is not acted upon; traffic stays as it is meanwhile.
                Err(error @ StoreError::Unavailable { .. }) if failed < PATIENCE => {
                    failed += 1;
                    self.trouble(&error);
                    tokio::time::sleep(ASK_AGAIN_AFTER).await;
                    continue;
                }
                Err(error @ StoreError::Unavailable { .. }) if self.is_promoted() => {
                    return self.leave(&error).await;
                }
                Err(error) => return Err(error.into()),
            }
            self.ask(&observed);
            self.measure();
            self.progress(&observed, tallies.as_ref());
            let done = self.act(&observed).await;
            self.look_ahead();
            let stopped =
                self.abandon.is_cancelled() && self.document.state.phase == Phase::BeforeStart;
            let over = stopped || self.document.state.phase.is_over();
            if done != Done::Refused && over && self.leaving.is_empty() {
                return self.finish().await;
            }
            self.wait(done, earliest).await;
        }
    }

    /// What the gateway counted; `None`, and told once, where that cannot be read.
    async fn tallies(&mut self) -> Option<Tallies> {
        match self.crew.target.tallies().await {
            Ok(tallies) => {
                self.told_uncounted = false;
                self.time(&tallies);
                Some(tallies)
            }
            Err(error) => {
                let state = &self.document.state;
                let judges = state.policy.analysis.is_some();
                let matters = judges && state.members.iter().any(|member| member.routed);
                if matters && !self.told_uncounted {
                    self.trouble(&error);
                    self.told_uncounted = true;
                }
                None
            }
        }
    }

    /// Remembers how long answers took, as a group that goes takes its times along.
    fn time(&mut self, tallies: &Tallies) {
        let seen = progress::latencies(&self.document.state, tallies);
        self.latencies.extend(seen);
    }

    /// Takes the next state from what was seen, saved before anything is done about it.
    async fn decide(
        &mut self,
        observed: &Observed,
        tallies: Option<&Tallies>,
        words: Result<Vec<Word>, StoreError>,
    ) -> Result<(), StoreError> {
        let store = self.crew.target.store();
        let counts = tallies.map(counts);
        let words = words?;
        let seen = Seen {
            observed,
            counts: counts.as_ref(),
            gates: self.gates.clone(),
            readings: self.readings.clone(),
            unread: self.unread.clone(),
            leaving: self.leaving.keys().cloned().collect(),
            words: &words,
            stop: self.abandon.is_cancelled(),
            out_of_time: self.means.time.and_then(Time::over),
            refused: self.refused.clone(),
            hindered: self.hindered.clone(),
        };
        let (next, notes) = advance(&self.document.state, &seen, self.crew.clock.millis());
        self.document.take(store, next).await?;
        self.gates.clear();
        self.readings.clear();
        self.unread.clear();
        self.refused = None;
        for note in notes {
            self.tell(note);
        }
        Ok(())
    }

    /// Takes the last lines of the new instances where they are taken back: with their end they may be gone, so before the
    /// first of them goes, and after their requests went elsewhere, which waits for nothing.
    async fn listen(&mut self) {
        let state = &self.document.state;
        let back = matches!(
            state.phase,
            Phase::GoingBack { .. }
                | Phase::Removing { .. }
                | Phase::AfterBack { .. }
                | Phase::RolledBack { .. }
        );
        if self.log.is_some() || !back {
            return;
        }
        let groups: Vec<&GroupId> = state.members.iter().map(|member| &member.to).collect();
        let lines = last_lines(self.crew.target.as_ref(), &groups, None);
        let heard = tokio::time::timeout(LISTENED_WITHIN, lines).await;
        self.log = Some(heard.unwrap_or_default());
    }

    /// Has the target make ready what the next stage asks for.
    fn look_ahead(&mut self) {
        for (group, replicas) in ahead(&self.document.state) {
            if let Some(spec) = self.specs.group(&group, replicas) {
                self.ahead
                    .begin(&self.crew.target, spec, self.means.secrets);
            }
        }
    }

    /// Waits until there may be something to see or hear.
    ///
    /// - `earliest`: when to look again at the earliest where the target says that something changed
    async fn wait(&mut self, done: Done, earliest: Instant) {
        match done {
            Done::Refused => tokio::time::sleep(ASK_AGAIN_AFTER).await,
            // What was just done is there to be seen.
            Done::Fresh => return self.hear_all(),
            Done::All => {
                let changed = async {
                    tokio::select! {
                        () = self.crew.target.changed(LOOK_EVERY) => {}
                        () = tokio::time::sleep(LOOK_EVERY) => {}
                    }
                    tokio::time::sleep_until(earliest).await;
                };
                tokio::select! {
                    () = changed => {}
                    // That is one thing, and all of it, while changes of the target come in numbers.
                    Some(told) = self.told.recv() => self.hear(told),
                }
            }
        }
        self.hear_all();
        if std::mem::take(&mut self.rests) {
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
    }

    /// Tells what the target did not do; what it never will sends the rollout back.
    fn refuse(&mut self, error: &TargetError) {
        self.trouble(error);
        // The code and what to do would be lost with the error.
        let help = error.help.as_ref().map(|help| format!("; {help}"));
        let said = format!(
            "{} ({}){}",
            in_words(error),
            error.code,
            help.unwrap_or_default()
        );
        match error.retry {
            Retry::Never => self.refused = Some(said),
            Retry::Later => self.hindered = Some(said),
        }
    }

    fn is_promoted(&self) -> bool {
        self.document.state.phase == Phase::Promoted
    }

    /// Ends once the new release serves alone, whatever could not be seen or written after that.
    async fn leave(self, error: &(dyn Error + Send + Sync + 'static)) -> Result<Outcome, Cause> {
        self.crew.events.emit(Event::Trouble {
            what: format!(
                "{} serves, and the next run sees to what is left: {}",
                self.document.state.release,
                in_words(error)
            ),
        });
        self.finish().await
    }

    /// Writes the report and says how it ended.
    async fn finish(mut self) -> Result<Outcome, Cause> {
        self.listen().await;
        let log = self.log.take().unwrap_or_default();
        let state: &State = &self.document.state;
        let report = Report::of(state, &self.latencies, self.crew.clock.millis());
        report.keep(self.crew).await;
        match &state.phase {
            Phase::Promoted => Ok(Outcome::Promoted),
            Phase::RolledBack { why } => Ok(Outcome::RolledBack {
                why: why.to_string(),
                log,
                out_of_time: matches!(why, Why::OutOfTime { .. }),
            }),
            Phase::Stuck { why, .. } => Err(Cause::NotReady {
                subject: "the old release".to_owned(),
                within: Period::from_secs(state.clock.total / 1000),
                more: None,
                reason: Some(format!(
                    "it has to serve again, because {why}; traffic stays where it is"
                )),
            }),
            _ => Ok(Outcome::Stopped),
        }
    }
}

/// The gateway's totals in the words of the analysis, without the requests that chose their side and those of heavy clients.
fn counts(tallies: &Tallies) -> Counts {
    let without =
        |all: u64, asked_for: u64, heavy: u64| all.saturating_sub(asked_for).saturating_sub(heavy);
    let tally = |lane: &LaneTally| Tally {
        requests: without(lane.requests, lane.asked_for.requests, lane.heavy.requests),
        bad: without(lane.bad, lane.asked_for.bad, lane.heavy.bad),
        slow: without(lane.slow, lane.asked_for.slow, lane.heavy.slow),
        left_out: lane.heavy.requests,
    };
    // A heavy client's requests are the same on both sides where one has copies of the other's.
    let part = |part: Part| Tally {
        requests: part.requests,
        bad: part.bad,
        slow: part.slow,
        left_out: 0,
    };
    let of = |each: &dyn Fn(&LaneTally) -> Tally| {
        let lanes = tallies.lanes.iter();
        lanes
            .map(|(group, lane)| (group.clone(), each(lane)))
            .collect()
    };
    Counts {
        epoch: tallies.epoch.clone(),
        lanes: of(&tally),
        copies: of(&|lane| part(lane.copies)),
        copied: of(&|lane| part(lane.copied)),
        besides: tallies
            .lanes
            .iter()
            .map(|(group, lane)| {
                let besides = Besides {
                    asked_for: part(lane.asked_for),
                    heavy: part(lane.heavy),
                };
                (group.clone(), besides)
            })
            .collect(),
    }
}
