//! The lease: one run at a time changes an environment.
//!
//! A document on the target names the holder and is renewed while the run lives. A run that could not renew it for its term rests
//! until it can, as another may have it by then; only if another has, or that takes too long, the lease is lost. Whether a holder on this machine lives is read from
//! its process, so a killed run never blocks the next one; a holder elsewhere has lost the lease when the document stays
//! unrenewed for its term, measured on the waiter's own steady clock, so that no clock that jumps can take a lease away.

use std::sync::Arc;
use std::time::Duration;

use platform_port::{Store, StoreError, Target, Version};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::DriveError;
use crate::events::{Event, Events};
use crate::owner::Owner;

/// The key of the lease in an environment's store.
pub const KEY: &str = "lease";

/// How long a lease holds after its last renewal.
pub const TERM: Duration = Duration::from_secs(15);

/// How long a lease may go without renewal before its run gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const RENEW_EVERY: Duration = Duration::from_secs(5);
const RENEW_AGAIN_AFTER: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Who holds an environment's lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The run.
    pub run: String,
    /// The command it carries out.
    pub command: String,
    /// Who and where.
    pub owner: Owner,
    /// Since when, as RFC 3339 in UTC.
    pub since: String,
    /// Grows with each renewal.
    pub renewals: u64,
}

/// The lease could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else holds it.
    #[error(
        "the environment is locked by `{}` of {} since {}",
        holder.command, holder.owner, holder.since
    )]
    Held {
        /// Who.
        holder: Box<Holder>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The run was told to stop while it waited.
    #[error("stopped while waiting for the lock")]
    Stopped,
}

/// Whether a run may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nobody else can have the lease.
    Ours,
    /// It was not renewed for its term, so somebody else may have it.
    InDoubt,
    /// It is gone.
    Lost(Lost),
}

/// How a lease was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Another run took it, or somebody took it away.
    Taken,
    /// It could not be renewed for too long.
    Expired,
}

impl From<Lost> for DriveError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Taken => Self::LeaseLost,
            Lost::Expired => Self::LeaseExpired {
                seconds: PATIENCE.as_secs(),
            },
        }
    }
}

/// A lease that is held and renewed until it is released or dropped.
#[derive(Debug)]
pub struct Lease {
    target: TargetHandle,
    run: String,
    renewing: JoinHandle<()>,
    hold: watch::Receiver<Hold>,
}

struct TargetHandle(Arc<dyn Target>);

impl std::fmt::Debug for TargetHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.info().provider)
    }
}

impl Lease {
    /// Takes the lease, waiting at most `patience` for one who holds it.
    ///
    /// # Errors
    ///
    /// [`LeaseError::Held`] if it is not free by then.
    pub async fn acquire(
        target: Arc<dyn Target>,
        holder: Holder,
        patience: Duration,
        events: &dyn Events,
        stop: &CancellationToken,
    ) -> Result<Self, LeaseError> {
        let begun = Instant::now();
        let mut vigil = Vigil::default();
        let mut told = false;
        loop {
            let found = match read(target.store()).await {
                // Nobody can renew it either: a holder that lives notices and stops.
                Err(StoreError::Damaged { .. }) => {
                    target.store().delete(KEY).await?;
                    continue;
                }
                found => found?,
            };
            let Some((held_by, version)) = found else {
                if let Some(version) = take(target.store(), &holder, None).await? {
                    return Ok(Self::hold(target, holder, version));
                }
                continue;
            };
            if vigil.pulse(&held_by, &version) == Pulse::Gone {
                if let Some(version) = take(target.store(), &holder, Some(&version)).await? {
                    return Ok(Self::hold(target, holder, version));
                }
                continue;
            }
            if begun.elapsed() >= patience {
                return Err(LeaseError::Held {
                    holder: Box::new(held_by),
                });
            }
            if !told {
                told = true;
                events.emit(Event::LockWait { holder: held_by });
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return Err(LeaseError::Stopped),
            }
        }
    }

    fn hold(target: Arc<dyn Target>, holder: Holder, version: Version) -> Self {
        let (tell, hold) = watch::channel(Hold::Ours);
        let run = holder.run.clone();
        let renewing = tokio::spawn(renew(Arc::clone(&target), holder, version, tell));
        Self {
            target: TargetHandle(target),
            run,
            renewing,
            hold,
        }
    }

