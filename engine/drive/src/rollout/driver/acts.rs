//! What a look leads to: instances come up and requests are shared out while it waits, instances go beside it.

use std::sync::Arc;

use platform_decide::group::GroupId;
use platform_decide::observed::Observed;
use platform_decide::rollout::{Move, moves};
use platform_port::TargetError;
use tokio_util::task::AbortOnDropHandle;

use super::{Driver, Told};

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
        self.make(one, observed).await
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

    async fn make(&self, one: Move, observed: &Observed) -> Result<(), TargetError> {
        let target = self.crew.target.as_ref();
        match one {
            Move::Ensure { group, replicas } => match self.specs.group(&group, replicas) {
                Some(spec) => target.ensure_group(&spec, self.means.secrets).await,
                None => Err(unknown(group)),
            },
            Move::Route { splits } => {
                let mut traffic = self.plan.early_traffic(observed, self.means.current);
                traffic.splits.extend(splits);
                target.route(&traffic, self.means.secrets).await
            }
            Move::Remove { group } => target.remove_group(&group).await,
        }
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
