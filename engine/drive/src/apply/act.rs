//! What each kind of step does, and how long it waits.

use std::time::Duration;

use platform_blueprint::{Period, ResourceName};
use platform_decide::group::{GroupId, GroupSpec};
use platform_decide::observed::Coming;
use platform_decide::plan::{Action, Plan, Step};
use platform_port::{LogLine, TargetError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Crew, Means};
use crate::error::Cause;
use crate::last_lines::{last_lines, last_lines_of_server};
use crate::patience::{Passing, ended, patiently};
use crate::rollout;
use crate::watcher::Watcher;

/// How long the gateway has to answer, and a resource of which the blueprint does not say.
const BACKING_WITHIN: Duration = Duration::from_secs(120);
/// What a target has on top of `start_within` to say itself that an instance is given up on.
const GRACE: Duration = Duration::from_secs(15);
/// Looks at the target that may fail in a row, one each second or so.
const PATIENCE: u32 = 60;

pub(super) struct Actor<'a> {
    pub(super) crew: &'a Crew,
    pub(super) plan: &'a Plan,
    pub(super) means: Means<'a>,
    pub(super) watcher: &'a Watcher,
    /// Told when waiting makes no sense any more.
    pub(super) abandon: &'a CancellationToken,
    /// Limits how many steps act at the same time; waiting is free.
    pub(super) acting: &'a Semaphore,
}

