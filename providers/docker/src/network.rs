//! The environment's network and the addresses on it.
//!
//! Every instance has an address of its own for as long as its container lives, also over restarts: the gateway's list of
//! instances then stays right while nobody of ours runs, and no instance ever answers at another's address.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::InspectNetworkOptions;
use platform_decide::digest::Digest;
use platform_port::TargetError;

use crate::PROVIDER;
use crate::engine::{fault, is_missing, unless};
use crate::names::Role;
use crate::site::{Site, taken};

/// A block of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet {
    first: u32,
    /// How many addresses there are.
    size: u32,
    length: u8,
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let length: u8 = length
            .parse()
            .ok()
            .filter(|length| (8..=28).contains(length))?;
        let size = 1_u32 << (32 - u32::from(length));
        let first = u32::from(address.parse::<Ipv4Addr>().ok()?) & !(size - 1);
        Some(Self {
            first,
            size,
            length,
        })
    }

    /// The half from which the engine gives out addresses by itself.
    fn lower(self) -> String {
        format!("{}/{}", Ipv4Addr::from(self.first), self.length + 1)
    }

    /// The whole.
    pub(crate) fn text(self) -> String {
        format!("{}/{}", Ipv4Addr::from(self.first), self.length)
    }

    /// An address of the upper half for a name: the same as ever where that is free.
    pub(crate) fn address(self, name: &str, used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        // Neither the first of the half nor the broadcast address at the end.
        let count = self.size / 2 - 2;
        let digest = Digest::of(name.as_bytes());
        let start = u32::from_str_radix(digest.short().get(..8)?, 16).ok()? % count;
        (0..count)
            .map(|step| (start + step) % count)
            .map(|offset| Ipv4Addr::from(self.first + self.size / 2 + 1 + offset))
            .find(|address| !used.contains(address))
    }
}

/// The network as it is.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) name: String,
    /// Its block; `None` where addresses cannot be chosen on it.
    pub(crate) subnet: Option<Subnet>,
}

fn subnet_of(seen: &NetworkInspect) -> Option<Subnet> {
    let blocks = seen.ipam.as_ref()?.config.as_ref()?;
    blocks
        .iter()
        .find_map(|block| Subnet::parse(block.subnet.as_deref()?))
}

impl Site {
    /// The network, if it is there.
    pub(crate) async fn network(&self) -> Result<Option<Network>, TargetError> {
        let given = self.settings.network.clone();
        let is_given = given.is_some();
        let name = given.unwrap_or_else(|| self.names.network());
        match self.look_at_network(&name).await? {
            None => Ok(None),
            Some(_) if is_given => Ok(Some(Network { name, subnet: None })),
            Some(seen) => {
                if !seen.labels.as_ref().is_some_and(|own| self.names.own(own)) {
                    return Err(taken("network", &name));
                }
                // Addresses can be chosen only where a range was asked for; who made another may
                // have been killed half-way.
                let blocks = seen.ipam.as_ref().and_then(|ipam| ipam.config.as_ref());
                let mut ranges = blocks
                    .into_iter()
                    .flatten()
                    .filter_map(|block| block.ip_range.as_ref());
                let asked = ranges.any(|range| !range.is_empty());
                let subnet = subnet_of(&seen).filter(|_| asked);
                Ok(Some(Network { name, subnet }))
            }
        }
    }

    async fn look_at_network(&self, name: &str) -> Result<Option<NetworkInspect>, TargetError> {
        let options = None::<InspectNetworkOptions>;
        match self.engine.docker.inspect_network(name, options).await {
            // A prefix of an id would be found too.
            Ok(seen) if seen.name.as_deref() == Some(name) => Ok(Some(seen)),
            Ok(_) => Ok(None),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(fault(format!("look at network `{name}`"), error)),
        }
    }

