//! The state of rollouts and operators' words, as documents in the environment's store.

use std::time::Duration;

use platform_decide::release::ReleaseNumber;
use platform_decide::rollout::{Entry, Note, Phase, State, Word};
use platform_port::{Store, StoreError, Version};
use tokio::time::Instant;

use crate::releases::{read_json, to_json};

/// The key of the last word an operator said.
pub const WORD: &str = "rollouts/word";

/// A state that did not move on is saved this often, so that others see how it is getting on.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// A rollout's state and the document that holds it.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) state: State,
    key: String,
    version: Option<Version>,
    saved: Option<Instant>,
}

impl Document {
    /// The rollout of `fresh` as an earlier run left it, or `fresh` itself.
    pub(super) async fn find(
        store: &dyn Store,
        fresh: State,
        run: &str,
        now: u64,
    ) -> Result<Self, StoreError> {
        for key in store.list(&State::prefix(fresh.release)).await? {
            let Some((state, version)) = read_state(store, &key).await? else {
                continue;
            };
            let same = |member: &platform_decide::rollout::MemberState| {
                fresh.members.iter().any(|other| other.to == member.to)
            };
            let over = matches!(state.phase, Phase::Promoted | Phase::RolledBack { .. });
            if over || !state.members.iter().any(same) {
                continue;
            }
            let mut state = state.taken_up();
            state.log.push(Entry {
                at: now,
                note: Note::TakenUp {
                    run: run.to_owned(),
                },
            });
            return Ok(Self {
                state,
                key,
                version: Some(version),
                saved: None,
            });
        }
        let key = fresh.key();
        let version = store.read(&key).await?.map(|document| document.version);
        Ok(Self {
            state: fresh,
            key,
            version,
            saved: None,
        })
    }

    /// Takes the next state, durably if it asks for anything else than the one before.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if another run took the rollout over.
    pub(super) async fn take(&mut self, store: &dyn Store, next: State) -> Result<(), StoreError> {
        let due = self.saved.is_none_or(|saved| saved.elapsed() >= SAVE_EVERY);
        if !due && !moved(&self.state, &next) {
            self.state = next;
            return Ok(());
        }
        let bytes = to_json(&next);
        self.version = Some(
            store
                .write(&self.key, &bytes, self.version.as_ref())
                .await?,
        );
        self.saved = Some(Instant::now());
        self.state = next;
        Ok(())
    }
}

/// Whether the next state asks for something else than the one before, or remembers what must not be forgotten.
fn moved(before: &State, next: &State) -> bool {
    before.phase != next.phase
        || before.up != next.up
        || before.heard != next.heard
        || before.gates != next.gates
        || before.log.len() != next.log.len()
        || before
            .members
            .iter()
            .zip(&next.members)
            .any(|(before, next)| before.old_serves != next.old_serves)
}

/// Reads a rollout's state; one that cannot be made out is taken for none, as the target itself shows what runs.
async fn read_state(store: &dyn Store, key: &str) -> Result<Option<(State, Version)>, StoreError> {
    match read_json(store, key).await {
        Err(StoreError::Damaged { .. }) => {
            tracing::warn!(key, "a rollout's state is damaged and is begun anew");
            store.delete(key).await?;
            Ok(None)
        }
        other => other,
    }
}

/// Every rollout of a release, by the name of its document.
///
/// # Errors
///
/// If the store fails.
pub async fn all(store: &dyn Store, release: ReleaseNumber) -> Result<Vec<State>, StoreError> {
    let mut found = Vec::new();
    for key in store.list(&State::prefix(release)).await? {
        if let Some((state, _)) = read_state(store, &key).await? {
            found.push(state);
        }
    }
    Ok(found)
}

/// The rollout of a release that is not over; `None` where there is none.
///
/// # Errors
///
/// If the store fails.
pub async fn under_way(
    store: &dyn Store,
    release: ReleaseNumber,
) -> Result<Option<State>, StoreError> {
    let over = |state: &State| matches!(state.phase, Phase::Promoted | Phase::RolledBack { .. });
    Ok(all(store, release)
        .await?
        .into_iter()
        .find(|state| !over(state)))
}

/// The rollout that was begun last, over or not; `None` where there never was one.
///
/// # Errors
///
/// If the store fails.
pub async fn last(store: &dyn Store) -> Result<Option<State>, StoreError> {
    let mut found: Option<State> = None;
    let keys = store.list("rollouts/").await?;
    let newest = keys.iter().rev().find(|key| *key != WORD);
    // Rollouts of the newest release; which of several was the last their beginnings tell.
    let Some(prefix) = newest.and_then(|key| Some(&key[..=key.rfind('/')?])) else {
        return Ok(None);
    };
    for key in keys.iter().filter(|key| key.starts_with(prefix)) {
        if let Some((state, _)) = read_state(store, key).await?
            && found
                .as_ref()
                .is_none_or(|found| found.began <= state.began)
        {
            found = Some(state);
        }
    }
    Ok(found)
}

/// Leaves a word for the run that drives a rollout.
///
/// # Errors
///
/// If the store fails.
pub async fn say(store: &dyn Store, word: &Word) -> Result<(), StoreError> {
    loop {
        let before = store.read(WORD).await?.map(|document| document.version);
        match store.write(WORD, &to_json(word), before.as_ref()).await {
            Ok(_) => return Ok(()),
            // Two said something at the same time; the later one holds.
            Err(StoreError::Conflict { .. }) => {}
            Err(other) => return Err(other),
        }
    }
}

/// The last word that was said.
pub(super) async fn word(store: &dyn Store) -> Result<Option<Word>, StoreError> {
    match read_json(store, WORD).await {
        Ok(found) => Ok(found.map(|(word, _)| word)),
        Err(StoreError::Damaged { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}
