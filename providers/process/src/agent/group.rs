//! Groups: so many instances of one spec, and everything together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use platform_blueprint::{ResourceName, ServiceName};
use platform_decide::group::{GroupId, GroupSpec, Need};
use platform_port::SecretValue;

use super::instance::{Instance, supervise};
use super::state::{Agent, End, Secrets};
use super::{resource, sealed};
use crate::keeper;
use crate::log;
use crate::process_table;
use crate::protocol::{EnsureGateway, EnsureGroup, Fault};
use crate::recorded::{GatewayProgram, InstanceRecord, instance_name, instance_parts};
use crate::removal;

/// Logs of so many instances that are gone are kept for each service,
const DEAD_LOGS: usize = 20;
/// for so long.
const DEAD_LOGS_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// Takes up what an agent before this one kept up.
///
/// - `lost`: nothing tells what was wanted, so what runs is left to the next deploy
pub(super) fn resume(agent: &Rc<Agent>, lost: bool) {
    let kept = agent.kept.borrow().clone();
    for (name, wanted) in &kept.resources {
        resource::run_server(agent, name, wanted);
    }
    if let Some(program) = kept.gateway.clone() {
        agent.gateway.want(program);
    }
    for group in kept.groups.values() {
        bring_to(agent, group);
        let other_spec = |instance: &Rc<Instance>| {
            let record = instance.record();
            record.process.is_some() && record.digest.as_ref() != Some(&group.digest)
        };
        let stale = agent
            .instances
            .borrow()
            .values()
            .any(|instance| instance.group == group.id && other_spec(instance));
        if stale {
            let (agent, group) = (Rc::clone(agent), group.clone());
            tokio::task::spawn_local(async move { renew(&agent, &group).await });
        }
    }
    // Those that were being removed, or belong to nothing any more.
    let known: BTreeSet<String> = agent.instances.borrow().keys().cloned().collect();
    for name in InstanceRecord::names(&agent.layout) {
        let Some((id, number)) = instance_parts(&name) else {
            continue;
        };
        if known.contains(&name) {
            continue;
        }
        if let Some(spec) = kept.leaving.get(&id).or_else(|| kept.groups.get(&id)) {
            let instance = add(agent, spec, number);
            instance.stop();
        } else if lost {
            tracing::warn!(name, "left running until a deploy says what is wanted");
        } else {
            super::stop::end_members_now(agent, &name, None);
            let _ = fs::remove_dir_all(agent.layout.instance(&name));
        }
    }
    for id in kept.leaving.keys() {
        let (agent, id) = (Rc::clone(agent), id.clone());
        tokio::task::spawn_local(async move {
            let _ = left(&agent, &id).await;
        });
    }
    reap_strays(agent);
    let waited_for = agent
        .instances
        .borrow()
        .values()
        .any(|instance| instance.record().process.is_some());
    if !waited_for {
        keeper::trim_exits(&agent.layout.exits());
    }
}

/// Ends processes that carry our mark and that no record knows.
fn reap_strays(agent: &Agent) {
    let alive = |instance: &str| {
        InstanceRecord::load(&agent.layout, instance)
            .and_then(|record| record.process)
            .is_some_and(|process| process.alive())
    };
    for (identity, instance) in process_table::tagged(agent.layout.tag()) {
        if !alive(&instance) {
            tracing::warn!(pid = identity.pid, instance, "a stray process is ended");
            identity.signal(nix::sys::signal::Signal::SIGKILL);
        }
    }
}

fn add(agent: &Rc<Agent>, group: &GroupSpec, number: u32) -> Rc<Instance> {
    let name = instance_name(&group.id, number);
    let record = InstanceRecord::load(&agent.layout, &name).unwrap_or_default();
    let instance = Instance::new(name.clone(), group, number, record);
    agent
        .instances
        .borrow_mut()
        .insert(name, Rc::clone(&instance));
    let task = supervise(Rc::clone(agent), Rc::clone(&instance), group.clone());
    let (agent, own) = (Rc::clone(agent), Rc::clone(&instance));
    tokio::task::spawn_local(async move {
        task.await;
        let mut instances = agent.instances.borrow_mut();
        // A successor of the same name may have been added.
        if instances
            .get(&own.name)
            .is_some_and(|other| Rc::ptr_eq(other, &own))
        {
            instances.remove(&own.name);
        }
        drop(instances);
        agent.touch();
    });
    instance
}

