//! Killed at any instant, or without a store for a while, and taken up again.

use std::time::Duration;

use platform_decide::rollout::Phase;
use platform_drive::rollout::{Outcome, RolloutEvent};
use platform_port::Target;
use platform_testkit::{Behaviour, Trouble};
use tokio_util::sync::CancellationToken;

use crate::scene::{BAD, BLUE_GREEN, CANARY, COPIED, GOOD, ROLLING, Scene};

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
    for rollout in [CANARY, COPIED, ROLLING] {
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
