//! What a target makes ready while others act.

use std::collections::BTreeMap;
use std::sync::Arc;

use platform_blueprint::Rollout;
use platform_decide::group::{GroupId, GroupSpec};
use platform_decide::plan::{Action, Member, Plan, Step};
use platform_decide::rollout::{State, ahead};
use platform_port::{SecretValues, Target};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::apply::{Crew, Means};

/// Groups that are being made ready, with how many instances.
#[derive(Debug)]
pub(crate) struct Ahead {
    /// Told when nobody will ask for them any more.
    stop: CancellationToken,
    groups: BTreeMap<GroupId, (u32, AbortOnDropHandle<()>)>,
}

impl Ahead {
    /// Nothing yet.
    pub(super) fn until(stop: &CancellationToken) -> Self {
        Self {
            stop: stop.child_token(),
            groups: BTreeMap::new(),
        }
    }

    /// Begins with what the first rollout of a plan asks for, where that waits for nothing but the gateway.
    pub(crate) fn of_plan(
        crew: &Crew,
        plan: &Plan,
        means: Means<'_>,
        stop: &CancellationToken,
    ) -> Self {
        let mut own = Self::until(stop);
        let first = plan.steps.iter().find_map(|step| match &step.action {
            Action::Rollout { members, policy } => Some((step, members, policy)),
            _ => None,
        });
        if let Some((step, members, policy)) = first
            && waits_for_the_gateway_alone(plan, step)
        {
            own.of_rollout(crew, plan, means, members, policy);
        }
        own
    }

    /// Waits for no image any more; what is being made comes to its end.
    pub(super) fn give_up(&self) {
        self.stop.cancel();
    }

    fn of_rollout(
        &mut self,
        crew: &Crew,
        plan: &Plan,
        means: Means<'_>,
        members: &[Member],
        policy: &Rollout,
    ) {
        let now = crew.clock.millis();
        let state = State::new(&plan.release, members, policy, &crew.run, now);
        for (id, replicas) in ahead(&state) {
            if let Some(group) = plan.group(&id) {
                self.begin(&crew.target, GroupSpec { replicas, ..group }, means.secrets);
            }
        }
    }

    /// Has a group made ready, once. Whether that succeeds does not matter: what is not there is made when it is asked for.
    pub(super) fn begin(
        &mut self,
        target: &Arc<dyn Target>,
        group: GroupSpec,
        secrets: &SecretValues,
    ) {
        let begun = self.groups.get(&group.id);
        if begun.is_some_and(|(replicas, _)| *replicas >= group.replicas) {
            return;
        }
        let (id, replicas) = (group.id.clone(), group.replicas);
        let (target, secrets) = (Arc::clone(target), secrets.clone());
        let stop = self.stop.clone();
        let making = tokio::spawn(async move {
            // Before the rest, as others wait for that and must not wait for this.
            let fetched = stop.run_until_cancelled(target.fetch_group(&group)).await;
            let made = match fetched {
                None => return,
                Some(Ok(())) => target.prepare_group(&group, &secrets).await,
                Some(failed) => failed,
            };
            if let Err(error) = made {
                tracing::debug!(group = %group.id, %error, "cannot be made ready ahead");
            }
        });
        self.groups
            .insert(id, (replicas, AbortOnDropHandle::new(making)));
    }
}

fn waits_for_the_gateway_alone(plan: &Plan, step: &Step) -> bool {
    let of_gateway = |action: &Action| matches!(action, Action::EnsureGateway | Action::RouteEarly);
    step.after.iter().all(|id| {
        let before = plan.steps.iter().find(|step| step.id == *id);
        before.is_some_and(|step| of_gateway(&step.action))
    })
}
