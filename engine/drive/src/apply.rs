//! Applies a plan: each step as soon as those before it are done, journalled before it acts.

mod act;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use platform_decide::plan::{Action, Plan, Step, StepId};
use platform_decide::release::Release;
use platform_port::{SecretValues, Target};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::{Cause, DriveError, Failure, in_words};
use crate::events::{Event, Events};
use crate::journal::{Journal, Progress};
use crate::lease::{Hold, Lease};
use crate::rollout;
use crate::watcher::Watcher;

/// How long a run may say nothing before it says that it goes on.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// What every part of a run uses.
#[derive(Clone)]
pub struct Crew {
    /// Where things run.
    pub target: Arc<dyn Target>,
    /// Who listens.
    pub events: Arc<dyn Events>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Told to stop at a safe point.
    pub stop: CancellationToken,
    /// The run's id.
    pub run: String,
    /// The command it carries out, for locks and records.
    pub command: String,
    /// The folder of the blueprint, absolute; files that it names are beside it.
    pub root: PathBuf,
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "run {} of `{}`", self.run, self.command)
    }
}

impl Crew {
    /// Tells what is asked again about.
    pub(crate) fn trouble(&self, error: &(dyn Error + 'static)) {
        self.events.emit(Event::Trouble {
            what: format!("{}; asking again", in_words(error)),
        });
    }
}

/// What a plan is applied with.
#[derive(Debug, Clone, Copy)]
pub struct Means<'a> {
    /// Values of the secrets that services are handed.
    pub secrets: &'a SecretValues,
    /// The release that serves now.
    pub current: Option<&'a Release>,
    /// Steps that act at the same time at the most.
    pub parallelism: usize,
    /// How long its rollouts may take, where that is bounded.
    pub time: Option<Time>,
}

/// How long the rollouts of a run may take, from when it began to act.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    began: Instant,
    within: Duration,
}

impl Time {
    /// So long from now.
    pub fn from_now(within: Duration) -> Self {
        let began = Instant::now();
        Self { began, within }
    }

