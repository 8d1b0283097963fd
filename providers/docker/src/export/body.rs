//! From what a container is asked for with to what Compose calls a service.

use std::collections::BTreeMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, MountType, RestartPolicyNameEnum,
};
use platform_compose::form::{Table, Words};
use platform_compose::literal;
use platform_compose::model::{
    Attachment, Grant, GrantForm, HealthCheck, Logging, Mount, MountForm, Service, VolumeOptions,
};

use crate::names::{ENVIRONMENT, KEEP, MADE, Names, PROJECT};

/// Labels by which `platform` knows what it keeps itself. What Compose keeps must not carry them.
const OURS: [&str; 4] = [PROJECT, ENVIRONMENT, KEEP, MADE];

/// A list of words, if there are any.
pub(super) fn words(words: &[String]) -> Option<Words> {
    let words: Vec<String> = words.iter().map(|word| literal(word)).collect();
    (!words.is_empty()).then_some(Words::List(words))
}

/// A secret that is found at `target`.
pub(super) fn grant(name: &str, target: &str) -> GrantForm {
    GrantForm::Full(Grant {
        source: name.to_owned(),
        target: Some(target.to_owned()),
        ..Grant::default()
    })
}

/// The name of a volume in the Compose file, which puts its own project before it.
pub(super) fn volume_key(names: &Names, volume: &str) -> String {
    let own = format!("{}_", names.network());
    let short = volume.strip_prefix(&own).unwrap_or(volume);
    short.strip_prefix("data_").unwrap_or(short).to_owned()
}

/// What Compose calls a service.
pub(super) fn service(body: ContainerCreateBody, names: &Names) -> Service {
    let host = body.host_config.unwrap_or_default();
    let labels = body.labels.unwrap_or_default();
    let labels = labels
        .iter()
        .filter(|(name, _)| !OURS.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), literal(value)))
        .collect();
    let environment = body.env.unwrap_or_default();
    let environment: Table = environment
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, value)| (name, literal(value)))
        .collect();
    let alone = host.network_mode.as_deref() == Some("none");
    let endpoints = body.networking_config.and_then(|own| own.endpoints_config);
    let aliases = endpoints
        .into_iter()
        .flatten()
        .flat_map(|(_, endpoint)| endpoint.aliases.unwrap_or_default())
        .collect();
    let networks = BTreeMap::from([(
        "default".to_owned(),
        Attachment {
            aliases,
            ..Attachment::default()
        },
    )]);
    let mut made = Service {
        image: body.image,
        entrypoint: words(&body.entrypoint.unwrap_or_default()),
        working_dir: body.working_dir,
        user: body.user.map(Into::into),
        hostname: body.hostname,
        environment,
        healthcheck: body.healthcheck.map(health),
        stop_signal: body.stop_signal,
        stop_grace_period: body.stop_timeout.map(|seconds| format!("{seconds}s")),
        labels,
        network_mode: alone.then(|| "none".to_owned()),
        networks: if alone { BTreeMap::new() } else { networks },
        ..Service::default()
    };
    hosted(&mut made, host, names);
    made
}

/// Adds what Docker counts among the host's settings.
fn hosted(made: &mut Service, host: HostConfig, names: &Names) {
    made.read_only = host.readonly_rootfs.unwrap_or_default();
    made.init = host.init.filter(|init| *init);
    made.cap_drop = host.cap_drop.unwrap_or_default();
    made.security_opt = host.security_opt.unwrap_or_default();
    made.pids_limit = host.pids_limit;
    made.mem_limit = host.memory.map(|bytes| size(bytes).into());
    made.memswap_limit = host.memory_swap.map(|bytes| size(bytes).into());
    made.cpus = host.nano_cpus.map(|nanos| cores(nanos).into());
    made.restart = host
        .restart_policy
        .and_then(|policy| policy.name)
        .map(|name| {
            let word = match name {
                RestartPolicyNameEnum::ALWAYS => "always",
                RestartPolicyNameEnum::UNLESS_STOPPED => "unless-stopped",
                RestartPolicyNameEnum::ON_FAILURE => "on-failure",
                RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY => "no",
            };
            word.into()
        });
    let mut tmpfs: Vec<String> = host
        .tmpfs
        .unwrap_or_default()
        .into_iter()
        .map(|(path, options)| format!("{path}:{options}"))
        .collect();
    tmpfs.sort();
    made.tmpfs = tmpfs;
    made.logging = host.log_config.map(|logs| Logging {
        driver: logs.typ,
        options: logs.config.unwrap_or_default().into_iter().collect(),
        ..Logging::default()
    });
    let mounts = host.mounts.unwrap_or_default();
    made.volumes = mounts
        .into_iter()
        .filter(|mount| mount.typ == Some(MountType::VOLUME))
        .map(|mount| {
            let nocopy = mount.volume_options.and_then(|own| own.no_copy);
            let source = mount.source.unwrap_or_default();
            MountForm::Full(Box::new(Mount {
                kind: "volume".to_owned(),
                source: Some(volume_key(names, &source)),
                target: mount.target.unwrap_or_default(),
                read_only: mount.read_only.unwrap_or_default(),
                volume: nocopy.filter(|nocopy| *nocopy).map(|nocopy| VolumeOptions {
                    nocopy,
                    ..VolumeOptions::default()
                }),
                ..Mount::default()
            }))
        })
        .collect();
}

/// A size in the largest unit that it is a whole number of.
fn size(bytes: i64) -> String {
    let units = [(30, "g"), (20, "m"), (10, "k")];
    let whole = units
        .iter()
        .find(|(shift, _)| bytes % (1 << shift) == 0 && bytes > 0);
    whole.map_or_else(
        || format!("{bytes}b"),
        |(shift, unit)| format!("{}{unit}", bytes >> shift),
    )
}

fn cores(nanos: i64) -> String {
    let text = format!("{}.{:03}", nanos / 1_000_000_000, nanos / 1_000_000 % 1_000);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

fn health(asked: HealthConfig) -> HealthCheck {
    let test = asked.test.unwrap_or_default();
    if test.first().is_some_and(|word| word == "NONE") {
        return HealthCheck {
            disable: true,
            ..HealthCheck::default()
        };
    }
    let millis = |nanos: Option<i64>| nanos.map(|nanos| period(nanos / 1_000_000));
    HealthCheck {
        test: words(&test),
        interval: millis(asked.interval),
        timeout: millis(asked.timeout),
        start_period: millis(asked.start_period),
        retries: asked.retries.map(|count| count.to_string().into()),
        ..HealthCheck::default()
    }
}

fn period(millis: i64) -> String {
    if millis % 1_000 == 0 {
        format!("{}s", millis / 1_000)
    } else {
        format!("{millis}ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_as_people_do() {
        assert_eq!(size(128 << 20), "128m");
        assert_eq!(size(1 << 30), "1g");
        assert_eq!(size(1000), "1000b");
        assert_eq!(cores(500_000_000), "0.5");
        assert_eq!(cores(2_000_000_000), "2");
        assert_eq!(
            (period(1500), period(3000)),
            ("1500ms".to_owned(), "3s".to_owned())
        );
    }
}
