//! What of a spec a container is labelled with, so that whoever looks after it knows how.

use std::path::Path;

use platform_blueprint::{Check, Protocol, RestartOn, ServiceKind};
use platform_decide::group::GroupSpec;
use platform_gateway_api::{HealthCheck, UpstreamTls};
use platform_traffic::certificates::one_sided;
use serde::{Deserialize, Serialize};

use crate::container::whole_seconds;
use crate::gateway::CERTIFICATES;

/// What has to be known of a spec to look after its instances. A label of each of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keep {
    /// The port it listens on.
    pub(crate) port: Option<u16>,
    /// It runs to its end.
    pub(crate) is_job: bool,
    /// The path that is asked; empty for a connection alone; none where the engine checks by a command.
    pub(crate) path: Option<String>,
    /// How it is spoken to.
    #[serde(default)]
    pub(crate) protocol: Protocol,
    /// How the gateway asks it over TLS, where it shows a certificate of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<UpstreamTls>,
    /// The engine checks by a command.
    pub(crate) by_command: bool,
    pub(crate) every_ms: u64,
    pub(crate) timeout_ms: u64,
    pub(crate) failures: u32,
    pub(crate) start_within_ms: u64,
    pub(crate) crash_loop: u32,
    pub(crate) stays_ended: bool,
    pub(crate) grace_seconds: u64,
}

impl Keep {
    pub(crate) fn of(group: &GroupSpec) -> Self {
        let service = &group.spec.service;
        let health = &service.health;
        let millis = |period: platform_blueprint::Period| {
            u64::try_from(period.duration().as_millis()).unwrap_or(u64::MAX)
        };
        let path = match (&health.ready, service.protocol) {
            (Some(Check::Http(path)), _) => path.clone(),
            // Of others the gateway wants a connection.
            _ => String::new(),
        };
        Self {
            port: service.port.map(platform_blueprint::Port::get),
            is_job: service.kind == ServiceKind::Job,
            path: service.port.map(|_| path),
            protocol: service.protocol,
            tls: one_sided(Path::new(CERTIFICATES), &group.id.service, &group.spec),
            by_command: matches!(health.ready, Some(Check::Command { .. })),
            every_ms: millis(health.interval).max(1),
            timeout_ms: millis(health.timeout).max(1),
            failures: health.failures.max(1),
            start_within_ms: millis(health.start_within),
            crash_loop: service.restart.crash_loop.max(1),
            stays_ended: service.kind == ServiceKind::Job || service.restart.on == RestartOn::Never,
            grace_seconds: whole_seconds(service.stop.grace),
        }
    }

    /// How the gateway asks instances of this spec.
    pub(crate) fn check(&self) -> HealthCheck {
        HealthCheck {
            every_ms: self.every_ms,
            timeout_ms: self.timeout_ms,
            healthy_after: 1,
            unhealthy_after: self.failures,
            prove: true,
            ..HealthCheck::default()
        }
    }
}
