//! The state of rollouts and operators' words, as documents in the environment's store.

use std::collections::BTreeMap;
use std::time::Duration;

use platform_decide::difference::{Difference, differences};
use platform_decide::group::GroupId;
use platform_decide::plan::{Member, Plan};
use platform_decide::release::ReleaseNumber;
use platform_decide::rollout::{Note, Phase, State, Word};
use platform_port::{Finding, Severity, Store, StoreError, Version};
use tokio::time::Instant;

use crate::kept::Kept;
use crate::releases::{read_json, to_json};

/// The key of the words that operators said last.
pub const WORDS: &str = "rollouts/word";

/// Words that are kept; a run that drives hears them within a second or so.
const WORDS_KEPT: usize = 32;

/// Bytes of a setting's value that is shown.
const SHORT_SETTING: usize = 40;

/// A state that did not move on is saved this often, so that others see how it is getting on.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// A rollout's state and the document that holds it.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) state: State,
    key: String,
    kept: Kept,
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
        let to: Vec<&GroupId> = fresh.members.iter().map(|member| &member.to).collect();
        if let Some((key, state, version)) = left(store, fresh.release, &to).await? {
            let mut state = state.taken_up();
            let run = run.to_owned();
            state.write_down(now, Note::TakenUp { run });
            return Ok(Self {
                state,
                key,
                kept: Kept::found(Some(version)),
                saved: None,
            });
        }
        let key = fresh.key();
        let version = match store.read(&key).await {
            Ok(found) => found.map(|document| document.version),
            Err(StoreError::Damaged { .. }) => {
                // What cannot be gone on with is begun anew in its place.
                store.delete(&key).await?;
                None
            }
            Err(other) => return Err(other),
        };
        Ok(Self {
            state: fresh,
            key,
            kept: Kept::found(version),
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
        self.kept.write(store, &self.key, to_json(&next)).await?;
        self.saved = Some(Instant::now());
        self.state = next;
        Ok(())
    }
}

/// The rollout of any of these groups that an earlier run left, with its key.
async fn left(
    store: &dyn Store,
    release: ReleaseNumber,
    to: &[&GroupId],
) -> Result<Option<(String, State, Version)>, StoreError> {
    for key in store.list(&State::prefix(release)).await? {
        let Some((state, version)) = read_state(store, &key).await? else {
            continue;
        };
        if !has_ended(&state) && state.members.iter().any(|member| to.contains(&&member.to)) {
            return Ok(Some((key, state, version)));
        }
    }
    Ok(None)
}

/// Tells of rollouts that a stopped run left and that are gone on with: by the settings that they began with, whatever those are now.
pub(crate) async fn settings_kept(
    store: &dyn Store,
    plan: &Plan,
) -> Result<Vec<Finding>, StoreError> {
    let mut found = Vec::new();
    for (members, policy) in plan.rollouts() {
        let to: Vec<&GroupId> = members.iter().map(|member| &member.to).collect();
        let Some((_, state, _)) = left(store, plan.release.number, &to).await? else {
            continue;
        };
        let changed: Vec<String> = differences(&state.policy, policy)
            .into_iter()
            .map(|one| changed(&one))
            .collect();
        if changed.is_empty() {
            continue;
        }
        let services: Vec<&str> = members
            .iter()
            .map(|member| member.to.service.as_str())
            .collect();
        found.push(Finding {
            code: "rollout::settings-kept".to_owned(),
            severity: Severity::Warning,
            subject: Some(services.join(" ")),
            message: format!(
                "the rollout of {} that a stopped run left goes on with the settings it began with, and not with those of now: {}",
                state.release,
                changed.join(", ")
            ),
            help: Some(
                "to roll out by the new ones, take it back with `platform rollout abort` and deploy again".to_owned(),
            ),
        });
    }
    Ok(found)
}

/// A setting that changed, with its values where they are short.
fn changed(one: &Difference) -> String {
    let [before, after] = [&one.before, &one.after].map(|side| side.as_deref().unwrap_or("none"));
    if before.len().max(after.len()) > SHORT_SETTING {
        return format!("`{}`", one.path);
    }
    format!("`{}` {before} → {after}", one.path)
}

