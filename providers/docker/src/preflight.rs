//! What would make a deploy fail, looked for ahead; and how the engine itself is doing.

use bollard::models::{SystemInfo, SystemVersion};
use futures::future::{try_join, try_join_all};
use platform_blueprint::ResourceName;
use platform_decide::desired::Desired;
use platform_decide::group::Place;
use platform_port::{Finding, Severity, TargetError};

use crate::engine::{OLDEST, fault};
use crate::names::KEEP;
use crate::server::Server;
use crate::site::Site;

const GIB: u64 = 1 << 30;
/// Space below which an engine is soon without any: a few images.
const ENOUGH: u64 = 2 * GIB;
/// Clocks that differ by more are told of.
const CLOCK_MILLIS: i64 = 5_000;

fn finding(code: &str, severity: Severity, message: impl Into<String>) -> Finding {
    Finding {
        code: code.to_owned(),
        severity,
        subject: None,
        message: message.into(),
        help: None,
    }
}

fn about(mut finding: Finding, subject: &str) -> Finding {
    finding.subject = Some(subject.to_string());
    finding
}

/// A resource whose name something else of the same environment has.
fn clash(resource: &str, told: String, help: &str) -> Finding {
    let found = finding("docker::name-taken", Severity::Error, told);
    helped(about(found, resource), help)
}

fn helped(mut finding: Finding, help: &str) -> Finding {
    finding.help = Some(help.to_owned());
    finding
}

/// That a PostgreSQL is asked for which does not open what the one before wrote: its data are of one major version.
///
/// - `before`, `wanted`: `PostgreSQL 15`
///
/// Source: PostgreSQL documentation, *Upgrading a PostgreSQL Cluster*. A major version is one number since 10.
fn other_major(name: &ResourceName, before: &str, wanted: &str) -> Option<Finding> {
    let major = |title: &str| -> Option<u32> {
        let version = title.strip_prefix("PostgreSQL ")?;
        version.split('.').next()?.parse().ok()
    };
    let (before, wanted) = (major(before)?, major(wanted)?);
    (before != wanted).then(|| {
        let told = format!(
            "the data of resource `{name}` are of PostgreSQL {before}, and PostgreSQL {wanted} does not open them"
        );
        helped(
            about(
                finding("resource::other-major", Severity::Error, told),
                name.as_str(),
            ),
            &format!(
                "keep `version = \"{before}\"`, or add a resource of the other version beside it and carry the data over: `platform explain resource::other-major`"
            ),
        )
    })
}

/// What an exported environment cannot do.
pub fn refused(desired: &Desired) -> Vec<Finding> {
    let services = desired.services.iter();
    let secured = services.filter(|(_, one)| one.spec.service.protocol.is_mutual());
    secured
        .map(|(name, _)| {
            let told = format!(
                "`{name}` speaks mtls, and nobody issues and replaces certificates for what a Compose file runs"
            );
            helped(
                about(
                    finding("export::mtls", Severity::Error, told),
                    name.as_str(),
                ),
                "export an environment that says `protocol = \"http\"` of it, where the environment's own network is all that reaches the service",
            )
        })
        .collect()
}

impl Site {
    /// Looks for what would make a deploy of `desired` fail.
    pub(crate) async fn preflight(&self, desired: &Desired) -> Result<Vec<Finding>, TargetError> {
        let ((version, info), in_the_way) =
            try_join(self.engine_seen(), self.in_the_way(desired)).await?;
        let mut findings = judge(&version, &info);
        let gateway = &desired.ingress.gateway;
        findings.extend(self.ports_taken(gateway, &info).await?);
        findings.extend(platform_traffic::certificates::preflight(
            gateway, &self.root,
        ));
        for (name, service) in &desired.services {
            if matches!(service.spec.artifact.place, Place::Installed) {
                findings.push(helped(
                    about(
                        finding(
                            "docker::no-image",
                            Severity::Error,
                            format!("service `{name}` has neither `build` nor `image`, and nothing is installed in a container"),
                        ),
                        name.as_str(),
                    ),
                    "give the service `build = …` or `image = \"…\"`",
                ));
            }
        }
        for (name, wanted) in &desired.resources {
            let container = self.names.resource(name.as_str());
            if container == self.names.gateway() || container == self.names.keeper() {
                let told = format!(
                    "container `{container}` is our own, so no resource is called `{name}` here"
                );
                findings.push(clash(name.as_str(), told, "give the resource another name"));
            }
            let services = desired.services.values();
            let mut volumes = services.flat_map(|service| &service.spec.service.volumes);
            if volumes.any(|volume| volume.name.as_str() == name.as_str()) {
                let told =
                    format!("a volume of a service and resource `{name}` would share their data");
                findings.push(clash(name.as_str(), told, "give the volume another name"));
            }
            let resource = &wanted.resource;
            let needs_server = resource.external.is_none()
                && resource.engine != platform_blueprint::Engine::Embedded;
            if needs_server && Server::of(name.as_str(), resource, "").is_none() {
                findings.push(helped(
                    about(
                        finding(
                            "resource::engine-missing",
                            Severity::Error,
                            format!("provider `docker` runs no server of engine `{}` for resource `{name}`", resource.engine.as_str()),
                        ),
                        name.as_str(),
                    ),
                    "name one that runs elsewhere with `external = { secret = \"…\" }`",
                ));
            }
            if resource.standbys > 0 {
                findings.push(about(
                    finding(
                        "docker::no-standbys",
                        Severity::Note,
                        format!(
                            "resource `{name}` runs without its standbys: one engine is one machine"
                        ),
                    ),
                    name.as_str(),
                ));
            }
        }
        findings.extend(in_the_way);
        Ok(findings)
    }

