//! The state of a rollout: a value that is saved before each move.

use std::collections::{BTreeMap, BTreeSet};

use platform_blueprint::{Rollout, ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::comparison::Comparison;
use super::entry::{Entry, Note, StageResult};
use super::gates::GateKey;
use super::phase::Phase;
use super::seen::GateAnswer;
use super::stage::{Stage, stages};
use super::words::{Order, Why, Word};
use crate::group::GroupId;
use crate::observed::Observed;
use crate::plan::Member;
use crate::release::{Release, ReleaseNumber};
use crate::traffic::Split;

/// How `about` begins of what is said once in the whole rollout.
pub(super) const IN_ALL: &str = "in all: ";

/// Entries that a rollout keeps of the beginning of its history.
const FIRST_KEPT: usize = 200;

/// Entries that it keeps of the end.
const LAST_KEPT: usize = 200;

/// One look counts for at most this long, so that time in which nobody watched is no time.
const LONGEST_LOOK: u64 = 5_000;

/// Time as it passed under somebody's eyes, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Clock {
    /// When it was last looked at, since the Unix epoch.
    pub looked: Option<u64>,
    /// Time in this phase; while serving, only with the shares in force and not paused.
    pub phase: u64,
    /// Time in this phase with all its instances up.
    #[serde(default)]
    pub up: u64,
    /// Time of the whole rollout.
    pub total: u64,
    /// Of that, time in which it was paused, or stayed for somebody to decide.
    #[serde(default)]
    pub idle: u64,
    /// Time in this phase in which instances that it waits for had yet to end before they could start anew.
    #[serde(default)]
    pub drained: u64,
}

impl Clock {
    /// Moves on to `now`; returns the time that counts.
    pub(super) fn look(&mut self, now: u64) -> u64 {
        let passed = self
            .looked
            .map_or(0, |looked| now.saturating_sub(looked).min(LONGEST_LOOK));
        self.looked = Some(now);
        self.total = self.total.saturating_add(passed);
        passed
    }
}

/// One service's part in a rollout, and what became of it so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemberState {
    /// The group that served when it began.
    pub from: GroupId,
    /// How many instances that had.
    pub from_replicas: u32,
    /// The group that takes over.
    pub to: GroupId,
    /// How many instances that shall have.
    pub to_replicas: u32,
    /// Whether requests reach the service through the gateway.
    pub routed: bool,
    /// How long instances may take to become ready, in milliseconds.
    pub start_within: u64,
    /// Restarts that an instance of the new group already had when it began.
    pub restarts_before: u32,
    /// The old group was seen able to take all requests since it had to serve again.
    pub old_serves: bool,
    /// Some of the old group's instances had been taken down when it had to serve again.
    #[serde(default)]
    pub old_is_short: bool,
    /// New and old on the same traffic.
    pub comparison: Comparison,
}

impl MemberState {
    /// Fresh instances of the old version, beside the new ones.
    pub fn baseline(&self) -> GroupId {
        GroupId::baseline(self.from.service.clone(), self.from.version)
    }

    /// As a plan has it.
    pub fn member(&self) -> Member {
        Member {
            from: self.from.clone(),
            from_replicas: self.from_replicas,
            to: self.to.clone(),
        }
    }

    /// The service.
    pub fn service(&self) -> &ServiceName {
        &self.to.service
    }
}

/// Who paused a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Paused {
    /// Who.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// The state of a rollout: everything that the next decision depends on but what is seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, kept under its name"
)]
pub struct State {
    /// The release it brings.
    pub release: ReleaseNumber,
    /// The run that began it.
    pub run: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub began: u64,
    /// The services that move together, by name.
    pub members: Vec<MemberState>,
    /// How; as it was when the rollout began.
    pub policy: Rollout,
    /// Where it is.
    pub phase: Phase,
    /// Time so far.
    pub clock: Clock,
    /// The stage whose shares are in force; before the first, all requests go to the old release.
    pub in_force: Option<usize>,
    /// The stage it had come to when it went back.
    #[serde(default)]
    pub reached: usize,
    /// All instances of the phase have been seen ready.
    pub up: bool,
    /// Since then the gateway was seen to lead whoever asks for the new release there.
    #[serde(default)]
    pub previewed: bool,
    /// Who paused it, while it is.
    pub paused: Option<Paused>,
    /// Nothing more is to be seen in the stage's time, and the policy has it stay until somebody decides.
    #[serde(default)]
    pub holds: bool,
    /// An operator asked for the end without waiting.
    pub forced: bool,
    /// The first of the operators' words that is about this rollout, by its number; those before it were said of earlier ones.
    #[serde(default)]
    pub words_from: u64,
    /// The first word that has not been heard yet.
    #[serde(default)]
    pub words_to: u64,
    /// What gates answered.
    pub gates: BTreeMap<GateKey, GateAnswer>,
    /// What was said already and need not be said again in this phase, or in the whole rollout.
    pub said: BTreeSet<String>,
    /// Stages that are over.
    pub results: Vec<StageResult>,
    /// What happened, oldest first.
    pub log: Vec<Entry>,
}

