//! What runs in an environment, beside what its release asks for.

use std::collections::BTreeMap;

use platform_blueprint::{Resolved, ResourceName, ServiceKind, ServiceName};
use platform_decide::group::{GroupId, GroupSpec};
use platform_decide::observed::{GroupSeen, InstanceSeen, InstanceState, Observed, ResourceSeen};
use platform_decide::release::{Release, ReleaseNumber};
use platform_drive::lease::{self, Holder};
use platform_drive::releases::History;
use platform_port::{Party, Target, TargetInfo};
use serde::Serialize;

use crate::error::CliError;
use crate::world::World;

mod page;

/// A group of instances as the table has it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GroupStatus {
    service: String,
    group: GroupId,
    version: ReleaseNumber,
    replicas: u32,
    ready: usize,
    state: &'static str,
    restarts: u32,
    /// Share of the service's requests, in thousandths; none where it takes none.
    share: Option<u16>,
    memory: Option<u64>,
    started_at: Option<u64>,
    /// What of it was changed by hand, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<String>,
    instances: Vec<InstanceSeen>,
}

impl GroupStatus {
    /// Counts the instances that a release asks for, where fewer are there.
    fn ask_for(&mut self, replicas: u32) {
        if self.replicas < replicas {
            self.replicas = replicas;
            self.state = group_state(&self.instances, replicas);
        }
    }

    /// Instances that were asked for and are not there, while others are.
    fn lost(&self) -> usize {
        match self.instances.len() {
            0 => 0,
            there => (self.replicas as usize).saturating_sub(there),
        }
    }
}

/// What runs in an environment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Status {
    project: String,
    environment: String,
    target: TargetInfo,
    /// Whether all that the release asks for is there and ready.
    pub(crate) ready: bool,
    release: Option<ReleaseSeen>,
    unfinished: Option<ReleaseNumber>,
    run: Option<Holder>,
    gateway: Option<GatewayStatus>,
    services: Vec<GroupStatus>,
    resources: BTreeMap<String, ResourceSeen>,
    /// Resources that the release asks for and that are not there.
    #[serde(skip)]
    gone: Vec<String>,
    /// What of the target's own parts was found amiss and is right again, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    noticed: Vec<String>,
    #[serde(skip)]
    now: u64,
}

