//! One deploy from what is desired to a recorded release, or back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::{join, join3};
use platform_blueprint::{SecretName, ServiceName};
use platform_decide::desired::Desired;
use platform_decide::plan::{Action, Inputs, Member, Pace, Plan, StepId, plan};
use platform_decide::release::{Release, ReleaseNumber, ReleaseStatus};
use platform_port::{Finding, SecretValues, Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::address;
use crate::apply::{Crew, Means, Time, apply};
use crate::error::{DriveError, Failure, in_words};
use crate::events::Event;
use crate::journal::{self, Entries, Journal};
use crate::lease::Lease;
use crate::patience::patiently;
use crate::record::{Ending, RunRecord};
use crate::releases::{self, History};
use crate::rollout;

/// How many releases keep what is needed to go back to them without building anew.
const KEPT: usize = 10;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What should run.
    pub desired: &'a Desired,
    /// The release whose content is wanted back, for a rollback.
    pub back_to: Option<&'a Release>,
    /// Services whose artifact is not built yet.
    pub unbuilt: &'a BTreeSet<ServiceName>,
    /// How changed services are replaced.
    pub pace: Pace,
}

/// A plan ready to be shown and carried out.
#[derive(Debug)]
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// What preflight found.
    pub findings: Vec<Finding>,
    /// What a stopped run left behind.
    pub left: Option<Entries>,
    history: History,
}

impl Prepared {
    /// The release that serves now.
    pub fn current(&self) -> Option<&Release> {
        self.history.current.as_ref()
    }

    /// Every secret that carrying the plan out, or taking it back, hands to a service or the gateway, or asks gates and for figures with.
    pub fn secrets(&self) -> BTreeSet<SecretName> {
        let steps = self.plan.steps.iter();
        let asked_with = steps
            .filter_map(|step| match &step.action {
                Action::Rollout { policy, .. } => Some(policy),
                _ => None,
            })
            .flat_map(|policy| policy.secrets());
        [Some(&self.plan.release), self.current()]
            .into_iter()
            .flatten()
            .flat_map(|release| {
                let services = release.services.values();
                services
                    .flat_map(|placed| placed.spec.secrets.keys())
                    .chain(release.ingress.secrets.keys())
            })
            .chain(asked_with)
            .cloned()
            .collect()
    }
}

/// How a deploy ended.
#[derive(Debug)]
pub enum Outcome {
    /// Everything already was as asked.
    Unchanged {
        /// The release that serves.
        release: Option<ReleaseNumber>,
    },
    /// The release serves.
    Deployed {
        /// Its number.
        release: ReleaseNumber,
        /// How long each step took.
        times: BTreeMap<StepId, Duration>,
    },
    /// The release failed and what it had begun was taken back.
    RolledBack {
        /// The release that was taken back.
        release: ReleaseNumber,
        /// The release that serves on.
        to: ReleaseNumber,
        /// What failed.
        failure: Box<Failure>,
    },
}

/// Observes, plans and checks ahead. Touches nothing.
///
/// # Errors
///
/// If the target or its store cannot be read.
pub async fn prepare(crew: &Crew, request: Request<'_>) -> Result<Prepared, DriveError> {
    let store = crew.target.store();
    // The history first: where that brings back who keeps it, the others wait for them.
    let (history, left, observed) = join3(
        History::read(store),
        journal::left_behind(store),
        crew.target.observe(),
    )
    .await;
    let (history, left, observed) = (history?, left?, observed?);
    let half_way = half_way(store, &history, left.as_ref()).await?;
    let plan = plan(Inputs {
        desired: request.desired,
        observed: &observed,
        current: history.current.as_ref(),
        unfinished: history.unfinished.as_ref(),
        half_way: &half_way,
        back_to: request.back_to,
        last: history.head.last,
        unbuilt: request.unbuilt,
        pace: request.pace,
    });
    tracing::debug!(release = %plan.release.number, "planned");
    let mut findings = address::left(&plan, history.current.as_ref());
    if !plan.is_empty() {
        let (seen, kept) = join(
            preflight(crew, request.desired, &plan),
            rollout::settings_kept(store, &plan),
        )
        .await;
        findings.extend(seen?);
        findings.extend(kept?);
    }
    Ok(Prepared {
        plan,
        findings,
        left,
        history,
    })
}

/// What rollouts of the unfinished release have not moved for good: those that have begun, and those that the stopped run meant to.
async fn half_way(
    store: &dyn Store,
    history: &History,
    left: Option<&Entries>,
) -> Result<Vec<Member>, StoreError> {
    let Some(release) = history.head.unfinished else {
        return Ok(Vec::new());
    };
    let meant = left.filter(|left| left.release == release);
    let meant = meant.map_or(&[][..], |left| &left.moves);
    rollout::half_way(store, release, meant).await
}