/// Starts what is missing of a group and stops what is too much, the newest first.
fn bring_to(agent: &Rc<Agent>, group: &GroupSpec) {
    let present: BTreeMap<u32, Rc<Instance>> = agent
        .instances
        .borrow()
        .values()
        .filter(|instance| instance.group == group.id)
        .map(|instance| (instance.number, Rc::clone(instance)))
        .collect();
    for (number, instance) in &present {
        if *number > group.replicas {
            instance.stop();
        } else if !instance.stopping() {
            instance.retry();
        }
    }
    for number in 1..=group.replicas {
        match present.get(&number) {
            None => {
                add(agent, group, number);
            }
            Some(instance) if instance.stopping() => {
                // Started anew once the one before is gone.
                let (agent, group) = (Rc::clone(agent), group.clone());
                let instance = Rc::clone(instance);
                tokio::task::spawn_local(async move {
                    agent
                        .wait_until(Duration::from_secs(3600), || instance.gone.get())
                        .await;
                    let wanted = agent.kept.borrow().groups.get(&group.id).cloned();
                    if let Some(wanted) = wanted
                        && !agent.stopping.get()
                    {
                        bring_to(&agent, &wanted);
                    }
                });
            }
            Some(_) => {}
        }
    }
}

/// Creates a group or brings it to what is asked.
pub(super) async fn ensure(agent: &Rc<Agent>, asked: EnsureGroup) -> Result<(), Fault> {
    let EnsureGroup { group, secrets } = asked;
    let values: BTreeMap<_, _> = secrets
        .into_iter()
        .map(|(name, value)| (name, SecretValue::new(value)))
        .collect();
    let known = agent
        .secrets
        .borrow()
        .groups
        .get(&group.id)
        .cloned()
        .unwrap_or_default();
    if known != values {
        let id = group.id.clone();
        agent.secrets.borrow_mut().groups.insert(id, values);
        sealed::save(agent)?;
    }
    if agent.kept.borrow().leaving.contains_key(&group.id) {
        left(agent, &group.id).await?;
    }
    let before = agent
        .kept
        .borrow_mut()
        .groups
        .insert(group.id.clone(), group.clone());
    if before.as_ref() != Some(&group)
        && let Err(error) = agent.keep().await
    {
        // Nothing was started, so nothing is kept up.
        let mut kept = agent.kept.borrow_mut();
        match before {
            Some(before) => kept.groups.insert(group.id.clone(), before),
            None => kept.groups.remove(&group.id),
        };
        return Err(error.into());
    }
    if before.is_some_and(|before| before.digest != group.digest) {
        let (agent, group) = (Rc::clone(agent), group);
        tokio::task::spawn_local(async move { renew(&agent, &group).await });
    } else {
        bring_to(agent, &group);
    }
    prune_logs(agent);
    agent.touch();
    Ok(())
}

/// Replaces the instances of a group whose spec was changed in place, one after the other.
async fn renew(agent: &Rc<Agent>, group: &GroupSpec) {
    let old: Vec<Rc<Instance>> = agent
        .instances
        .borrow()
        .values()
        .filter(|instance| instance.group == group.id)
        .cloned()
        .collect();
    for instance in old {
        instance.stop();
        agent
            .wait_until(Duration::from_secs(3600), || instance.gone.get())
            .await;
        let wanted = agent.kept.borrow().groups.get(&group.id).cloned();
        if wanted.as_ref() != Some(group) || agent.stopping.get() {
            return;
        }
        if instance.number <= group.replicas {
            let fresh = add(agent, group, instance.number);
            let limit = group.spec.service.health.start_within.duration();
            agent
                .wait_until(limit, || {
                    fresh.state() == platform_decide::observed::InstanceState::Ready
                })
                .await;
        }
    }
    bring_to(agent, group);
}

/// Drains, stops and removes a group's instances; returns once they are gone.
pub(super) async fn remove(agent: &Rc<Agent>, id: &GroupId) -> Result<(), Fault> {
    let moved = {
        let mut kept = agent.kept.borrow_mut();
        match kept.groups.remove(id) {
            Some(group) => {
                kept.leaving.insert(id.clone(), group);
                true
            }
            None => false,
        }
    };
    if moved && let Err(error) = agent.keep().await {
        let mut kept = agent.kept.borrow_mut();
        if let Some(group) = kept.leaving.remove(id) {
            kept.groups.insert(id.clone(), group);
        }
        return Err(error.into());
    }
    left(agent, id).await
}

