//! Whole deploys against the fake target: forward, back, stopped half-way, twice in a row.

mod away;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use platform_blueprint::{Blueprint, SecretName, ServiceName};
use platform_decide::desired::Desired;
use platform_decide::digest::Digest;
use platform_decide::group::{Artifact, GroupId, Place};
use platform_decide::plan::{ChangeKind, Pace, StepId};
use platform_decide::release::{ReleaseNumber, ReleaseStatus};
use platform_drive::apply::Crew;
use platform_drive::clock::SystemClock;
use platform_drive::deploy::{Outcome, Prepared, Request, With, carry_out, prepare, prepare_saved};
use platform_drive::error::DriveError;
use platform_drive::events::{Event, Events};
use platform_drive::journal::{self, Journal, Progress};
use platform_drive::lease::{self, Lease, LeaseError};
use platform_drive::record;
use platform_drive::releases::{self, History};
use platform_port::{SecretValues, Target};
use platform_testkit::{Behaviour, FakeTarget, Trouble};
use tokio_util::sync::CancellationToken;

const SHOP: &str = r#"
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

fn desired(text: &str) -> Desired {
    desired_with(text, &BTreeMap::new())
}

/// - `set`: the version of each secret that is set
fn desired_with(text: &str, set: &BTreeMap<SecretName, u32>) -> Desired {
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
struct Heard(Mutex<Vec<Event>>);

impl Events for Heard {
    fn emit(&self, event: Event) {
        self.0.lock().expect("a lock").push(event);
    }
}

struct Scene {
    target: Arc<FakeTarget>,
    heard: Arc<Heard>,
}

impl Scene {
    fn new() -> Self {
        Self {
            target: Arc::new(FakeTarget::new()),
            heard: Arc::default(),
        }
    }

    fn crew(&self, run: &str) -> Crew {
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

    async fn prepare(&self, desired: &Desired, pace: Pace) -> Prepared {
        let request = Request {
            desired,
            back_to: None,
            unbuilt: &BTreeSet::new(),
            pace,
        };
        prepare(&self.crew("look"), request).await.expect("a plan")
    }

    async fn deploy(&self, run: &str, desired: &Desired) -> Result<Outcome, DriveError> {
        self.deploy_with(&self.crew(run), desired).await
    }

    async fn deploy_with(&self, crew: &Crew, desired: &Desired) -> Result<Outcome, DriveError> {
        let lease = hold(crew).await.expect("a lease");
        let prepared = self.prepare(desired, Pace::ByPolicy).await;
        let result = carry_out(crew, &lease, prepared, with(&SecretValues::new())).await;
        lease.release().await.expect("the lease back");
        result
    }

    async fn statuses(&self) -> Vec<(u32, ReleaseStatus)> {
        let all = releases::all(self.target.store()).await.expect("releases");
        all.iter().map(|r| (r.number.0, r.status)).collect()
    }

    async fn serving(&self) -> Vec<String> {
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

async fn hold(crew: &Crew) -> Result<Lease, LeaseError> {
    let holder = lease::new_holder(&crew.run, &crew.command, crew.clock.as_ref());
    let target = Arc::clone(&crew.target);
    let stop = CancellationToken::new();
    Lease::acquire(target, holder, Duration::ZERO, crew.events.as_ref(), &stop).await
}

fn with(secrets: &SecretValues) -> With<'_> {
    With {
        secrets,
        parallelism: 8,
        commit: None,
    }
}

#[tokio::test]
async fn a_first_deploy_starts_along_needs_and_a_second_changes_nothing() {
    let scene = Scene::new();
    let shop = desired(SHOP);
    let outcome = scene.deploy("one", &shop).await.expect("a deploy");
    assert!(matches!(
        outcome,
        Outcome::Deployed {
            release: ReleaseNumber(1),
            ..
        }
    ));
    let acts = scene.target.acts();
    let place = |act: &str| acts.iter().position(|a| a.starts_with(act)).expect(act);
    assert!(place("ensure resource orders-db") < place("ensure orders@r1"));
    assert!(place("ensure orders@r1") < place("ensure web@r1"));
    assert_eq!(scene.serving().await, ["orders@r1=1000", "web@r1=1000"]);

    let again = scene.prepare(&shop, Pace::ByPolicy).await;
    assert!(again.plan.is_empty(), "{:#?}", again.plan.changes);
    let outcome = scene.deploy("two", &shop).await.expect("a deploy");
    assert!(matches!(outcome, Outcome::Unchanged { .. }));
    assert_eq!(scene.target.acts(), acts, "the second deploy did nothing");
}

#[tokio::test]
async fn a_change_replaces_its_service_and_leaves_the_others_alone() {
    let scene = Scene::new();
    scene.deploy("one", &desired(SHOP)).await.expect("a deploy");
    let changed = desired(&SHOP.replace("LOG = \"info\"", "LOG = \"debug\""));
    let plan = scene.prepare(&changed, Pace::ByPolicy).await.plan;
    let [change] = plan.changes.as_slice() else {
        panic!("one change: {:#?}", plan.changes)
    };
    assert_eq!(change.kind, ChangeKind::Replace);
    assert_eq!(change.because[0].path, "env.LOG");
    scene.deploy("two", &changed).await.expect("a deploy");
    assert_eq!(scene.serving().await, ["orders@r2=1000", "web@r1=1000"]);
    assert_eq!(
        scene.statuses().await,
        [(1, ReleaseStatus::Superseded), (2, ReleaseStatus::Active)]
    );
    let seen = scene.target.observe().await.expect("a look");
    let groups: Vec<String> = seen.groups.keys().map(ToString::to_string).collect();
    assert_eq!(groups, ["orders@r2", "web@r1"]);
}

#[tokio::test]
async fn a_rollout_is_handed_the_secrets_that_its_metrics_are_asked_for_with() {
    let scene = Scene::new();
    scene.deploy("one", &desired(SHOP)).await.expect("a deploy");
    let metric = r#"hold = "0s", analysis = { metrics = [{ name = "heap", query = "heap", prometheus = "http://127.0.0.1:1", headers = { Authorization = { secret = "metrics" } } }] }"#;
    let measured = SHOP
        .replacen("hold = \"0s\"", metric, 1)
        .replace("LOG = \"info\"", "LOG = \"debug\"");
    let secret: SecretName = "metrics".parse().expect("a name");
    let set = BTreeMap::from([(secret.clone(), 1)]);
    let prepared = scene
        .prepare(&desired_with(&measured, &set), Pace::ByPolicy)
        .await;
    assert_eq!(prepared.secrets(), BTreeSet::from([secret]));
}

#[tokio::test]
async fn a_release_that_crashes_is_taken_back_and_the_old_one_serves_on() {
    let scene = Scene::new();
    scene.deploy("one", &desired(SHOP)).await.expect("a deploy");
    let group: GroupId = "orders@r2".parse().expect("a group");
    scene.target.behave(&group, Behaviour::Crashes);
    let changed = desired(&SHOP.replace("LOG = \"info\"", "LOG = \"debug\""));
    let outcome = scene.deploy("two", &changed).await.expect("an outcome");
    assert!(
        matches!(
            outcome,
            Outcome::RolledBack {
                release: ReleaseNumber(2),
                to: ReleaseNumber(1),
                ..
            }
        ),
        "{outcome:?}"
    );
    assert_eq!(scene.serving().await, ["orders@r1=1000", "web@r1=1000"]);
    assert_eq!(
        scene.statuses().await,
        [(1, ReleaseStatus::Active), (2, ReleaseStatus::RolledBack)]
    );
    let left = scene.prepare(&desired(SHOP), Pace::ByPolicy).await;
    assert!(left.plan.is_empty(), "{:#?}", left.plan.changes);
}

#[tokio::test]
async fn a_first_release_that_fails_leaves_what_is_up_for_the_next_run() {
    let scene = Scene::new();
    let group: GroupId = "web@r1".parse().expect("a group");
    scene.target.behave(&group, Behaviour::Crashes);
    let failed = scene.deploy("one", &desired(SHOP)).await;
    assert!(
        matches!(failed, Err(DriveError::Failed { .. })),
        "{failed:?}"
    );
    scene.target.behave(&group, Behaviour::HEALTHY);
    let orders = |acts: &[String]| {
        acts.iter()
            .filter(|a| a.starts_with("ensure orders@"))
            .count()
    };
    let before = orders(&scene.target.acts());
    scene.deploy("two", &desired(SHOP)).await.expect("a deploy");
    assert_eq!(
        orders(&scene.target.acts()),
        before,
        "orders was up already"
    );
    assert_eq!(scene.statuses().await, [(1, ReleaseStatus::Active)]);
}

#[tokio::test]
async fn a_rollback_is_one_move() {
    let scene = Scene::new();
    scene.deploy("one", &desired(SHOP)).await.expect("a deploy");
    let changed = desired(&SHOP.replace("LOG = \"info\"", "LOG = \"debug\""));
    scene.deploy("two", &changed).await.expect("a deploy");
    let all = releases::all(scene.target.store()).await.expect("releases");
    let crew = scene.crew("three");
    let lease = hold(&crew).await.expect("a lease");
    let back = Desired::of_release(&all[0]);
    let request = Request {
        desired: &back,
        back_to: Some(&all[0]),
        unbuilt: &BTreeSet::new(),
        pace: Pace::AtOnce,
    };
    let prepared = prepare(&crew, request).await.expect("a plan");
    let before = scene.target.acts().len();
    carry_out(&crew, &lease, prepared, with(&SecretValues::new()))
        .await
        .expect("a rollback");
    lease.release().await.expect("the lease back");
    let moves: Vec<String> = scene.target.acts().split_off(before);
    let shifts = moves
        .iter()
        .filter(|a| a.contains("orders@r1=1000"))
        .count();
    assert_eq!(shifts, 1, "traffic moves once: {moves:#?}");
    assert_eq!(scene.serving().await, ["orders@r1=1000", "web@r1=1000"]);
    assert_eq!(
        scene.statuses().await,
        [
            (1, ReleaseStatus::Superseded),
            (2, ReleaseStatus::RolledBack),
            (3, ReleaseStatus::Active)
        ]
    );
}

#[tokio::test]
async fn a_saved_plan_is_refused_once_the_target_has_moved() {
    let scene = Scene::new();
    scene.deploy("one", &desired(SHOP)).await.expect("a deploy");
    let changed = desired(&SHOP.replace("LOG = \"info\"", "LOG = \"debug\""));
    let saved = scene.prepare(&changed, Pace::ByPolicy).await.plan;
    let bytes = serde_json::to_vec(&saved).expect("a plan has a JSON form");
    let saved: platform_decide::plan::Plan = serde_json::from_slice(&bytes).expect("it reads back");
    prepare_saved(&scene.crew("look"), saved.clone())
        .await
        .expect("nothing has moved");
    let other = desired(&SHOP.replace("replicas = 2", "replicas = 3"));
    scene.deploy("two", &other).await.expect("a deploy");
    let stale = prepare_saved(&scene.crew("look"), saved).await;
    assert!(matches!(stale, Err(DriveError::Stale)), "{stale:?}");
}

#[tokio::test]
async fn a_second_run_is_told_who_holds_the_lock() {
    let scene = Scene::new();
    let crew = scene.crew("one");
    let lease = hold(&crew).await.expect("a lease");
    let Err(LeaseError::Held { holder }) = hold(&scene.crew("two")).await else {
        panic!("the lock is held")
    };
    assert_eq!(holder.run, "one");
    lease.release().await.expect("the lease back");
    hold(&scene.crew("two")).await.expect("the lock is free");
}

#[tokio::test]
async fn a_run_told_to_stop_leaves_the_rest_to_the_next() {
    let scene = Scene::new();
    let group: GroupId = "orders@r1".parse().expect("a group");
    scene.target.behave(&group, Behaviour::NeverReady);
    let crew = scene.crew("one");
    let wanted = desired(SHOP);
    let word = crew.stop.clone();
    let (stopped, ()) = tokio::join!(scene.deploy_with(&crew, &wanted), async {
        while !scene
            .target
            .acts()
            .iter()
            .any(|a| a.starts_with("ensure orders@"))
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        word.cancel();
    });
    assert!(
        matches!(stopped, Err(DriveError::Stopped { .. })),
        "{stopped:?}"
    );
    let left = journal::left_behind(scene.target.store())
        .await
        .expect("a store");
    assert_eq!(left.map(|l| l.run), Some("one".to_owned()));
    scene.target.behave(&group, Behaviour::HEALTHY);
    let outcome = scene.deploy("two", &desired(SHOP)).await.expect("a deploy");
    assert!(matches!(
        outcome,
        Outcome::Deployed {
            release: ReleaseNumber(1),
            ..
        }
    ));
    assert!(
        journal::left_behind(scene.target.store())
            .await
            .expect("a store")
            .is_none()
    );
    let runs = record::all(scene.target.store()).await.expect("records");
    assert_eq!(runs.len(), 2, "both runs left a record");
}

#[tokio::test]
async fn a_deploy_that_goes_on_waits_for_what_is_not_up_yet() {
    let scene = Scene::new();
    let group: GroupId = "web@r1".parse().expect("a group");
    scene.target.behave(&group, Behaviour::NeverReady);
    let crew = scene.crew("one");
    let word = crew.stop.clone();
    let wanted = desired(SHOP);
    let (stopped, ()) = tokio::join!(scene.deploy_with(&crew, &wanted), async {
        while !scene
            .target
            .acts()
            .iter()
            .any(|a| a.starts_with("ensure web@"))
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        word.cancel();
    });
    assert!(
        matches!(stopped, Err(DriveError::Stopped { .. })),
        "{stopped:?}"
    );
    scene.target.behave(&group, Behaviour::Crashes);
    let failed = scene.deploy("two", &wanted).await;
    assert!(
        matches!(failed, Err(DriveError::Failed { .. })),
        "{failed:?}"
    );
    scene.target.behave(&group, Behaviour::HEALTHY);
    scene.deploy("three", &wanted).await.expect("a deploy");
    assert_eq!(scene.statuses().await, [(1, ReleaseStatus::Active)]);
}

#[tokio::test]
async fn each_batch_is_made_ready_before_it_is_asked_for() {
    let scene = Scene::new();
    scene.deploy("one", &desired(SHOP)).await.expect("a deploy");
    assert!(scene.target.prepared().is_empty());
    let changed = desired(&SHOP.replace("LOG = \"info\"", "LOG = \"debug\""));
    scene.deploy("two", &changed).await.expect("a deploy");
    assert_eq!(scene.target.prepared(), ["orders@r2 x1", "orders@r2 x2"]);
    let gate = "bake = \"0s\", gates = [{ when = \"before-start\", command = [\"true\"] }] }";
    let gated = SHOP.replace("bake = \"0s\" }", gate);
    scene
        .deploy("three", &desired(&gated))
        .await
        .expect("a deploy");
    // Nothing is touched before a gate agreed that is asked before the start.
    assert_eq!(scene.target.prepared()[2..], ["orders@r3 x2"]);
}

/// What a run is about to do is written down before it does it, and how that ended with whatever is written next.
#[tokio::test]
async fn the_journal_has_an_end_with_the_next_beginning() {
    let scene = Scene::new();
    let plan = scene.prepare(&desired(SHOP), Pace::ByPolicy).await.plan;
    let store = scene.target.store();
    let journal = Journal::open(store, "one", "platform deploy", String::new(), &plan)
        .await
        .expect("a journal");
    let [first, second] = [&plan.steps[0].id, &plan.steps[1].id];
    let steps = async |expected: &[(&StepId, Progress)]| {
        let left = journal::left_behind(store).await.expect("a store");
        let steps = left.expect("a journal").steps;
        let expected = expected.iter().map(|(id, how)| ((*id).clone(), *how));
        assert_eq!(steps, expected.collect::<BTreeMap<_, _>>());
    };
    let begun = async |step: &StepId| {
        let marked = journal.mark(store, step, Progress::Begun).await;
        marked.expect("a store");
    };
    begun(first).await;
    journal.note(first, Progress::Done);
    steps(&[(first, Progress::Begun)]).await;
    begun(second).await;
    journal.note(second, Progress::Done);
    steps(&[(first, Progress::Done), (second, Progress::Begun)]).await;
    journal.save(store).await.expect("a store");
    steps(&[(first, Progress::Done), (second, Progress::Done)]).await;
}

/// A run that was killed after its last act is put away by the next, which finds nothing to do.
#[tokio::test]
async fn a_run_that_had_done_all_is_put_away_and_what_it_left_is_removed() {
    let scene = Scene::new();
    let shop = desired(SHOP);
    let plan = scene.prepare(&shop, Pace::ByPolicy).await.plan;
    scene.deploy("one", &shop).await.expect("a deploy");
    assert_eq!(scene.target.tidied(), "r1");
    let store = scene.target.store();
    let changed = desired(&SHOP.replace("LOG = \"info\"", "LOG = \"debug\""));
    scene.deploy("two", &changed).await.expect("a deploy");
    assert_eq!(scene.target.tidied(), "r1 r2");
    Journal::open(store, "killed", "platform deploy", String::new(), &plan)
        .await
        .expect("a journal");
    scene.target.tidy(&[]).await.expect("a fake");
    let outcome = scene.deploy("three", &changed).await.expect("a deploy");
    assert!(matches!(outcome, Outcome::Unchanged { .. }), "{outcome:?}");
    assert_eq!(scene.target.tidied(), "r1 r2");
    let left = journal::left_behind(store).await.expect("a store");
    assert_eq!(left, None);
}

/// A run that is killed at any act is finished by the next one, and what served before serves all the while.
#[tokio::test]
async fn a_run_that_is_killed_at_any_act_is_finished_by_the_next() {
    let changed = desired(&SHOP.replace("LOG = \"info\"", "LOG = \"debug\""));
    for acts in 0..40 {
        let scene = Scene::new();
        scene.deploy("one", &desired(SHOP)).await.expect("a deploy");
        scene.target.hang_after(acts);
        let killed = tokio::select! {
            _ = scene.deploy("two", &changed) => false,
            () = scene.target.hung() => true,
        };
        let serving = scene.serving().await;
        let whole: u32 = serving
            .iter()
            .filter(|s| s.starts_with("orders@"))
            .filter_map(|s| s.rsplit_once('=')?.1.parse::<u32>().ok())
            .sum();
        assert_eq!(whole, 1000, "after {acts} acts: {serving:?}");
        scene.target.recover();
        // The killed run lived in this process, so its lock has to be taken away by hand.
        lease::force_release(scene.target.store())
            .await
            .expect("a store");
        scene
            .deploy("three", &changed)
            .await
            .expect("the next run finishes");
        assert_eq!(scene.serving().await.len(), 2, "after {acts} acts");
        let history = History::read(scene.target.store()).await.expect("a store");
        assert_eq!(history.head.unfinished, None, "after {acts} acts");
        let seen = scene.target.observe().await.expect("a look");
        assert_eq!(
            seen.groups.len(),
            2,
            "nothing is orphaned after {acts} acts: {seen:#?}"
        );
        if !killed {
            return;
        }
    }
    panic!("a deploy takes fewer acts");
}

/// What is on its way to the target, image by image, is not waited for by a run that is told to stop.
#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_an_image_hears_that_it_shall_stop() {
    let scene = Scene::new();
    scene.target.stall(true);
    let crew = scene.crew("one");
    let lease = hold(&crew).await.expect("a lease");
    let prepared = scene.prepare(&desired(SHOP), Pace::ByPolicy).await;
    let stops = async {
        scene.target.hung().await;
        crew.stop.cancel();
    };
    let secrets = SecretValues::new();
    let (result, ()) = tokio::join!(carry_out(&crew, &lease, prepared, with(&secrets)), stops);
    assert!(
        matches!(result, Err(DriveError::Stopped { .. })),
        "{result:?}"
    );
    let acts = scene.target.acts();
    assert!(!acts.iter().any(|act| act.contains("orders@")), "{acts:?}");
    lease.release().await.expect("the lease back");
    scene.target.stall(false);
    let outcome = scene.deploy("two", &desired(SHOP)).await.expect("a deploy");
    assert!(matches!(outcome, Outcome::Deployed { .. }), "{outcome:?}");
}

/// A run that slept while another took its lock over leaves everything to that one, also what it thinks has failed.
#[tokio::test]
async fn a_run_that_lost_its_lock_takes_nothing_back() {
    let scene = Scene::new();
    scene.deploy("one", &desired(SHOP)).await.expect("a deploy");
    let group: GroupId = "orders@r2".parse().expect("a group");
    scene.target.behave(&group, Behaviour::NeverReady);
    let changed = desired(&SHOP.replace("LOG = \"info\"", "LOG = \"debug\""));
    let crew = scene.crew("two");
    let lease = hold(&crew).await.expect("a lease");
    let prepared = scene.prepare(&changed, Pace::ByPolicy).await;
    let secrets = SecretValues::new();
    let loser = carry_out(&crew, &lease, prepared, with(&secrets));
    let store = scene.target.store();
    let winner = async {
        let under_way = loop {
            if let Some(key) = store
                .list("rollouts/00000002/")
                .await
                .expect("a store")
                .pop()
            {
                break key;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        lease::force_release(store).await.expect("a store");
        let crew = scene.crew("three");
        let lease = hold(&crew).await.expect("the lease");
        for key in [under_way.as_str(), journal::KEY] {
            let found = store.read(key).await.expect("a store").expect(key);
            store
                .write(key, &found.bytes, Some(&found.version))
                .await
                .expect("a store");
        }
        lease
    };
    let (lost, winner) = tokio::join!(loser, winner);
    assert!(matches!(lost, Err(DriveError::LeaseLost)), "{lost:?}");
    let took_back = |event: &Event| matches!(event, Event::TakingBack { .. });
    assert!(!scene.heard.0.lock().expect("a lock").iter().any(took_back));
    let history = History::read(store).await.expect("a store");
    assert_eq!(history.head.unfinished, Some(ReleaseNumber(2)));
    let left = journal::left_behind(store).await.expect("a store");
    assert_eq!(left.map(|entries| entries.run).as_deref(), Some("two"));
    winner.release().await.expect("the lease back");
}

/// The write of a renewal arrived and its answer did not: the run has its lock all the same, and goes on.
#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_was_lost_costs_no_lock() {
    let scene = Scene::new();
    let group: GroupId = "orders@r1".parse().expect("a group");
    scene.target.behave(&group, Behaviour::NeverReady);
    let crew = scene.crew("one");
    let lease = hold(&crew).await.expect("a lease");
    let wanted = desired(SHOP);
    let prepared = scene.prepare(&wanted, Pace::ByPolicy).await;
    let secrets = SecretValues::new();
    let deploy = carry_out(&crew, &lease, prepared, with(&secrets));
    let store = scene.target.documents();
    let renewals = async || {
        let holder = lease::holder(store).await.expect("a store");
        holder.expect("it is held").renewals
    };
    let troubled = async {
        // While it waits for the first instances, renewals are all that it writes.
        while !scene
            .target
            .acts()
            .iter()
            .any(|act| act == "ensure orders@r1 x2")
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let before = renewals().await;
        store.fail([Trouble::AnswerLost]);
        let renewed = async {
            while renewals().await < before + 4 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = renewed => {}
            lost = lease.lost() => panic!("the lock is lost: {lost:?}"),
        }
        assert_eq!(store.troubles_left(), 0);
        assert!(lease.is_held().await);
        scene.target.behave(&group, Behaviour::HEALTHY);
    };
    let (deployed, ()) = tokio::join!(deploy, troubled);
    assert!(
        matches!(deployed, Ok(Outcome::Deployed { .. })),
        "{deployed:?}"
    );
    lease.release().await.expect("the lease back");
}
