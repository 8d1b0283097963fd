//! Whether a stage has shown enough.

use std::time::Duration;

use platform_blueprint::{Rollout, Strategy, WhenQuiet};

use super::super::entry::Note;
use super::super::phase::Phase;
use super::super::state::{IN_ALL, State, millis};
use super::super::words::Why;
use super::Step;
use crate::analysis::{Advice, Finding, PairedVerdict, Verdict};
use crate::group::GroupId;

/// A batch of a rolling update is watched for at most this long.
const LONGEST_BATCH_WATCH: u64 = 10_000;

/// From this on evidence leans towards worse, and the old instances stay warm until it is decided.
const LEANS: f64 = 0.1;

/// A stage that waits for a verdict and has seen no request for so long says so.
const QUIET_FOR: Duration = Duration::from_secs(10);

/// A rolling update without any request has nothing to watch after this long.
const QUIET_BATCH: u64 = 3_000;

/// For how long a stage is watched at the least, in milliseconds.
///
/// - `last`: it is the stage with all traffic
pub fn watched_for(policy: &Rollout, last: bool) -> u64 {
    match (policy.strategy, last) {
        // A batch's old instances are gone when the next begins, so nothing would be warm during a bake.
        (Strategy::Rolling, _) => {
            let at_least = policy
                .analysis
                .as_ref()
                .map_or(0, |a| millis(a.at_least.duration()));
            let hold = millis(policy.hold.duration());
            at_least.min(hold).min(LONGEST_BATCH_WATCH)
        }
        (Strategy::Canary | Strategy::BlueGreen, true) => millis(policy.bake.duration()),
        (Strategy::Canary | Strategy::BlueGreen, false) => millis(policy.hold.duration()),
    }
}

/// For how long a second colour that is up is held before the switch, in milliseconds, while it is; [`Clock::up`] tells how long
/// it has been.
///
/// [`Clock::up`]: super::super::Clock::up
pub fn held_for(state: &State) -> Option<u64> {
    // One that gets copies first is held while it does.
    let switches = state.policy.strategy == Strategy::BlueGreen && state.stages().len() == 1;
    let hold = millis(state.policy.hold.duration());
    let waits = state.up && matches!(state.phase, Phase::Starting { .. });
    (waits && switches && hold > 0).then_some(hold)
}