#[derive(Debug, Clone, Serialize)]
struct ReleaseSeen {
    number: ReleaseNumber,
    created_at: String,
    commit: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct GatewayStatus {
    url: String,
    ready: bool,
    revision: u64,
    /// Why it is to be put right, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Looks at an environment. Changes nothing.
pub(crate) async fn look(
    world: &World,
    resolved: &Resolved,
    target: &dyn Target,
) -> Result<Status, CliError> {
    let store = target.store();
    let history = History::read(store).await?;
    let holder = lease::holder(store).await?;
    let observed = target.observe().await?;
    Ok(Status::of(
        resolved,
        target.info(),
        &history,
        holder,
        &observed,
        world.clock.millis(),
    ))
}

/// Looks at an environment and shows what was seen, as at the end of a run.
pub(crate) async fn show(world: &World, target: &dyn Target) -> Result<(), CliError> {
    let status = look(world, world.resolved()?, target).await?;
    world.view.accompany(&status);
    if let Some(url) = status.url() {
        world.view.output("url", url);
    }
    world.view.summary(&status.markdown());
    Ok(())
}

impl Status {
    fn of(
        resolved: &Resolved,
        target: TargetInfo,
        history: &History,
        holder: Option<Holder>,
        observed: &Observed,
        now: u64,
    ) -> Self {
        let mut services: Vec<GroupStatus> = observed
            .groups
            .iter()
            .map(|(id, seen)| group_status(id, seen, observed))
            .collect();
        // A holder of this machine that has ended holds nothing any more.
        let run = holder.filter(|holder| holder.owner.lives() != Some(false));
        let release = history.current.as_ref();
        if let (Some(release), None) = (release, &run) {
            // Whoever changes the environment takes instances away as it goes; else they are lost.
            for group in release.groups().filter(|group| !is_job(group)) {
                let seen = services.iter_mut().filter(|seen| seen.group == group.id);
                seen.for_each(|seen| seen.ask_for(group.replicas));
            }
        }
        // Of a service whose new instances a run brings, those before are not missed.
        let brought = |gone: &GroupStatus| {
            run.is_some() && services.iter().any(|seen| seen.service == gone.service)
        };
        let gone: Vec<GroupStatus> = release
            .into_iter()
            .flat_map(|release| missing(release, observed))
            .filter(|gone| !brought(gone))
            .collect();
        services.extend(gone);
        services.sort_by(|one, other| one.group.cmp(&other.group));
        let whole = services
            .iter()
            .all(|group| matches!(group.state, "ready" | "completed" | "none"));
        let gateway = observed.gateway.as_ref().map(|seen| GatewayStatus {
            url: seen.url.clone(),
            ready: seen.ready,
            revision: seen.revision,
            reason: seen.amiss.clone(),
        });
        let routed = release.is_none_or(|release| release.ingress.routes.is_empty())
            || gateway.as_ref().is_some_and(|gateway| gateway.ready);
        let resources: BTreeMap<String, ResourceSeen> = observed
            .resources
            .iter()
            .map(|(name, seen)| (name.to_string(), seen.clone()))
            .collect();
        let gone: Vec<String> = release
            .iter()
            .flat_map(|release| release.resources.keys())
            .filter(|name| !observed.resources.contains_key(*name))
            .map(ToString::to_string)
            .collect();
        let answered = gone.is_empty() && resources.values().all(|resource| resource.ready);
        Self {
            project: resolved.project.name.to_string(),
            environment: resolved.environment.name.to_string(),
            target,
            ready: release.is_some() && whole && routed && answered,
            release: release.map(|release| ReleaseSeen {
                number: release.number,
                created_at: release.created_at.clone(),
                commit: release.commit.clone(),
            }),
            unfinished: history.head.unfinished.filter(|_| run.is_none()),
            run,
            gateway,
            services,
            resources,
            gone,
            noticed: observed.noticed.clone(),
            now,
        }
    }

    /// What is not ready and why, in a line each.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for group in &self.services {
            match group.lost() {
                0 if matches!(group.state, "missing" | "stopped") => {
                    lines.push(format!("{} {}", group.group, group.state));
                }
                0 => {}
                lost => lines.push(format!(
                    "{} has lost instances: {lost} of {} are gone",
                    group.group, group.replicas
                )),
            }
            for instance in &group.instances {
                if !matches!(
                    instance.state,
                    InstanceState::Ready | InstanceState::Completed | InstanceState::Stopping
                ) {
                    lines.push(instance_line(instance));
                }
            }
        }
        for (name, resource) in &self.resources {
            if !resource.ready {
                let why = resource.reason.as_deref().unwrap_or("it does not answer");
                lines.push(format!("{name} not ready: {why}"));
            }
        }
        lines.extend(self.gone.iter().map(|name| format!("{name} missing")));
        if let Some(gateway) = &self.gateway
            && !gateway.ready
        {
            let why = gateway.reason.as_ref().map(|why| format!(": {why}"));
            lines.push(format!("gateway not ready{}", why.unwrap_or_default()));
        }
        lines
    }

    /// What somebody changed by hand and still serves, in a line each.
    pub(crate) fn changed(&self) -> Vec<String> {
        let line = |what: &dyn std::fmt::Display, changed: &str| format!("{what} was {changed}");
        let groups = self.services.iter();
        let groups = groups.filter_map(|group| Some(line(&group.group, group.changed.as_deref()?)));
        let resources = self.resources.iter().filter(|(_, seen)| seen.ready);
        let resources =
            resources.filter_map(|(name, seen)| Some(line(name, seen.reason.as_deref()?)));
        let gateway = self.gateway.as_ref().filter(|gateway| gateway.ready);
        let gateway = gateway.and_then(|gateway| gateway.reason.as_deref());
        let gateway = gateway.map(|reason| format!("gateway: {reason}"));
        groups.chain(resources).chain(gateway).collect()
    }

