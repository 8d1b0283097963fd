//! Instances as a list of containers has them.

use bollard::models::{
    ContainerConfig, ContainerInspectResponse, ContainerState, ContainerSummary, Health,
    HealthStatusEnum, NetworkSettings,
};

use crate::names::{MADE, Names};
use crate::observe::Found;

impl Found {
    /// Reads one as a list has it: who takes requests, and where, but nothing of its past nor of what was changed by hand.
    ///
    /// To look at a container itself is to wait while the engine starts or stops it.
    pub(crate) fn listed(one: &ContainerSummary, network: &str, names: &Names) -> Option<Self> {
        let mut labels = one.labels.clone()?;
        labels.remove(MADE);
        let status = one.state.map(|state| state.to_string());
        let status = status.and_then(|status| status.parse().ok());
        let healthy = one.status.as_deref().is_some_and(is_healthy);
        let networks = one.network_settings.clone();
        let container = ContainerInspectResponse {
            id: one.id.clone(),
            config: Some(ContainerConfig {
                labels: Some(labels),
                ..ContainerConfig::default()
            }),
            state: Some(ContainerState {
                status,
                health: healthy.then(|| Health {
                    status: Some(HealthStatusEnum::HEALTHY),
                    ..Health::default()
                }),
                ..ContainerState::default()
            }),
            network_settings: Some(NetworkSettings {
                networks: networks.and_then(|settings| settings.networks),
                ..NetworkSettings::default()
            }),
            ..ContainerInspectResponse::default()
        };
        Self::read(container, network, names)
    }
}

/// Whether a list says of a container that its check passes: `Up 2 minutes (healthy)`.
fn is_healthy(status: &str) -> bool {
    status.ends_with("(healthy)")
}

#[cfg(test)]
mod tests {
    use platform_decide::digest::Digest;

    use super::*;
    use crate::names::{GROUP, KEEP, NUMBER, ROLE, SPEC};

    #[test]
    fn a_list_says_who_takes_requests_and_where() {
        let check = |by_command: bool, state: &str, status: &str, address: Option<&str>| {
            let keep = serde_json::json!({
                "port": 8080, "is_job": false, "path": "/", "by_command": by_command, "every_ms": 1, "timeout_ms": 1,
                "failures": 1, "start_within_ms": 1, "crash_loop": 1, "stays_ended": false, "grace_seconds": 1,
            });
            let one: ContainerSummary = serde_json::from_value(serde_json::json!({
                "Id": "id",
                "State": state,
                "Status": status,
                "Labels": {
                    (ROLE): "service", (GROUP): "orders@r1", (NUMBER): "2", (SPEC): Digest::of(b"spec").to_string(),
                    (KEEP): keep.to_string(), (MADE): "of a body that a list does not tell",
                },
                "NetworkSettings": { "Networks": { "net": { "IPAMConfig": { "IPv4Address": "10.0.0.9" } } } },
            }))
            .unwrap();
            let found = Found::listed(&one, "net", &Names::of_shop()).unwrap();
            assert_eq!(found.name(), "orders@r1.2");
            assert_eq!(found.changed, None);
            assert_eq!(found.was_started(), state != "created");
            let taken = found.takes_requests().then_some(found.address).flatten();
            assert_eq!(taken.as_deref(), address, "{state}: {status}");
        };
        let here = Some("10.0.0.9:8080");
        check(false, "running", "Up 2 seconds", here);
        check(false, "restarting", "Restarting (1) 2 seconds ago", here);
        check(false, "created", "Created", None);
        check(false, "exited", "Exited (0) 2 seconds ago", None);
        check(true, "running", "Up 2 seconds (healthy)", here);
        check(true, "running", "Up 2 seconds (unhealthy)", None);
        check(true, "running", "Up 2 seconds (health: starting)", None);
    }
}
