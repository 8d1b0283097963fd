//! Groups: bringing instances up, replacing what is not as asked, and taking instances down without losing a request.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use bollard::models::{ContainerStateStatusEnum, ContainerSummary};
use futures::future::{join, join_all, try_join, try_join_all, try_join3};
use platform_blueprint::ServiceKind;
use platform_decide::group::{GroupId, GroupSpec, Need};
use platform_decide::observed::{InstanceSeen, InstanceState};
use platform_port::{SecretValues, TargetError};
use tokio::time::Instant;

use crate::PROVIDER;
use crate::certificates::is_certified;
use crate::container::{self, Instance};
use crate::gateway::ALIAS;
use crate::image::Image;
use crate::inside::handed_file;
use crate::names::{Role, alias, instance_name};
use crate::network::Network;
use crate::observe::Found;
use crate::program::FOLDER;
use crate::site::{Site, is_of};
use crate::surroundings::{Address, Inputs, Surroundings, surroundings};

/// Addresses that are tried where somebody else has the chosen one.
const TRIES: u32 = 8;
/// How often a replacement is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Whether somebody else has the address that was chosen for a container.
pub(crate) fn is_address_taken(error: &TargetError) -> bool {
    let said = error.source.to_string();
    said.contains("Address already in use")
}

/// Whether an instance does what it is there for, or has done it.
fn is_well(one: &InstanceSeen) -> bool {
    matches!(one.state, InstanceState::Ready | InstanceState::Completed)
}

/// Everything that the instances of a group have in common.
pub(crate) struct Ready<'a> {
    pub(crate) group: &'a GroupSpec,
    image: Image,
    network: Network,
    needs: BTreeMap<String, Address>,
    secrets: &'a SecretValues,
    token: Option<String>,
    program: Vec<String>,
    program_volume: String,
    init: bool,
}

/// Instances that take no requests any more for as long as this is held: whoever gives their removal up leaves them serving.
struct Leaving<'a> {
    site: &'a Site,
    names: &'a [String],
}

impl<'a> Leaving<'a> {
    fn of(site: &'a Site, names: &'a [String]) -> Self {
        site.leaving().extend(names.iter().cloned());
        Self { site, names }
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut leaving = self.site.leaving();
        for name in self.names {
            leaving.remove(name);
        }
    }
}

impl Site {
    /// Instances of every group.
    pub(crate) async fn found(&self, network: &str) -> Result<Vec<Found>, TargetError> {
        let listed = self.containers().await?;
        self.found_among(&listed, network).await
    }

    /// Instances of every group, among the containers that were listed.
    pub(crate) async fn found_among(
        &self,
        listed: &[ContainerSummary],
        network: &str,
    ) -> Result<Vec<Found>, TargetError> {
        let instances = listed.iter().filter(|one| is_of(one, Role::Service));
        let looks = instances
            .filter_map(|one| one.id.as_deref())
            .map(|id| self.inspect(id));
        let seen = try_join_all(looks).await?;
        Ok(seen
            .into_iter()
            .flatten()
            .filter_map(|seen| Found::read(seen, network, &self.names))
            .collect())
    }

    /// Creates a group, or brings it to what is asked.
    pub(crate) async fn ensure_group(
        &self,
        group: &GroupSpec,
        secrets: &SecretValues,
    ) -> Result<(), TargetError> {
        drop(self.making_ahead.write().await);
        let (network, (), instances) = try_join3(
            self.ensure_network(),
            self.hand_authority(group),
            self.instances(&group.id),
        )
        .await?;
        let mut before: BTreeMap<u32, Found> = instances
            .into_iter()
            .filter_map(|(number, seen)| {
                Some((number, Found::read(seen, &network.name, &self.names)?))
            })
            .collect();
        for one in before.values_mut() {
            if one.renamed.take().is_some() {
                let name = self.names.instance(&group.id, one.number);
                self.rename(&one.called(), &name).await?;
                one.container.name = Some(name);
            }
        }
        let (made, others): (Vec<&Found>, Vec<&Found>) = before
            .values()
            .partition(|one| self.is_made_ahead(group, one));
        let (mut good, wrong): (Vec<&Found>, Vec<&Found>) = others.into_iter().partition(|one| {
            one.digest == group.digest
                && one.changed.is_none()
                && !matches!(
                    one.status(),
                    // What was created and never started may lack its secrets.
                    ContainerStateStatusEnum::CREATED
                        | ContainerStateStatusEnum::DEAD
                        | ContainerStateStatusEnum::REMOVING
                )
        });
        let mut as_they_are = group.places();
        if !good.iter().all(|one| as_they_are.take(one.number)) {
            let ready = self.ready_of(&group.id).await?;
            good.sort_by_key(|one| !ready.contains(&one.name()));
        }
        let mut places = group.places();
        let (kept, surplus): (Vec<&Found>, Vec<&Found>) =
            good.into_iter().partition(|one| places.take(one.number));
        for one in kept {
            self.wake(one).await?;
        }
        let (used, unused): (Vec<&Found>, Vec<&Found>) =
            made.into_iter().partition(|one| places.take(one.number));
        let mut fresh: Vec<u32> = used.iter().map(|one| one.number).collect();
        fresh.extend(places.fill(|number| before.contains_key(&number)));
        let replaced: Vec<&Found> = surplus.into_iter().chain(wrong).collect();
        let (made, rest) = fresh.split_at(used.len());
        // Each comes to its end, as what is left half made stays.
        let brought = join(
            self.start_made(group, made, (secrets, &network)),
            self.bring_all(group, rest, (secrets, &network)),
        );
        let (made, rest) = brought.await;
        made.and(rest)?;
        self.refresh().await?;
        if !replaced.is_empty() && !fresh.is_empty() {
            let successors: Vec<String> = fresh
                .iter()
                .map(|number| instance_name(&group.id, *number))
                .collect();
            self.wait_for(group, &successors).await?;
        }
        let surplus: Vec<&Found> = replaced.into_iter().chain(unused).collect();
        if surplus.is_empty() {
            return Ok(());
        }
        self.take_down(&group.id, &surplus).await?;
        self.refresh().await
    }

