//! A target in memory whose instances behave as a test tells them to.

mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use platform_blueprint::{ResourceName, SecretName};
use platform_decide::desired::{Desired, DesiredResource};
use platform_decide::digest::Digest;
use platform_decide::group::{GroupId, GroupSpec};
use platform_decide::observed::{GatewaySeen, Observed, ResourceSeen};
use platform_decide::release::Release;
use platform_decide::traffic::{Split, Traffic};
use platform_port::{
    Attachment, ExecRequest, Finding, LogLine, LogQuery, Party, SecretValues, Store, Stream,
    Tallies, Target, TargetError, TargetInfo,
};
use tokio::sync::{Notify, watch};

pub use self::world::Behaviour;
use self::world::World;
use crate::memory::MemoryStore;

const PROVIDER: &str = "fake";

/// An act that the fake carried out, as text: `ensure orders@r2 x3`.
pub type Act = String;

/// A target in memory.
#[derive(Debug, Default)]
pub struct FakeTarget {
    world: Mutex<World>,
    store: MemoryStore,
    changed: Notify,
    acts_left: AtomicU64,
    hangs: AtomicBool,
    uncounted: AtomicBool,
    hushed: AtomicBool,
    hung: Notify,
    lingers: watch::Sender<bool>,
    stalls: watch::Sender<bool>,
}

impl FakeTarget {
    /// An empty target whose instances are healthy.
    pub fn new() -> Self {
        Self {
            acts_left: AtomicU64::new(u64::MAX),
            ..Self::default()
        }
    }

    /// The documents of its environment.
    pub fn documents(&self) -> &MemoryStore {
        &self.store
    }

    /// Tells how the instances of a group behave from now on.
    pub fn behave(&self, group: &GroupId, behaviour: Behaviour) {
        self.lock().behaviours.insert(group.clone(), behaviour);
        self.changed.notify_waiters();
    }

    /// Has the server of a resource end again and again from now on, or no longer.
    pub fn crash(&self, resource: &ResourceName, crashes: bool) {
        let mut world = self.lock();
        if crashes {
            world.crashing.insert(resource.clone());
        } else {
            world.crashing.remove(resource);
        }
        drop(world);
        self.changed.notify_waiters();
    }

    /// Sends so many requests through the gateway between one look and the next.
    pub fn load(&self, requests_per_look: u64) {
        self.lock().requests_per_look = requests_per_look;
    }

    /// Has one heavy client send so many requests to a group between one look and the next, while the group has a share;
    /// all of them are answered badly.
    pub fn heavy(&self, group: &GroupId, requests_per_look: u64) {
        self.lock().heavy.insert(group.clone(), requests_per_look);
    }

    /// Fails every act after the next `acts`, as an engine that went away does.
    pub fn fail_after(&self, acts: u64) {
        self.acts_left.store(acts, Ordering::SeqCst);
    }

    /// Lets every act after the next `acts` begin and never end, as it is for a run that is killed there.
    pub fn hang_after(&self, acts: u64) {
        self.hangs.store(true, Ordering::SeqCst);
        self.acts_left.store(acts, Ordering::SeqCst);
    }

    /// What was to be made ready ahead, as text: `orders@r2 x1`.
    pub fn prepared(&self) -> Vec<String> {
        self.lock().prepared.clone()
    }

    /// The releases that may still be asked for, as the last run told it at its end: `r1 r2`.
    pub fn tidied(&self) -> String {
        self.lock().tidied.clone()
    }

    /// Returns when an act hangs, or what is made of it is on its way without an end.
    pub async fn hung(&self) {
        self.hung.notified().await;
    }

    /// Works again after [`FakeTarget::fail_after`] or [`FakeTarget::hang_after`].
    pub fn recover(&self) {
        self.hangs.store(false, Ordering::SeqCst);
        self.acts_left.store(u64::MAX, Ordering::SeqCst);
    }

    /// Keeps the gateway's counts from being read, until this is called with `false`.
    pub fn uncounted(&self, uncounted: bool) {
        self.uncounted.store(uncounted, Ordering::SeqCst);
    }

    /// Has nobody told what instances wrote, however long they listen.
    pub fn hush(&self) {
        self.hushed.store(true, Ordering::SeqCst);
    }

    /// Whether instances that shall go take their time, until this is called with `false`.
    pub fn linger(&self, lingers: bool) {
        self.lingers.send_replace(lingers);
    }

    /// Whether what instances and servers are made from is on its way without an end, until this is called with `false`.
    pub fn stall(&self, stalls: bool) {
        self.stalls.send_replace(stalls);
    }

    async fn fetch(&self) {
        let mut stalls = self.stalls.subscribe();
        if *stalls.borrow() {
            self.hung.notify_one();
        }
        let _ = stalls.wait_for(|stalls| !stalls).await;
    }

