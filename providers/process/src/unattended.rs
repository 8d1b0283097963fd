//! What is seen where no agent runs: only what records say and the process table confirms. Changes nothing.

use std::collections::BTreeMap;

use platform_blueprint::ZoneName;
use platform_decide::group::GroupId;
use platform_decide::observed::{GroupSeen, InstanceSeen, InstanceState, Observed};

use crate::durable;
use crate::layout::Layout;
use crate::probe::local;
use crate::process_table::ProcessStat;
use crate::recorded::{InstanceRecord, Kept, Outcome, instance_parts};

/// Looks at the records of an environment.
///
/// Of a group only the instances that still run count: what has to be started again is to be seen as missing, so that a
/// plan puts it right. The gateway and the resources are what an agent says they are, and there is none.
pub(crate) fn observe(layout: &Layout) -> Observed {
    let kept: Kept = durable::peek(&layout.desired()).value.unwrap_or_default();
    let mut groups: BTreeMap<GroupId, GroupSeen> = BTreeMap::new();
    let mut names = InstanceRecord::names(layout);
    names.sort();
    for name in names {
        let Some((id, number)) = instance_parts(&name) else {
            continue;
        };
        let Some(spec) = kept.groups.get(&id).or_else(|| kept.leaving.get(&id)) else {
            continue;
        };
        let Some(record) = InstanceRecord::load(layout, &name) else {
            continue;
        };
        let Some(seen) = instance(name, spec.zone(number), &record) else {
            continue;
        };
        let group = groups.entry(id).or_insert_with(|| GroupSeen {
            digest: spec.digest.clone(),
            replicas: 0,
            instances: Vec::new(),
            changed: None,
        });
        group.replicas += 1;
        group.instances.push(seen);
    }
    Observed {
        groups,
        ..Observed::default()
    }
}

fn instance(id: String, zone: Option<&ZoneName>, record: &InstanceRecord) -> Option<InstanceSeen> {
    let alive = record.process.as_ref().filter(|process| process.alive());
    let state = match (&record.outcome, alive) {
        (Some(Outcome::Completed), _) => InstanceState::Completed,
        (None, Some(_)) if record.ready => InstanceState::Ready,
        (None, Some(_)) => InstanceState::Starting,
        _ => return None,
    };
    let memory = alive
        .and_then(|process| ProcessStat::read(process.pid).ok())
        .map(|stat| stat.resident_bytes());
    Some(InstanceSeen {
        id,
        state,
        address: record.port.map(|port| local(port).to_string()),
        handle: alive.map(|process| process.pid.to_string()),
        restarts: record.restarts,
        started_at: record.started_at,
        last_exit: record.last_exit.clone(),
        out_of_memory: record.out_of_memory,
        reason: alive.map(|_| "nobody supervises it; the next deploy will".to_owned()),
        memory,
        zone: zone.cloned(),
    })
}

/// Whether there is nothing to stop: no record of a living process and nothing to be kept up.
pub(crate) fn nothing_left(layout: &Layout) -> bool {
    let kept: Kept = durable::peek(&layout.desired()).value.unwrap_or_default();
    let records = InstanceRecord::names(layout);
    kept.groups.is_empty()
        && kept.leaving.is_empty()
        && kept.gateway.is_none()
        && kept.resources.is_empty()
        && !records.iter().any(|name| {
            InstanceRecord::load(layout, name)
                .and_then(|record| record.process)
                .is_some_and(|process| process.alive())
        })
}
