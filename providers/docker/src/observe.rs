//! What runs, read from containers and their labels.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum};
use platform_blueprint::{Restart, ZoneName};
use platform_decide::digest::Digest;
use platform_decide::group::GroupId;
use platform_decide::observed::{GroupSeen, InstanceSeen, InstanceState, ResourceSeen};
use platform_gateway_api::{EndpointTally, Tallies};

use crate::facets::Facets;
use crate::keep::Keep;
use crate::names::{
    GROUP, KEEP, MADE, NUMBER, Names, ROLE, Role, SPEC, ZONE, alias, instance_name,
};
use crate::site::label;

/// How much longer than its interval the gateway takes to notice.
const SETTLE_MILLIS: u64 = 500;
/// What ended often before and runs for less than this may well end again.
const LOOPING_MILLIS: u64 = 10_000;

/// An instance's container, read.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) group: GroupId,
    pub(crate) number: u32,
    /// The zone it stands in.
    pub(crate) zone: Option<ZoneName>,
    pub(crate) digest: Digest,
    pub(crate) keep: Keep,
    /// `host:port` for whoever is on the network.
    pub(crate) address: Option<String>,
    /// What somebody changed by hand.
    pub(crate) changed: Option<String>,
    /// The name that somebody gave it, in words.
    pub(crate) renamed: Option<String>,
    pub(crate) container: ContainerInspectResponse,
}

impl Found {
    /// Reads an instance's container; `None` for any other.
    ///
    /// - `network`: where it is reached
    pub(crate) fn read(
        container: ContainerInspectResponse,
        network: &str,
        names: &Names,
    ) -> Option<Self> {
        if label(&container, ROLE) != Some(Role::Service.as_str()) {
            return None;
        }
        let group: GroupId = label(&container, GROUP)?.parse().ok()?;
        let number = label(&container, NUMBER)?.parse().ok()?;
        let digest = Digest::parse(label(&container, SPEC)?)?;
        let keep: Keep = serde_json::from_str(label(&container, KEEP)?).ok()?;
        let changed = label(&container, MADE)
            .and_then(Facets::noted)
            .and_then(|made| made.differing(&Facets::seen(&container)));
        let host = chosen_address(&container, network)
            .map_or_else(|| alias(&group, number), |address| address.to_string());
        Some(Self {
            address: keep.port.map(|port| format!("{host}:{port}")),
            group,
            number,
            zone: label(&container, ZONE).and_then(|zone| zone.parse().ok()),
            digest,
            keep,
            changed,
            renamed: renamed(&container, names),
            container,
        })
    }

    pub(crate) fn name(&self) -> String {
        instance_name(&self.group, self.number)
    }

    /// What of it is not as we left it, in words.
    fn by_hand(&self) -> Option<&String> {
        self.changed.as_ref().or(self.renamed.as_ref())
    }

    /// What the engine calls its container, whoever renamed that.
    pub(crate) fn called(&self) -> String {
        let name = self.container.name.as_deref().unwrap_or_default();
        name.trim_start_matches('/').to_owned()
    }

    pub(crate) fn status(&self) -> ContainerStateStatusEnum {
        let state = self.container.state.as_ref();
        state
            .and_then(|state| state.status)
            .unwrap_or(ContainerStateStatusEnum::EMPTY)
    }

    /// Whether it was stopped or paused by hand, or never came to be started: nobody will start it again.
    pub(crate) fn is_down(&self) -> bool {
        match self.status() {
            ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD => {
                !self.keep.stays_ended
            }
            ContainerStateStatusEnum::CREATED
            | ContainerStateStatusEnum::PAUSED
            | ContainerStateStatusEnum::REMOVING
            | ContainerStateStatusEnum::EMPTY => true,
            _ => false,
        }
    }

    /// Whether it ever was more than a container that is there.
    pub(crate) fn was_started(&self) -> bool {
        self.status() != ContainerStateStatusEnum::CREATED
    }

    /// Whether the gateway should know of it.
    pub(crate) fn takes_requests(&self) -> bool {
        let checked = !self.keep.by_command || self.health() == Some(HealthStatusEnum::HEALTHY);
        self.address.is_some() && !self.is_down() && checked
    }

