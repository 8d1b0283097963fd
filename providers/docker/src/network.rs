//! The environment's network and the addresses on it.
//!
//! Every instance has an address of its own for as long as its container lives, also over restarts: the gateway's list of
//! instances then stays right while nobody of ours runs, and no instance ever answers at another's address.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use bollard::errors::Error;
use bollard::models::{BollardDate, Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions};
use futures::future::try_join_all;
use platform_decide::digest::Digest;
use platform_port::TargetError;

use crate::PROVIDER;
use crate::engine::{fault, is_missing, unless, words};
use crate::names::Role;
use crate::site::{Site, taken};

/// How often the network is looked at again while other runs make it, too.
const TRIES: u32 = 8;

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

/// One of the networks that have the environment's name: an engine permits several.
#[derive(Debug, Clone)]
struct Named {
    id: String,
    made: Option<BollardDate>,
    subnet: Option<Subnet>,
    /// Addresses can be chosen on it, as a range was asked for.
    ranged: bool,
    /// Containers of the environment are on it.
    used: bool,
}

impl Named {
    fn read(seen: bollard::models::Network) -> Self {
        let blocks = seen.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let range = |block: &IpamConfig| {
            let range = block.ip_range.as_ref();
            range.is_some_and(|range| !range.is_empty())
        };
        Self {
            used: false,
            made: seen.created,
            ranged: blocks.iter().any(range),
            subnet: blocks
                .iter()
                .find_map(|block| Subnet::parse(block.subnet.as_deref()?)),
            id: seen.id.unwrap_or_default(),
        }
    }

    /// The network as instances are put on it.
    fn network(&self, name: String) -> Network {
        Network {
            name,
            subnet: self.subnet.filter(|_| self.ranged),
        }
    }
}

/// Takes the one that stays out of several: that which is in use, or is whole, or was made first. Every run takes the same one.
fn staying(all: &mut Vec<Named>) -> Option<Named> {
    all.sort_by(|one, other| {
        let of = |named: &Named| (!named.used, !named.ranged);
        let first = of(one).cmp(&of(other));
        first.then_with(|| (one.made, &one.id).cmp(&(other.made, &other.id)))
    });
    (!all.is_empty()).then(|| all.remove(0))
}

/// What is said where containers that are not ours are on the environment's network; `None` where nobody is known to be.
fn in_use(action: String, network: &str, names: &BTreeSet<String>) -> Option<TargetError> {
    let first = names.first()?;
    let all: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let told = format!("{} is on it, and none of ours", all.join(", "));
    let help = format!(
        "the rest is gone; `docker network disconnect {network} {first}`, then the same command again"
    );
    let error = TargetError::refused(PROVIDER, action, told);
    Some(error.with_code("docker::network-in-use").with_help(help))
}

impl Site {
    /// The network, if it is there.
    pub(crate) async fn network(&self) -> Result<Option<Network>, TargetError> {
        if let Some(given) = &self.settings.network {
            let is_there = self.has_network(given).await?;
            return Ok(is_there.then(|| Network {
                name: given.clone(),
                subnet: None,
            }));
        }
        let mut all = self.networks().await?;
        Ok(staying(&mut all).map(|found| found.network(self.names.network())))
    }

    async fn has_network(&self, name: &str) -> Result<bool, TargetError> {
        let options = None::<InspectNetworkOptions>;
        match self.engine.docker.inspect_network(name, options).await {
            // A prefix of an id would be found too.
            Ok(seen) => Ok(seen.name.as_deref() == Some(name)),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(fault(format!("look at network `{name}`"), error)),
        }
    }

    /// Every network of the environment's name; several for a moment, where several runs made it at once.
    async fn networks(&self) -> Result<Vec<Named>, TargetError> {
        let name = self.names.network();
        let options = ListNetworksOptions {
            filters: Some(HashMap::from([("name".to_owned(), vec![name.clone()])])),
        };
        let listed = self.engine.docker.list_networks(Some(options)).await;
        let mut listed =
            listed.map_err(|error| fault(format!("look at network `{name}`"), error))?;
        // The filter takes parts of names, too.
        listed.retain(|one| one.name.as_deref() == Some(&name));
        let own = |one: &bollard::models::Network| {
            let labels = one.labels.as_ref();
            labels.is_some_and(|labels| self.names.own(labels))
        };
        if !listed.iter().all(own) {
            return Err(taken("network", &name));
        }
        let mut all: Vec<Named> = listed.into_iter().map(Named::read).collect();
        // One that is whole stays, whoever is on it.
        if !matches!(&all[..], [] | [Named { ranged: true, .. }]) {
            for one in self.containers().await? {
                let networks = one.network_settings.and_then(|settings| settings.networks);
                let endpoint = networks.and_then(|mut all| all.remove(&name));
                let id = endpoint.and_then(|endpoint| endpoint.network_id);
                for own in &mut all {
                    own.used |= id.as_ref() == Some(&own.id);
                }
            }
        }
        Ok(all)
    }