    /// Instances of a group that are ready, or came to their end as they should.
    async fn ready_of(&self, group: &GroupId) -> Result<BTreeSet<String>, TargetError> {
        let mut seen = self.observe().await?;
        let instances = seen.groups.remove(group).map(|seen| seen.instances);
        let instances = instances.into_iter().flatten();
        Ok(instances.filter(is_well).map(|one| one.id).collect())
    }

    /// Starts what was stopped and wakes what was paused.
    async fn wake(&self, one: &Found) -> Result<(), TargetError> {
        let name = one.called();
        match one.status() {
            ContainerStateStatusEnum::PAUSED => self.wake_container(&name).await,
            ContainerStateStatusEnum::EXITED if one.is_down() => self.start(&name).await,
            _ => Ok(()),
        }
    }

    /// Waits until instances are ready, or their time is up.
    async fn wait_for(&self, group: &GroupSpec, names: &[String]) -> Result<(), TargetError> {
        let begun = Instant::now();
        let within = group.spec.service.health.start_within.duration();
        while begun.elapsed() < within {
            let seen = self.observe().await?;
            let ready = seen.groups.get(&group.id).is_some_and(|seen| {
                let own = seen.instances.iter().filter(|one| names.contains(&one.id));
                own.clone().count() == names.len() && own.clone().all(is_well)
            });
            if ready {
                return Ok(());
            }
            self.changed(LOOK).await;
        }
        let late = format!("{} did not become ready", names.join(", "));
        Err(
            TargetError::refused(PROVIDER, format!("replace {}", group.id), late)
                .about(group.id.clone()),
        )
    }

