//! What of a container somebody can change by hand while it exists: its limits, its restart policy, its network.

use bollard::models::{ContainerCreateBody, ContainerInspectResponse, HostConfig};
use serde::{Deserialize, Serialize};

/// The changeable side of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facets {
    memory: i64,
    cpus: i64,
    processes: i64,
    restart: String,
    network: String,
}

impl Facets {
    fn of(host: Option<&HostConfig>, network: String) -> Self {
        let number = |pick: fn(&HostConfig) -> Option<i64>| host.and_then(pick).unwrap_or(0);
        let restart = host
            .and_then(|host| host.restart_policy.as_ref()?.name)
            .map(|name| name.to_string())
            .unwrap_or_default();
        Self {
            memory: number(|host| host.memory),
            cpus: number(|host| host.nano_cpus),
            processes: number(|host| host.pids_limit),
            restart: if restart.is_empty() {
                "no".to_owned()
            } else {
                restart
            },
            network,
        }
    }

    /// As a container is asked for.
    pub(crate) fn asked(body: &ContainerCreateBody) -> Self {
        let host = body.host_config.as_ref();
        let network = host.and_then(|host| host.network_mode.clone());
        Self::of(host, network.unwrap_or_default())
    }

    /// As it is. A container that was taken off its network has none.
    pub(crate) fn seen(seen: &ContainerInspectResponse) -> Self {
        let host = seen.host_config.as_ref();
        let asked = host.and_then(|host| host.network_mode.clone());
        let networks = seen
            .network_settings
            .as_ref()
            .and_then(|settings| settings.networks.as_ref());
        let network = asked
            .filter(|asked| networks.is_some_and(|networks| networks.contains_key(asked)))
            .unwrap_or_default();
        Self::of(host, network)
    }

    /// As a label, to be read back by [`Facets::noted`].
    pub(crate) fn note(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a label back.
    pub(crate) fn noted(label: &str) -> Option<Self> {
        serde_json::from_str(label).ok()
    }

    /// Whether nothing but the restart policy differs.
    pub(crate) fn is_policy_alone(&self, other: &Self) -> bool {
        let restart = other.restart.clone();
        self != other
            && *other
                == Self {
                    restart,
                    ..self.clone()
                }
    }

    /// What differs, in words.
    pub(crate) fn differing(&self, other: &Self) -> Option<String> {
        let differs = [
            ("its memory limit", self.memory != other.memory),
            ("its share of processors", self.cpus != other.cpus),
            ("its limit of processes", self.processes != other.processes),
            ("its restart policy", self.restart != other.restart),
            ("its network", self.network != other.network),
        ];
        let words: Vec<&str> = differs
            .iter()
            .filter(|(_, differs)| *differs)
            .map(|(what, _)| *what)
            .collect();
        (!words.is_empty()).then(|| format!("changed by hand: {}", words.join(", ")))
    }
}