    /// Returns once a group may be brought to so many instances: at once, unless some of it linger.
    async fn left(&self, group: &GroupId, replicas: u32) {
        let has = self.lock().groups.get(group).map(|(spec, _)| spec.replicas);
        if has.is_some_and(|has| has > replicas) {
            let mut lingers = self.lingers.subscribe();
            let _ = lingers.wait_for(|lingers| !lingers).await;
        }
    }

    /// What was carried out so far.
    pub fn acts(&self) -> Vec<Act> {
        self.lock().acts.clone()
    }

    /// Requests of a lane that were answered with an error so far.
    pub fn bad(&self, group: &GroupId) -> u64 {
        self.lock().tallies.get(group).map_or(0, |tally| tally.bad)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, World> {
        self.world
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn act(
        &self,
        act: String,
        change: impl FnOnce(&mut World) + Send,
    ) -> Result<(), TargetError> {
        let left = self
            .acts_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                Some(if left == u64::MAX {
                    left
                } else {
                    left.saturating_sub(1)
                })
            })
            .unwrap_or_default();
        if left == 0 && self.hangs.load(Ordering::SeqCst) {
            self.hung.notify_one();
            std::future::pending::<()>().await;
        }
        if left == 0 {
            return Err(TargetError::unreachable(
                PROVIDER,
                act,
                "the fake was told to fail",
            ));
        }
        let mut world = self.lock();
        world.acts.push(act);
        change(&mut world);
        drop(world);
        self.changed.notify_waiters();
        Ok(())
    }
}

#[async_trait]
impl Target for FakeTarget {
    fn info(&self) -> TargetInfo {
        TargetInfo {
            provider: PROVIDER.to_owned(),
            place: "memory".to_owned(),
            version: None,
        }
    }

    async fn preflight(&self, _: &Desired) -> Result<Vec<Finding>, TargetError> {
        Ok(Vec::new())
    }

    async fn doctor(&self) -> Vec<Finding> {
        Vec::new()
    }

    async fn observe(&self) -> Result<Observed, TargetError> {
        let mut world = self.lock();
        world.answer();
        let groups = world
            .groups
            .iter()
            .map(|(id, (spec, looks))| (id.clone(), world.seen(id, spec, *looks)))
            .collect();
        for (_, looks) in world.groups.values_mut() {
            *looks += 1;
        }
        let resources = world
            .resources
            .iter()
            .map(|(name, wanted)| {
                let crashes = world.crashing.contains(name);
                let seen = ResourceSeen {
                    digest: wanted.digest.clone(),
                    ready: !crashes,
                    engine: "memory".to_owned(),
                    address: None,
                    reason: crashes.then(|| "out of memory".to_owned()),
                    crash_looping: crashes,
                };
                (name.clone(), seen)
            })
            .collect();
        let gateway = world.traffic.as_ref().map(|traffic| GatewaySeen {
            url: "http://127.0.0.1:1".to_owned(),
            ready: true,
            revision: world.revision,
            ingress: Digest::of_value(&traffic.ingress),
            splits: traffic.splits.clone(),
            amiss: None,
        });
        let bare = || GatewaySeen {
            url: "http://127.0.0.1:1".to_owned(),
            ready: true,
            revision: 0,
            ingress: Digest::of(b""),
            splits: BTreeMap::new(),
            amiss: None,
        };
        Ok(Observed {
            groups,
            resources,
            gateway: gateway.or_else(|| world.gateway.then(bare)),
            ..Observed::default()
        })
    }

    async fn changed(&self, at_most: Duration) {
        // A fake's instances move on with each look, so there always is something to see soon.
        let soon = at_most.min(Duration::from_millis(5));
        let _ = tokio::time::timeout(soon, self.changed.notified()).await;
    }

    async fn fetch_resource(
        &self,
        _: &ResourceName,
        _: &DesiredResource,
    ) -> Result<(), TargetError> {
        self.fetch().await;
        Ok(())
    }

    async fn ensure_resource(
        &self,
        name: &ResourceName,
        resource: &DesiredResource,
    ) -> Result<(), TargetError> {
        self.act(format!("ensure resource {name}"), |world| {
            world.resources.insert(name.clone(), resource.clone());
        })
        .await
    }

    async fn remove_resource(&self, name: &ResourceName, _: bool) -> Result<(), TargetError> {
        self.act(format!("remove resource {name}"), |world| {
            world.resources.remove(name);
        })
        .await
    }

    async fn ensure_gateway(&self) -> Result<(), TargetError> {
        self.act("ensure gateway".to_owned(), |world| world.gateway = true)
            .await
    }