/// Waits until a group on its way out is gone, and forgets it.
async fn left(agent: &Rc<Agent>, id: &GroupId) -> Result<(), Fault> {
    let own = |agent: &Agent| -> Vec<Rc<Instance>> {
        let instances = agent.instances.borrow();
        instances
            .values()
            .filter(|one| one.group == *id)
            .cloned()
            .collect()
    };
    for instance in own(agent) {
        instance.stop();
    }
    agent.touch();
    agent
        .wait_until(Duration::from_secs(3600), || own(agent).is_empty())
        .await;
    if agent.kept.borrow_mut().leaving.remove(id).is_some() {
        agent.keep().await?;
    }
    if agent
        .secrets
        .borrow_mut()
        .groups
        .remove(id)
        .is_some_and(|own| !own.is_empty())
    {
        sealed::save(agent)?;
    }
    prune_logs(agent);
    agent.touch();
    Ok(())
}

fn prune_logs(agent: &Agent) {
    let instances = agent.instances.borrow();
    let living = |name: &str| instances.contains_key(name) || agent.layout.instance(name).is_dir();
    for entry in fs::read_dir(agent.layout.logs())
        .into_iter()
        .flatten()
        .flatten()
    {
        log::prune(&entry.path(), &living, DEAD_LOGS, DEAD_LOGS_FOR);
    }
}

/// Has a gateway run, replacing one of another build.
pub(super) async fn ensure_gateway(agent: &Rc<Agent>, asked: EnsureGateway) -> Result<(), Fault> {
    let program = GatewayProgram {
        program: asked.program,
        build: asked.build,
    };
    let before = agent.kept.borrow_mut().gateway.replace(program.clone());
    if before.as_ref() != Some(&program)
        && let Err(error) = agent.keep().await
    {
        agent.kept.borrow_mut().gateway = before;
        return Err(error.into());
    }
    // A successor could not take over from one that hangs.
    agent.gateway.end_hanging(agent).await;
    agent.gateway.want(program);
    agent.touch();
    Ok(())
}

/// Stops everything: instances against the order of their needs, the gateway, the resources. The agent ends after.
pub(super) async fn stop_all(agent: &Rc<Agent>) -> Result<(), Fault> {
    agent.stopping.set(true);
    loop {
        let next = free_to_stop(agent);
        if next.is_empty() {
            break;
        }
        futures::future::join_all(next.iter().map(|id| remove(agent, id)))
            .await
            .into_iter()
            .collect::<Result<Vec<()>, Fault>>()?;
    }
    agent.gateway.down(agent).await;
    agent.kept.borrow_mut().gateway = None;
    let resources: Vec<ResourceName> = agent.kept.borrow().resources.keys().cloned().collect();
    futures::future::join_all(
        resources
            .iter()
            .map(|name| resource::stop_server(agent, name)),
    )
    .await;
    {
        let mut kept = agent.kept.borrow_mut();
        kept.resources.clear();
        kept.traffic = None;
    }
    agent.keep().await?;
    *agent.secrets.borrow_mut() = Secrets::default();
    agent.certificates.forget();
    let sealed = agent.layout.sealed_secrets();
    removal::gone(&sealed, fs::remove_file(&sealed))?;
    // What no record of what was wanted led to.
    for (identity, instance) in process_table::tagged(agent.layout.tag()) {
        tracing::warn!(pid = identity.pid, instance, "a stray process is ended");
        identity.signal(nix::sys::signal::Signal::SIGKILL);
    }
    agent.control_groups.remove();
    let _ = fs::remove_dir_all(&agent.secret_files);
    // An agent that starts late, or waits for the lock, shall not begin anew.
    let wanted = agent.layout.agent_wanted();
    removal::gone(&wanted, fs::remove_file(&wanted))?;
    agent.end.send_replace(Some(End::Stopped));
    Ok(())
}

/// Groups of services that no other running service needs.
fn free_to_stop(agent: &Agent) -> Vec<GroupId> {
    let kept = agent.kept.borrow();
    let all: Vec<&GroupSpec> = kept.groups.values().chain(kept.leaving.values()).collect();
    let needed: BTreeSet<&ServiceName> = all
        .iter()
        .flat_map(|group| {
            group.spec.needs.iter().filter_map(|need| match need {
                // A service that needs itself must not keep itself.
                Need::Service { name } if *name != group.id.service => Some(name),
                _ => None,
            })
        })
        .collect();
    let free: Vec<GroupId> = all
        .iter()
        .filter(|group| !needed.contains(&group.id.service))
        .map(|group| group.id.clone())
        .collect();
    if free.is_empty() {
        // Needs that go in a circle, which the blueprint does not allow.
        return all.iter().map(|group| group.id.clone()).collect();
    }
    free
}