    /// Makes sure that there is a network, and one alone, however many runs do so at once.
    pub(crate) async fn ensure_network(&self) -> Result<Network, TargetError> {
        let _one_at_a_time = self.laying.lock().await;
        if let Some(given) = &self.settings.network {
            if let Some(found) = self.network().await? {
                return Ok(found);
            }
            let missing = format!("the engine has no network `{given}`");
            return Err(
                TargetError::refused(PROVIDER, "use a given network", missing)
                    .with_code("docker::no-network")
                    .with_help(format!("`docker network create {given}` makes one")),
            );
        }
        let mut tries = 0;
        loop {
            let mut others = self.networks().await?;
            // Looked at anew after each change: another run may have changed something, too.
            let changed = match staying(&mut others) {
                None => self.create_network(None).await,
                Some(_) if !others.is_empty() => {
                    let removed = others.iter().map(|other| self.remove_network(&other.id));
                    try_join_all(removed).await.map(drop)
                }
                Some(found) if found.ranged || found.used || found.subnet.is_none() => {
                    return Ok(found.network(self.names.network()));
                }
                // The engine knows which block is free on its machine, but lets addresses be chosen only in one that was asked for.
                Some(found) => {
                    self.remove_network(&found.id).await?;
                    self.create_network(found.subnet).await
                }
            };
            match changed {
                // The block, or the place on it, is another run's by now.
                Err(error) if tries >= TRIES => return Err(error),
                _ if tries >= 2 * TRIES => return Err(self.unsettled()),
                _ => tries += 1,
            }
        }
    }

    fn unsettled(&self) -> TargetError {
        let name = self.names.network();
        let why = "others make and remove it all the while";
        let error = TargetError::refused(PROVIDER, format!("create network `{name}`"), why);
        error.with_help("let one `platform` at a time set the environment up")
    }

    /// Removes a network; one that containers are on by now stays.
    async fn remove_network(&self, id: &str) -> Result<(), TargetError> {
        let removed = self.engine.docker.remove_network(id).await;
        let stays = |error: &Error| is_missing(error) || words(error).contains("active endpoints");
        unless(stays, removed)
            .map_err(|error| fault(format!("create network `{}`", self.names.network()), error))
    }

    /// Removes a network for good; who else is on it is named.
    pub(crate) async fn end_network(&self, id: &str) -> Result<(), TargetError> {
        let docker = &self.engine.docker;
        let Err(error) = unless(is_missing, docker.remove_network(id).await) else {
            return Ok(());
        };
        let name = self.names.network();
        let action = format!("remove network `{name}`");
        if !words(&error).contains("active endpoints") {
            return Err(fault(action, error));
        }
        let seen = docker.inspect_network(id, None::<InspectNetworkOptions>);
        let seen = seen.await.ok().and_then(|seen| seen.containers);
        let on_it = seen.unwrap_or_default();
        let names: BTreeSet<String> = on_it.into_values().filter_map(|one| one.name).collect();
        Err(in_use(action, &name, &names).unwrap_or_else(|| fault("remove the network", error)))
    }

    async fn create_network(&self, subnet: Option<Subnet>) -> Result<(), TargetError> {
        let name = self.names.network();
        let request = NetworkCreateRequest {
            name: name.clone(),
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
    fn of_several_networks_everybody_keeps_the_same() {
        let named = |id: &str, second: i64, used: bool, ranged: bool| Named {
            id: id.to_owned(),
            made: BollardDate::from_timestamp(second, 0),
            subnet: None,
            ranged,
            used,
        };
        let check = |all: &[Named], stays: &str| {
            let backwards = all.iter().rev().cloned().collect();
            for mut all in [all.to_vec(), backwards] {
                let found = staying(&mut all).map(|found| found.id);
                assert_eq!(found.as_deref(), Some(stays));
            }
        };
        check(
            &[named("b", 1, false, false), named("a", 2, false, false)],
            "b",
        );
        check(
            &[named("b", 1, false, false), named("a", 1, false, false)],
            "a",
        );
        check(
            &[named("a", 1, false, false), named("b", 2, false, true)],
            "b",
        );
        check(
            &[named("a", 1, false, true), named("b", 2, true, false)],
            "b",
        );
        assert!(staying(&mut Vec::new()).is_none());
    }

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