impl State {
    /// A rollout that has not begun.
    ///
    /// - `now`: milliseconds since the Unix epoch
    pub fn new(
        release: &Release,
        members: &[Member],
        policy: &Rollout,
        run: &str,
        now: u64,
    ) -> Self {
        let members = members
            .iter()
            .map(|member| {
                let placed = release.services.get(&member.to.service);
                MemberState {
                    from: member.from.clone(),
                    from_replicas: member.from_replicas.max(1),
                    to: member.to.clone(),
                    to_replicas: placed.map_or(1, |placed| placed.replicas.max(1)),
                    routed: placed.is_some_and(crate::plan::takes_traffic),
                    start_within: placed.map_or(60_000, |placed| {
                        millis(placed.spec.service.health.start_within.duration())
                    }),
                    restarts_before: 0,
                    old_serves: false,
                    old_is_short: false,
                    comparison: Comparison::default(),
                }
            })
            .collect();
        Self::of(release.number, members, policy, run, now)
    }

    pub(super) fn of(
        release: ReleaseNumber,
        members: Vec<MemberState>,
        policy: &Rollout,
        run: &str,
        now: u64,
    ) -> Self {
        Self {
            release,
            run: run.to_owned(),
            began: now,
            members,
            policy: policy.clone(),
            phase: Phase::BeforeStart,
            clock: Clock::default(),
            in_force: None,
            reached: 0,
            up: false,
            previewed: false,
            paused: None,
            holds: false,
            forced: false,
            words_from: 0,
            words_to: 0,
            gates: BTreeMap::new(),
            said: BTreeSet::new(),
            results: Vec::new(),
            log: Vec::new(),
        }
    }

    /// The document in an environment's store that holds it: `rollouts/00000007/orders`.
    pub fn key(&self) -> String {
        let first = self
            .members
            .first()
            .map_or("none", |member| member.to.service.as_str());
        format!("{}{first}", Self::prefix(self.release))
    }

    /// What the documents of all rollouts of a release begin with.
    pub fn prefix(release: ReleaseNumber) -> String {
        format!("rollouts/{:08}/", release.0)
    }

    /// Whether it was this rollout that heard a word.
    pub fn has_heard(&self, word: &Word) -> bool {
        (self.words_from..self.words_to).contains(&word.number)
    }

    /// What came of a word that was heard, in the newest entry about one like it.
    pub fn answer_to(&self, word: &Word) -> Option<&Note> {
        let about = |note: &&Note| match note {
            Note::NotNow { word: said, .. } => said == word.order.as_str(),
            Note::Paused { .. } => word.order == Order::Pause,
            Note::Resumed { .. } => matches!(word.order, Order::Resume | Order::Next),
            Note::SentOn { to_the_end, .. } => {
                word.order
                    == if *to_the_end {
                        Order::Promote
                    } else {
                        Order::Next
                    }
            }
            Note::GoingBack {
                why: Why::Operator { .. },
            } => word.order == Order::Abort,
            _ => false,
        };
        let notes = self.log.iter().rev().map(|entry| &entry.note);
        notes.filter(|_| self.has_heard(word)).find(about)
    }

    /// The stages, first to last.
    pub fn stages(&self) -> Vec<Stage> {
        stages(&self.policy, &self.members)
    }

    /// Index of the stage that it is at, or had come to before it went back or ended.
    pub fn stage(&self) -> usize {
        let at = match self.phase {
            Phase::Removing { .. } | Phase::AfterBack { .. } | Phase::RolledBack { .. } => {
                self.reached
            }
            _ => self.phase.stage(),
        };
        at.min(self.stages().len() - 1)
    }

    /// The same rollout taken up by a new run: what was interrupted goes on where it was.
    #[must_use]
    pub fn taken_up(mut self) -> Self {
        match self.phase {
            Phase::Interrupted { stage } => {
                // Where requests went back they stay until both sides have been seen ready again.
                let back = super::arrangement(&self).splits;
                let all_back = self.members.iter().all(|member| {
                    let split = back.get(member.service());
                    split.is_none_or(|split| *split == Split::all(member.from.clone()))
                });
                if all_back {
                    self.in_force = None;
                }
                self.enter(Phase::Starting { stage });
            }
            Phase::Stuck { ref why, stage } => {
                let why = why.clone();
                self.enter(Phase::GoingBack { why, stage });
            }
            _ => {}
        }
        self
    }

