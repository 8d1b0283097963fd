//! What a look leads to: instances come up and requests are shared out while it waits, instances go beside it.

use std::sync::Arc;
use std::time::Duration;

use platform_decide::group::{GroupId, GroupSpec};
use platform_decide::observed::Observed;
use platform_decide::rollout::{Move, State, Word, moves};
use platform_port::{Store, TargetError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Driver, Told, document};
use crate::patience::ended;

/// How often it is seen whether somebody said something while an image is on its way.
const LISTEN_EVERY: Duration = Duration::from_secs(1);

/// How much of what was asked for is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// All, and nothing else than at the look before.
    All,
    /// All, and something was asked for that was not before.
    Fresh,
    /// The target did not take it all in.
    Refused,
}

impl Driver<'_> {
    /// Does what the arrangement asks for.
    pub(super) async fn act(&mut self, observed: &Observed) -> Done {
        if !self.document.state.phase.is_forward() {
            self.fetching.clear();
            self.ahead.give_up();
        }
        let moves = moves(&self.document.state, observed);
        let known = moves == self.made;
        self.made.clone_from(&moves);
        let held = moves.iter().any(|one| self.held_by(one, observed));
        for one in moves {
            let acted = match down(&one, observed) {
                Some((group, left)) => {
                    self.listen().await;
                    self.take_down(group, left, one);
                    Ok(())
                }
                None => self.bring(one, held, observed).await,
            };
            if let Err(error) = acted {
                self.refuse(&error);
                return Done::Refused;
            }
        }
        self.hindered = None;
        if known { Done::All } else { Done::Fresh }
    }

    /// Whether instances have to go, and cannot yet because others of their group still are on their way out.
    fn held_by(&self, one: &Move, observed: &Observed) -> bool {
        down(one, observed).is_some_and(|(group, left)| {
            let leaving = self.leaving.get(&group);
            leaving.is_some_and(|(goal, _)| *goal != left)
        })
    }

    /// Brings instances up or shares requests out.
    ///
    /// - `held`: instances that should be gone are still counted, so none may come in their place
    async fn bring(
        &mut self,
        one: Move,
        held: bool,
        observed: &Observed,
    ) -> Result<(), TargetError> {
        if let Move::Ensure { group, .. } = &one
            && (held || self.leaving.contains_key(group))
        {
            return Ok(()); // The end of that is told, and looked at.
        }
        let target = Arc::clone(&self.crew.target);
        match one {
            Move::Ensure { group, replicas } => {
                let spec = self.specs.group(&group, replicas);
                let spec = spec.ok_or_else(|| unknown(group))?;
                if !self.fetched(&spec).await? {
                    return Ok(()); // What it was left for is looked at, and then it goes on.
                }
                let acting = target.ensure_group(&spec, self.means.secrets);
                ended(&self.crew.stop, acting).await.unwrap_or(Ok(()))
            }
            Move::Route { splits } => {
                let mut traffic = self.plan.early_traffic(observed, self.means.current);
                traffic.splits.extend(splits);
                target.route(&traffic, self.means.secrets).await
            }
            Move::Remove { group } => target.remove_group(&group).await,
        }
    }

    /// Waits until what a group's instances are made from is on the target; `false` where the rollout is told something before.
    async fn fetched(&mut self, group: &GroupSpec) -> Result<bool, TargetError> {
        let target = Arc::clone(&self.crew.target);
        let heard = heard(self.crew.target.store(), &self.document.state, self.abandon);
        let fetch = self.fetching.entry(group.id.clone()).or_insert_with(|| {
            let group = group.clone();
            let fetch = async move { target.fetch_group(&group).await };
            AbortOnDropHandle::new(tokio::spawn(fetch))
        });
        let fetched = tokio::select! {
            biased;
            fetched = fetch => fetched,
            () = heard => return Ok(false),
        };
        self.fetching.remove(&group.id);
        // One that panicked is asked for by who makes the instances.
        fetched.unwrap_or(Ok(())).map(|()| true)
    }

    /// Has a group's instances taken down while the rollout goes on: they have no requests any more but those they are
    /// answering, so nothing waits for them.
    fn take_down(&mut self, group: GroupId, left: u32, one: Move) {
        if self.leaving.contains_key(&group) {
            return;
        }
        let target = Arc::clone(&self.crew.target);
        let telling = self.telling.clone();
        let secrets = self.means.secrets.clone();
        let spec = self.specs.group(&group, left);
        let whose = group.clone();
        let task = tokio::spawn(async move {
            let done = match (one, spec) {
                (Move::Ensure { .. }, Some(spec)) => target.ensure_group(&spec, &secrets).await,
                (Move::Ensure { group, .. }, None) => Err(unknown(group)),
                _ => target.remove_group(&whose).await,
            };
            // The loop may be over.
            let _ = telling.send(Told::Down(whose, done));
        });
        self.leaving
            .insert(group, (left, AbortOnDropHandle::new(task)));
    }
}

/// Returns once a rollout that goes forward is told to stop, or somebody says a word to it. On its way back nothing is more urgent.
async fn heard(store: &dyn Store, state: &State, stop: &CancellationToken) {
    if !state.phase.is_forward() {
        return std::future::pending().await;
    }
    let said = async {
        loop {
            tokio::time::sleep(LISTEN_EVERY).await;
            let words = document::words(store).await.unwrap_or_default();
            let ours = |word: &Word| word.number >= state.words_to && word.release == state.release;
            if words.iter().any(ours) {
                return;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = said => {}
    }
}

/// The group of which a move takes instances down, and how many it leaves.
fn down(one: &Move, observed: &Observed) -> Option<(GroupId, u32)> {
    match one {
        Move::Remove { group } => Some((group.clone(), 0)),
        Move::Ensure { group, replicas } => {
            let seen = observed.groups.get(group)?;
            (seen.replicas > *replicas).then(|| (group.clone(), *replicas))
        }
        Move::Route { .. } => None,
    }
}

fn unknown(group: GroupId) -> TargetError {
    TargetError::refused(
        "the store",
        format!("start {group}"),
        "no release has a record of what it runs",
    )
    .about(group)
}