    /// What is not ready and writes a log.
    pub(crate) fn parties_not_ready(&self) -> Vec<Party> {
        let parts = self.by_part().into_iter();
        let mut parties: Vec<Party> = parts
            .filter(|(_, ready)| !ready)
            .filter_map(|(name, _)| {
                let is_resource = self.resources.contains_key(name)
                    || self.gone.iter().any(|gone| gone.as_str() == name);
                if is_resource {
                    ResourceName::new(name).ok().map(Party::Resource)
                } else {
                    ServiceName::new(name).ok().map(Party::Service)
                }
            })
            .collect();
        if self.gateway.as_ref().is_some_and(|gateway| !gateway.ready) {
            parties.push(Party::Gateway);
        }
        parties
    }

    /// Instances that ended and will not be started again.
    pub(crate) fn given_up(&self) -> impl Iterator<Item = &InstanceSeen> {
        let instances = self.services.iter().flat_map(|group| &group.instances);
        instances.filter(|instance| instance.state == InstanceState::Failed)
    }

    /// Whether a release is there that could be ready.
    pub(crate) fn deployed(&self) -> bool {
        self.release.is_some()
    }

    /// How each service and each resource stands: its name, and whether it is ready.
    pub(crate) fn by_part(&self) -> BTreeMap<&str, bool> {
        let mut all: BTreeMap<&str, bool> = self
            .resources
            .iter()
            .map(|(name, seen)| (name.as_str(), seen.ready))
            .chain(self.gone.iter().map(|name| (name.as_str(), false)))
            .collect();
        for group in &self.services {
            let ready = matches!(group.state, "ready" | "completed" | "none");
            *all.entry(group.service.as_str()).or_insert(true) &= ready;
        }
        all
    }

    /// Where requests go in.
    pub(crate) fn url(&self) -> Option<&str> {
        self.gateway.as_ref().map(|gateway| gateway.url.as_str())
    }

    /// The same for some services alone; resources and the gateway stay.
    pub(crate) fn only(mut self, services: &[String]) -> Self {
        if !services.is_empty() {
            self.services
                .retain(|group| services.contains(&group.service));
        }
        self
    }

    /// Whether what is left after [`Status::only`] is ready.
    pub(crate) fn all_ready(&self) -> bool {
        self.deployed()
            && !self.services.is_empty()
            && self.not_ready().is_empty()
            && self.parties_not_ready().is_empty()
    }
}

fn instance_line(instance: &InstanceSeen) -> String {
    let mut line = format!("{} {}", instance.id, state_word(instance.state));
    let why = instance.reason.as_ref().or(instance.last_exit.as_ref());
    if let Some(why) = why {
        line.push_str(": ");
        line.push_str(why);
    }
    line
}

fn missing<'a>(
    release: &'a Release,
    observed: &'a Observed,
) -> impl Iterator<Item = GroupStatus> + 'a {
    release
        .groups()
        .filter(|group| !observed.groups.contains_key(&group.id))
        .map(|group| GroupStatus {
            service: group.id.service.to_string(),
            version: group.id.version,
            // No release serves before its jobs have ended well, whatever became of their instances.
            ready: if is_job(&group) {
                group.replicas as usize
            } else {
                0
            },
            state: if group.replicas == 0 {
                "none"
            } else if is_job(&group) {
                "completed"
            } else if observed.groups.is_empty() {
                "stopped"
            } else {
                "missing"
            },
            group: group.id,
            replicas: group.replicas,
            restarts: 0,
            share: None,
            memory: None,
            started_at: None,
            changed: None,
            instances: Vec::new(),
        })
}

fn is_job(group: &GroupSpec) -> bool {
    group.spec.service.kind == ServiceKind::Job
}

