//! Where the rollout of an environment stands, for any terminal that asks.

use platform_decide::release::ReleaseNumber;
use platform_decide::rollout::State;
use platform_port::Target;

use super::document;
use super::progress::Progress;
use crate::error::DriveError;
use crate::lease::{self, Holder};
use crate::releases::History;

/// Where a rollout stands, and who drives it.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its state as last saved.
    pub state: State,
    /// The same for people, with what runs and what the gateway counts now.
    pub progress: Progress,
    /// The run that drives it; `None` when that run is gone.
    pub driver: Option<Holder>,
}

/// Where the rollout of the environment stands; `None` where there is none under way.
///
/// # Errors
///
/// If the target or its store cannot be read.
pub async fn status(target: &dyn Target) -> Result<Option<Status>, DriveError> {
    let store = target.store();
    let Some(release) = unfinished(target).await? else {
        return Ok(None);
    };
    let Some(state) = document::under_way(store, release).await? else {
        return Ok(None);
    };
    let observed = target.observe().await.ok();
    let tallies = target.tallies().await.ok();
    let progress = Progress::of(&state, observed.as_ref(), tallies.as_ref());
    Ok(Some(Status {
        driver: driver_of(target).await?,
        progress,
        state,
    }))
}

/// Whether a living run has rollouts of its release behind it and none under way: the next is about to begin, or the run to end.
///
/// # Errors
///
/// If the store cannot be read.
pub async fn between(target: &dyn Target) -> Result<bool, DriveError> {
    let store = target.store();
    let (Some(release), Some(_)) = (unfinished(target).await?, driver_of(target).await?) else {
        return Ok(false);
    };
    let all = document::all(store, release).await?;
    Ok(!all.is_empty() && all.iter().all(document::has_ended))
}

/// The release that a living run is deploying and none of whose rollouts has begun; `None` where there is none.
///
/// # Errors
///
/// If the store cannot be read.
pub async fn awaited(target: &dyn Target) -> Result<Option<ReleaseNumber>, DriveError> {
    let (Some(release), Some(_)) = (unfinished(target).await?, driver_of(target).await?) else {
        return Ok(None);
    };
    let all = document::all(target.store(), release).await?;
    Ok(all.is_empty().then_some(release))
}

/// The release that a run is deploying or taking back, or was stopped while it did; `None` where there is none.
///
/// # Errors
///
/// If the store cannot be read.
pub async fn unfinished(target: &dyn Target) -> Result<Option<ReleaseNumber>, DriveError> {
    let history = History::read(target.store()).await?;
    Ok(history.unfinished.map(|release| release.number))
}

/// The living run that holds the environment's lease, as far as can be told from here.
///
/// # Errors
///
/// If the store cannot be read.
pub async fn driver_of(target: &dyn Target) -> Result<Option<Holder>, DriveError> {
    let holder = lease::holder(target.store()).await?;
    // A holder on another machine is taken to live; who wants its lease waits for its term.
    Ok(holder.filter(|holder| holder.owner.lives().unwrap_or(true)))
}
