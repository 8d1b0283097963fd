//! What fails is taken back, and what is taken back serves.

use std::collections::BTreeSet;

use platform_decide::desired::Desired;
use platform_decide::group::GroupId;
use platform_decide::plan::Pace;
use platform_decide::release::{ReleaseNumber, ReleaseStatus};
use platform_drive::deploy::{Outcome, Request, carry_out, prepare};
use platform_drive::error::DriveError;
use platform_drive::releases;
use platform_port::{SecretValues, Target};
use platform_testkit::Behaviour;

use crate::scene::{SHOP, Scene, desired, hold, with};

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

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_again_and_again_is_given_up_with_its_last_lines() {
    let scene = Scene::new();
    let name = "orders-db".parse().expect("a name");
    scene.target.crash(&name, true);
    let began = tokio::time::Instant::now();
    let failed = scene.deploy("one", &desired(SHOP)).await;
    let Err(error @ DriveError::Failed { .. }) = failed else {
        panic!("{failed:?}")
    };
    // On the paused clock: it is not waited for until its time is up.
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    assert_eq!(error.code(), "deploy::instance-failed");
    let help = error.help().unwrap_or_default();
    assert!(help.starts_with("mend what the log shows"), "{help}");
    let DriveError::Failed { failure, .. } = error else {
        return;
    };
    assert_eq!(failure.cause.to_string(), "orders-db: out of memory");
    let said: Vec<&str> = failure.log.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(said, ["orders-db says hello"]);
    scene.target.crash(&name, false);
    scene.deploy("two", &desired(SHOP)).await.expect("a deploy");
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
    Box::pin(carry_out(
        &crew,
        &lease,
        prepared,
        with(&SecretValues::new()),
    ))
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