/// Takes a saved plan in place of a fresh one, if the target still is as the plan saw it.
///
/// # Errors
///
/// [`DriveError::Stale`] if it is not.
pub async fn prepare_saved(crew: &Crew, saved: Plan) -> Result<Prepared, DriveError> {
    let store = crew.target.store();
    let history = History::read(store).await?;
    let left = journal::left_behind(store).await?;
    let observed = crew.target.observe().await?;
    let moved = observed.fingerprint() != saved.observed
        || history.current.as_ref().map(|c| c.number) != saved.from
        || !is_free(&saved.release, &history);
    if moved {
        return Err(DriveError::Stale);
    }
    let desired = Desired::of_release(&saved.release);
    let mut findings = address::left(&saved, history.current.as_ref());
    findings.extend(preflight(crew, &desired, &saved).await?);
    Ok(Prepared {
        plan: saved,
        findings,
        left,
        history,
    })
}

/// Whether a planned release has its number still: the next that is given, or its own of before.
fn is_free(release: &Release, history: &History) -> bool {
    let own = [&history.unfinished, &history.current];
    let own = own.into_iter().flatten();
    let mut own = own.filter(|known| known.number == release.number);
    let next = history
        .head
        .last
        .map_or(ReleaseNumber(1), ReleaseNumber::next);
    release.number == next || own.any(|known| known.digest == release.digest)
}

/// What would fail, as far as the target and the files of the blueprint tell.
async fn preflight(
    crew: &Crew,
    desired: &Desired,
    plan: &Plan,
) -> Result<Vec<Finding>, DriveError> {
    let mut found = crew.target.preflight(desired).await?;
    found.extend(rollout::preflight(plan, &crew.root));
    Ok(found)
}

/// What a plan is carried out with.
#[derive(Debug, Clone, Copy)]
pub struct With<'a> {
    /// Values of every secret that is set.
    pub secrets: &'a SecretValues,
    /// Steps that act at the same time at the most.
    pub parallelism: usize,
    /// The commit the blueprint was read at, where there is a repository.
    pub commit: Option<&'a str>,
    /// How long rollouts may take before what has not ended is taken back; as long as their policies say if `None`.
    pub within: Option<Duration>,
}

/// Carries a plan out and records the release; takes it back if it fails and another release serves.
///
/// Every artifact must be built.
///
/// # Errors
///
/// What ended the run early. The target then still serves what it served, and the next run finishes or takes back the rest.
pub async fn carry_out(
    crew: &Crew,
    lease: &Lease,
    prepared: Prepared,
    with: With<'_>,
) -> Result<Outcome, DriveError> {
    let Prepared {
        mut plan,
        mut history,
        left,
        ..
    } = prepared;
    if plan.is_empty() {
        let release = plan.from;
        if left.is_some() {
            // It had done all that it was to do, but for this.
            journal::put_away(crew.target.store()).await?;
            tidy(crew).await;
        }
        return Ok(Outcome::Unchanged { release });
    }
    sign(crew, &mut plan.release, with.commit);
    let store = crew.target.store();
    let since = crew.clock.rfc3339();
    if let Some(before) = history.begin(store, &plan.release).await? {
        rollout::give_up(crew, before, plan.release.number).await?;
    }
    let journal = Journal::open(store, &crew.run, &crew.command, since.clone(), &plan).await?;
    let current = history.current.clone();
    let means = Means {
        secrets: with.secrets,
        current: current.as_ref(),
        parallelism: with.parallelism,
        time: with.within.map(Time::from_now),
    };
    let applied = match apply(crew, lease, &journal, &plan, means).await {
        // Whoever has it now goes on from here; taking back would undo what that run does, and a record would say what is not so.
        Ok(_) | Err(DriveError::Failed { .. }) if !lease.is_held().await => {
            Err(DriveError::LeaseLost)
        }
        applied => applied,
    };
    let result = match applied {
        Ok(times) => {
            let finish = async || history.finish(store, &plan.release).await;
            patiently(None, finish, |error| crew.trouble(error)).await?;
            crew.events.emit(Event::Released {
                release: plan.release.number,
            });
            Ok(Outcome::Deployed {
                release: plan.release.number,
                times,
            })
        }
        Err(DriveError::Failed { release, failure }) => match &current {
            Some(current) if current.number != release => {
                take_back(
                    crew,
                    lease,
                    &mut history,
                    &plan.release,
                    current,
                    means,
                    failure,
                )
                .await
            }
            _ => Err(DriveError::Failed { release, failure }),
        },
        Err(other) => Err(other),
    };
    let entries = match &result {
        // The next run reads the journal to say what it found.
        Err(DriveError::LeaseLost | DriveError::LeaseExpired { .. }) => None,
        Err(error) if !error.ends_the_run() => {
            let what = "how the last steps ended";
            put_down(crew, what, async || journal.save(store).await).await;
            None
        }
        _ => put_down(crew, "the run's end", async || journal.close(store).await).await,
    };
    let record = RunRecord {
        run: crew.run.clone(),
        command: crew.command.clone(),
        since,
        until: crew.clock.rfc3339(),
        ending: Ending::of(&result),
        changes: plan.changes,
        artifacts: RunRecord::artifacts_of(&plan.release),
        release: plan.release.number,
        from: plan.from,
        steps: entries.map(|e| e.steps).unwrap_or_default(),
    };
    leave(crew, &record, &result).await;
    result
}

