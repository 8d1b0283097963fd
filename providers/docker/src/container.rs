//! How containers of ours are asked for: hardened alike, each with what it needs.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    HostConfigLogConfig, Mount, MountType, MountVolumeOptions, NetworkingConfig, RestartPolicy,
    RestartPolicyNameEnum,
};
use platform_blueprint::{Check, Health, Limits, Logs, Period, RestartOn, ServiceKind};
use platform_decide::group::{GroupId, GroupSpec, Track};
use platform_port::TargetError;

use crate::facets::Facets;
use crate::gateway::ALIAS;
use crate::inside::{HANDED, Live, SIGNING, Shown};
use crate::keep::Keep;
use crate::names::{KEEP, MADE, Names, Role, ZONE, alias, instance_labels};
use crate::program::{FOLDER, USER};
use crate::site::Site;
use crate::surroundings::Surroundings;

/// Processes and threads a container may have, where nobody says otherwise.
const PROCESSES: i64 = 2048;

/// What every container of ours may not do.
pub(crate) fn hardened() -> HostConfig {
    HostConfig {
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
        pids_limit: Some(PROCESSES),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
            maximum_retry_count: None,
        }),
        tmpfs: Some(memory("/tmp", "size=64m,mode=1777")),
        ..HostConfig::default()
    }
}

/// What a container may that does one thing and ends.
pub(crate) fn errand() -> HostConfig {
    HostConfig {
        network_mode: Some("none".to_owned()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        ..hardened()
    }
}

impl Site {
    /// A container of our own program that does one thing as root, and ends.
    ///
    /// - `words`: what it does, after `inside`
    pub(crate) fn errand(
        &self,
        words: &[&str],
        may: HostConfig,
    ) -> Result<ContainerCreateBody, TargetError> {
        let program = self.program()?;
        let mut command = program.command(FOLDER);
        command.push("inside".to_owned());
        command.extend(words.iter().map(|word| (*word).to_owned()));
        Ok(ContainerCreateBody {
            image: Some(program.image()),
            entrypoint: Some(command),
            user: Some("0:0".to_owned()),
            labels: Some(self.names.labels(Role::Plumbing)),
            host_config: Some(may),
            ..ContainerCreateBody::default()
        })
    }
}

/// A folder in memory.
fn memory(path: &str, options: &str) -> HashMap<String, String> {
    HashMap::from([(path.to_owned(), format!("rw,nosuid,nodev,{options}"))])
}

/// A named volume.
pub(crate) fn volume(name: &str, path: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.to_owned()),
        target: Some(path.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    }
}

/// A named volume that is not filled from the image.
pub(crate) fn bare_volume(name: &str, path: &str, read_only: bool) -> Mount {
    Mount {
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            ..MountVolumeOptions::default()
        }),
        ..volume(name, path, read_only)
    }
}

/// How much of its output the engine keeps.
pub(crate) fn log_config(logs: &Logs) -> HostConfigLogConfig {
    let options = [
        ("max-size", logs.max_size.bytes().max(1).to_string()),
        ("max-file", (logs.keep + 1).to_string()),
    ];
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(options.map(|(name, value)| (name.to_owned(), value)).into()),
    }
}

/// Adds limits to what a container may use.
pub(crate) fn limited(mut host: HostConfig, limits: &Limits) -> HostConfig {
    if let Some(memory) = limits.memory {
        let bytes = i64::try_from(memory.bytes()).unwrap_or(i64::MAX);
        host.memory = Some(bytes);
        // No more by way of swap.
        host.memory_swap = Some(bytes);
    }
    host.nano_cpus = limits
        .cpu
        .map(|cores| i64::from(cores.thousandths()) * 1_000_000);
    host
}

