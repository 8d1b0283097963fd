//! What the agent sees of everything it keeps up.

use std::collections::BTreeMap;
use std::rc::Rc;

use platform_decide::digest::Digest;
use platform_decide::group::{GroupId, GroupSpec, Need};
use platform_decide::observed::{GatewaySeen, GroupSeen, InstanceState, Observed};

use super::instance::Instance;
use super::state::Agent;
use crate::process_table::{self, ProcessStat};

/// Whether something that a service needs is ready.
pub(super) fn need_ready(agent: &Agent, need: &Need) -> bool {
    match need {
        Need::Service { name } => {
            let instances = agent.instances.borrow();
            let mut own = instances
                .values()
                .filter(|instance| instance.group.service == *name)
                .peekable();
            // Nobody keeps it up here, so there is nothing to wait for.
            own.peek().is_none()
                || own.any(|instance| match instance.state() {
                    InstanceState::Ready => confirmed(agent, instance),
                    InstanceState::Completed => true,
                    _ => false,
                })
        }
        Need::Resource { name, .. } => super::resource::ready(agent, name),
    }
}

/// Whether the gateway sends requests to an instance, where that is wanted at all.
pub(super) fn confirmed(agent: &Agent, instance: &Instance) -> bool {
    let port = instance.record().port;
    match port {
        Some(port) if agent.kept.borrow().gateway.is_some() => {
            agent.gateway.confirmed(&instance.name, port)
        }
        _ => true,
    }
}

/// Everything, as it is now.
///
/// - `hangs`: whether the gateway does, which only asking tells
pub(super) fn observe(agent: &Rc<Agent>, hangs: bool) -> Observed {
    let table = process_table::all();
    let kept = agent.kept.borrow();
    let mut groups: BTreeMap<GroupId, GroupSeen> = kept
        .groups
        .values()
        .chain(kept.leaving.values())
        .map(|group| (group.id.clone(), empty(group)))
        .collect();
    let instances = agent.instances.borrow();
    let mut ordered: Vec<&Rc<Instance>> = instances.values().collect();
    ordered.sort_by_key(|instance| instance.number);
    for instance in ordered {
        let Some(group) = groups.get_mut(&instance.group) else {
            continue;
        };
        let pid = instance
            .record()
            .process
            .as_ref()
            .map(|process| process.pid);
        let memory = pid.map(|pid| resident(&table, pid));
        let unconfirmed = (!confirmed(agent, instance)).then(|| agent.gateway.why_unconfirmed());
        group.instances.push(instance.seen(unconfirmed, memory));
    }
    let resources = kept
        .resources
        .iter()
        .map(|(name, wanted)| (name.clone(), super::resource::seen(agent, name, wanted)))
        .collect();
    Observed {
        groups,
        resources,
        gateway: kept.gateway.is_some().then(|| gateway(agent, &kept, hangs)),
        ..Observed::default()
    }
}

fn empty(group: &GroupSpec) -> GroupSeen {
    GroupSeen {
        digest: group.digest.clone(),
        replicas: group.replicas,
        instances: Vec::new(),
        changed: None,
    }
}

/// Resident memory of a process and all of its session.
fn resident(table: &[ProcessStat], leader: i32) -> u64 {
    table
        .iter()
        .filter(|stat| stat.pid == leader || stat.session == leader)
        .map(ProcessStat::resident_bytes)
        .sum()
}

fn gateway(agent: &Agent, kept: &crate::recorded::Kept, hangs: bool) -> GatewaySeen {
    GatewaySeen {
        url: gateway_url(kept.traffic.as_ref()),
        ready: agent.gateway.answers() && !hangs,
        revision: agent.gateway.revision(),
        ingress: kept.traffic.as_ref().map_or_else(
            || Digest::of(b""),
            |traffic| Digest::of_value(&traffic.ingress),
        ),
        splits: kept
            .traffic
            .as_ref()
            .map(|traffic| traffic.splits.clone())
            .unwrap_or_default(),
        amiss: hangs.then(|| "it runs and does not answer".to_owned()),
    }
}

/// The URL that requests are sent to.
fn gateway_url(traffic: Option<&platform_decide::traffic::Traffic>) -> String {
    let Some(traffic) = traffic else {
        return String::new();
    };
    let gateway = &traffic.ingress.gateway;
    let host = if gateway.address.is_unspecified() {
        "127.0.0.1".to_owned()
    } else if gateway.address.is_ipv6() {
        format!("[{}]", gateway.address)
    } else {
        gateway.address.to_string()
    };
    match &gateway.tls {
        Some(tls) => format!("https://{host}:{}", tls.port),
        None => format!("http://{host}:{}", gateway.port),
    }
}
