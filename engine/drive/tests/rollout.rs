//! Rollouts driven against the fake target: promoted, taken back, steered, killed at any instant and taken up again.

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
use platform_drive::apply::{Crew, Means};
use platform_drive::clock::Clock;
use platform_drive::error::Cause;
use platform_drive::events::{Event, Events};
use platform_drive::rollout::{self, Outcome, RolloutEvent, RolloutRecord, record_key};
use platform_port::{SecretValues, StoreError, Target};
use platform_testkit::{Behaviour, FakeTarget, Trouble};
use tokio_util::sync::CancellationToken;

/// A clock on which every look at it takes a while, so that minutes pass in moments.
#[derive(Default)]
struct Leaping(AtomicU64);

impl Clock for Leaping {
    fn millis(&self) -> u64 {
        1_000_000 + self.0.fetch_add(400, Ordering::SeqCst)
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<RolloutEvent>>);

impl Events for Heard {
    fn emit(&self, event: Event) {
        if let Event::Rollout(event) = event {
            self.0.lock().expect("a lock").push(event);
        }
    }
}

fn shop(rollout: &str, log: &str) -> String {
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

const CANARY: &str = r#"
strategy = "canary"
steps = ["10%", "50%"]
hold = "2s"
bake = "4s"
analysis = { at_least = "1s", min_samples = 20 }
"#;

const BLUE_GREEN: &str = r#"
strategy = "blue-green"
hold = "1s"
bake = "4s"
gates = [{ when = "before-promote", command = ["true"] }]
"#;

const ROLLING: &str = r#"
strategy = "rolling"
hold = "4s"
"#;

fn desired(text: &str) -> Desired {
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
struct Scene {
    target: Arc<FakeTarget>,
    heard: Arc<Heard>,
    clock: Arc<Leaping>,
    current: Release,
    plan: Plan,
    members: Vec<Member>,
    policy: Rollout,
    secrets: SecretValues,
}

impl Scene {
    async fn of(rollout: &str) -> Self {
        Self::with(rollout, 2).await
    }

    async fn with(rollout: &str, replicas: u32) -> Self {
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
        }
    }

    fn crew(&self, run: &str) -> Crew {
        Crew {
            target: Arc::clone(&self.target) as Arc<dyn Target>,
            events: Arc::clone(&self.heard) as Arc<dyn Events>,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            stop: CancellationToken::new(),
            run: run.to_owned(),
            command: "platform deploy".to_owned(),
        }
    }

    async fn run(&self, run: &str, stop: &CancellationToken) -> Result<Outcome, Cause> {
        let crew = self.crew(run);
        let means = Means {
            secrets: &self.secrets,
            current: Some(&self.current),
            parallelism: 4,
        };
        rollout::run(&crew, &self.plan, means, &self.members, &self.policy, stop).await
    }

    async fn goes(&self) -> Outcome {
        self.run("one", &CancellationToken::new())
            .await
            .expect("an outcome")
    }

    /// Lets the run go on until the target has carried out so many acts, and kills it there.
    async fn killed_after(&self, acts: usize) -> Option<Outcome> {
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

    fn behave(&self, group: &str, behaviour: Behaviour) {
        self.target.behave(&group_id(group), behaviour);
    }

    async fn groups(&self) -> Vec<String> {
        let seen = self.target.observe().await.expect("a look");
        seen.groups
            .iter()
            .map(|(id, seen)| format!("{id}×{}", seen.replicas))
            .collect()
    }

    async fn shares(&self) -> Vec<String> {
        let seen = self.target.observe().await.expect("a look");
        let splits = seen.gateway.expect("a gateway").splits;
        let shares = splits.values().flat_map(|split| &split.shares);
        shares
            .map(|(group, share)| format!("{group}={}", share.get()))
            .collect()
    }

    async fn stands_on(&self, group: &str) {
        assert_eq!(self.groups().await, [format!("{group}×2")]);
        assert_eq!(self.shares().await, [format!("{group}=1000")]);
    }

    async fn say(&self, order: Order) {
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

    async fn phase(&self) -> Option<Phase> {
        let all = rollout::all(self.target.store(), self.plan.release.number).await;
        all.expect("states")
            .into_iter()
            .next()
            .map(|state| state.phase)
    }

    async fn until(&self, mut there: impl FnMut(&Phase) -> bool) {
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

async fn planned(target: &FakeTarget, desired: &Desired, current: Option<&Release>) -> Plan {
    plan(Inputs {
        desired,
        observed: &target.observe().await.expect("a look"),
        current,
        unfinished: None,
        back_to: None,
        last: current.map(|release| release.number),
        unbuilt: &BTreeSet::new(),
        pace: Pace::ByPolicy,
    })
}

fn group_id(text: &str) -> GroupId {
    text.parse().expect("a group")
}

const BAD: Behaviour = Behaviour::Serves {
    after_looks: 2,
    bad: 0.2,
    slow: 0.0,
};

const GOOD: Behaviour = Behaviour::Serves {
    after_looks: 2,
    bad: 0.0,
    slow: 0.0,
};

#[tokio::test(start_paused = true)]
async fn a_healthy_canary_moves_step_by_step() {
    let scene = Scene::of(CANARY).await;
    scene.behave("orders@r2", GOOD);
    let before = scene.target.acts().len();
    assert_eq!(scene.goes().await, Outcome::Promoted);
    scene.stands_on("orders@r2").await;
    assert_eq!(
        scene.target.acts()[before..],
        [
            "ensure orders@r1-baseline x1",
            "ensure orders@r2 x1",
            "route orders@r1=800 orders@r1-baseline=100 orders@r2=100",
            "route orders@r1-baseline=500 orders@r2=500",
            "ensure orders@r2 x2",
            "route orders@r2=1000",
            "remove orders@r1-baseline",
            "remove orders@r1",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn every_strategy_promotes_what_is_good_and_takes_back_what_is_bad() {
    for rollout in [CANARY, ROLLING] {
        let scene = Scene::of(rollout).await;
        assert_eq!(scene.goes().await, Outcome::Promoted, "{rollout}");
        scene.stands_on("orders@r2").await;
        for bad in [
            BAD,
            Behaviour::NeverReady,
            Behaviour::Crashes,
            Behaviour::CrashesAfter { requests: 100 },
            Behaviour::Serves {
                after_looks: 0,
                bad: 0.0,
                slow: 0.3,
            },
        ] {
            let scene = Scene::of(rollout).await;
            scene.behave("orders@r2", bad);
            let outcome = scene.goes().await;
            assert!(
                matches!(outcome, Outcome::RolledBack { .. }),
                "{bad:?}: {outcome:?}"
            );
            scene.stands_on("orders@r1").await;
        }
    }
}

#[tokio::test]
async fn blue_green_asks_before_it_switches() {
    let scene = Scene::of(BLUE_GREEN).await;
    assert_eq!(scene.goes().await, Outcome::Promoted);
    scene.stands_on("orders@r2").await;

    let refused = BLUE_GREEN.replace(
        "\"true\"",
        "\"sh\", \"-c\", \"echo $PLATFORM_SERVICES is not well; exit 4\"",
    );
    let scene = Scene::of(&refused).await;
    let outcome = scene.goes().await;
    let Outcome::RolledBack { why } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(
        why,
        "gate `sh` does not agree: exit status: 4: orders is not well"
    );
    scene.stands_on("orders@r1").await;
}

#[tokio::test]
async fn a_gate_that_hangs_is_cut_off_and_going_back_does_not_wait_for_it() {
    let hangs = BLUE_GREEN.replace("\"true\"]", "\"sleep\", \"600\"], timeout = \"1s\"");
    let scene = Scene::of(&hangs).await;
    let outcome = scene.goes().await;
    let Outcome::RolledBack { why } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(
        why,
        "gate `sleep` does not agree: `sleep` did not end within 1 s"
    );

    let hangs = BLUE_GREEN.replace("\"true\"]", "\"sleep\", \"600\"], timeout = \"10m\"");
    let scene = Scene::of(&hangs).await;
    let steers = async {
        scene
            .until(|phase| *phase == Phase::Starting { stage: 0 })
            .await;
        scene.say(Order::Abort).await;
    };
    let (outcome, ()) = tokio::join!(scene.goes(), steers);
    assert!(matches!(outcome, Outcome::RolledBack { .. }), "{outcome:?}");
    scene.stands_on("orders@r1").await;
}

/// How often the target acts from one end of a rollout to the other.
async fn acts_of(rollout: &str, behaviour: Behaviour) -> usize {
    let scene = Scene::of(rollout).await;
    scene.behave("orders@r2", behaviour);
    let before = scene.target.acts().len();
    scene.goes().await;
    scene.target.acts().len() - before
}

/// Kills a rollout after each of its acts, and has the next run go on.
async fn killed_after_any_act(rollout: &str) {
    for (behaviour, end) in [(GOOD, "orders@r2"), (BAD, "orders@r1")] {
        for acts in 1..acts_of(rollout, behaviour).await {
            let scene = Scene::of(rollout).await;
            scene.behave("orders@r2", behaviour);
            let outcome = scene.killed_after(acts).await;
            assert_eq!(outcome, None, "killed after {acts}");
            let whole: u32 = scene
                .target
                .observe()
                .await
                .expect("a look")
                .gateway
                .expect("a gateway")
                .splits
                .values()
                .flat_map(|split| split.shares.values())
                .map(|share| u32::from(share.get()))
                .sum();
            assert_eq!(whole, 1000, "after {acts} acts traffic goes somewhere");
            scene.goes().await;
            scene.stands_on(end).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn killed_after_any_act_the_next_run_comes_to_the_same_end() {
    for rollout in [CANARY, ROLLING] {
        killed_after_any_act(rollout).await;
    }
}

/// With time as it is, since its gate is a program.
#[tokio::test]
async fn a_second_colour_killed_after_any_act_comes_to_the_same_end() {
    killed_after_any_act(BLUE_GREEN).await;
}

/// The store is away for a while, and some of what it seemed not to take it took: the rollout waits, and goes on.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_while_is_waited_for() {
    let scene = Scene::of(CANARY).await;
    let breaks = async {
        scene
            .until(|phase| *phase == Phase::Serving { stage: 0 })
            .await;
        let store = scene.target.documents();
        store.fail([Trouble::Refused, Trouble::Refused, Trouble::AnswerLost]);
        while store.troubles_left() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        store.fail([Trouble::AnswerLost, Trouble::Refused]);
    };
    let (outcome, ()) = tokio::join!(scene.goes(), breaks);
    assert_eq!(outcome, Outcome::Promoted);
    scene.stands_on("orders@r2").await;
    let heard = scene.heard.0.lock().expect("a lock");
    let troubles = heard
        .iter()
        .filter(|event| matches!(event, RolloutEvent::Trouble { .. }));
    assert_eq!(troubles.count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_metric_of_a_command_takes_back_what_is_worse_and_only_reports_on_a_dry_run() {
    // A program takes no time of the test's clock, so it is asked through a file that each side has its number in.
    let figures = tempfile::tempdir().expect("a folder");
    for (lane, figure) in [("r1", "10"), ("r1-baseline", "10"), ("r2", "30")] {
        std::fs::write(figures.path().join(lane), figure).expect("a file");
    }
    let metric = |more: &str| {
        format!(
            "{CANARY}\n[[rollout.analysis.metrics]]\nname = \"heap\"\nevery = \"1s\"\n\
             command = [\"cat\", \"{}/${{VERSION}}\"]\n{more}",
            figures.path().display()
        )
        .replace("analysis = {", "[rollout.analysis]\n")
        .replace(
            "at_least = \"1s\", min_samples = 20 }",
            "at_least = \"1s\"\nmin_samples = 20",
        )
    };
    let scene = Scene::of(&metric("")).await;
    let Outcome::RolledBack { why } = scene.goes().await else {
        panic!("it is worse");
    };
    assert!(why.starts_with("orders@r2: metric `heap` is"), "{why}");
    scene.stands_on("orders@r1").await;

    let scene = Scene::of(&metric("dry_run = true")).await;
    assert_eq!(scene.goes().await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn killed_at_two_hundred_instants_it_still_comes_to_its_end() {
    let mut killed = 0;
    let mut instant = 7_u64;
    while killed < 200 {
        let bad = instant.is_multiple_of(3);
        let scene = Scene::of(CANARY).await;
        scene.behave("orders@r2", if bad { BAD } else { GOOD });
        let stop = CancellationToken::new();
        loop {
            // A fixed walk over the instants: no two runs are cut at the same place.
            instant = instant
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let after = Duration::from_micros((instant >> 33) % 1_500_000);
            match tokio::time::timeout(after, scene.run("cut", &stop)).await {
                Ok(outcome) => {
                    outcome.expect("an outcome");
                    break;
                }
                Err(_) => killed += 1,
            }
        }
        scene
            .stands_on(if bad { "orders@r1" } else { "orders@r2" })
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_steers_it_through_the_store() {
    let scene = Scene::of(CANARY).await;
    let steers = async {
        scene
            .until(|phase| *phase == Phase::Serving { stage: 0 })
            .await;
        scene.say(Order::Pause).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(scene.phase().await, Some(Phase::Serving { stage: 0 }));
        scene.say(Order::Resume).await;
    };
    let (outcome, ()) = tokio::join!(scene.goes(), steers);
    assert_eq!(outcome, Outcome::Promoted);

    let scene = Scene::of(CANARY).await;
    let steers = async {
        scene
            .until(|phase| matches!(phase, Phase::Serving { .. }))
            .await;
        scene.say(Order::Abort).await;
    };
    let (outcome, ()) = tokio::join!(scene.goes(), steers);
    let why = "ada asked for it".to_owned();
    assert_eq!(outcome, Outcome::RolledBack { why });
    scene.stands_on("orders@r1").await;
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_leaves_traffic_safe_and_the_next_run_goes_on() {
    let scene = Scene::of(CANARY).await;
    let stop = CancellationToken::new();
    let stops = async {
        scene
            .until(|phase| *phase == Phase::Serving { stage: 1 })
            .await;
        stop.cancel();
    };
    let (outcome, ()) = tokio::join!(scene.run("one", &stop), stops);
    assert_eq!(outcome.expect("an outcome"), Outcome::Stopped);
    assert_eq!(scene.shares().await, ["orders@r1=1000"]);
    assert_eq!(scene.goes().await, Outcome::Promoted);
    scene.stands_on("orders@r2").await;
}

#[tokio::test(start_paused = true)]
async fn what_replaces_a_rollout_that_was_cut_off_begins_from_what_served() {
    let scene = Scene::of(CANARY).await;
    let stop = CancellationToken::new();
    let there = scene.until(|phase| *phase == Phase::Serving { stage: 1 });
    tokio::select! {
        outcome = scene.run("cut", &stop) => panic!("{outcome:?}"),
        () = there => {}
    }
    let third = desired(&shop(CANARY, "trace"));
    let observed = scene.target.observe().await.expect("a look");
    let replaced = plan(Inputs {
        desired: &third,
        observed: &observed,
        current: Some(&scene.current),
        unfinished: Some(&scene.plan.release),
        back_to: None,
        last: Some(scene.plan.release.number),
        unbuilt: &BTreeSet::new(),
        pace: Pace::ByPolicy,
    });
    let members = replaced.steps.iter().find_map(|step| match &step.action {
        Action::Rollout { members, .. } => Some(members.clone()),
        _ => None,
    });
    let expected = Member {
        from: group_id("orders@r1"),
        from_replicas: 2,
        to: group_id("orders@r3"),
    };
    assert_eq!(members, Some(vec![expected]));
}

#[tokio::test(start_paused = true)]
async fn two_runs_do_not_drive_the_same_rollout() {
    let scene = Scene::of(CANARY).await;
    let other = CancellationToken::new();
    let takes_over = async {
        scene
            .until(|phase| *phase == Phase::Serving { stage: 0 })
            .await;
        scene.run("other", &other).await
    };
    let (first, second) = tokio::join!(scene.run("one", &other), takes_over);
    let first = first.expect_err("the first has been overtaken");
    assert!(
        matches!(first, Cause::Store(StoreError::Conflict { .. })),
        "{first:?}"
    );
    assert_eq!(second.expect("an outcome"), Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn a_report_is_kept_as_evidence() {
    let scene = Scene::of(CANARY).await;
    scene.behave("orders@r2", BAD);
    scene.goes().await;
    let key = record_key("one", "orders");
    let kept = scene
        .target
        .store()
        .read(&key)
        .await
        .expect("a read")
        .expect("a record");
    let record: RolloutRecord = serde_json::from_slice(&kept.bytes).expect("a record");
    assert_eq!(record.report.ended, "rolled-back");
    assert!(record.report.members[0].new.bad > 0);
    assert!(
        record.markdown.contains("the new release is worse"),
        "{}",
        record.markdown
    );
    assert!(record.junit.contains("failures=\"1\""), "{}", record.junit);
    let last = rollout::last_record(scene.target.store())
        .await
        .expect("a read");
    assert_eq!(last, Some(record));
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_told_with_numbers() {
    let scene = Scene::of(CANARY).await;
    assert_eq!(scene.goes().await, Outcome::Promoted);
    let heard = scene.heard.0.lock().expect("a lock");
    let steps: Vec<&str> = heard
        .iter()
        .filter_map(|event| match event {
            RolloutEvent::Step { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(steps[0], "orders@r2 takes over by 10 %, 50 %, all traffic");
    assert_eq!(steps.last(), Some(&"promoted"));
    let numbers = heard.iter().any(|event| match event {
        RolloutEvent::Progress(progress) => progress.members[0].new.answered.requests > 0,
        _ => false,
    });
    assert!(numbers);
}

#[tokio::test(start_paused = true)]
async fn the_next_batch_starts_while_an_old_instance_ends_and_no_further() {
    let scene = Scene::with(ROLLING, 3).await;
    scene.target.linger(true);
    let did = |act: &str| scene.target.acts().iter().any(|done| done == act);
    let stop = CancellationToken::new();
    let outcome = scene.run("one", &stop);
    tokio::pin!(outcome);
    let lingering = async {
        scene
            .until(|phase| matches!(phase, Phase::Starting { stage: 2 }))
            .await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    tokio::select! {
        ended = &mut outcome => panic!("it ended while an old instance did not: {ended:?}"),
        () = lingering => {}
    }
    assert!(did("ensure orders@r2 x2"), "{:?}", scene.target.acts());
    // The second old instance is not even on its way out, so a third new one would be one too many.
    assert!(!did("ensure orders@r2 x3"), "{:?}", scene.target.acts());
    scene.target.linger(false);
    assert_eq!(outcome.await.expect("an outcome"), Outcome::Promoted);
    assert_eq!(scene.groups().await, ["orders@r2×3"]);
}