    /// Whether the engine's check has let it in, which the gateway does not hear of by itself.
    pub(crate) fn is_untold(&self, tallies: &Tallies) -> bool {
        let service = tallies.services.get(self.group.service.as_str());
        let known = service.is_some_and(|service| service.endpoints.contains_key(&self.name()));
        self.keep.by_command && self.takes_requests() && !known
    }

    /// Whether it ran and ended before.
    pub(crate) fn began_again(&self) -> bool {
        let state = self.container.state.as_ref();
        let finished = state.and_then(|state| state.finished_at.as_deref());
        finished.is_some_and(|text| !text.starts_with("0001-"))
    }

    /// Whether the engine says that memory ran out.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let state = self.container.state.as_ref();
        state.and_then(|state| state.oom_killed) == Some(true)
    }

    fn health(&self) -> Option<HealthStatusEnum> {
        self.container.state.as_ref()?.health.as_ref()?.status
    }

    /// What people and plans see of it.
    ///
    /// - `tally`: what the gateway says of it; `None` where it does not know it
    /// - `now`: milliseconds since the Unix epoch
    pub(crate) fn seen(
        &self,
        tally: Option<&EndpointTally>,
        gateway: bool,
        now: u64,
    ) -> InstanceSeen {
        let state = self.container.state.as_ref();
        let restarts = restarts(&self.container);
        let exit_code = state.and_then(|state| state.exit_code).unwrap_or(0);
        let out_of_memory = self.ran_out_of_memory();
        let error = state
            .and_then(|state| state.error.clone())
            .filter(|error| !error.is_empty());
        let started_at = started_at(&self.container);
        let age = started_at.map_or(0, |started| now.saturating_sub(started));
        let looping = restarts >= self.keep.crash_loop && age < LOOPING_MILLIS;
        let end = || end_words(exit_code, out_of_memory);
        let (state, reason) = match self.status() {
            ContainerStateStatusEnum::RUNNING => self.running(tally, gateway, looping, age),
            ContainerStateStatusEnum::PAUSED => {
                (InstanceState::Unready, Some("it is paused".to_owned()))
            }
            ContainerStateStatusEnum::RESTARTING if restarts >= self.keep.crash_loop => {
                (InstanceState::CrashLooping, Some(ends(restarts, &end())))
            }
            ContainerStateStatusEnum::RESTARTING => (
                InstanceState::Restarting,
                Some(format!("it ended with {}", end())),
            ),
            ContainerStateStatusEnum::EXITED if self.keep.stays_ended => match exit_code {
                0 => (InstanceState::Completed, None),
                _ => (
                    InstanceState::Failed,
                    Some(format!("it ended with {}", end())),
                ),
            },
            ContainerStateStatusEnum::EXITED => (
                InstanceState::Failed,
                Some(error.unwrap_or_else(|| format!("its container was stopped; {}", end()))),
            ),
            ContainerStateStatusEnum::DEAD => (
                InstanceState::Failed,
                Some("its container is dead".to_owned()),
            ),
            ContainerStateStatusEnum::REMOVING | ContainerStateStatusEnum::STOPPING => {
                (InstanceState::Stopping, None)
            }
            ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EMPTY => {
                (InstanceState::Starting, error)
            }
        };
        InstanceSeen {
            id: self.name(),
            state,
            address: self.address.clone(),
            handle: self
                .container
                .id
                .as_ref()
                .map(|id| id.chars().take(12).collect()),
            restarts,
            started_at,
            last_exit: (exit_code != 0 || out_of_memory).then(end),
            out_of_memory,
            reason: self.by_hand().cloned().or(reason),
            memory: None,
            zone: self.zone.clone(),
        }
    }

    fn running(
        &self,
        tally: Option<&EndpointTally>,
        gateway: bool,
        looping: bool,
        age: u64,
    ) -> (InstanceState, Option<String>) {
        let waiting = |reason: &str| {
            let state = if looping {
                InstanceState::CrashLooping
            } else if age < self.keep.start_within_ms {
                InstanceState::Starting
            } else {
                InstanceState::Unready
            };
            (state, Some(reason.to_owned()))
        };
        if self.keep.is_job {
            // What needs it waits until it has done its work.
            return (
                InstanceState::Starting,
                Some("it has not ended yet".to_owned()),
            );
        }
        let health = self.health();
        if self.keep.by_command && health != Some(HealthStatusEnum::HEALTHY) {
            let failing = "its health check does not pass";
            // Within `start_within` the engine says so only of one that was healthy before.
            if health == Some(HealthStatusEnum::UNHEALTHY) && !looping {
                return (InstanceState::Unready, Some(failing.to_owned()));
            }
            return waiting(failing);
        }
        match (tally, self.keep.port) {
            // Nobody keeps it from being used where no gateway is.
            (_, None) if looping => waiting("it ends again and again"),
            (_, None) => (InstanceState::Ready, None),
            (None, Some(_)) if !gateway => waiting("no gateway runs"),
            (None, Some(_)) => waiting("the gateway does not know it yet"),
            // What the gateway last found may have been before that.
            (Some(_), Some(_))
                if self.began_again() && age < self.keep.every_ms + SETTLE_MILLIS =>
            {
                waiting("it was started again just now")
            }
            (Some(tally), Some(_)) if tally.serving => (InstanceState::Ready, None),
            (Some(tally), Some(_)) if tally.good > 0 => (
                InstanceState::Unready,
                Some("the gateway finds it unhealthy".to_owned()),
            ),
            (Some(_), Some(port)) => match self.keep.path.as_deref() {
                Some("") | None => waiting(&format!("nothing answers on its port {port}")),
                Some(path) => waiting(&format!(
                    "`{path}` on port {port} does not answer that it is ready"
                )),
            },
        }
    }
}