    /// Names that we need and somebody else's containers have, and servers whose data the wanted ones cannot open.
    async fn in_the_way(&self, desired: &Desired) -> Result<Vec<Finding>, TargetError> {
        let resources = desired.resources.iter();
        let names = resources
            .map(|(name, wanted)| (self.names.resource(name.as_str()), Some((name, wanted))))
            .chain([self.names.gateway(), self.names.keeper()].map(|name| (name, None)));
        let looks = names.map(|(name, resource)| async move {
            let seen = self.inspect(&name).await?;
            Ok::<_, TargetError>((name, resource, seen))
        });
        let mut findings = Vec::new();
        for (name, resource, seen) in try_join_all(looks).await? {
            let Some(seen) = seen else {
                continue;
            };
            if !self.is_own(&seen) {
                findings.push(helped(
                    finding(
                        "docker::name-taken",
                        Severity::Error,
                        format!("container `{name}` is there and does not carry our labels"),
                    ),
                    &format!("rename or remove it, `docker container rm {name}`, or give the project another name"),
                ));
            } else if let Some((name, wanted)) = resource {
                let before = crate::site::label(&seen, KEEP).unwrap_or_default();
                let server = Server::of(name.as_str(), &wanted.resource, "");
                findings.extend(server.and_then(|server| other_major(name, before, &server.title)));
            }
        }
        Ok(findings)
    }

    /// How the engine is doing, and whether the registry that images go to can be reached.
    pub(crate) async fn doctor(&self) -> Vec<Finding> {
        let mut findings = Vec::from_iter(self.registry_findings().await);
        match self.engine_seen().await {
            Ok((version, info)) => {
                findings.push(note(&version, &info));
                findings.extend(judge(&version, &info));
                let folder = info.docker_root_dir.unwrap_or_default();
                findings.push(space(&folder, self.space(&folder).await));
                if let Ok(Some(why)) = self.keeper_away().await {
                    findings.push(keeper_away(&self.names.keeper(), &why));
                }
            }
            Err(error) => {
                let source = error.source.to_string();
                let found = finding(error.code, Severity::Error, format!("{error}: {source}"));
                findings.push(Finding {
                    help: error.help,
                    ..found
                });
            }
        }
        findings
    }

    /// Bytes that are free where the engine keeps its data, and those there are in all; `None` where nobody here can tell.
    async fn space(&self, folder: &str) -> Option<(u64, u64)> {
        let is_here = self.engine.place.starts_with("unix://");
        if is_here && let Ok(seen) = crate::inside::space(folder) {
            return Some(seen);
        }
        // Its volumes lie there, too, and the keeper holds some.
        let keeper = self.inspect(&self.names.keeper()).await.ok()??;
        let words = crate::site::label(&keeper, crate::names::KEEP)?;
        let mut words: Vec<String> = serde_json::from_str(words).ok()?;
        words.extend(["inside", "space", crate::inside::STATE].map(str::to_owned));
        let said = self.output(&self.names.keeper(), words).await.ok()?;
        let (free, whole) = said.trim().split_once(' ')?;
        Some((free.parse().ok()?, whole.parse().ok()?))
    }