fn group_status(id: &GroupId, seen: &GroupSeen, observed: &Observed) -> GroupStatus {
    let split = observed
        .gateway
        .as_ref()
        .and_then(|gateway| gateway.splits.get(&id.service));
    let memory: u64 = seen
        .instances
        .iter()
        .filter_map(|instance| instance.memory)
        .sum();
    GroupStatus {
        service: id.service.to_string(),
        group: id.clone(),
        version: id.version,
        replicas: seen.replicas,
        ready: seen.count(InstanceState::Ready) + seen.count(InstanceState::Completed),
        state: group_state(&seen.instances, seen.replicas),
        restarts: seen.restarts(),
        share: split.map(|split| split.share(id).get()),
        memory: (0 < memory).then_some(memory),
        started_at: seen
            .instances
            .iter()
            .filter_map(|instance| instance.started_at)
            .min(),
        changed: seen.changed.clone(),
        instances: seen.instances.clone(),
    }
}

/// A group's state is its worst instance's; that of enough ready ones is theirs.
fn group_state(instances: &[InstanceSeen], replicas: u32) -> &'static str {
    const WORST: [InstanceState; 6] = [
        InstanceState::Failed,
        InstanceState::CrashLooping,
        InstanceState::Restarting,
        InstanceState::Unready,
        InstanceState::Starting,
        InstanceState::Stopping,
    ];
    if instances.is_empty() {
        return if replicas == 0 { "none" } else { "stopped" };
    }
    let count = |state| instances.iter().filter(|one| one.state == state).count();
    let completed = count(InstanceState::Completed);
    if replicas as usize <= count(InstanceState::Ready) + completed {
        return if completed == instances.len() {
            "completed"
        } else {
            "ready"
        };
    }
    let worst = WORST.into_iter().find(|state| 0 < count(*state));
    worst.map_or("missing", state_word)
}

fn state_word(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Starting => "starting",
        InstanceState::Ready => "ready",
        InstanceState::Unready => "unready",
        InstanceState::Restarting => "restarting",
        InstanceState::CrashLooping => "crash-looping",
        InstanceState::Stopping => "stopping",
        InstanceState::Completed => "completed",
        InstanceState::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(states: &[InstanceState]) -> GroupStatus {
        let instances = states
            .iter()
            .enumerate()
            .map(|(index, state)| InstanceSeen {
                id: format!("orders@r1.{}", index + 1),
                state: *state,
                address: None,
                handle: None,
                restarts: 0,
                started_at: None,
                last_exit: None,
                out_of_memory: false,
                reason: None,
                memory: None,
                zone: None,
            });
        let seen = GroupSeen {
            digest: platform_decide::digest::Digest::of(b"spec"),
            replicas: u32::try_from(states.len()).unwrap(),
            instances: instances.collect(),
            changed: None,
        };
        let id = "orders@r1".parse().unwrap();
        group_status(&id, &seen, &Observed::default())
    }

    #[test]
    fn instances_that_the_release_asks_for_and_are_not_there_are_counted() {
        use InstanceState::{Completed, Failed, Ready, Unready};
        let check = |states: &[InstanceState], asked: u32, expected: (&str, u32, usize)| {
            let mut group = group(states);
            group.ask_for(asked);
            let seen = (group.state, group.replicas, group.lost());
            assert_eq!(seen, expected, "{states:?} of {asked}");
        };
        check(&[Ready], 3, ("missing", 3, 2));
        check(&[Ready, Failed], 3, ("failed", 3, 1));
        check(&[Ready, Unready], 2, ("unready", 2, 0));
        check(&[Ready, Ready], 2, ("ready", 2, 0));
        // More than asked for are those of a group that is about to shrink.
        check(&[Ready, Ready], 1, ("ready", 2, 0));
        check(&[Completed], 1, ("completed", 1, 0));
        check(&[], 3, ("stopped", 3, 0));
        check(&[], 0, ("none", 0, 0));
    }
}