fn end_words(code: i64, out_of_memory: bool) -> String {
    match code {
        _ if out_of_memory => "out of memory".to_owned(),
        129..=165 => format!("signal {}", code - 128),
        _ => format!("exit code {code}"),
    }
}

/// How a container that does not run ended, in words.
pub(crate) fn ended(seen: &ContainerInspectResponse) -> String {
    let state = seen.state.as_ref();
    end_words(
        state.and_then(|state| state.exit_code).unwrap_or(0),
        state.and_then(|state| state.oom_killed) == Some(true),
    )
}

/// That somebody renamed a container of ours, in words. A list does not tell.
pub(crate) fn renamed(seen: &ContainerInspectResponse, names: &Names) -> Option<String> {
    let called = crate::site::name(seen);
    if called.is_empty() {
        return None;
    }
    let own = names.of_labels(crate::site::labels(seen)?)?;
    (called != own).then(|| format!("renamed by hand to `{called}`"))
}

/// The address that was chosen for a container on a network.
fn chosen_address(seen: &ContainerInspectResponse, network: &str) -> Option<Ipv4Addr> {
    let networks = seen.network_settings.as_ref()?.networks.as_ref()?;
    let chosen = networks.get(network)?.ipam_config.as_ref()?;
    chosen.ipv4_address.as_deref()?.parse().ok()
}

/// Groups of the instances that were found.
pub(crate) fn groups(
    found: &[Found],
    leaving: &BTreeSet<String>,
    tallies: Option<&Tallies>,
    now: u64,
) -> BTreeMap<GroupId, GroupSeen> {
    let mut ordered: Vec<&Found> = found.iter().collect();
    ordered.sort_by_key(|one| (&one.group, one.number));
    let mut groups: BTreeMap<GroupId, GroupSeen> = BTreeMap::new();
    for one in ordered {
        let group = groups
            .entry(one.group.clone())
            .or_insert_with(|| GroupSeen {
                digest: one.digest.clone(),
                replicas: 0,
                instances: Vec::new(),
                changed: None,
            });
        let name = one.name();
        let tally = tallies
            .and_then(|tallies| tallies.services.get(one.group.service.as_str()))
            .and_then(|service| service.endpoints.get(&name));
        let mut seen = one.seen(tally, tallies.is_some(), now);
        if leaving.contains(&name) {
            seen.state = InstanceState::Stopping;
        } else if one.by_hand().is_some() || one.digest != group.digest {
            // Not what was asked for, so the group is not either: a plan puts it right.
            group.digest = Digest::of(format!("{} {:?}", one.digest, one.by_hand()).as_bytes());
            group.changed = group.changed.take().or_else(|| one.by_hand().cloned());
            group.replicas += 1;
        } else if !one.is_down() {
            // What is down counts as missing, and a plan brings it up again.
            group.replicas += 1;
        }
        group.instances.push(seen);
    }
    groups
}