/// Writes down what a run came to and tidies after it, as far as that is for it to do.
async fn leave(crew: &Crew, record: &RunRecord, result: &Result<Outcome, DriveError>) {
    let lost = matches!(
        result,
        Err(DriveError::LeaseLost | DriveError::LeaseExpired { .. })
    );
    let ended = match result {
        Ok(_) => true,
        Err(error) => error.ends_the_run(),
    };
    // Neither asks for what the other does.
    let recorded = async {
        if !lost {
            let save = async || record.save(crew.target.store()).await;
            put_down(crew, "the run's record", save).await;
        }
    };
    let tidied = async {
        if ended {
            tidy(crew).await;
        }
    };
    join(recorded, tidied).await;
}

/// Has the store take in how a run ended. It has ended so, whatever comes of this; `None` where the store did not take it.
async fn put_down<T>(
    crew: &Crew,
    what: &str,
    write: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Option<T> {
    match patiently(None, write, |error| crew.trouble(error)).await {
        Ok(done) => Some(done),
        Err(error) => {
            let why = in_words(&error);
            crew.events.emit(Event::Trouble {
                what: format!("{what} could not be written down: {why}"),
            });
            None
        }
    }
}

/// Has the target remove what nobody asks for any more. The run has ended as it has, whatever comes of this.
async fn tidy(crew: &Crew) {
    let store = crew.target.store();
    let done = async {
        let kept = releases::newest(store, KEPT).await?;
        crew.target.tidy(&kept).await.map_err(DriveError::from)
    };
    if let Err(error) = done.await {
        tracing::warn!(%error, "what nobody asks for any more was not removed; the next run tries again");
    }
}

/// Writes into a fresh release who made it and when.
fn sign(crew: &Crew, release: &mut Release, commit: Option<&str>) {
    if release.run.is_empty() {
        release.run.clone_from(&crew.run);
        release.created_at = crew.clock.rfc3339();
        release.commit = commit.map(str::to_owned);
    }
}

/// Brings the environment back to the release that served, in one move.
async fn take_back(
    crew: &Crew,
    lease: &Lease,
    history: &mut History,
    failed: &Release,
    current: &Release,
    means: Means<'_>,
    failure: Box<Failure>,
) -> Result<Outcome, DriveError> {
    crew.events.emit(Event::TakingBack {
        release: failed.number,
        to: Some(current.number),
    });
    let store = crew.target.store();
    let look = async || crew.target.observe().await;
    let observed = patiently(None, look, |error| crew.trouble(error)).await?;
    let desired = Desired::of_release(current);
    let back = plan(Inputs {
        desired: &desired,
        observed: &observed,
        current: Some(current),
        unfinished: Some(failed),
        half_way: &[],
        back_to: None,
        last: history.head.last,
        unbuilt: &BTreeSet::new(),
        pace: Pace::AtOnce,
    });
    // The way back is short and must not be stopped half-way by the word that stopped the way there.
    let crew = &Crew {
        stop: CancellationToken::new(),
        ..crew.clone()
    };
    let command = format!("take back {}", failed.number);
    let since = crew.clock.rfc3339();
    let open = async || Journal::open(store, &crew.run, &command, since.clone(), &back).await;
    let journal = patiently(None, open, |error| crew.trouble(error)).await?;
    let means = Means {
        time: None,
        ..means
    };
    let result = apply(crew, lease, &journal, &back, means).await;
    match result {
        Ok(_) => {
            let give_up = async || {
                history
                    .give_up(store, failed, ReleaseStatus::RolledBack)
                    .await
            };
            patiently(None, give_up, |error| crew.trouble(error)).await?;
            Ok(Outcome::RolledBack {
                release: failed.number,
                to: current.number,
                failure,
            })
        }
        Err(DriveError::Failed { failure: back, .. }) => Err(DriveError::NotTakenBack {
            release: failed.number,
            failure,
            back,
        }),
        Err(other) => Err(other),
    }
}