    async fn route(&self, traffic: &Traffic, secrets: &SecretValues) -> Result<(), TargetError> {
        let unknown = |name: &&SecretName| !secrets.contains_key(*name);
        if let Some(name) = traffic.ingress.secrets.keys().find(unknown) {
            let why = format!("the value of secret `{name}` was not handed over");
            return Err(TargetError::refused(PROVIDER, "route traffic", why));
        }
        let told = |split: &Split| {
            let shares = split.shares.iter();
            let mut told: Vec<String> = shares
                .map(|(group, share)| format!("{group}={}", share.get()))
                .collect();
            if let Some(copies) = &split.copies {
                let share = split.copied(&copies.to);
                told.push(format!("{} gets copies of {}", copies.to, share.get()));
            }
            told
        };
        let splits: Vec<String> = traffic.splits.values().flat_map(told).collect();
        self.act(format!("route {}", splits.join(" ")), |world| {
            world.revision += 1;
            world.traffic = Some(traffic.clone());
        })
        .await
    }

    async fn fetch_group(&self, _: &GroupSpec) -> Result<(), TargetError> {
        self.fetch().await;
        Ok(())
    }

    async fn ensure_group(&self, group: &GroupSpec, _: &SecretValues) -> Result<(), TargetError> {
        self.left(&group.id, group.replicas).await;
        let act = format!("ensure {} x{}", group.id, group.replicas);
        self.act(act, |world| {
            let looks = world.groups.get(&group.id).map_or(0, |(_, looks)| *looks);
            world
                .groups
                .insert(group.id.clone(), (group.clone(), looks));
        })
        .await
    }

    async fn prepare_group(&self, group: &GroupSpec, _: &SecretValues) -> Result<(), TargetError> {
        let prepared = format!("{} x{}", group.id, group.replicas);
        self.lock().prepared.push(prepared);
        Ok(())
    }

    async fn remove_group(&self, group: &GroupId) -> Result<(), TargetError> {
        self.left(group, 0).await;
        self.act(format!("remove {group}"), |world| {
            world.groups.remove(group);
        })
        .await
    }

    async fn tidy(&self, releases: &[Release]) -> Result<(), TargetError> {
        let numbers: Vec<String> = releases.iter().map(|own| own.number.to_string()).collect();
        self.lock().tidied = numbers.join(" ");
        Ok(())
    }

    async fn stop(&self) -> Result<(), TargetError> {
        self.act("stop".to_owned(), |world| {
            world.groups.clear();
            world.traffic = None;
            world.gateway = false;
        })
        .await
    }

    async fn destroy(&self, _: bool) -> Result<(), TargetError> {
        self.act("destroy".to_owned(), |world| {
            world.groups.clear();
            world.resources.clear();
            world.traffic = None;
            world.gateway = false;
        })
        .await?;
        self.store.clear();
        Ok(())
    }

    async fn tallies(&self) -> Result<Tallies, TargetError> {
        if self.uncounted.load(Ordering::SeqCst) {
            let why = "the fake was told not to count";
            return Err(TargetError::unreachable(PROVIDER, "read the counts", why));
        }
        Ok(Tallies {
            epoch: "fake".to_owned(),
            lanes: self.lock().tallies.clone(),
        })
    }

    async fn logs(
        &self,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine, TargetError>>, TargetError> {
        if self.hushed.load(Ordering::SeqCst) {
            return Ok(futures::stream::pending().boxed());
        }
        let world = self.lock();
        let says = |instance: String, who: &str| {
            Ok(LogLine {
                at: 0,
                instance,
                stream: Stream::Stdout,
                text: format!("{who} says hello"),
            })
        };
        let instances = world
            .groups
            .keys()
            .filter(|id| query.is_of(id.service.as_str()))
            .filter(|id| query.version.is_none_or(|version| version == id.version))
            .map(|id| says(format!("{id}.1"), &id.to_string()));
        let asked = |name: &&ResourceName| {
            let server = Party::Resource((*name).clone());
            query.parties.contains(&server)
        };
        let servers = world.resources.keys().filter(asked);
        let servers = servers.map(|name| says(name.to_string(), name.as_str()));
        let lines: Vec<Result<LogLine, TargetError>> = instances.chain(servers).collect();
        Ok(futures::stream::iter(lines).boxed())
    }

    async fn exec(&self, _: &ExecRequest) -> Result<Attachment, TargetError> {
        Err(TargetError::refused(
            PROVIDER,
            "run a command",
            "the fake runs nothing",
        ))
    }

    async fn connect(&self, name: &str, _: Option<u16>) -> Result<Attachment, TargetError> {
        Err(TargetError::refused(
            PROVIDER,
            format!("connect to `{name}`"),
            "the fake listens nowhere",
        ))
    }

    async fn connect_gateway(&self, _: &GatewaySeen) -> Result<Attachment, TargetError> {
        Err(TargetError::refused(
            PROVIDER,
            "connect to the gateway",
            "the fake listens nowhere",
        ))
    }

    fn store(&self) -> &dyn Store {
        &self.store
    }
}
