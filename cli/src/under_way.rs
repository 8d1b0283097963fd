//! A rollout that another run drives: steered, waited for, or replaced.

use std::time::{Duration, Instant};

use platform_decide::release::ReleaseNumber;
use platform_decide::rollout::{Order, Phase, State, Word};
use platform_drive::lease::{Holder, Pulse, Vigil};
use platform_drive::owner::Owner;
use platform_drive::rollout::{self, Status};
use platform_port::{Store, Target};

use crate::error::CliError;
use crate::exit::Exit;
use crate::view::Told;
use crate::world::World;

/// How long the run that drives a rollout may take to hear a word.
const HEARD_WITHIN: Duration = Duration::from_secs(15);

/// How long a run may take to end once its rollout is over.
pub(crate) const ENDED_WITHIN: Duration = Duration::from_mins(2);

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What helps where a run keeps its lock and does nothing.
const WAY_OUT: &str = "`platform unlock --force` takes its lock away, and then `platform rollback` takes the rollout back \
                       and `platform rollout resume` goes on with it";

/// What to do about a rollout that another run drives
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Rollout")]
pub(crate) struct Meanwhile {
    /// Wait for a rollout that another run drives, however long it takes
    #[arg(long, group = "meanwhile")]
    wait: bool,

    /// Take back a rollout that another run drives, and go on in its place
    #[arg(long, group = "meanwhile")]
    replace: bool,
}

/// What a deploy meets.
#[derive(Debug)]
pub(crate) struct Met {
    /// How long to wait for the lock.
    pub(crate) patience: Duration,
    /// The rollout of another run that is to be taken back first.
    pub(crate) replaces: Option<Status>,
}

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Wait,
    Replace,
}

impl Meanwhile {
    /// Finds out whether another run drives a rollout, and what is to be done about it. Touches nothing.
    pub(crate) async fn met(&self, world: &World, target: &dyn Target) -> Result<Met, CliError> {
        let patience = world.globals.lock_timeout();
        let met = |patience, replaces| Met { patience, replaces };
        let unbounded = if patience.is_zero() {
            Duration::MAX
        } else {
            patience
        };
        let Some((status, driver)) = driven(target).await? else {
            return Ok(met(if self.wait { unbounded } else { patience }, None));
        };
        match self.choice(world, &status, &driver)? {
            Choice::Wait => {
                let text = format!("waiting until {} is over", described(&status));
                world.view.tell(&Told::important(text));
                Ok(met(unbounded, None))
            }
            Choice::Replace => Ok(met(patience.max(ENDED_WITHIN), Some(status))),
        }
    }

    fn choice(&self, world: &World, status: &Status, driver: &Holder) -> Result<Choice, CliError> {
        if self.replace {
            return Ok(Choice::Replace);
        }
        if self.wait || !world.globals.lock_timeout().is_zero() {
            return Ok(Choice::Wait);
        }
        let message = format!(
            "{} is under way, driven by `{}` of {} since {}",
            described(status),
            driver.command,
            driver.owner,
            driver.since
        );
        let refused = |message| {
            CliError::new("rollout::under-way", message).help(
                "`--wait` (or `--lock-timeout 10m`) waits for it, `--replace` takes it back first; \
                 `platform rollout status --watch` shows it",
            )
        };
        if world.globals.yes || !world.asks() {
            return Err(refused(message));
        }
        let question = format!("{message}.\nWait for it, replace it, or leave it? [w/r/L]");
        let answer = world.ask(&question)?;
        match answer.unwrap_or_default().to_lowercase().as_str() {
            "w" | "wait" => Ok(Choice::Wait),
            "r" | "replace" => Ok(Choice::Replace),
            _ => Err(refused(format!("{} is under way", described(status)))),
        }
    }
}

/// The rollout under way and the living run that drives it.
pub(crate) async fn driven(target: &dyn Target) -> Result<Option<(Status, Holder)>, CliError> {
    let status = rollout::status(target).await?;
    Ok(status.and_then(|status| status.driver.clone().map(|driver| (status, driver))))
}

/// The same, waited for where a run is between two rollouts, or about to end after the last.
pub(crate) async fn driven_or_next(
    world: &World,
    target: &dyn Target,
) -> Result<Option<Status>, CliError> {
    let asked = Instant::now();
    let mut told = false;
    loop {
        if let Some((status, _)) = driven(target).await? {
            return Ok(Some(status));
        }
        if !rollout::between(target).await? || asked.elapsed() > ENDED_WITHIN {
            return Ok(None);
        }
        if !told {
            told = true;
            let text =
                "a run is between two rollouts; waiting for the next one, to take all of it back";
            world.view.tell(&Told::important(text));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = world.stop.token().cancelled() => return Ok(None),
        }
    }
}

/// A rollout in a few words: `the canary of r7 (5 %, step 2 of 5, serving)`.
pub(crate) fn described(status: &Status) -> String {
    let progress = &status.progress;
    format!(
        "the {} rollout of {} ({}, step {} of {}, {})",
        progress.strategy,
        progress.release,
        progress.stage,
        progress.stage_number,
        progress.stages,
        progress.phase
    )
}

/// What became of a rollout that was to go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakenBack {
    /// It is over.
    Over,
    /// The run that drove it is gone, and left it half-way.
    HalfWay,
}

