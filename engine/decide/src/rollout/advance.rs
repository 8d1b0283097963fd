//! The next state of a rollout, from what was seen.

mod astray;
mod back;
mod hear;
mod judge;

pub use judge::{held_for, watched_for};

use super::arrangement::{arrangement, in_place};
use super::comparison::{Groups, alpha, beta, comparison_policy};
use super::entry::{Note, StageResult, StageSide};
use super::gates;
use super::guardrail;
use super::phase::Phase;
use super::seen::Seen;
use super::state::{MemberState, State, millis};
use super::words::Why;
use crate::analysis::{Policy, Verdict};

/// Added to a service's own time to become ready, for the target to notice.
const START_SLACK: u64 = 5_000;

/// Returns the state after a look, with what there is to tell.
///
/// At most one phase is entered in a look, so that every phase's arrangement is carried out and seen before the next.
///
/// - `now`: milliseconds since the Unix epoch
#[must_use]
pub fn advance(state: &State, seen: &Seen<'_>, now: u64) -> (State, Vec<Note>) {
    let mut step = Step {
        state: state.clone(),
        seen,
        now,
        notes: Vec::new(),
    };
    step.run();
    (step.state, step.notes)
}

struct Step<'a> {
    state: State,
    seen: &'a Seen<'a>,
    now: u64,
    notes: Vec<Note>,
}