    /// Whether the registry of the environment answers with what we know of ourselves.
    async fn registry_findings(&self) -> Option<Finding> {
        let registry = self.settings.registry.as_ref()?;
        let repository = format!("{registry}/platform");
        let found = match platform_image::Registry::of(&repository).await {
            Ok(known) => known.answers(&repository).await,
            Err(error) => Err(error),
        };
        let found = match found {
            Ok(()) => finding(
                "docker::registry",
                Severity::Note,
                format!("`{registry}` answers"),
            ),
            Err(error) => helped(
                finding(
                    "docker::no-registry",
                    Severity::Error,
                    format!("registry `{registry}`: {error}"),
                ),
                "log in with `docker login`, and check `registry` of the environment",
            ),
        };
        Some(about(found, "registry"))
    }

    /// What the engine says of itself and its machine.
    async fn engine_seen(&self) -> Result<(SystemVersion, SystemInfo), TargetError> {
        self.engine.answers().await?;
        let action = format!("ask the engine at `{}`", self.engine.place);
        let seen = tokio::try_join!(self.engine.docker.version(), self.engine.docker.info());
        let (version, info) = seen.map_err(|error| fault(action, error))?;
        // Asking takes the engine a while, and whoever deploys is about to ask what of this stays the same.
        let _ = self.info.set(info.clone());
        Ok((version, info))
    }
}

/// What an engine is, in a line.
fn note(version: &SystemVersion, info: &SystemInfo) -> Finding {
    let known = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    let told = format!(
        "Docker {} (API {}), cgroups v{} by {}, {} in {}",
        known(version.version.clone()),
        known(version.api_version.clone()),
        known(info.cgroup_version.map(|it| it.to_string())),
        known(info.cgroup_driver.map(|it| it.to_string())),
        known(info.driver.clone()),
        known(info.docker_root_dir.clone()),
    );
    about(finding("docker::engine", Severity::Note, told), "engine")
}