/// Has a rollout taken back by the run that drives it, and waits until it is, or until that run is gone.
pub(crate) async fn take_back(
    world: &World,
    target: &dyn Target,
    status: &Status,
) -> Result<TakenBack, CliError> {
    let text = format!("taking back {}", described(status));
    world.view.tell(&Told::important(text));
    let said = said(world, status.state.release, Order::Abort);
    let said = rollout::say(target.store(), said).await?;
    let over = match heard(target, &said).await? {
        Some(_) => until_over(world, target, &said).await?,
        None => None,
    };
    match over {
        // A rollout that could not go back any more has come to its end, which is as good to begin from.
        Some(Exit::Done | Exit::RolledBack) => Ok(TakenBack::Over),
        Some(Exit::Interrupted) => Err(CliError::new(
            "run::stopped",
            "stopped while the rollout went back",
        )),
        Some(_) => Err(CliError::new(
            "rollout::not-taken-back",
            format!("{} did not go back", described(status)),
        )
        .help("`platform rollout status` shows where it stands")),
        None => {
            tell_gone(world, said.release);
            Ok(TakenBack::HalfWay)
        }
    }
}

/// Says that this run goes on with what another one left half-way.
pub(crate) fn tell_gone(world: &World, release: ReleaseNumber) {
    world.view.tell(&Told::important(format!(
        "the run that drove the rollout of {release} is gone; this run goes on in its place"
    )));
}

/// A word of this run about a release.
pub(crate) fn said(world: &World, release: ReleaseNumber, order: Order) -> Word {
    Word {
        number: 0,
        order,
        release,
        by: Owner::this_process().to_string(),
        at: world.clock.millis(),
    }
}

/// Waits until the run that drives a rollout has heard a word.
///
/// - returns: the state it then had; `None` where that run is gone and nobody has heard it
pub(crate) async fn heard(target: &dyn Target, said: &Word) -> Result<Option<State>, CliError> {
    let asked = Instant::now();
    let mut vigil = Vigil::default();
    loop {
        // Looked at before the state, which a run saves before it ends.
        let driver = vigil.look(target.store()).await?;
        let all = rollout::all(target.store(), said.release).await?;
        let over = all.iter().all(|state| state.phase.is_over());
        // Who came too late sees how it ended.
        let hearing = |state: &State| over || state.has_heard(said);
        if let Some(state) = all.into_iter().find(hearing) {
            return Ok(Some(state));
        }
        if driver == Pulse::Gone {
            return Ok(None);
        }
        if asked.elapsed() > HEARD_WITHIN {
            let message = format!(
                "the run that drives {} has not heard `{}`",
                said.release,
                said.order.as_str()
            );
            return Err(CliError::new("rollout::not-heard", message).help(format!(
                "the word stays and is heard when that run goes on; `platform rollout status` shows whose it is. If it hangs, {WAY_OUT}"
            )));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the rollout that heard a word is over, and where it went back the rest of its release is back as well: what of it was
/// promoted before, the run takes back after that rollout.
///
/// - returns: how that is for the one who said it; `None` where the run that drives it is gone before
pub(crate) async fn until_over(
    world: &World,
    target: &dyn Target,
    said: &Word,
) -> Result<Option<Exit>, CliError> {
    let mut vigil = Vigil::default();
    let mut told = false;
    loop {
        // Looked at before the state, which a run saves before it ends.
        let driver = vigil.look(target.store()).await?;
        let all = rollout::all(target.store(), said.release).await?;
        // Where nobody heard it, the one that was under way was over before.
        let mine = all.iter().find(|state| state.has_heard(said));
        let last = || all.iter().max_by_key(|state| state.began);
        match mine.or_else(last).map(|state| &state.phase) {
            None | Some(Phase::Promoted) => return Ok(Some(Exit::Done)),
            Some(Phase::RolledBack { .. })
                if rollout::unfinished(target).await? != Some(said.release) =>
            {
                let asked = said.order == Order::Abort;
                return Ok(Some(if asked { Exit::Done } else { Exit::RolledBack }));
            }
            Some(Phase::RolledBack { .. }) => {}
            Some(phase) if phase.is_over() => return Ok(Some(Exit::Failed)),
            Some(_) => {}
        }
        match driver {
            Pulse::Gone => return Ok(None),
            Pulse::Silent if !told => {
                told = true;
                let release = said.release;
                world.view.tell(&Told::important(format!(
                    "the run that drives {release} is alive and does not renew its lock. If it hangs, {WAY_OUT}"
                )));
            }
            Pulse::Silent | Pulse::Alive => {}
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = world.stop.token().cancelled() => return Ok(Some(Exit::Interrupted)),
        }
    }
}

/// There is nothing to steer.
pub(crate) fn none() -> CliError {
    CliError::new("rollout::none", "no rollout is under way")
        .help("`platform rollout report` shows the last one")
}

/// How it is for who wanted a rollout back that somebody else has brought to its end.
pub(crate) async fn went_back(store: &dyn Store) -> Result<Exit, CliError> {
    let last = rollout::last(store).await?;
    match last.map(|state| state.phase) {
        Some(Phase::RolledBack { .. }) => Ok(Exit::Done),
        Some(Phase::Promoted) => Err(none().help(
            "it was promoted meanwhile; `platform rollback` goes back to the release before",
        )),
        _ => Err(none()),
    }
}