    /// Whether the run may act, as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Hold> {
        self.hold.clone()
    }

    /// Returns when the lease has been lost, and never otherwise.
    pub async fn lost(&self) -> Lost {
        let mut hold = self.hold.clone();
        loop {
            if let Hold::Lost(lost) = *hold.borrow_and_update() {
                return lost;
            }
            if hold.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Whether nobody else has it now, as far as the store tells: a run that was stopped for a while and woke up may have lost it
    /// without having noticed.
    pub async fn is_held(&self) -> bool {
        if let Hold::Lost(_) = *self.hold.borrow() {
            return false;
        }
        match read(self.target.0.store()).await {
            Ok(Some((holder, _))) => holder.run == self.run,
            Ok(None) | Err(StoreError::Damaged { .. }) => false,
            // Nobody can take it from a store that is away, either.
            Err(_) => true,
        }
    }

    /// Gives the lease back.
    ///
    /// # Errors
    ///
    /// If the store fails; the lease then ends by itself after its term.
    pub async fn release(self) -> Result<(), StoreError> {
        self.renewing.abort();
        let store = self.target.0.store();
        match read(store).await? {
            Some((holder, _)) if holder.run == self.run => store.delete(KEY).await,
            _ => Ok(()),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

/// How the holder of a lease is, as seen from another run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// It renews its lease.
    Alive,
    /// It runs on this machine and has not renewed its lease for the term: it was halted, or its store does not answer it.
    Silent,
    /// It has ended, or runs elsewhere and has not renewed its lease for the term; or nobody holds it.
    Gone,
}

/// Watches the holder of a lease over several looks, by this run's own steady clock.
#[derive(Debug, Default)]
pub struct Vigil {
    /// The document as it was seen last, and since when.
    seen: Option<(Version, Instant)>,
}

impl Vigil {
    /// Looks at whoever holds the lease now.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn look(&mut self, store: &dyn Store) -> Result<Pulse, StoreError> {
        match read(store).await {
            Ok(Some((holder, version))) => Ok(self.pulse(&holder, &version)),
            // It holds nobody up.
            Ok(None) | Err(StoreError::Damaged { .. }) => Ok(Pulse::Gone),
            Err(away) => Err(away),
        }
    }

    fn pulse(&mut self, holder: &Holder, version: &Version) -> Pulse {
        let now = Instant::now();
        let since = match &self.seen {
            Some((seen, since)) if seen == version => *since,
            _ => {
                self.seen = Some((version.clone(), now));
                now
            }
        };
        let unrenewed = now.duration_since(since) >= TERM;
        match (holder.owner.lives(), unrenewed) {
            (Some(false), _) | (None, true) => Pulse::Gone,
            (Some(true), true) => Pulse::Silent,
            _ => Pulse::Alive,
        }
    }
}

/// Who holds an environment's lease now, living or not.
///
/// # Errors
///
/// If the store fails.
pub async fn holder(store: &dyn Store) -> Result<Option<Holder>, StoreError> {
    match read(store).await {
        // It holds nobody up.
        Err(StoreError::Damaged { .. }) => Ok(None),
        found => Ok(found?.map(|(holder, _)| holder)),
    }
}

/// Takes a lease away from whoever holds it.
///
/// # Errors
///
/// If the store fails.
pub async fn force_release(store: &dyn Store) -> Result<(), StoreError> {
    store.delete(KEY).await
}

/// Makes a holder for a run that begins now.
pub fn new_holder(run: &str, command: &str, clock: &dyn Clock) -> Holder {
    Holder {
        run: run.to_owned(),
        command: command.to_owned(),
        owner: Owner::this_process(),
        since: clock.rfc3339(),
        renewals: 0,
    }
}

async fn read(store: &dyn Store) -> Result<Option<(Holder, Version)>, StoreError> {
    let Some(document) = store.read(KEY).await? else {
        return Ok(None);
    };
    match serde_json::from_slice(&document.bytes) {
        Ok(holder) => Ok(Some((holder, document.version))),
        Err(source) => Err(StoreError::Damaged {
            key: KEY.to_owned(),
            place: "the target's store".to_owned(),
            source: source.into(),
        }),
    }
}

async fn take(
    store: &dyn Store,
    holder: &Holder,
    expected: Option<&Version>,
) -> Result<Option<Version>, StoreError> {
    let bytes = serde_json::to_vec(holder).unwrap_or_default();
    match store.write(KEY, &bytes, expected).await {
        Ok(version) => Ok(Some(version)),
        Err(StoreError::Conflict { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

async fn renew(
    target: Arc<dyn Target>,
    mut holder: Holder,
    mut version: Version,
    tell: watch::Sender<Hold>,
) {
    let mut renewed = Instant::now();
    let mut again = RENEW_EVERY;
    let lost = loop {
        let by = match *tell.borrow() {
            Hold::Ours => renewed + TERM,
            _ => renewed + PATIENCE,
        };
        tokio::time::sleep_until(by.min(Instant::now() + again)).await;
        holder.renewals += 1;
        let asked = Instant::now();
        // Who was halted for a while has not asked meanwhile: another may have the lease, which only the store tells.
        let halted = asked > by + RENEW_AGAIN_AFTER;
        if halted {
            doubt(&tell);
        }
        let by = if halted { asked + RENEW_EVERY } else { by };
        let renewal = renewal(target.store(), &mut holder, &mut version);
        // A store that takes its time with an answer has not renewed anything yet.
        match tokio::time::timeout_at(by, renewal).await {
            Ok(Ok(true)) => {
                renewed = asked;
                again = RENEW_EVERY;
                tell.send_if_modified(|hold| std::mem::replace(hold, Hold::Ours) != Hold::Ours);
            }
            // Somebody took or removed it: this run must not act any more.
            Ok(Ok(false)) => break Lost::Taken,
            Ok(Err(_)) | Err(_) if renewed.elapsed() >= PATIENCE => break Lost::Expired,
            Ok(Err(_)) | Err(_) => {
                again = RENEW_AGAIN_AFTER;
                if renewed.elapsed() >= TERM {
                    doubt(&tell);
                }
            }
        }
    };
    // Nobody may be listening any more.
    let _ = tell.send(Hold::Lost(lost));
}

fn doubt(tell: &watch::Sender<Hold>) {
    tell.send_if_modified(|hold| std::mem::replace(hold, Hold::InDoubt) != Hold::InDoubt);
}

/// Renews the lease once; `false` where it is somebody else's, or nobody's.
async fn renewal(
    store: &dyn Store,
    holder: &mut Holder,
    version: &mut Version,
) -> Result<bool, StoreError> {
    loop {
        if let Some(next) = take(store, holder, Some(&*version)).await? {
            *version = next;
            return Ok(true);
        }
        match read(store).await {
            // An earlier renewal of which the answer was lost was one all the same. It may be long ago, so this one has yet to
            // be made.
            Ok(Some((found, now))) if found.run == holder.run && now != *version => {
                holder.renewals = holder.renewals.max(found.renewals) + 1;
                *version = now;
            }
            Ok(_) | Err(StoreError::Damaged { .. }) => return Ok(false),
            Err(away) => return Err(away),
        }
    }
}