/// A place on the network: names, and an address where one was chosen.
pub(crate) fn attached(
    network: &str,
    aliases: Vec<String>,
    address: Option<Ipv4Addr>,
) -> NetworkingConfig {
    let endpoint = EndpointSettings {
        aliases: Some(aliases),
        ipam_config: address.map(|address| EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    };
    NetworkingConfig {
        endpoints_config: Some(HashMap::from([(network.to_owned(), endpoint)])),
    }
}

/// A time as the engine counts it, where less than a second is not nothing.
pub(crate) fn whole_seconds(period: Period) -> u64 {
    let millis = period.duration().as_millis();
    u64::try_from(millis.div_ceil(1000)).unwrap_or(u64::MAX)
}

/// A check that runs inside, by the engine.
pub(crate) fn checked(command: Vec<String>, health: &Health) -> HealthConfig {
    let nanos = |period: Period| i64::try_from(period.duration().as_nanos()).unwrap_or(i64::MAX);
    let mut test = vec!["CMD".to_owned()];
    test.extend(command);
    HealthConfig {
        test: Some(test),
        interval: Some(nanos(health.interval)),
        timeout: Some(nanos(health.timeout)),
        retries: Some(health.failures.into()),
        start_period: Some(nanos(health.start_within)),
        start_interval: None,
    }
}

/// No check by the engine, whatever the image says.
pub(crate) fn unchecked() -> HealthConfig {
    HealthConfig {
        test: Some(vec!["NONE".to_owned()]),
        ..HealthConfig::default()
    }
}

/// What an instance's container is made from.
pub(crate) struct Instance<'a> {
    pub(crate) names: &'a Names,
    pub(crate) group: &'a GroupSpec,
    pub(crate) number: u32,
    pub(crate) image: &'a str,
    /// The user that the image names, if it names one.
    pub(crate) image_user: &'a str,
    pub(crate) surroundings: &'a Surroundings,
    pub(crate) network: &'a str,
    pub(crate) address: Option<Ipv4Addr>,
    /// Whether the engine has a first process that hands signals on and buries the dead.
    ///
    /// Without one a program that handles no signal is not ended by any: the kernel spares the first process of a container.
    pub(crate) init: bool,
    /// The words that start our own program from its volume, and that volume.
    pub(crate) program: (&'a [String], &'a str),
    /// Whether our program stands beside the service's and asks `health.live`.
    pub(crate) live: bool,
}

/// The mode and the group of a file of root's that a user may read and not change; anybody in the container reads it where only its
/// image knows the number of the user's group.
pub(crate) fn for_reader(user: &str) -> (u32, u32) {
    let group = match user.split_once(':') {
        Some((_, group)) => group.parse().ok(),
        None => (user == "root" || user == "0").then_some(0),
    };
    group.map_or((0o444, 0), |group| (0o440, group))
}

/// The user that a program runs as: the blueprint's, else the image's, and never root unless somebody says so.
pub(crate) fn user(asked: Option<&str>, image: &str) -> String {
    match asked {
        Some(user) => user.to_owned(),
        None if image.is_empty() || image == "root" || image == "0" || image.starts_with("0:") => {
            format!("{USER}:{USER}")
        }
        None => image.to_owned(),
    }
}

/// How our program stands beside the service's.
fn beside(parts: &Instance<'_>, keep: &Keep) -> Live {
    let service = &parts.group.spec.service;
    let mut health = service.health.clone();
    health.live = health.live.filter(|_| parts.live);
    let certified = parts.surroundings.handed.token.is_some();
    Live {
        health,
        stop: service.stop.clone(),
        port: service.port,
        http2: service.protocol.is_http2(),
        certified: certified.then(|| parts.group.id.service.to_string()),
        own: keep.tls.as_ref().map(|tls| Shown {
            name: tls.name.clone().unwrap_or_default(),
            is_handed: tls.ca.is_some(),
        }),
    }
}

