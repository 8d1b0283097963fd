//! The journal: what a run is about to do, written before it does it. How that ended is written with the next that it is about to do.
//!
//! Killed at any instant, a run leaves behind which steps it had begun. The next one reads that, says what it found, and plans from
//! what it observes; so the journal explains and the target decides.

use std::collections::BTreeMap;

use platform_decide::plan::{Member, Plan, StepId};
use platform_decide::release::ReleaseNumber;
use platform_port::{Store, StoreError};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::kept::Kept;
use crate::releases::{read_json, to_json};

/// The key of the journal of the run under way.
pub const KEY: &str = "journal";

/// How far a step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// About to act, or acting.
    Begun,
    /// Done.
    Done,
    /// Failed.
    Failed,
}

/// What a run wrote down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// The run.
    pub run: String,
    /// The command it carries out.
    pub command: String,
    /// When it began, as RFC 3339 in UTC.
    pub since: String,
    /// The release it deploys.
    pub release: ReleaseNumber,
    /// The release that served before.
    pub from: Option<ReleaseNumber>,
    /// Number of steps in its plan.
    pub planned: usize,
    /// What its rollouts move. One that has not begun has no state of its own yet.
    #[serde(default)]
    pub moves: Vec<Member>,
    /// The steps it began, and how far each came.
    pub steps: BTreeMap<StepId, Progress>,
}

/// The journal of a run under way.
#[derive(Debug)]
pub struct Journal {
    entries: std::sync::Mutex<(Entries, u64)>,
    written: Mutex<(Kept, u64)>,
}

impl Journal {
    /// Opens the journal of a run over whatever an earlier one left.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn open(
        store: &dyn Store,
        run: &str,
        command: &str,
        since: String,
        plan: &Plan,
    ) -> Result<Self, StoreError> {
        let entries = Entries {
            run: run.to_owned(),
            command: command.to_owned(),
            since,
            release: plan.release.number,
            from: plan.from,
            planned: plan.steps.len(),
            moves: plan.members().cloned().collect(),
            steps: BTreeMap::new(),
        };
        let mut kept = Kept::found(store.read(KEY).await?.map(|document| document.version));
        kept.write(store, KEY, to_json(&entries)).await?;
        Ok(Self {
            entries: std::sync::Mutex::new((entries, 0)),
            written: Mutex::new((kept, 0)),
        })
    }

    /// Writes down how far a step has come, and returns once that is durable.
    ///
    /// Steps that write at the same time share one write. Safe to repeat after any error.
    ///
    /// # Errors
    ///
    /// If the store fails, or another run took the journal over.
    pub async fn mark(
        &self,
        store: &dyn Store,
        step: &StepId,
        progress: Progress,
    ) -> Result<(), StoreError> {
        let mine = self.note(step, progress);
        self.write(store, mine).await
    }

    /// Notes how far a step has come, to be written down with the next mark. Returns how many notes there are.
    ///
    /// For ends: the next run plans from what it observes, so it loses nothing by not knowing of the last one.
    pub fn note(&self, step: &StepId, progress: Progress) -> u64 {
        let mut entries = self.lock();
        entries.0.steps.insert(step.clone(), progress);
        entries.1 += 1;
        entries.1
    }

    /// Writes down whatever was noted.
    ///
    /// # Errors
    ///
    /// If the store fails, or another run took the journal over.
    pub async fn save(&self, store: &dyn Store) -> Result<(), StoreError> {
        let all = self.lock().1;
        self.write(store, all).await
    }

    async fn write(&self, store: &dyn Store, mine: u64) -> Result<(), StoreError> {
        let mut written = self.written.lock().await;
        if written.1 >= mine {
            return Ok(());
        }
        let (bytes, upto) = {
            let entries = self.lock();
            (to_json(&entries.0), entries.1)
        };
        written.0.write(store, KEY, bytes).await?;
        written.1 = upto;
        Ok(())
    }

    /// Puts the journal away with the run's record: the run is over.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn close(&self, store: &dyn Store) -> Result<Entries, StoreError> {
        let entries = self.lock().0.clone();
        store.delete(KEY).await?;
        Ok(entries)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Entries, u64)> {
        self.entries
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Puts away the journal of a run that was stopped, where nothing of it is left to do.
///
/// # Errors
///
/// If the store fails.
pub async fn put_away(store: &dyn Store) -> Result<(), StoreError> {
    store.delete(KEY).await
}

/// What a run that was stopped left behind; `None` where no run was.
///
/// A damaged journal is set aside: the plan does not depend on it.
///
/// # Errors
///
/// If the store fails.
pub async fn left_behind(store: &dyn Store) -> Result<Option<Entries>, StoreError> {
    match read_json(store, KEY).await {
        Ok(found) => Ok(found.map(|(entries, _)| entries)),
        Err(StoreError::Damaged { .. }) => {
            store.delete(KEY).await?;
            Ok(None)
        }
        Err(other) => Err(other),
    }
}