impl Step<'_> {
    fn run(&mut self) {
        if self.state.phase.is_over() {
            return;
        }
        self.begin();
        self.look();
        let before = self.state.phase.clone();
        self.hear_gates();
        self.hear_word();
        if self.state.phase != before {
            return;
        }
        if self.state.phase.is_forward() {
            if self.seen.stop {
                return self.interrupt();
            }
            if let Some(why) = self.trouble() {
                return self.go_back(why);
            }
            self.tell_astray();
        }
        match self.state.phase.clone() {
            Phase::BeforeStart => self.before_start(),
            Phase::Starting { stage } => self.starting(stage),
            Phase::Serving { stage } => self.serving(stage),
            Phase::Retiring => self.retiring(),
            Phase::GoingBack { why, stage } => self.going_back(why, stage),
            Phase::Removing { why } => self.removing(why),
            Phase::AfterBack { why } => self.after_back(why),
            Phase::Promoted
            | Phase::RolledBack { .. }
            | Phase::Interrupted { .. }
            | Phase::Stuck { .. } => {}
        }
    }

    fn tell(&mut self, note: Note) {
        self.state.note(self.now, note, &mut self.notes);
    }

    fn tell_once(&mut self, about: String, note: Note) {
        self.state.note_once(about, self.now, note, &mut self.notes);
    }

    /// What the very first look is for.
    fn begin(&mut self) {
        if self.state.clock.looked.is_some() {
            return;
        }
        // What was said before this rollout began was said of another one of the same release.
        let earlier = self.seen.words.last();
        self.state.words_from = earlier.map_or(0, |word| word.number.saturating_add(1));
        self.state.words_to = self.state.words_from;
        for member in &mut self.state.members {
            let group = self.seen.observed.groups.get(&member.to);
            member.restarts_before = group
                .and_then(|group| {
                    group
                        .instances
                        .iter()
                        .map(|instance| instance.restarts)
                        .max()
                })
                .unwrap_or(0);
        }
        let groups = self
            .state
            .members
            .iter()
            .map(|member| member.to.clone())
            .collect();
        let stages = self
            .state
            .stages()
            .into_iter()
            .map(|stage| stage.name)
            .collect();
        self.tell(Note::Began { groups, stages });
    }

    /// Takes in time and counts.
    fn look(&mut self) {
        let passed = self.state.clock.look(self.now);
        if self.state.up {
            self.state.clock.up = self.state.clock.up.saturating_add(passed);
        }
        let serving = match self.state.phase {
            Phase::Serving { stage } => Some(stage),
            _ => None,
        };
        // While the next stage comes up, or a gate or a pause holds it, requests go on as they did.
        let judged = match self.state.phase {
            Phase::Starting { .. } => self.state.in_force,
            _ => serving,
        };
        if self.state.paused.is_some() || self.state.holds {
            self.state.clock.idle = self.state.clock.idle.saturating_add(passed);
        }
        let placed = in_place(&self.state, self.seen);
        // Until the shares are in force a stage has not begun, and neither a pause nor what nobody could see is a part of it.
        let counts = match serving {
            Some(stage) => placed && self.state.paused.is_none() && !self.is_blind(stage),
            None => !self.drains(passed),
        };
        if counts {
            self.state.clock.phase = self.state.clock.phase.saturating_add(passed);
        }
        let policy = self.policy();
        let stages = self.state.stages();
        for (index, member) in self.state.members.iter_mut().enumerate() {
            if !member.routed {
                continue;
            }
            let groups = Groups {
                main: member.from.clone(),
                baseline: member.baseline(),
                new: member.to.clone(),
            };
            let Some(counts) = self.seen.counts else {
                continue;
            };
            let increment = member.comparison.count(&groups, counts);
            if let (Some(stage), true) = (judged, placed) {
                let side = stages[stage].sides[index];
                let times = (self.state.clock.phase, passed);
                member
                    .comparison
                    .compare(&side, increment, times, policy.as_ref());
            }
        }
        self.read_metrics(serving.is_some() && placed);
    }

    /// Whether it waits for instances of the old release that have to end before they can start anew. Those take the time that
    /// they were given to end, which says nothing of whether they come up.
    fn drains(&mut self, passed: u64) -> bool {
        let back = matches!(self.state.phase, Phase::GoingBack { .. });
        let mut members = self.state.members.iter();
        let waits = back && members.any(|m| !m.old_serves && self.seen.leaving.contains(&m.from));
        if waits {
            self.state.clock.drained = self.state.clock.drained.saturating_add(passed);
        }
        waits && self.state.clock.drained <= back::LONGEST_REMOVAL
    }

    fn read_metrics(&mut self, judged: bool) {
        let Some(analysis) = self.state.policy.analysis.clone() else {
            return;
        };
        let comparisons = self.comparisons();
        for unread in &self.seen.unread {
            let mut members = self.state.members.iter_mut();
            if let Some(member) = members.find(|member| *member.service() == unread.service) {
                let why = (unread.metric.clone(), unread.why.clone());
                member.comparison.unread.extend([why]);
            }
        }
        for reading in &self.seen.readings {
            let metric = analysis
                .metrics
                .iter()
                .find(|metric| metric.name == reading.metric);
            let member = self
                .state
                .members
                .iter_mut()
                .find(|member| *member.service() == reading.service);
            if let (Some(metric), Some(member)) = (metric, member) {
                #[expect(clippy::cast_precision_loss, reason = "a handful of metrics")]
                let each = alpha(&analysis) / comparisons as f64;
                let sure = (each, beta(&analysis));
                member.comparison.read(metric, reading, sure, judged);
            }
        }
    }

    /// The policy of each comparison of answers.
    fn policy(&self) -> Option<Policy> {
        comparison_policy(&self.state.policy, self.comparisons())
    }

    /// How many comparisons may send the rollout back: of each service in each stage its answers, and each metric that judges.
    fn comparisons(&self) -> usize {
        let members = &self.state.members;
        let routed = members.iter().filter(|member| member.routed).count();
        let metrics = self.state.policy.analysis.as_ref().map_or(0, |analysis| {
            analysis
                .metrics
                .iter()
                .filter(|metric| !metric.dry_run)
                .count()
        });
        (routed * self.state.stages().len() * (1 + metrics)).max(1)
    }

    fn last(&self) -> usize {
        self.state.stages().len() - 1
    }

    fn stage_name(&self, stage: usize) -> String {
        self.state.stages()[stage].name.clone()
    }

    /// What sends a rollout back in any phase of its way forward.
    fn trouble(&self) -> Option<Why> {
        if let Some(message) = &self.seen.refused {
            return Some(Why::Refused {
                message: message.clone(),
            });
        }
        let at_most = millis(self.state.policy.at_most.duration());
        let clock = self.state.clock;
        if clock.total.saturating_sub(clock.idle) > at_most {
            return Some(Why::TookTooLong {
                at_most,
                unseen: self.unseen(),
            });
        }
        if let Some(within) = self.seen.out_of_time {
            return Some(Why::OutOfTime {
                within,
                unseen: self.unseen().or_else(|| self.undecided()),
            });
        }
        let touched = self.state.phase != Phase::BeforeStart;
        touched.then(|| guardrail::tripped(&self.state, self.seen))?
    }

    fn go_back(&mut self, why: Why) {
        self.tell(Note::GoingBack { why: why.clone() });
        let before = arrangement(&self.state);
        let stage = self.state.phase.stage().min(self.last());
        self.state.paused = None;
        self.state.forced = false;
        self.state.reached = stage;
        self.state.enter(Phase::GoingBack { why, stage });
        let before = before.groups;
        for member in &mut self.state.members {
            let kept = before.get(&member.from).copied().unwrap_or(0);
            member.old_is_short = kept < member.from_replicas;
            member.old_serves = false;
        }
        self.see_old();
    }

    fn interrupt(&mut self) {
        if self.state.phase == Phase::BeforeStart {
            return; // Nothing has been touched, so there is nothing to put right.
        }
        let stage = self.state.phase.stage();
        let name = self.stage_name(stage);
        self.tell(Note::Interrupted { stage: name });
        self.state.enter(Phase::Interrupted { stage });
    }

    fn agreed(&self) -> bool {
        gates::all(&self.state)
            .iter()
            .all(|call| self.state.gates.contains_key(&call.key))
    }

    fn before_start(&mut self) {
        if self.state.paused.is_none() && self.agreed() {
            self.enter_starting(0);
        }
    }

    fn enter_starting(&mut self, stage: usize) {
        let name = self.stage_name(stage);
        self.tell(Note::Starting { stage: name });
        self.state.enter(Phase::Starting { stage });
    }

    fn starting(&mut self, stage: usize) {
        let judged = self.state.in_force.filter(|_| !self.state.forced);
        if let Some(why) = judged.and_then(|stage| self.turned_bad(stage)) {
            return self.go_back(why);
        }
        let wanted = arrangement(&self.state).groups;
        let waits = self
            .state
            .members
            .iter()
            .flat_map(|member| [(member.to.clone(), member), (member.baseline(), member)])
            .find_map(|(group, member)| {
                let wanted = wanted.get(&group).copied().unwrap_or(0);
                let ready = self.seen.ready(&group);
                (ready < wanted).then_some((
                    group,
                    ready,
                    wanted,
                    member.start_within + START_SLACK,
                ))
            });
        if let Some((group, ready, wanted, at_most)) = waits {
            if self.state.up {
                return; // It was ready a moment ago; guardrails tell what is wrong.
            }
            if self.state.clock.phase > at_most {
                // Where nothing came to be, nobody but the target knows why.
                let said = || self.seen.hindered.clone();
                let reason = self.seen.reason(&group).or_else(said);
                self.go_back(Why::NotReady {
                    group,
                    ready: (ready, wanted),
                    waited: self.state.clock.phase,
                    within: Some(at_most - START_SLACK),
                    reason,
                });
            }
            return;
        }
        // The preview is a part of the arrangement from now on, so what is in place before is none yet.
        self.state.previewed |= self.state.up && in_place(&self.state, self.seen);
        self.state.up = true;
        if let (Some(millis), false) = (held_for(&self.state), self.state.forced) {
            let note = Note::Held {
                stage: self.stage_name(stage),
                millis,
            };
            self.tell_once("held".to_owned(), note);
        }
        if self.state.paused.is_none() && self.agreed() && self.shown() {
            let name = self.stage_name(stage);
            self.tell(Note::Serving { stage: name });
            self.state.enter(Phase::Serving { stage });
        }
    }

    /// Whether a second colour has been up for as long as it shall be before the switch.
    fn shown(&self) -> bool {
        self.state.forced || held_for(&self.state).is_none_or(|hold| self.state.clock.up >= hold)
    }

    fn serving(&mut self, stage: usize) {
        let placed = in_place(&self.state, self.seen);
        let last = stage == self.last();
        if self.state.forced && last {
            if placed {
                self.leave(stage);
            }
            return;
        }
        self.state.holds = false;
        let open = match self.judge(stage, last) {
            Ok(open) => open || self.is_blind(stage),
            Err(why) => return self.go_back(why),
        };
        if placed && !open && self.state.paused.is_none() && self.watched(last) {
            self.leave(stage);
        }
    }

    /// Ends a stage and goes to the next, or to the end.
    fn leave(&mut self, stage: usize) {
        let analysis = self.state.policy.analysis.as_ref();
        let side = |member: &MemberState| StageSide {
            group: member.to.clone(),
            new: member.comparison.stage.canary,
            old: member.comparison.stage.baseline,
            verdict: member.comparison.verdict.as_ref().map(Verdict::explain),
            metrics: analysis.map_or_else(Vec::new, |analysis| member.metrics(analysis)),
        };
        let result = StageResult {
            stage: self.stage_name(stage),
            lasted: self.state.clock.phase,
            sides: self
                .state
                .members
                .iter()
                .filter(|member| member.routed)
                .map(side)
                .collect(),
        };
        self.state.results.push(result.clone());
        self.tell(Note::StageOver { result });
        if stage == self.last() {
            self.tell(Note::Promoting);
            self.state.enter(Phase::Retiring);
        } else {
            self.enter_starting(stage + 1);
        }
    }
}
