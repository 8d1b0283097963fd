//! Rollouts whose run is gone, and that nobody goes on with.

use platform_decide::release::ReleaseNumber;
use platform_decide::rollout::State;
use platform_port::StoreError;

use super::document::{has_ended, read_state};
use super::progress::latencies;
use super::report::Report;
use crate::apply::Crew;
use crate::releases::to_json;

/// Ends the rollouts of a release that nobody goes on with, as this run deploys another one. Their reports are its evidence.
///
/// # Errors
///
/// [`StoreError::Conflict`] if another run got in between.
pub(crate) async fn give_up(
    crew: &Crew,
    release: ReleaseNumber,
    to: ReleaseNumber,
) -> Result<(), StoreError> {
    let store = crew.target.store();
    for key in store.list(&State::prefix(release)).await? {
        let Some((state, version)) = read_state(store, &key).await? else {
            continue;
        };
        if has_ended(&state) {
            continue;
        }
        let now = crew.clock.millis();
        let state = state.given_up(to, now);
        store.write(&key, &to_json(&state), Some(&version)).await?;
        // How long answers took is as good as it is to be had.
        let tallies = crew.target.tallies().await.unwrap_or_default();
        Report::of(&state, &latencies(&state, &tallies), now)
            .keep(crew)
            .await;
    }
    Ok(())
}
