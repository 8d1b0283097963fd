//! A target on which one release serves, and the rollout of the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use platform_blueprint::{Blueprint, Rollout, ServiceName};
use platform_decide::desired::Desired;
use platform_decide::digest::Digest;
use platform_decide::group::{Artifact, GroupId, Place};
use platform_decide::plan::{Action, Inputs, Member, Pace, Plan, plan};
use platform_decide::release::Release;
use platform_decide::rollout::{Order, Phase, Word};
use platform_drive::apply::{Crew, Means, Time};
use platform_drive::clock::Clock;
use platform_drive::error::Cause;
use platform_drive::events::{Event, Events};
use platform_drive::rollout::{self, Outcome, RolloutEvent};
use platform_port::{SecretValues, Target};
use platform_testkit::{Behaviour, FakeTarget};
use tokio_util::sync::CancellationToken;
/// A clock on which every look at it takes a while, so that minutes pass in moments.
#[derive(Default)]
pub(crate) struct Leaping(pub(crate) AtomicU64);

impl Clock for Leaping {
    fn millis(&self) -> u64 {
        1_000_000 + self.0.fetch_add(400, Ordering::SeqCst)
    }
}

#[derive(Default)]
pub(crate) struct Heard(pub(crate) Mutex<Vec<RolloutEvent>>);

impl Events for Heard {
    fn emit(&self, event: Event) {
        if let Event::Rollout(event) = event {
            self.0.lock().expect("a lock").push(event);
        }
    }
}

pub(crate) fn shop(rollout: &str, log: &str) -> String {
    format!(
        r#"
[project]
name = "shop"

[services.orders]
command = ["orders"]
port = 8080
replicas = 2
env = {{ LOG = "{log}" }}

[[routes]]
path = "/api/v1/orders"
service = "orders"

[rollout]
{rollout}
"#
    )
}

pub(crate) const CANARY: &str = r#"
strategy = "canary"
steps = ["10%", "50%"]
hold = "2s"
bake = "4s"
analysis = { at_least = "1s", min_samples = 20 }
"#;

pub(crate) const BLUE_GREEN: &str = r#"
strategy = "blue-green"
hold = "1s"
bake = "4s"
gates = [{ when = "before-promote", command = ["true"] }]
"#;

/// A canary that gets copies before it answers anybody.
pub(crate) const COPIED: &str = r#"
strategy = "canary"
mirror = "20%"
steps = ["50%"]
hold = "2s"
bake = "4s"
analysis = { at_least = "1s", min_samples = 20 }
"#;

pub(crate) const ROLLING: &str = r#"
strategy = "rolling"
hold = "4s"
"#;

pub(crate) fn desired(text: &str) -> Desired {
    let blueprint = Blueprint::parse(text, "platform.toml")
        .expect("a blueprint")
        .blueprint;
    let resolved = blueprint.resolve(None).expect("an environment");
    let artifact = |name: &ServiceName| Artifact {
        key: Digest::of(name.as_str().as_bytes()),
        place: Place::Installed,
    };
    let artifacts: BTreeMap<ServiceName, Artifact> = resolved
        .services
        .keys()
        .map(|name| (name.clone(), artifact(name)))
        .collect();
    Desired::new(&resolved, &artifacts, &BTreeMap::new()).expect("a desired state")
}

/// A target on which r1 serves, and the plan of r2.
pub(crate) struct Scene {
    pub(crate) target: Arc<FakeTarget>,
    pub(crate) heard: Arc<Heard>,
    pub(crate) clock: Arc<Leaping>,
    pub(crate) current: Release,
    pub(crate) plan: Plan,
    pub(crate) members: Vec<Member>,
    pub(crate) policy: Rollout,
    pub(crate) secrets: SecretValues,
    /// How long it may take, where that is bounded.
    pub(crate) within: Option<Duration>,
}

impl Scene {
    pub(crate) async fn of(rollout: &str) -> Self {
        Self::with(rollout, 2).await
    }

    pub(crate) async fn with(rollout: &str, replicas: u32) -> Self {
        let shop = |log: &str| {
            let text = shop(rollout, log);
            text.replace("replicas = 2", &format!("replicas = {replicas}"))
        };
        let target = Arc::new(FakeTarget::new());
        let first = desired(&shop("info"));
        let current = planned(&target, &first, None).await.release;
        for group in current.groups() {
            target
                .ensure_group(&group, &SecretValues::new())
                .await
                .expect("a start");
        }
        let traffic = planned(&target, &first, None).await.traffic();
        target
            .route(&traffic, &SecretValues::new())
            .await
            .expect("a route");
        let second = desired(&shop("debug"));
        let plan = planned(&target, &second, Some(&current)).await;
        let rolled = plan.steps.iter().find_map(|step| match &step.action {
            Action::Rollout { members, policy } => Some((members.clone(), *policy.clone())),
            _ => None,
        });
        let (members, policy) = rolled.expect("a rollout");
        target.load(40);
        Self {
            target,
            heard: Arc::default(),
            clock: Arc::default(),
            current,
            plan,
            members,
            policy,
            secrets: SecretValues::new(),
            within: None,
        }
    }

