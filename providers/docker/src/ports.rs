//! Whether the gateway can listen where it is to be published, on the engine's machine.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use bollard::models::{ContainerSummary, SystemInfo};
use bollard::query_parameters::ListContainersOptions;
use platform_blueprint::Gateway;
use platform_port::{Finding, Severity, TargetError};

use crate::engine::fault;
use crate::gateway::Published;
use crate::site::Site;

/// Whoever publishes a port.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// A container of the environment, which gives it up in time.
    Us,
    /// Somebody else's container.
    Container(String),
    /// Nobody that the engine knows.
    Nobody,
}

/// Who publishes a port of an address, among the containers that run.
///
/// - `is_own`: whether a container is one of the environment
fn holder(
    containers: &[ContainerSummary],
    is_own: impl Fn(&ContainerSummary) -> bool,
    address: SocketAddr,
) -> Holder {
    let meets = |other: Option<&str>| {
        let other: Option<IpAddr> = other.and_then(|other| other.parse().ok());
        // An engine that names none means all.
        other.is_none_or(|other| {
            other == address.ip() || other.is_unspecified() || address.ip().is_unspecified()
        })
    };
    let publishes = |one: &&ContainerSummary| {
        let mut ports = one.ports.iter().flatten();
        ports.any(|port| port.public_port == Some(address.port()) && meets(port.ip.as_deref()))
    };
    let mut holders = containers.iter().filter(publishes);
    match holders.next() {
        None => Holder::Nobody,
        Some(one) if is_own(one) => Holder::Us,
        Some(one) => {
            let name = one.names.iter().flatten().next().map(String::as_str);
            Holder::Container(name.unwrap_or("?").trim_start_matches('/').to_owned())
        }
    }
}

fn finding(code: &str, message: String, help: &str) -> Finding {
    Finding {
        code: format!("preflight::{code}"),
        severity: Severity::Error,
        subject: Some("gateway".to_owned()),
        message,
        help: Some(help.to_owned()),
    }
}

/// What is wrong with a port that no container holds, tried where the engine's machine is this one.
fn tried(address: SocketAddr) -> Option<Finding> {
    // Whatever else keeps us from listening need not keep the engine from it.
    match TcpListener::bind(address).err()?.kind() {
        io::ErrorKind::AddrInUse => Some(finding(
            "port-taken",
            format!(
                "port {} is taken by another program on the engine's machine",
                address.port()
            ),
            "stop it, or choose another port with `gateway.port`",
        )),
        io::ErrorKind::AddrNotAvailable => Some(finding(
            "address-unknown",
            format!(
                "the engine's machine does not have the address {}",
                address.ip()
            ),
            "name one that it has with `gateway.address`",
        )),
        _ => None,
    }
}

impl Site {
    /// Ports of the gateway that somebody else has.
    pub(crate) async fn ports_taken(
        &self,
        gateway: &Gateway,
        info: &SystemInfo,
    ) -> Result<Vec<Finding>, TargetError> {
        let options = None::<ListContainersOptions>;
        let running = self.engine.docker.list_containers(options).await;
        let running = running.map_err(|error| fault("look at the containers", error))?;
        let is_own = |one: &ContainerSummary| {
            let labels = one.labels.as_ref();
            labels.is_some_and(|labels| self.names.own(labels))
        };
        let is_here = self.is_this_machine(info);
        let published = Published::of(gateway);
        let judged = published.places().filter_map(|address| {
            let port = address.port();
            match holder(&running, is_own, address) {
                Holder::Us => None,
                Holder::Container(name) => Some(finding(
                    "port-taken",
                    format!("port {port} is published by the container `{name}`"),
                    "stop it, or choose another port with `gateway.port`",
                )),
                Holder::Nobody => is_here.then(|| tried(address)).flatten(),
            }
        });
        Ok(judged.collect())
    }

    /// Whether the engine's machine is the one that we run on, outside of any container: then ports are the same.
    fn is_this_machine(&self, info: &SystemInfo) -> bool {
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname");
        let own = own.ok().map(|own| own.trim().to_owned());
        self.engine.place.starts_with("unix://") && own.is_some() && own == info.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_held_by_whoever_publishes_it_at_an_address_that_meets_ours() {
        let one = |name: &str, ip: &str, port: u16| -> ContainerSummary {
            serde_json::from_value(serde_json::json!({
                "Names": [format!("/{name}")],
                "Ports": [{ "IP": ip, "PrivatePort": 80, "PublicPort": port, "Type": "tcp" }, { "PrivatePort": 9, "Type": "tcp" }],
            }))
            .unwrap()
        };
        let all = [
            one("everywhere", "0.0.0.0", 8080),
            one("here", "127.0.0.1", 8081),
            one("ours", "127.0.0.1", 8082),
        ];
        let is_own = |one: &ContainerSummary| one.names.as_ref().unwrap()[0] == "/ours";
        let check = |address: &str, expected: Holder| {
            assert_eq!(
                holder(&all, is_own, address.parse().unwrap()),
                expected,
                "{address}"
            );
        };
        let by = |name: &str| Holder::Container(name.to_owned());
        check("127.0.0.1:8080", by("everywhere"));
        check("127.0.0.1:8081", by("here"));
        check("0.0.0.0:8081", by("here"));
        check("10.0.0.1:8081", Holder::Nobody);
        check("127.0.0.1:8082", Holder::Us);
        check("127.0.0.1:9", Holder::Nobody);
    }

    #[test]
    fn what_this_machine_cannot_listen_at_is_found() {
        let check = |address: SocketAddr, expected: Option<&str>| {
            let found = tried(address).map(|finding| finding.code);
            assert_eq!(found.as_deref(), expected, "{address}");
        };
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        check(other.local_addr().unwrap(), Some("preflight::port-taken"));
        // Of the addresses that are for documentation alone.
        check(
            "203.0.113.7:8080".parse().unwrap(),
            Some("preflight::address-unknown"),
        );
        check("127.0.0.1:0".parse().unwrap(), None);
    }
}