    /// How long that was, in milliseconds, once it is over.
    pub(crate) fn over(self) -> Option<u64> {
        let over = self.began.elapsed() >= self.within;
        over.then(|| u64::try_from(self.within.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Applies a plan whose artifacts are built.
///
/// Stops taking up steps at the first that fails, or when told to stop; steps under way end what they are doing and give up
/// waiting.
///
/// # Errors
///
/// [`DriveError::Failed`] names the step that failed, [`DriveError::Unfinished`] one for which the target or its store was away once
/// a rollout had promoted its services; [`DriveError::Stopped`] where a run was stopped; [`DriveError::LeaseLost`] and
/// [`DriveError::LeaseExpired`] where it must not act any more.
pub async fn apply(
    crew: &Crew,
    lease: &Lease,
    journal: &Journal,
    plan: &Plan,
    means: Means<'_>,
) -> Result<BTreeMap<StepId, Duration>, DriveError> {
    let watcher = Watcher::over(Arc::clone(&crew.target));
    let abandon = crew.stop.child_token();
    let acting = tokio::sync::Semaphore::new(means.parallelism.max(1));
    let actor = act::Actor {
        crew,
        plan,
        means,
        watcher: &watcher,
        abandon: &abandon,
        acting: &acting,
    };
    let _ahead = rollout::Ahead::of_plan(crew, plan, means, &abandon);
    let mut order = Order::of(plan);
    let mut running = FuturesUnordered::new();
    let mut times = BTreeMap::new();
    let mut failure: Option<Failure> = None;
    let mut promoted = false;
    let mut heartbeat = tokio::time::interval(HEARTBEAT_EVERY);
    heartbeat.reset();
    let mut lock = lease.watch();
    loop {
        let hold = *lock.borrow_and_update();
        if let Hold::Lost(lost) = hold {
            return Err(lost.into());
        }
        let ours = hold == Hold::Ours;
        while ours && failure.is_none() && !crew.stop.is_cancelled() {
            let Some(step) = order.take() else { break };
            running.push(one(&actor, journal, step));
        }
        let ends = failure.is_some() || crew.stop.is_cancelled() || order.free.is_empty();
        if running.is_empty() && ends {
            break;
        }
        tokio::select! {
            // What has begun rests as well while another run may have the lock.
            Some((step, took, result)) = running.next(), if ours => {
                heartbeat.reset();
                match result {
                    Ok(()) => {
                        promoted |= matches!(step.action, Action::Rollout { .. });
                        times.insert(step.id.clone(), took);
                        order.done(&step.id);
                        crew.events.emit(Event::ApplyComplete {
                            step: step.id.clone(),
                            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                        });
                    }
                    Err(Cause::Stopped) => order.left(&step.id),
                    Err(cause) if failure.is_none() => {
                        abandon.cancel();
                        let log = actor.last_lines(step, &cause).await;
                        crew.events.emit(Event::ApplyErrored {
                            step: step.id.clone(),
                            code: cause.code().to_owned(),
                            message: in_words(&cause),
                            log: log.clone(),
                        });
                        failure = Some(Failure { step: step.id.clone(), cause, log });
                    }
                    Err(_) => {}
                }
            }
            Ok(()) = lock.changed() => {
                if *lock.borrow() == Hold::InDoubt {
                    crew.events.emit(Event::Trouble {
                        what: "the lock cannot be renewed; waiting for the store".to_owned(),
                    });
                }
            }
            _ = heartbeat.tick() => {
                crew.events.emit(Event::Heartbeat { steps: order.under_way() });
            }
        }
    }
    match (failure, order.next()) {
        (Some(failure), _) if promoted && failure.cause.is_away() => Err(DriveError::Unfinished {
            release: plan.release.number,
            failure: Box::new(failure),
        }),
        (Some(failure), _) => Err(DriveError::Failed {
            release: plan.release.number,
            failure: Box::new(failure),
        }),
        (None, Some((step, begun))) => Err(DriveError::Stopped {
            step,
            begun,
            done: times.len(),
            planned: order.steps.len(),
        }),
        (None, None) => Ok(times),
    }
}

async fn one<'a>(
    actor: &act::Actor<'a>,
    journal: &Journal,
    step: &'a Step,
) -> (&'a Step, Duration, Result<(), Cause>) {
    let begun = Instant::now();
    let crew = actor.crew;
    let store = crew.target.store();
    let result = async {
        if matches!(step.action, Action::Record) {
            journal.note(&step.id, Progress::Begun); // It acts on nothing.
        } else {
            actor
                .ask(async || journal.mark(store, &step.id, Progress::Begun).await)
                .await?;
        }
        crew.events.emit(Event::ApplyStart {
            step: step.id.clone(),
        });
        actor.act(step).await
    }
    .await;
    let progress = match &result {
        Ok(()) => Progress::Done,
        Err(Cause::Stopped) => Progress::Begun,
        Err(_) => Progress::Failed,
    };
    journal.note(&step.id, progress);
    (step, begun.elapsed(), result)
}

/// Which steps may be taken up, given those that are done.
struct Order<'a> {
    steps: BTreeMap<&'a StepId, &'a Step>,
    missing: BTreeMap<&'a StepId, usize>,
    unlocks: BTreeMap<&'a StepId, Vec<&'a StepId>>,
    free: BTreeSet<(usize, &'a StepId)>,
    place: BTreeMap<&'a StepId, usize>,
    under_way: BTreeSet<&'a StepId>,
    left: Option<StepId>,
}

impl<'a> Order<'a> {
    /// The steps of a plan but its builds, which are done before anything on the target is touched.
    fn of(plan: &'a Plan) -> Self {
        let acting = |step: &&Step| !matches!(step.action, Action::Build { .. });
        let place: BTreeMap<&StepId, usize> = plan
            .steps
            .iter()
            .filter(acting)
            .enumerate()
            .map(|(index, step)| (&step.id, index))
            .collect();
        let mut order = Self {
            steps: plan
                .steps
                .iter()
                .filter(acting)
                .map(|step| (&step.id, step))
                .collect(),
            missing: BTreeMap::new(),
            unlocks: BTreeMap::new(),
            free: BTreeSet::new(),
            place,
            under_way: BTreeSet::new(),
            left: None,
        };
        for step in plan.steps.iter().filter(acting) {
            let before: BTreeSet<&StepId> = step
                .after
                .iter()
                .filter(|id| order.place.contains_key(id))
                .collect();
            order.missing.insert(&step.id, before.len());
            if before.is_empty() {
                order.free.insert((order.place[&step.id], &step.id));
            }
            for id in before {
                order.unlocks.entry(id).or_default().push(&step.id);
            }
        }
        order
    }

    fn take(&mut self) -> Option<&'a Step> {
        let (_, id) = self.free.pop_first()?;
        self.under_way.insert(id);
        Some(self.steps[id])
    }

    fn done(&mut self, id: &StepId) {
        self.under_way.remove(id);
        for unlocked in self.unlocks.remove(id).unwrap_or_default() {
            if let Some(missing) = self.missing.get_mut(unlocked) {
                *missing -= 1;
                if *missing == 0 {
                    self.free.insert((self.place[unlocked], unlocked));
                }
            }
        }
    }

    /// Notes that a step was left because the run was told to stop.
    fn left(&mut self, id: &StepId) {
        self.under_way.remove(id);
        self.left.get_or_insert_with(|| id.clone());
    }

    fn under_way(&self) -> Vec<StepId> {
        self.under_way.iter().map(|id| (*id).clone()).collect()
    }

    /// The step that comes next, and whether it had begun.
    fn next(&self) -> Option<(StepId, bool)> {
        let left = self.left.clone().map(|id| (id, true));
        left.or_else(|| self.free.first().map(|(_, id)| ((*id).clone(), false)))
    }
}
