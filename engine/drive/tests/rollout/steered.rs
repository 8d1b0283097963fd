//! Steered by an operator, stopped, replaced, met by another run.

use std::collections::BTreeSet;
use std::time::Duration;

use platform_decide::plan::{Action, Inputs, Member, Pace, plan};
use platform_decide::rollout::{Order, Phase};
use platform_drive::error::Cause;
use platform_drive::rollout::Outcome;
use platform_port::{StoreError, Target};
use tokio_util::sync::CancellationToken;

use crate::scene::{CANARY, ROLLING, Scene, desired, group_id, shop};

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
    let Outcome::RolledBack { why, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(why, "ada asked for it");
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

/// An image that is on its way keeps nobody from being heard, and nothing of what it was for is made.
#[tokio::test(start_paused = true)]
async fn while_an_image_is_on_its_way_a_word_is_heard() {
    let scene = Scene::of(ROLLING).await;
    let before = scene.target.acts().len();
    scene.target.stall(true);
    let stop = CancellationToken::new();
    let stops = async {
        scene.target.hung().await;
        stop.cancel();
    };
    let (outcome, ()) = tokio::join!(scene.run("one", &stop), stops);
    assert_eq!(outcome.expect("an outcome"), Outcome::Stopped);
    assert_eq!(scene.target.acts().len(), before, "nothing was done");
    scene.stands_on("orders@r1").await;

    let steers = async {
        scene.target.hung().await;
        scene.say(Order::Pause).await;
        scene.say(Order::Abort).await;
    };
    let (outcome, ()) = tokio::join!(scene.goes(), steers);
    assert!(
        matches!(&outcome, Outcome::RolledBack { why, .. } if why == "ada asked for it"),
        "{outcome:?}"
    );
    assert_eq!(scene.target.acts().len(), before, "nothing was done");
    scene.stands_on("orders@r1").await;
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
        half_way: &[],
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