/// Asks for an instance's container.
pub(crate) fn instance(parts: &Instance<'_>) -> ContainerCreateBody {
    let service = &parts.group.spec.service;
    let own = &parts.surroundings;
    let id = &parts.group.id;
    let mut labels = parts.names.labels(Role::Service);
    labels.extend(instance_labels(id, parts.number, &parts.group.digest));
    let zone = parts.group.zone(parts.number);
    labels.extend(zone.map(|zone| (ZONE.to_owned(), zone.to_string())));
    for (name, value) in &service.labels {
        labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    let mut mounts: Vec<Mount> = service
        .volumes
        .iter()
        .map(|wanted| {
            let name = parts.names.data(wanted.name.as_str());
            volume(&name, &wanted.path, wanted.read_only)
        })
        .collect();
    mounts.extend(
        own.folders
            .iter()
            .map(|(name, path)| volume(name, path, false)),
    );
    let certified = own.handed.token.is_some();
    let keep = Keep::of(parts.group);
    let mut host = limited(hardened(), &service.limits);
    host.init = Some(parts.init);
    let mut entrypoint = own.command.clone();
    let inside = |words: &[&str], then: Vec<String>| {
        let ours = parts.program.0.iter().map(String::as_str);
        let words = ours.chain(["inside"]).chain(words.iter().copied());
        words.map(str::to_owned).chain(then).collect()
    };
    if own.is_handed() {
        let secrets = parts.names.secrets(&id.to_string());
        mounts.push(bare_volume(&secrets, HANDED, false));
        entrypoint = inside(&["run"], entrypoint);
    }
    if parts.live || certified {
        let live = beside(parts, &keep);
        let live = serde_json::to_string(&live).unwrap_or_default();
        entrypoint = inside(&["live", &live], entrypoint);
    }
    if certified {
        let signing = parts.names.plumbing("signing");
        mounts.push(bare_volume(&signing, SIGNING, true));
    }
    if own.is_handed() || parts.live {
        mounts.push(bare_volume(parts.program.1, FOLDER, true));
    }
    host.mounts = Some(mounts);
    host.network_mode = Some(parts.network.to_owned());
    host.log_config = Some(log_config(&service.logs));
    host.restart_policy = Some(RestartPolicy {
        name: Some(match (service.kind, service.restart.on) {
            (ServiceKind::Job, _) | (_, RestartOn::Never) => RestartPolicyNameEnum::NO,
            (_, RestartOn::Failure) => RestartPolicyNameEnum::ON_FAILURE,
            (_, RestartOn::Always) => RestartPolicyNameEnum::UNLESS_STOPPED,
        }),
        maximum_retry_count: None,
    });
    let healthcheck = match &service.health.ready {
        Some(Check::Command { command }) => checked(command.clone(), &service.health),
        _ => unchecked(),
    };
    labels.insert(
        KEEP.to_owned(),
        serde_json::to_string(&keep).unwrap_or_default(),
    );
    let name = alias(id, parts.number);
    let mut body = ContainerCreateBody {
        hostname: Some(name.clone()),
        image: Some(parts.image.to_owned()),
        entrypoint: Some(entrypoint),
        cmd: Some(Vec::new()),
        user: Some(user(service.user.as_deref(), parts.image_user)),
        env: Some(
            own.variables
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        ),
        working_dir: own.folder.clone(),
        stop_signal: Some(service.stop.signal.as_str().to_owned()),
        stop_timeout: i64::try_from(whole_seconds(service.stop.grace)).ok(),
        healthcheck: Some(healthcheck),
        networking_config: Some(attached(
            parts.network,
            found_as(id, parts.number),
            parts.address,
        )),
        labels: Some(labels),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    };
    mark(&mut body);
    body
}

/// The names under which others find an instance on the network.
///
/// That of its service is for what does not speak HTTP: it leads to whichever instance runs, whatever the gateway thinks of it.
/// Fresh instances of an old release, which are there to be compared with, are not for them.
fn found_as(id: &GroupId, number: u32) -> Vec<String> {
    let mut names = vec![alias(id, number)];
    if id.track == Track::Main && id.service.as_str() != ALIAS {
        names.push(id.service.to_string());
    }
    names
}

/// Notes on a container what of it could be changed by hand.
pub(crate) fn mark(body: &mut ContainerCreateBody) {
    let made = Facets::asked(body).note();
    if let Some(labels) = &mut body.labels {
        labels.insert(MADE.to_owned(), made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_second_is_a_second() {
        let check = |period: &str, seconds: u64| {
            assert_eq!(whole_seconds(period.parse().unwrap()), seconds, "{period}");
        };
        check("0s", 0);
        check("1ms", 1);
        check("500ms", 1);
        check("1s", 1);
        check("1001ms", 2);
        check("10m", 600);
    }

    #[test]
    fn an_instance_is_found_under_its_services_name_unless_another_is() {
        let check = |group: &str, names: &[&str]| {
            assert_eq!(found_as(&group.parse().unwrap(), 2), names, "{group}");
        };
        check("orders@r5", &["orders-r5-2", "orders"]);
        check("orders@r5-baseline", &["orders-r5-baseline-2"]);
        // There the gateway is.
        check("gateway@r5", &["gateway-r5-2"]);
    }

    #[test]
    fn nobody_is_root_unless_asked() {
        assert_eq!(user(None, ""), "65532:65532");
        assert_eq!(user(None, "0:0"), "65532:65532");
        assert_eq!(user(None, "node"), "node");
        assert_eq!(user(Some("root"), "node"), "root");
        assert_eq!(for_reader("65532:65533"), (0o440, 65533));
        assert_eq!(for_reader("root"), (0o440, 0));
        for unknown in ["1000", "node", "node:node", ""] {
            assert_eq!(for_reader(unknown), (0o444, 0), "{unknown}");
        }
    }
}
