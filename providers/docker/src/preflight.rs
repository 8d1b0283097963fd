//! What would make a deploy fail, looked for ahead; and how the engine itself is doing.

use bollard::models::{SystemInfo, SystemVersion};
use platform_blueprint::Protocol;
use platform_decide::desired::Desired;
use platform_decide::group::Place;
use platform_port::{Finding, Severity, TargetError};

use crate::engine::{OLDEST, fault};
use crate::server::Server;
use crate::site::Site;

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

/// What containers cannot do, wherever the engine is.
pub fn refused(desired: &Desired) -> Vec<Finding> {
    let services = desired.services.iter();
    let secured = services.filter(|(_, one)| one.spec.service.protocol == Protocol::Mtls);
    secured
        .map(|(name, _)| {
            let told = format!(
                "`{name}` speaks mtls, and nobody issues and replaces certificates for containers"
            );
            helped(
                about(
                    finding("preflight::mtls", Severity::Error, told),
                    name.as_str(),
                ),
                "write `protocol = \"http\"` for this environment: the environment's own network is all that reaches the service",
            )
        })
        .collect()
}

impl Site {
    /// Looks for what would make a deploy of `desired` fail.
    pub(crate) async fn preflight(&self, desired: &Desired) -> Result<Vec<Finding>, TargetError> {
        let (version, info) = self.engine_seen().await?;
        let mut findings = judge(&version, &info);
        findings.extend(refused(desired));
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
        findings.extend(self.foreign(desired).await?);
        Ok(findings)
    }

    /// Names that we need and somebody else's containers have.
    async fn foreign(&self, desired: &Desired) -> Result<Vec<Finding>, TargetError> {
        let resources = desired.resources.keys();
        let names = resources
            .map(|name| self.names.resource(name.as_str()))
            .chain([self.names.gateway(), self.names.keeper()]);
        let mut findings = Vec::new();
        for name in names {
            if let Some(seen) = self.inspect(&name).await?
                && !self.is_own(&seen)
            {
                findings.push(helped(
                    finding(
                        "docker::name-taken",
                        Severity::Error,
                        format!("container `{name}` is there and does not carry our labels"),
                    ),
                    &format!("rename or remove it, `docker container rm {name}`, or give the project another name"),
                ));
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
        let action = format!("ask the engine at `{}`", self.engine.place);
        tokio::try_join!(self.engine.docker.version(), self.engine.docker.info())
            .map_err(|error| fault(action, error))
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
    fn a_service_that_speaks_mtls_is_refused_before_anything_is_touched() {
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
        check("mtls", &[("preflight::mtls", Severity::Error, Some("web"))]);
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