impl Actor<'_> {
    pub(super) async fn act(&self, step: &Step) -> Result<(), Cause> {
        let target = self.crew.target.as_ref();
        match &step.action {
            Action::EnsureResource { name } => self.resource(name).await,
            Action::EnsureGateway => self.gateway().await,
            Action::RouteEarly => {
                let observed = self.ask(async || target.observe().await).await?;
                let traffic = self.plan.early_traffic(&observed, self.means.current);
                self.ask(async || target.route(&traffic, self.means.secrets).await)
                    .await
            }
            Action::Route => {
                let traffic = self.plan.traffic();
                self.ask(async || target.route(&traffic, self.means.secrets).await)
                    .await
            }
            Action::Start { group, replicas } => self.start(group, *replicas).await,
            Action::Rollout { members, policy } => {
                let outcome = rollout::run(
                    self.crew,
                    self.plan,
                    self.means,
                    members,
                    policy,
                    self.abandon,
                )
                .await?;
                match outcome {
                    rollout::Outcome::Promoted => Ok(()),
                    rollout::Outcome::RolledBack {
                        why,
                        log,
                        out_of_time,
                    } => Err(Cause::RolledBack {
                        why,
                        log,
                        out_of_time,
                    }),
                    rollout::Outcome::Stopped => Err(Cause::Stopped),
                }
            }
            Action::Remove { group } => {
                let _permit = self.acting.acquire().await;
                self.ask(async || target.remove_group(group).await).await
            }
            Action::RemoveResource { name } => {
                self.ask(async || target.remove_resource(name, false).await)
                    .await
            }
            // Builds are not among the steps that are applied; the record is written by the run once every other step is done.
            Action::Build { .. } | Action::Record => Ok(()),
        }
    }

    /// Asks something of the target or its store, again while it is away.
    pub(super) async fn ask<T, E: Passing>(
        &self,
        asking: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, Cause>
    where
        Cause: From<E>,
    {
        let stop = Some(self.abandon);
        match patiently(stop, asking, |error| self.crew.trouble(error)).await {
            Err(error) if error.passes() && self.abandon.is_cancelled() => Err(Cause::Stopped),
            done => Ok(done?),
        }
    }

    /// Asks for what may take long and may be given up at any time, and gives it up once waiting makes no sense any more.
    async fn fetched(
        &self,
        fetching: impl AsyncFnMut() -> Result<(), TargetError>,
    ) -> Result<(), Cause> {
        let fetched = self.abandon.run_until_cancelled(self.ask(fetching));
        fetched.await.unwrap_or(Err(Cause::Stopped))
    }

    /// Asks the target to act. A run that is told to stop waits for the end of that, but not for long.
    async fn done(
        &self,
        acting: impl AsyncFnMut() -> Result<(), TargetError>,
    ) -> Result<(), Cause> {
        let done = ended(&self.crew.stop, self.ask(acting)).await;
        done.unwrap_or(Err(Cause::Stopped))
    }

    async fn resource(&self, name: &ResourceName) -> Result<(), Cause> {
        let Some(wanted) = self.plan.release.resources.get(name) else {
            return Ok(());
        };
        let target = self.crew.target.as_ref();
        self.fetched(async || target.fetch_resource(name, wanted).await)
            .await?;
        self.done(async || target.ensure_resource(name, wanted).await)
            .await?;
        let mut reason = None;
        let mut looks = 0_u32;
        let up = self.watcher.until(PATIENCE, |observed| {
            looks = looks.saturating_add(1);
            let seen = observed.resources.get(name)?;
            reason.clone_from(&seen.reason);
            let same = seen.digest == wanted.digest;
            // The first look may be from before the server was started anew.
            if seen.crash_looping && looks > 1 {
                let reason = seen.reason.clone();
                return Some(Err(Cause::Instance {
                    instance: name.to_string(),
                    reason: reason.unwrap_or_else(|| "it ends again and again".to_owned()),
                }));
            }
            (same && seen.ready).then_some(Ok(()))
        });
        let within = wanted.resource.start_within;
        let within = within.map_or(BACKING_WITHIN, Period::duration);
        let answered = self.within(within, up).await?;
        answered.unwrap_or_else(|| {
            Err(Cause::NotReady {
                subject: format!("resource `{name}`"),
                within: within.into(),
                more: None,
                reason,
            })
        })
    }

    async fn gateway(&self) -> Result<(), Cause> {
        self.ask(async || self.crew.target.ensure_gateway().await)
            .await?;
        let up = self.watcher.until(PATIENCE, |observed| {
            observed.gateway.as_ref().filter(|g| g.ready).map(|_| ())
        });
        let answered = self.within(BACKING_WITHIN, up).await?;
        answered.ok_or_else(|| Cause::NotReady {
            subject: "the gateway".to_owned(),
            within: BACKING_WITHIN.into(),
            more: None,
            reason: None,
        })
    }

    async fn start(&self, id: &GroupId, replicas: u32) -> Result<(), Cause> {
        let of_current = || self.means.current?.group(id);
        let Some(group) = self.plan.group(id).or_else(of_current) else {
            return Ok(());
        };
        let group = GroupSpec { replicas, ..group };
        {
            let permit = self.abandon.run_until_cancelled(self.acting.acquire());
            let _permit = permit.await.ok_or(Cause::Stopped)?;
            let target = self.crew.target.as_ref();
            self.fetched(async || target.fetch_group(&group).await)
                .await?;
            self.done(async || target.ensure_group(&group, self.means.secrets).await)
                .await?;
        }
        self.up(&group).await
    }

    async fn up(&self, group: &GroupSpec) -> Result<(), Cause> {
        let mut reason = None;
        let coming = self.watcher.until(PATIENCE, |observed| {
            let Some(seen) = observed.groups.get(&group.id) else {
                // Not every target has something to show for a group without instances.
                return (group.replicas == 0).then_some(Ok(()));
            };
            reason = seen.instances.iter().find_map(|i| i.reason.clone());
            match seen.coming(&group.digest, group.replicas) {
                Coming::Up => Some(Ok(())),
                Coming::NotYet => None,
                Coming::Failed { instance, reason } => {
                    Some(Err(Cause::Instance { instance, reason }))
                }
            }
        });
        let stated = group.spec.service.health.start_within.duration();
        match self.within(stated + GRACE, coming).await? {
            Some(result) => result,
            None => Err(Cause::NotReady {
                subject: group.id.to_string(),
                within: stated.into(),
                more: Some(GRACE.into()),
                reason,
            }),
        }
    }

    /// Waits for something of the target's, but not for ever; `None` when time is up.
    async fn within<T>(
        &self,
        limit: Duration,
        waiting: impl Future<Output = Result<T, std::sync::Arc<platform_port::TargetError>>>,
    ) -> Result<Option<T>, Cause> {
        tokio::select! {
            found = waiting => found.map(Some).map_err(Cause::Unseen),
            () = tokio::time::sleep(limit) => Ok(None),
            () = self.abandon.cancelled() => Err(Cause::Stopped),
        }
    }

    /// What the instances of a failed step last wrote, oldest first.
    pub(super) async fn last_lines(&self, step: &Step, cause: &Cause) -> Vec<LogLine> {
        // What was taken back may have nothing to say any more.
        if let Cause::RolledBack { log, .. } = cause
            && !log.is_empty()
        {
            return log.clone();
        }
        if let Action::EnsureResource { name } = &step.action {
            return Box::pin(last_lines_of_server(self.crew.target.as_ref(), name)).await;
        }
        let groups: Vec<&GroupId> = match (&step.action, cause) {
            (_, Cause::Target(error)) if error.group.is_some() => {
                error.group.as_deref().into_iter().collect()
            }
            (Action::Start { group, .. }, _) => vec![group],
            // It is the old release that does not come up again.
            (Action::Rollout { members, .. }, Cause::NotReady { .. }) => {
                members.iter().map(|m| &m.from).collect()
            }
            (Action::Rollout { members, .. }, _) => members.iter().map(|m| &m.to).collect(),
            _ => Vec::new(),
        };
        let instance = match cause {
            Cause::Instance { instance, .. } => Some(instance.as_str()),
            _ => None,
        };
        last_lines(self.crew.target.as_ref(), &groups, instance).await
    }
}