    /// Makes sure that there is a network.
    pub(crate) async fn ensure_network(&self) -> Result<Network, TargetError> {
        let _one_at_a_time = self.laying.lock().await;
        if let Some(found) = self.network().await? {
            if found.subnet.is_some() || self.settings.network.is_some() {
                return Ok(found);
            }
            if !self.is_half_made(&found.name).await? {
                return Ok(found);
            }
            self.remove_network(&found.name).await?;
        }
        if let Some(given) = &self.settings.network {
            let missing = format!("the engine has no network `{given}`");
            return Err(
                TargetError::refused(PROVIDER, "use a given network", missing)
                    .with_code("docker::no-network")
                    .with_help(format!("`docker network create {given}` makes one")),
            );
        }
        let name = self.names.network();
        // The engine knows which block is free on its machine, but lets addresses be chosen only in one that was asked for.
        self.create_network(&name, None).await?;
        let found = self.look_at_network(&name).await?;
        let subnet = found.as_ref().and_then(subnet_of);
        if let Some(subnet) = subnet {
            self.remove_network(&name).await?;
            self.create_network(&name, Some(subnet)).await?;
        }
        Ok(Network { name, subnet })
    }

    /// Whether a network of ours without a range is on its way to get one: nobody is on it, and its block has room.
    async fn is_half_made(&self, name: &str) -> Result<bool, TargetError> {
        let seen = self.look_at_network(name).await?;
        if seen.as_ref().and_then(subnet_of).is_none() {
            return Ok(false);
        }
        let containers = self.containers().await?;
        Ok(!containers.into_iter().any(|one| {
            let networks = one.network_settings.and_then(|own| own.networks);
            networks.is_some_and(|all| all.contains_key(name))
        }))
    }

    async fn remove_network(&self, name: &str) -> Result<(), TargetError> {
        let removed = self.engine.docker.remove_network(name).await;
        unless(is_missing, removed)
            .map_err(|error| fault(format!("create network `{name}`"), error))
    }

    async fn create_network(&self, name: &str, subnet: Option<Subnet>) -> Result<(), TargetError> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            labels: Some(self.names.labels(Role::Plumbing)),
            ipam: subnet.map(|subnet| Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(subnet.text()),
                    ip_range: Some(subnet.lower()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            ..NetworkCreateRequest::default()
        };
        let made = self.engine.docker.create_network(request).await;
        made.map(drop)
            .map_err(|error| fault(format!("create network `{name}`"), error))
    }

    /// Addresses that containers of ours have, whether they run or not.
    pub(crate) async fn used_addresses(
        &self,
        network: &str,
    ) -> Result<BTreeSet<Ipv4Addr>, TargetError> {
        let mut used = BTreeSet::new();
        for one in self.containers().await? {
            let networks = one.network_settings.and_then(|settings| settings.networks);
            let Some(endpoint) = networks.and_then(|mut all| all.remove(network)) else {
                continue;
            };
            let chosen = endpoint.ipam_config.and_then(|config| config.ipv4_address);
            for text in [chosen, endpoint.ip_address].into_iter().flatten() {
                used.extend(text.parse::<Ipv4Addr>());
            }
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_the_upper_half_and_stay() {
        let subnet = Subnet::parse("172.18.0.0/16").unwrap();
        assert_eq!(subnet.lower(), "172.18.0.0/17");
        let first = subnet.address("orders-r1-1", &BTreeSet::new()).unwrap();
        assert_eq!(subnet.address("orders-r1-1", &BTreeSet::new()), Some(first));
        assert!(first.octets()[2] >= 128, "{first}");
        let second = subnet
            .address("orders-r1-1", &BTreeSet::from([first]))
            .unwrap();
        assert_ne!(first, second);
        let small = Subnet::parse("10.1.2.77/28").unwrap();
        assert_eq!(small.text(), "10.1.2.64/28");
        let mut used = BTreeSet::new();
        while let Some(address) = small.address("x", &used) {
            used.insert(address);
        }
        assert_eq!(used.len(), 6);
        assert!(Subnet::parse("fd00::/64").is_none());
        assert!(Subnet::parse("10.0.0.0/31").is_none());
    }
}