    pub(crate) async fn prepare<'a>(
        &self,
        group: &'a GroupSpec,
        secrets: &'a SecretValues,
        network: Network,
    ) -> Result<Ready<'a>, TargetError> {
        let image = self.image_of(&group.id.service, &group.spec);
        // What is begun with the keeper comes to its end, whatever is found of the image.
        let (kept, image) = join(self.ensure_keeper(true), image).await;
        kept?;
        let image = image?;
        let mut needs = BTreeMap::new();
        for need in &group.spec.needs {
            let address = match need {
                Need::Service { name } => {
                    let ports = self.internal_ports(std::iter::once(name)).await?;
                    let port = ports.get(name).copied().unwrap_or_default();
                    Address::Plain(format!("http://{ALIAS}:{port}"))
                }
                Need::Resource { name, .. } => self.resource_address(name, secrets).await?,
            };
            needs.insert(need.variable(), address);
        }
        for volume in &group.spec.service.volumes {
            let name = self.names.data(volume.name.as_str());
            self.volume(&name, self.names.labels(Role::Data)).await?;
        }
        let mut token = None;
        if is_certified(&group.spec.service) {
            token = Some(self.token(&group.id.service).await?);
        }
        let program = self.program()?;
        Ok(Ready {
            group,
            image,
            network,
            needs,
            secrets,
            token,
            program: program.command(FOLDER),
            program_volume: self.program_volume(&program.build),
            init: self.has_init().await?,
        })
    }

    pub(crate) fn surroundings(
        &self,
        ready: &Ready<'_>,
        number: u32,
    ) -> Result<Surroundings, TargetError> {
        let id = &ready.group.id;
        surroundings(&Inputs {
            names: &self.names,
            group: ready.group,
            instance: &instance_name(id, number),
            zone: ready.group.zone(number),
            needs: ready.needs.clone(),
            secrets: ready.secrets,
            token: ready.token.as_deref(),
            leaves_first: true,
            image_command: &ready.image.command,
        })
        .map_err(|why| TargetError::refused(PROVIDER, format!("start {id}"), why).about(id.clone()))
    }

    /// Makes and starts instances of a group, all at once.
    ///
    /// - `with`: secrets of its service, and the network
    pub(crate) async fn bring_all(
        &self,
        group: &GroupSpec,
        numbers: &[u32],
        (secrets, network): (&SecretValues, &Network),
    ) -> Result<(), TargetError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let ready = self.prepare(group, secrets, network.clone()).await?;
        let brought = numbers.iter().map(|number| self.bring_up(&ready, *number));
        join_all(brought).await.into_iter().collect()
    }

    async fn bring_up(&self, ready: &Ready<'_>, number: u32) -> Result<(), TargetError> {
        let id = &ready.group.id;
        let name = self.names.instance(id, number);
        let own = self.surroundings(ready, number)?;
        let mut refused = Vec::new();
        for _ in 0..TRIES {
            let address = self.make(ready, number, &own, &refused).await?;
            match (self.start(&name).await, address) {
                (Ok(()), _) => return Ok(()),
                (Err(error), Some(address)) if is_address_taken(&error) => {
                    refused.push(address);
                    self.remove(&name, None).await?;
                }
                (Err(error), _) => {
                    // It would hold its number, and the next try would take another.
                    let _ = self.remove(&name, None).await;
                    return Err(error.about(id.clone()));
                }
            }
        }
        Err(TargetError::refused(
            PROVIDER,
            format!("start {id}"),
            "no free address was found on its network",
        )
        .about(id.clone()))
    }

    /// Makes an instance's container, unless it is there, and puts its secrets in place; returns the address that was chosen for it.
    ///
    /// - `refused`: addresses that the engine did not take
    pub(crate) async fn make(
        &self,
        ready: &Ready<'_>,
        number: u32,
        own: &Surroundings,
        refused: &[Ipv4Addr],
    ) -> Result<Option<Ipv4Addr>, TargetError> {
        let id = &ready.group.id;
        let name = self.names.instance(id, number);
        let service = &ready.group.spec.service;
        if own.is_handed() {
            self.plumbing(&self.names.secrets(&id.to_string())).await?;
        }
        let address = {
            let _one_at_a_time = self.addressing.lock().await;
            let address = match ready.network.subnet {
                None => None,
                Some(subnet) => {
                    let mut used = self.used_addresses(&ready.network.name).await?;
                    used.extend(refused);
                    subnet.address(&alias(id, number), &used)
                }
            };
            let body = container::instance(&Instance {
                names: &self.names,
                group: ready.group,
                number,
                image: &ready.image.reference,
                image_user: &ready.image.user,
                surroundings: own,
                network: &ready.network.name,
                address,
                init: ready.init,
                program: (&ready.program, &ready.program_volume),
                live: service.health.live.is_some() && service.kind == ServiceKind::Service,
            });
            self.create(&name, body)
                .await
                .map_err(|error| error.about(id.clone()))?;
            address
        };
        if own.is_handed() {
            let user = container::user(service.user.as_deref(), &ready.image.user);
            let file = handed_file(&instance_name(id, number));
            self.hand_over(&name, &file, &user, &own.handed).await?;
        }
        Ok(address)
    }

    /// Takes instances out of the gateway, waits for their requests, and removes their containers. The gateway is still to be told
    /// that they are gone.
    async fn take_down(&self, group: &GroupId, instances: &[&Found]) -> Result<(), TargetError> {
        let names: Vec<String> = instances.iter().map(|one| one.name()).collect();
        let _leaving = Leaving::of(self, &names);
        let grace = instances.iter().map(|one| one.keep.grace_seconds).max();
        let grace = grace.unwrap_or(10);
        self.refresh().await?;
        self.drained(group, &names, Duration::from_secs(grace))
            .await;
        let grace_of = |one: &Found| i32::try_from(one.keep.grace_seconds).unwrap_or(i32::MAX);
        let stops = instances.iter().map(|one| {
            let id = one.container.id.clone().unwrap_or_default();
            async move { self.halt(&id, grace_of(one)).await }
        });
        let stopped = join_all(stops).await;
        // After their last words.
        self.keep_logs(group, instances).await;
        let removals = instances.iter().zip(stopped).map(|(one, stopped)| {
            let name = one.called();
            let grace = stopped.is_err().then(|| grace_of(one));
            async move { self.remove(&name, grace).await }
        });
        join_all(removals)
            .await
            .into_iter()
            .collect::<Result<(), _>>()
    }

    /// Drains a group's instances and removes them with everything of theirs.
    pub(crate) async fn remove_group(&self, group: &GroupId) -> Result<(), TargetError> {
        drop(self.making_ahead.write().await);
        let (network, instances) = try_join(self.network(), self.instances(group)).await?;
        let network = network.map_or_else(String::new, |found| found.name);
        let found: Vec<Found> = instances
            .into_values()
            .filter_map(|seen| Found::read(seen, &network, &self.names))
            .collect();
        let was_there = !found.is_empty();
        if was_there {
            let all: Vec<&Found> = found.iter().collect();
            self.take_down(group, &all).await?;
        }
        let told = async {
            if was_there {
                self.refresh().await?;
            }
            Ok(())
        };
        let secrets = self.names.secrets(&group.to_string());
        try_join(told, self.remove_volume(&secrets)).await?;
        Ok(())
    }
}