/// Whether the next state asks for something else than the one before, or remembers what must not be forgotten.
fn moved(before: &State, next: &State) -> bool {
    before.phase != next.phase
        || before.up != next.up
        || before.words_to != next.words_to
        || before.gates != next.gates
        || before.log.last() != next.log.last()
        || before
            .members
            .iter()
            .zip(&next.members)
            .any(|(before, next)| before.old_serves != next.old_serves)
}

/// Reads a rollout's state; one that cannot be made out is taken for none, as the target itself shows what runs.
pub(super) async fn read_state(
    store: &dyn Store,
    key: &str,
) -> Result<Option<(State, Version)>, StoreError> {
    match read_json(store, key).await {
        Err(StoreError::Damaged { .. }) => {
            tracing::warn!(key, "a rollout's state is damaged and counts as none");
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

/// What rollouts of a release were to move and have not moved for good.
///
/// - `meant`: what the run was to move, also where its rollout had not begun
pub(crate) async fn half_way(
    store: &dyn Store,
    release: ReleaseNumber,
    meant: &[Member],
) -> Result<Vec<Member>, StoreError> {
    let mut all = all(store, release).await?;
    all.sort_by_key(|state| state.began);
    // By the group that takes over; what was begun anew stands for what was before.
    let mut found: BTreeMap<&GroupId, Option<Member>> = meant
        .iter()
        .map(|member| (&member.to, Some(member.clone())))
        .collect();
    for state in &all {
        let left = state.phase != Phase::Promoted;
        for member in &state.members {
            found.insert(&member.to, left.then(|| member.member()));
        }
    }
    Ok(found.into_values().flatten().collect())
}

/// Rollouts whose state cannot be made out, of one release or of all.
///
/// # Errors
///
/// If the store fails.
pub async fn damaged(
    store: &dyn Store,
    release: Option<ReleaseNumber>,
) -> Result<Vec<StoreError>, StoreError> {
    let prefix = release.map_or_else(|| "rollouts/".to_owned(), State::prefix);
    let mut found = Vec::new();
    for key in store.list(&prefix).await? {
        if key == WORDS {
            continue;
        }
        match read_json::<State>(store, &key).await {
            Ok(_) => {}
            Err(error @ StoreError::Damaged { .. }) => found.push(error),
            Err(other) => return Err(other),
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
    Ok(all(store, release)
        .await?
        .into_iter()
        .find(|state| !has_ended(state)))
}

/// Whether one release serves alone, so that nobody goes on with it.
pub(super) fn has_ended(state: &State) -> bool {
    matches!(state.phase, Phase::Promoted | Phase::RolledBack { .. })
}

/// The rollout that was begun last, over or not; `None` where there never was one.
///
/// # Errors
///
/// If the store fails.
pub async fn last(store: &dyn Store) -> Result<Option<State>, StoreError> {
    let mut found: Option<State> = None;
    let keys = store.list("rollouts/").await?;
    let newest = keys.iter().rev().find(|key| *key != WORDS);
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

/// Leaves a word for the run that drives a rollout, after those that were said before; returns it with its number.
///
/// # Errors
///
/// If the store fails.
pub async fn say(store: &dyn Store, mut word: Word) -> Result<Word, StoreError> {
    loop {
        let before = store.read(WORDS).await?;
        let mut words = before.as_ref().map_or(Vec::new(), read_words);
        // No less than the time, so that numbers go on rising should the words before be lost.
        let next = words.last().map_or(0, |last| last.number.saturating_add(1));
        word.number = next.max(word.at);
        words.push(word.clone());
        words.drain(..words.len().saturating_sub(WORDS_KEPT));
        let version = before.map(|document| document.version);
        match store.write(WORDS, &to_json(&words), version.as_ref()).await {
            Ok(_) => return Ok(word),
            // Somebody said something at the same time.
            Err(StoreError::Conflict { .. }) => {}
            Err(other) => return Err(other),
        }
    }
}

/// The words that were said last, in their order.
pub(super) async fn words(store: &dyn Store) -> Result<Vec<Word>, StoreError> {
    let found = store.read(WORDS).await?;
    Ok(found.as_ref().map_or(Vec::new(), read_words))
}

/// Words that cannot be made out are none: who said them is told that nobody heard.
fn read_words(document: &platform_port::Document) -> Vec<Word> {
    serde_json::from_slice(&document.bytes).unwrap_or_default()
}