    /// The same rollout at its end, as a later run deploys another release in its place. Where it was on its way back already, what
    /// sent it there stays the reason.
    ///
    /// - `now`: milliseconds since the Unix epoch
    #[must_use]
    pub fn given_up(mut self, to: ReleaseNumber, now: u64) -> Self {
        self.reached = self.stage();
        let why = match self.phase {
            Phase::GoingBack { why, .. }
            | Phase::Removing { why }
            | Phase::AfterBack { why }
            | Phase::RolledBack { why }
            | Phase::Stuck { why, .. } => why,
            _ => {
                let why = Why::GivenUp { to };
                let note = Note::GoingBack { why: why.clone() };
                self.note(now, note, &mut Vec::new());
                why
            }
        };
        self.phase = Phase::RolledBack { why };
        self
    }

    /// Begins its stage anew where everything has ended since it was last looked at, as with a restart of the machine: that says
    /// nothing of the new release, and the old one has to be up before requests are shared out again.
    pub fn begin_anew_if_all_ended(&mut self, observed: &Observed) {
        let (Phase::Starting { stage } | Phase::Serving { stage }) = self.phase else {
            return;
        };
        let Some(looked) = self.clock.looked else {
            return;
        };
        let seen = |group: &GroupId| observed.groups.get(group).map(|seen| &seen.instances);
        let groups = self
            .members
            .iter()
            .flat_map(|member| [member.from.clone(), member.baseline(), member.to.clone()]);
        let mut instances = groups.filter_map(|group| seen(&group)).flatten();
        let ended = instances.all(|one| one.started_at.is_some_and(|at| at > looked));
        if !ended {
            return;
        }
        for member in &mut self.members {
            let restarts = seen(&member.to).into_iter().flatten();
            let restarts = restarts.map(|one| one.restarts).max();
            member.restarts_before = restarts.unwrap_or(0);
        }
        self.in_force = None;
        self.enter(Phase::Starting { stage });
    }

    /// Moves to another phase.
    pub(super) fn enter(&mut self, phase: Phase) {
        match phase {
            Phase::Serving { stage } => self.in_force = Some(stage),
            Phase::Retiring => self.in_force = self.stages().len().checked_sub(1),
            _ => {}
        }
        self.phase = phase;
        self.clock.phase = 0;
        self.clock.up = 0;
        self.clock.drained = 0;
        self.up = false;
        self.previewed = false;
        self.holds = false;
        self.said.retain(|about| about.starts_with(IN_ALL));
        if let Phase::Serving { .. } = self.phase {
            for member in &mut self.members {
                member.comparison.begin_stage();
            }
        }
    }

    /// Writes down what happened.
    pub(super) fn note(&mut self, now: u64, note: Note, notes: &mut Vec<Note>) {
        self.write_down(now, note.clone());
        notes.push(note);
    }

    /// Adds to the history. When that is long, what goes is from its middle: the beginning and the end tell most.
    pub fn write_down(&mut self, at: u64, note: Note) {
        self.log.push(Entry { at, note });
        if self.log.len() <= FIRST_KEPT + 1 + LAST_KEPT {
            return;
        }
        let (gap, gone) = (FIRST_KEPT, FIRST_KEPT + 1);
        match &mut self.log[gap].note {
            Note::LeftOut { entries } => *entries += 1,
            first => *first = Note::LeftOut { entries: 2 },
        }
        self.log.remove(gone);
    }

    /// [`State::note`], at most once in a phase for each `about`; once in the whole rollout where that begins with [`IN_ALL`].
    pub(super) fn note_once(&mut self, about: String, now: u64, note: Note, notes: &mut Vec<Note>) {
        if self.said.insert(about) {
            self.note(now, note, notes);
        }
    }
}

/// A time in whole milliseconds.
pub(super) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{member, policy};
    use super::*;

    #[test]
    fn a_long_history_keeps_its_beginning_and_its_end_and_says_how_much_is_left_out() {
        let policy = policy(platform_blueprint::Strategy::Canary);
        let members = vec![member("orders", 1, 1)];
        let mut state = State::of(ReleaseNumber(2), members, &policy, "run", 0);
        let entry = |number: u64| Note::Starting {
            stage: number.to_string(),
        };
        for number in 0..1_000 {
            state.write_down(number, entry(number));
        }
        state.write_down(1_000, Note::Promoted);
        assert_eq!(state.log.len(), FIRST_KEPT + 1 + LAST_KEPT);
        assert_eq!(state.log[FIRST_KEPT - 1].note, entry(199));
        assert_eq!(state.log[FIRST_KEPT].note, Note::LeftOut { entries: 601 });
        assert_eq!(state.log[FIRST_KEPT + 1].note, entry(801));
        assert_eq!(
            state.log.last().map(|last| &last.note),
            Some(&Note::Promoted)
        );
    }
}