impl Step<'_> {
    /// Whether the stage has been watched long enough, whatever was seen.
    pub(super) fn watched(&self, last: bool) -> bool {
        let policy = &self.state.policy;
        let passed = self.state.clock.phase;
        let wanted = watched_for(policy, last);
        let mut routed = self.state.members.iter().filter(|member| member.routed);
        let quiet = policy.strategy == Strategy::Rolling
            && passed >= QUIET_BATCH
            && routed.all(|member| {
                let seen = member.comparison.stage;
                seen.canary.requests == 0 && seen.baseline.requests == 0
            });
        passed >= wanted || quiet
    }

    /// Whether the stage is to be judged and the gateway's counts cannot be read, so that nobody knows what the new release
    /// answers.
    pub(super) fn is_blind(&self, stage: usize) -> bool {
        let policy = &self.state.policy;
        let last = stage == self.last();
        let judges = policy.analysis.as_ref().is_some_and(|a| !a.dry_run);
        let waits = policy.strategy != Strategy::Rolling && !last;
        let sides = &self.state.stages()[stage].sides;
        let mut parts = self.state.members.iter().zip(sides);
        self.seen.counts.is_none()
            && judges
            && (waits || watched_for(policy, last) > 0)
            && parts.any(|(member, side)| member.routed && side.new > 0)
    }

    /// What the stage would need to see and cannot, in words.
    pub(super) fn unseen(&self) -> Option<String> {
        let Phase::Serving { stage } = self.state.phase else {
            return None;
        };
        if self.is_blind(stage) {
            return Some("the gateway's counts could not be read".to_owned());
        }
        let analysis = self.state.policy.analysis.as_ref()?;
        let mut judging = analysis.metrics.iter().filter(|metric| !metric.dry_run);
        judging.find_map(|metric| {
            let mut members = self.state.members.iter();
            members.find_map(|member| {
                let why = member.comparison.unread.get(&metric.name)?;
                Some(format!(
                    "metric `{}` of {} could not be read: {why}",
                    metric.name, member.to
                ))
            })
        })
    }

    /// What the comparison says of the stage, in words: what is open of it, else of the first service that is compared.
    pub(super) fn undecided(&self) -> Option<String> {
        let Phase::Serving { .. } = self.state.phase else {
            return None;
        };
        let analysis = self.state.policy.analysis.as_ref()?;
        let verdicts = self.state.members.iter().filter_map(|member| {
            let verdict = member.comparison.verdict.as_ref()?;
            let open = verdict.advice() != Advice::Advance;
            Some((open, format!("{}: {}", member.to, verdict.explain())))
        });
        let metrics = self.state.members.iter().flat_map(|member| {
            let shown = member.metrics(analysis).into_iter();
            shown.map(|metric| {
                let open = !metric.only_reports && metric.verdict == PairedVerdict::CannotTellYet;
                (open, format!("{}: {metric}", member.to))
            })
        });
        let mut said: Vec<(bool, String)> = verdicts.chain(metrics).collect();
        if said.iter().any(|(open, _)| *open) {
            said.retain(|(open, _)| *open);
        } else {
            said.truncate(1);
        }
        let said: Vec<String> = said.into_iter().map(|(_, words)| words).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// Judges the stage: whether something is still open, or why to go back.
    pub(super) fn judge(&mut self, stage: usize, last: bool) -> Result<bool, Why> {
        let (Some(policy), Some(analysis)) = (self.policy(), self.state.policy.analysis.clone())
        else {
            return Ok(false);
        };
        let elapsed = Duration::from_millis(self.state.clock.phase);
        // Steps and copies wait for a verdict; elsewhere time is enough, unless evidence leans towards worse.
        let waits = self.state.policy.strategy != Strategy::Rolling && !last;
        let mut open = false;
        let sides = self.state.stages()[stage].sides.clone();
        for (index, side) in sides.iter().enumerate() {
            let member = &mut self.state.members[index];
            if !member.routed || side.new == 0 {
                continue;
            }
            let verdict = member.comparison.judge(&policy, elapsed).clone();
            open |= self.weigh(index, &verdict, waits, analysis.dry_run)?;
            open |= self.weigh_metrics(index, waits, elapsed)?;
        }
        Ok(open)
    }

    /// Whether a release whose next stage is not there yet is found to be worse where it serves.
    pub(super) fn turned_bad(&mut self, stage: usize) -> Option<Why> {
        let (policy, analysis) = (self.policy()?, self.state.policy.analysis.clone()?);
        let sides = self.state.stages()[stage].sides.clone();
        sides.iter().enumerate().find_map(|(index, side)| {
            let member = &mut self.state.members[index];
            if !member.routed || side.new == 0 {
                return None;
            }
            // Time says nothing here: the stage's own is over.
            let verdict = member.comparison.judge(&policy, Duration::ZERO).clone();
            let worse = matches!(verdict, Verdict::Worse(_));
            worse
                .then(|| self.weigh(index, &verdict, false, analysis.dry_run).err())
                .flatten()
        })
    }

    fn weigh(
        &mut self,
        index: usize,
        verdict: &Verdict,
        waits: bool,
        dry_run: bool,
    ) -> Result<bool, Why> {
        let group = self.state.members[index].to.clone();
        if let Verdict::Worse(_) = verdict {
            let why = Why::Worse {
                group: group.clone(),
                verdict: verdict.explain(),
            };
            if !dry_run {
                return Err(why);
            }
            self.tell_once(format!("worse {group}"), Note::WouldGoBack { why });
        }
        let finding = verdict.finding();
        let expired = finding.elapsed >= finding.at_most;
        if dry_run {
            return Ok(false);
        }
        if !waits {
            let leans = finding.towards_worse > finding.towards_better.max(LEANS);
            let warm = self.state.policy.strategy != Strategy::Rolling;
            return Ok(leans && warm && !expired);
        }
        match verdict.advice() {
            Advice::Advance => Ok(false),
            Advice::RollBack => Err(Why::Undecided {
                group,
                verdict: verdict.explain(),
            }),
            Advice::Hold => {
                if expired {
                    self.state.holds = true;
                    let verdict = verdict.explain();
                    self.tell_once(format!("hold {group}"), Note::Holding { group, verdict });
                } else {
                    self.tell_quiet(group, finding);
                }
                Ok(true)
            }
        }
    }

    /// Tells, once in a rollout, that there is no traffic, long before the stage's time is over.
    fn tell_quiet(&mut self, group: GroupId, finding: &Finding) {
        let asked = finding.canary_requests + finding.canary_left_out;
        if asked > 0 || finding.elapsed < QUIET_FOR {
            return;
        }
        let Some(analysis) = &self.state.policy.analysis else {
            return;
        };
        let about = format!("{IN_ALL}quiet {group}");
        let note = Note::Quiet {
            group,
            seconds: finding.elapsed.as_secs(),
            at_most: finding.at_most.as_secs(),
            then: analysis.when_quiet,
        };
        self.tell_once(about, note);
    }

    fn weigh_metrics(&mut self, index: usize, waits: bool, elapsed: Duration) -> Result<bool, Why> {
        let Some(analysis) = self.state.policy.analysis.clone() else {
            return Ok(false);
        };
        let group = self.state.members[index].to.clone();
        let mut open = false;
        for side in self.state.members[index].metrics(&analysis) {
            let held = format!("metric `{}` is {}", side.metric, side.words);
            let about = format!("{} {group}", side.metric);
            let why = Why::Metric {
                metric: side.metric,
                group: group.clone(),
                verdict: side.words,
            };
            match side.verdict {
                PairedVerdict::Worse if side.only_reports => {
                    self.tell_once(format!("metric {about}"), Note::WouldGoBack { why });
                }
                PairedVerdict::Worse => return Err(why),
                PairedVerdict::CannotTellYet if waits && !side.only_reports => {
                    let expired = elapsed >= analysis.at_most.duration();
                    open |= match analysis.when_quiet {
                        WhenQuiet::RollBack if expired => return Err(why),
                        WhenQuiet::Advance if expired => false,
                        WhenQuiet::Hold if expired => {
                            self.state.holds = true;
                            let note = Note::Holding {
                                group: group.clone(),
                                verdict: held,
                            };
                            self.tell_once(format!("hold {about}"), note);
                            true
                        }
                        _ => true,
                    };
                }
                PairedVerdict::CannotTellYet | PairedVerdict::BetterOrEqual => {}
            }
        }
        Ok(open)
    }
}
