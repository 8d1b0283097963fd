//! A shop, and a fake target that it is deployed to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use platform_blueprint::{Blueprint, SecretName, ServiceName};
use platform_decide::desired::Desired;
use platform_decide::digest::Digest;
use platform_decide::group::{Artifact, Place};
use platform_decide::plan::Pace;
use platform_decide::release::ReleaseStatus;
use platform_drive::apply::Crew;
use platform_drive::clock::SystemClock;
use platform_drive::deploy::{Outcome, Prepared, Request, With, carry_out, prepare};
use platform_drive::error::DriveError;
use platform_drive::events::{Event, Events};
use platform_drive::lease::{self, Lease, LeaseError};
use platform_drive::releases;
use platform_port::{SecretValues, Target};
use platform_testkit::FakeTarget;
use tokio_util::sync::CancellationToken;

pub(crate) const SHOP: &str = r#"
[project]
name = "shop"

[services.orders]
command = ["orders"]
port = 8080
needs = ["orders-db"]
replicas = 2
rollout = { strategy = "rolling", hold = "0s", bake = "0s" }
env = { LOG = "info" }

[services.web]
command = ["web"]
port = 8081
needs = ["orders"]
rollout = { strategy = "rolling", hold = "0s", bake = "0s" }

[resources.orders-db]
kind = "postgres"

[[routes]]
path = "/api/v1/orders"
service = "orders"

[[routes]]
path = "/"
service = "web"
"#;

pub(crate) fn desired(text: &str) -> Desired {
    desired_with(text, &BTreeMap::new())
}

/// - `set`: the version of each secret that is set
pub(crate) fn desired_with(text: &str, set: &BTreeMap<SecretName, u32>) -> Desired {
    let blueprint = Blueprint::parse(text, "platform.toml")
        .expect("a blueprint")
        .blueprint;
    let resolved = blueprint.resolve(None).expect("an environment");
    let artifacts: BTreeMap<ServiceName, Artifact> = resolved
        .services
        .keys()
        .map(|name| {
            let artifact = Artifact {
                key: Digest::of(name.as_str().as_bytes()),
                place: Place::Installed,
            };
            (name.clone(), artifact)
        })
        .collect();
    Desired::new(&resolved, &artifacts, set).expect("a desired state")
}

#[derive(Default)]
pub(crate) struct Heard(pub(crate) Mutex<Vec<Event>>);

impl Events for Heard {
    fn emit(&self, event: Event) {
        self.0.lock().expect("a lock").push(event);
    }
}

pub(crate) struct Scene {
    pub(crate) target: Arc<FakeTarget>,
    pub(crate) heard: Arc<Heard>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self {
            target: Arc::new(FakeTarget::new()),
            heard: Arc::default(),
        }
    }

    pub(crate) fn crew(&self, run: &str) -> Crew {
        Crew {
            target: Arc::clone(&self.target) as Arc<dyn Target>,
            events: Arc::clone(&self.heard) as Arc<dyn Events>,
            clock: Arc::new(SystemClock),
            stop: CancellationToken::new(),
            run: run.to_owned(),
            command: "platform deploy".to_owned(),
            root: std::env::temp_dir(),
        }
    }

    pub(crate) async fn prepare(&self, desired: &Desired, pace: Pace) -> Prepared {
        let request = Request {
            desired,
            back_to: None,
            unbuilt: &BTreeSet::new(),
            pace,
        };
        prepare(&self.crew("look"), request).await.expect("a plan")
    }

    pub(crate) async fn deploy(&self, run: &str, desired: &Desired) -> Result<Outcome, DriveError> {
        self.deploy_with(&self.crew(run), desired).await
    }

    pub(crate) async fn deploy_with(
        &self,
        crew: &Crew,
        desired: &Desired,
    ) -> Result<Outcome, DriveError> {
        let lease = hold(crew).await.expect("a lease");
        let prepared = self.prepare(desired, Pace::ByPolicy).await;
        let secrets = SecretValues::new();
        let result = Box::pin(carry_out(crew, &lease, prepared, with(&secrets))).await;
        lease.release().await.expect("the lease back");
        result
    }

    pub(crate) async fn statuses(&self) -> Vec<(u32, ReleaseStatus)> {
        let all = releases::all(self.target.store()).await.expect("releases");
        all.iter().map(|r| (r.number.0, r.status)).collect()
    }

    pub(crate) async fn serving(&self) -> Vec<String> {
        let seen = self.target.observe().await.expect("a look");
        let splits = seen.gateway.map(|g| g.splits).unwrap_or_default();
        splits
            .values()
            .flat_map(|split| &split.shares)
            .filter(|(_, share)| share.get() > 0)
            .map(|(group, share)| format!("{group}={}", share.get()))
            .collect()
    }
}

pub(crate) async fn hold(crew: &Crew) -> Result<Lease, LeaseError> {
    let holder = lease::new_holder(&crew.run, &crew.command, crew.clock.as_ref());
    let target = Arc::clone(&crew.target);
    let stop = CancellationToken::new();
    Lease::acquire(target, holder, Duration::ZERO, crew.events.as_ref(), &stop).await
}

pub(crate) fn with(secrets: &SecretValues) -> With<'_> {
    With {
        secrets,
        parallelism: 8,
        commit: None,
        within: None,
    }
}