    pub(crate) fn crew(&self, run: &str) -> Crew {
        Crew {
            target: Arc::clone(&self.target) as Arc<dyn Target>,
            events: Arc::clone(&self.heard) as Arc<dyn Events>,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            stop: CancellationToken::new(),
            run: run.to_owned(),
            command: "platform deploy".to_owned(),
            root: std::env::temp_dir(),
        }
    }

    pub(crate) async fn run(&self, run: &str, stop: &CancellationToken) -> Result<Outcome, Cause> {
        let crew = self.crew(run);
        let means = Means {
            secrets: &self.secrets,
            current: Some(&self.current),
            parallelism: 4,
            time: self.within.map(Time::from_now),
        };
        rollout::run(&crew, &self.plan, means, &self.members, &self.policy, stop).await
    }

    pub(crate) async fn goes(&self) -> Outcome {
        self.run("one", &CancellationToken::new())
            .await
            .expect("an outcome")
    }

    /// Lets the run go on until the target has carried out so many acts, and kills it there.
    pub(crate) async fn killed_after(&self, acts: usize) -> Option<Outcome> {
        let allowed = u64::try_from(acts).expect("a number");
        let already = self.target.acts().len();
        self.target.fail_after(allowed);
        let dead = async {
            while self.target.acts().len() < already + acts {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // Whatever it decides next is saved and not done any more.
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        let stop = CancellationToken::new();
        let outcome = tokio::select! {
            outcome = self.run("killed", &stop) => Some(outcome.expect("an outcome")),
            () = dead => None,
        };
        self.target.recover();
        outcome
    }

    pub(crate) fn behave(&self, group: &str, behaviour: Behaviour) {
        self.target.behave(&group_id(group), behaviour);
    }

    pub(crate) async fn groups(&self) -> Vec<String> {
        let seen = self.target.observe().await.expect("a look");
        seen.groups
            .iter()
            .map(|(id, seen)| format!("{id}×{}", seen.replicas))
            .collect()
    }

    pub(crate) async fn shares(&self) -> Vec<String> {
        let seen = self.target.observe().await.expect("a look");
        let splits = seen.gateway.expect("a gateway").splits;
        let shares = splits.values().flat_map(|split| &split.shares);
        shares
            .map(|(group, share)| format!("{group}={}", share.get()))
            .collect()
    }

    /// What did not go as it should, in words.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let heard = self.heard.0.lock().expect("a lock");
        let texts = heard.iter().filter_map(|event| match event {
            RolloutEvent::Trouble { text, .. } => Some(text.clone()),
            _ => None,
        });
        texts.collect()
    }

    pub(crate) async fn stands_on(&self, group: &str) {
        assert_eq!(self.groups().await, [format!("{group}×2")]);
        assert_eq!(self.shares().await, [format!("{group}=1000")]);
    }

    pub(crate) async fn say(&self, order: Order) {
        let said = Word {
            number: 0,
            order,
            release: self.plan.release.number,
            by: "ada".to_owned(),
            at: 0,
        };
        rollout::say(self.target.store(), said)
            .await
            .expect("a word");
    }

    pub(crate) async fn phase(&self) -> Option<Phase> {
        let all = rollout::all(self.target.store(), self.plan.release.number).await;
        all.expect("states")
            .into_iter()
            .next()
            .map(|state| state.phase)
    }

    pub(crate) async fn until(&self, mut there: impl FnMut(&Phase) -> bool) {
        let waits = async {
            loop {
                if self.phase().await.is_some_and(|phase| there(&phase)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(600), waits)
            .await
            .expect("in time");
    }
}

pub(crate) async fn planned(
    target: &FakeTarget,
    desired: &Desired,
    current: Option<&Release>,
) -> Plan {
    plan(Inputs {
        desired,
        observed: &target.observe().await.expect("a look"),
        current,
        unfinished: None,
        half_way: &[],
        back_to: None,
        last: current.map(|release| release.number),
        unbuilt: &BTreeSet::new(),
        pace: Pace::ByPolicy,
    })
}

pub(crate) fn group_id(text: &str) -> GroupId {
    text.parse().expect("a group")
}

pub(crate) const BAD: Behaviour = Behaviour::Serves {
    after_looks: 2,
    bad: 0.2,
    slow: 0.0,
};

pub(crate) const GOOD: Behaviour = Behaviour::Serves {
    after_looks: 2,
    bad: 0.0,
    slow: 0.0,
};