fn is_older(protocol: &str) -> bool {
    let (major, minor) = protocol.split_once('.').unwrap_or((protocol, "0"));
    let known: (usize, usize) = (major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
    known < (OLDEST.major_version, OLDEST.minor_version)
}

/// An engine whose machine cannot run our own program, as it is of another kind.
pub(crate) fn foreign_machine(info: &SystemInfo) -> Option<Finding> {
    let usual = |name: &str| match name {
        "amd64" => "x86_64".to_owned(),
        "arm64" => "aarch64".to_owned(),
        other => other.to_owned(),
    };
    let there = usual(info.architecture.as_deref()?);
    let here = std::env::consts::ARCH;
    if there == here || there.is_empty() {
        return None;
    }
    let told = format!(
        "the engine's machine is {there}, and this `platform`, which runs there as the gateway, is built for {here}"
    );
    let help =
        format!("run a `platform` that is built for {there}, as on the engine's own machine");
    let found = finding("docker::other-architecture", Severity::Error, told);
    Some(helped(about(found, "engine"), &help))
}

/// How much space an engine has left.
fn space(folder: &str, seen: Option<(u64, u64)>) -> Finding {
    let found = |severity, told| about(finding("docker::disk", severity, told), "engine's disk");
    let Some((free, whole)) = seen else {
        let told = format!(
            "how much is free at {folder} of the engine's machine is not known here: the engine is elsewhere, and nothing of this environment runs there"
        );
        let help = "`docker system df` tells what images, containers and volumes take";
        return helped(found(Severity::Note, told), help);
    };
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let shown = |bytes: u64| format!("{:.1} GiB", bytes as f64 / GIB as f64);
    let told = format!("{} of {} are free at {folder}", shown(free), shown(whole));
    if free < ENOUGH {
        let help = "`docker system df` tells what takes the space, `docker system prune` removes what nothing uses";
        return helped(found(Severity::Warning, told), help);
    }
    found(Severity::Note, told)
}

/// The keeper is not there to answer.
fn keeper_away(container: &str, why: &str) -> Finding {
    let told = format!("the environment's keeper, container `{container}`, was away: {why}");
    let help = "whatever needs it brings it back, as `platform status` or a deploy; meanwhile services that speak mtls got no new certificates";
    let found = finding("docker::keeper-away", Severity::Warning, told);
    helped(about(found, "keeper"), help)
}

/// What is wrong with an engine and its machine.
fn judge(version: &SystemVersion, info: &SystemInfo) -> Vec<Finding> {
    let mut findings = Vec::new();
    let protocol = version.api_version.as_deref().unwrap_or_default();
    if is_older(protocol) {
        let own = version.version.as_deref().unwrap_or_default();
        findings.push(helped(
            finding(
                "docker::too-old",
                Severity::Error,
                format!(
                    "the engine is {own} and speaks {protocol}; {}.{} is needed",
                    OLDEST.major_version, OLDEST.minor_version
                ),
            ),
            "Docker 20.10 or newer has it",
        ));
    }
    if info.os_type.as_deref().is_some_and(|kind| kind != "linux") {
        findings.push(finding(
            "docker::not-linux",
            Severity::Error,
            "the engine does not run Linux containers",
        ));
    }
    findings.extend(foreign_machine(info));
    for (has, what) in [
        (info.memory_limit, "memory"),
        (info.cpu_cfs_quota, "processors"),
        (info.pids_limit, "processes"),
    ] {
        if has == Some(false) {
            findings.push(finding(
                "docker::no-limits",
                Severity::Warning,
                format!("the engine's machine cannot limit {what}; such limits are not kept"),
            ));
        }
    }
    let there = info
        .system_time
        .as_deref()
        .and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    if let Some(there) = there {
        let apart = (chrono::Utc::now().timestamp_millis() - there.timestamp_millis()).abs();
        if apart > CLOCK_MILLIS {
            findings.push(finding(
                "docker::clock-apart",
                Severity::Warning,
                format!("the engine's clock is {} s apart from this machine's; times in logs will be so too", apart / 1000),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_major_version_of_postgresql_is_in_the_way() {
        let check = |before: &str, wanted: &str, expected: bool| {
            let found = other_major(&"orders-db".parse().unwrap(), before, wanted);
            assert_eq!(found.is_some(), expected, "{before} to {wanted}");
        };
        check("PostgreSQL 15", "PostgreSQL 16", true);
        check("PostgreSQL 16.2", "PostgreSQL 15", true);
        check("PostgreSQL 16.2", "PostgreSQL 16.4", false);
        check("PostgreSQL", "PostgreSQL 16", false);
        check("", "PostgreSQL 16", false);
        check("Redis 7", "Redis 8", false);
    }

    #[test]
    fn a_service_that_speaks_mtls_is_not_exported() {
        let check = |protocol: &str, expected: &[(&str, Severity, Option<&str>)]| {
            let text = format!(
                "[project]\nname = 'shop'\n[services.web]\ncommand = ['web']\nport = 8080\nprotocol = '{protocol}'\n"
            );
            let read = platform_blueprint::Blueprint::parse(&text, "platform.toml");
            let resolved = read.unwrap().blueprint.resolve(None).unwrap();
            let artifact = platform_decide::group::Artifact {
                key: platform_decide::digest::Digest::of(b"web"),
                place: Place::Installed,
            };
            let artifacts = [("web".parse().unwrap(), artifact)].into();
            let desired = Desired::new(&resolved, &artifacts, &[].into()).unwrap();
            let found = refused(&desired);
            let found: Vec<_> = found
                .iter()
                .map(|one| (one.code.as_str(), one.severity, one.subject.as_deref()))
                .collect();
            assert_eq!(found, expected);
        };
        check("http", &[]);
        check("mtls", &[("export::mtls", Severity::Error, Some("web"))]);
    }

    #[test]
    fn an_engine_that_is_too_old_is_told() {
        for (protocol, old) in [
            ("1.40", true),
            ("1.41", false),
            ("1.50", false),
            ("2.0", false),
            ("", true),
        ] {
            assert_eq!(is_older(protocol), old, "{protocol}");
        }
        let info = SystemInfo {
            memory_limit: Some(false),
            system_time: Some("2001-01-01T00:00:00Z".to_owned()),
            ..SystemInfo::default()
        };
        let version = SystemVersion {
            api_version: Some("1.40".to_owned()),
            ..SystemVersion::default()
        };
        let mut elsewhere = info.clone();
        elsewhere.architecture = Some("s390x".to_owned());
        let found = judge(&version, &elsewhere);
        assert!(
            found
                .iter()
                .any(|found| found.code == "docker::other-architecture")
        );
        for same in ["amd64", "x86_64", "arm64", "aarch64"] {
            let here =
                (std::env::consts::ARCH == "x86_64") == (same == "amd64" || same == "x86_64");
            elsewhere.architecture = Some(same.to_owned());
            assert_eq!(foreign_machine(&elsewhere).is_none(), here, "{same}");
        }
        let little = space("/data", Some((GIB, 100 * GIB)));
        assert_eq!(little.severity, Severity::Warning);
        assert_eq!(little.message, "1.0 GiB of 100.0 GiB are free at /data");
        assert!(space("/data", None).message.contains("is not known here"));
        let found = judge(&version, &info);
        let codes: Vec<&str> = found.iter().map(|found| found.code.as_str()).collect();
        assert_eq!(
            codes,
            [
                "docker::too-old",
                "docker::no-limits",
                "docker::clock-apart"
            ]
        );
    }
}