/// A resource's server, read.
///
/// - `now`: milliseconds since the Unix epoch
pub(crate) fn resource(
    seen: &ContainerInspectResponse,
    names: &Names,
    engine: &str,
    address: String,
    now: u64,
) -> Option<ResourceSeen> {
    let digest = Digest::parse(label(seen, SPEC)?)?;
    let changed = label(seen, MADE)
        .and_then(Facets::noted)
        .and_then(|made| made.differing(&Facets::seen(seen)))
        .or_else(|| renamed(seen, names));
    let state = seen.state.as_ref();
    let status = state.and_then(|state| state.status);
    let health = state.and_then(|state| state.health.as_ref());
    let healthy = health.and_then(|health| health.status) == Some(HealthStatusEnum::HEALTHY);
    let running = status == Some(ContainerStateStatusEnum::RUNNING);
    let said = health
        .and_then(|health| health.log.as_ref()?.last()?.output.clone())
        .map(|said| said.trim().to_owned())
        .filter(|said| !said.is_empty());
    let crash_looping = is_crash_looping(seen, now);
    let reason = match status {
        _ if changed.is_some() => changed.clone(),
        Some(ContainerStateStatusEnum::RESTARTING) => Some(ends(restarts(seen), &ended(seen))),
        Some(ContainerStateStatusEnum::RUNNING) if healthy => None,
        // How it last ended the engine does not say any more.
        Some(ContainerStateStatusEnum::RUNNING) if crash_looping => {
            Some(format!("it ended {} times", restarts(seen)))
        }
        Some(ContainerStateStatusEnum::RUNNING) => {
            Some(said.unwrap_or_else(|| "its health check has not passed yet".to_owned()))
        }
        Some(ContainerStateStatusEnum::PAUSED) => Some("it is paused".to_owned()),
        Some(other) => Some(format!("its container is {other}; {}", ended(seen))),
        None => None,
    };
    let down = matches!(
        status,
        Some(
            ContainerStateStatusEnum::EXITED
                | ContainerStateStatusEnum::DEAD
                | ContainerStateStatusEnum::CREATED
                | ContainerStateStatusEnum::PAUSED
        )
    );
    Some(ResourceSeen {
        // One that is down, was given up or changed by hand is not what was asked for.
        digest: if changed.is_some() || down || crash_looping {
            Digest::of(format!("{digest} {changed:?}").as_bytes())
        } else {
            digest
        },
        ready: running && healthy,
        engine: engine.to_owned(),
        address: Some(address),
        reason,
        crash_looping,
    })
}

/// How often the engine started a container again.
fn restarts(seen: &ContainerInspectResponse) -> u32 {
    u32::try_from(seen.restart_count.unwrap_or(0)).unwrap_or(0)
}

/// Whether a resource's server ended so often that nobody waits for it any longer.
///
/// - `now`: milliseconds since the Unix epoch
pub(crate) fn is_crash_looping(seen: &ContainerInspectResponse, now: u64) -> bool {
    let state = seen.state.as_ref();
    let health = state.and_then(|state| state.health.as_ref()?.status);
    let goes_on = match state.and_then(|state| state.status) {
        Some(ContainerStateStatusEnum::RESTARTING) => true,
        Some(ContainerStateStatusEnum::RUNNING) => {
            let age = started_at(seen).map_or(0, |started| now.saturating_sub(started));
            health != Some(HealthStatusEnum::HEALTHY) && age < LOOPING_MILLIS
        }
        _ => false,
    };
    goes_on && restarts(seen) >= Restart::default().crash_loop
}

/// When a container was last started, in milliseconds since the Unix epoch.
fn started_at(seen: &ContainerInspectResponse) -> Option<u64> {
    let text = seen.state.as_ref()?.started_at.as_deref()?;
    let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    // The engine's zero time is in the year 1.
    u64::try_from(time.timestamp_millis()).ok()
}

/// That something ended and is about to be started again, in words.
fn ends(times: u32, end: &str) -> String {
    match times {
        0 | 1 => format!("it ended with {end}"),
        _ => format!("it ended {times} times, last with {end}"),
    }
}
