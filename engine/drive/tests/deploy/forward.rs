//! Deploys that come to their end, once and again.

use std::collections::{BTreeMap, BTreeSet};

use platform_blueprint::SecretName;
use platform_decide::plan::{ChangeKind, Pace, StepId};
use platform_decide::release::{ReleaseNumber, ReleaseStatus};
use platform_drive::deploy::{Outcome, prepare_saved};
use platform_drive::error::DriveError;
use platform_drive::journal::{self, Journal, Progress};
use platform_port::Target;
use platform_testkit::Behaviour;

use crate::scene::{SHOP, Scene, desired, desired_with};

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
async fn a_rollout_is_handed_the_secrets_that_its_gates_and_metrics_are_asked_with() {
    let scene = Scene::new();
    scene.deploy("one", &desired(SHOP)).await.expect("a deploy");
    let metric = r#"hold = "0s", analysis = { metrics = [{ name = "heap", query = "heap", prometheus = "http://127.0.0.1:1", headers = { Authorization = { secret = "metrics" } } }] }, gates = [{ when = "per-step", webhook = "http://127.0.0.1:1", headers = { Authorization = { secret = "ops" } } }]"#;
    let measured = SHOP
        .replacen("hold = \"0s\"", metric, 1)
        .replace("LOG = \"info\"", "LOG = \"debug\"");
    let secrets = ["metrics", "ops"].map(|name| name.parse::<SecretName>().expect("a name"));
    let set = secrets.clone().map(|secret| (secret, 1)).into();
    let prepared = scene
        .prepare(&desired_with(&measured, &set), Pace::ByPolicy)
        .await;
    assert_eq!(prepared.secrets(), BTreeSet::from(secrets));
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

/// A plan that waited while its number was given to another release, of which nothing is left to be seen.
#[tokio::test]
async fn a_saved_plan_does_not_take_the_number_of_another_release() {
    let scene = Scene::new();
    scene.deploy("one", &desired(SHOP)).await.expect("a deploy");
    let with_log = |level: &str| desired(&SHOP.replace("\"info\"", &format!("\"{level}\"")));
    let waits = scene.prepare(&with_log("debug"), Pace::ByPolicy).await.plan;
    let group = "orders@r2".parse().expect("a group");
    scene.target.behave(&group, Behaviour::Crashes);
    let outcome = scene.deploy("two", &with_log("trace")).await;
    assert!(
        matches!(outcome, Ok(Outcome::RolledBack { .. })),
        "{outcome:?}"
    );
    let stale = prepare_saved(&scene.crew("look"), waits).await;
    assert!(matches!(stale, Err(DriveError::Stale)), "{stale:?}");
    let next = scene.prepare(&with_log("debug"), Pace::ByPolicy).await.plan;
    assert_eq!(next.release.number.0, 3);
    prepare_saved(&scene.crew("look"), next)
        .await
        .expect("a plan that is good");
}
