//! What each strategy makes of good and bad releases, asked by gates and metrics.

use std::time::Duration;

use platform_decide::rollout::{Order, Phase};
use platform_drive::rollout::{Outcome, last_record};
use platform_port::Target;
use platform_testkit::Behaviour;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::scene::{BAD, BLUE_GREEN, CANARY, COPIED, GOOD, ROLLING, Scene};

/// What a rollout that is promoted has the target do.
async fn acts_to_the_end(scene: &Scene) -> Vec<String> {
    let before = scene.target.acts().len();
    assert_eq!(scene.goes().await, Outcome::Promoted);
    scene.stands_on("orders@r2").await;
    scene.target.acts().split_off(before)
}

#[tokio::test(start_paused = true)]
async fn a_healthy_canary_moves_step_by_step() {
    let scene = Scene::of(CANARY).await;
    scene.behave("orders@r2", GOOD);
    assert_eq!(
        acts_to_the_end(&scene).await,
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
async fn copies_come_first_and_what_answers_them_badly_gets_no_request() {
    let scene = Scene::of(COPIED).await;
    scene.behave("orders@r2", GOOD);
    assert_eq!(
        acts_to_the_end(&scene).await,
        [
            "ensure orders@r1-baseline x1",
            "ensure orders@r2 x1",
            "route orders@r1=800 orders@r1-baseline=200 orders@r2 gets copies of 200",
            "route orders@r1-baseline=500 orders@r2=500",
            "ensure orders@r2 x2",
            "route orders@r2=1000",
            "remove orders@r1-baseline",
            "remove orders@r1",
        ]
    );

    let scene = Scene::of(COPIED).await;
    scene.behave("orders@r2", BAD);
    let outcome = scene.goes().await;
    let Outcome::RolledBack { why, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(why.contains("the new release is worse"), "{why}");
    scene.stands_on("orders@r1").await;
    let routed = |act: &&String| act.starts_with("route") && act.contains("orders@r2=");
    let acts = scene.target.acts();
    assert_eq!(acts.iter().find(routed), None);
    let record = last_record(scene.target.store()).await.expect("the store");
    let report = record.expect("a report").report;
    let member = &report.members[0];
    assert_eq!(member.new.requests, 0, "{member:?}");
    assert!(member.copies.bad > 0, "{member:?}");
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
    let Outcome::RolledBack { why, log, .. } = outcome else {
        panic!("{outcome:?}");
    };
    // What was taken down after that says nothing any more.
    let said: Vec<&str> = log.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(said, ["orders@r2 says hello"]);
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
    let Outcome::RolledBack { why, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(
        why,
        "gate `sleep` does not agree: `sleep` did not end within 1s"
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
    let Outcome::RolledBack { why, .. } = scene.goes().await else {
        panic!("it is worse");
    };
    assert!(why.starts_with("orders@r2: metric `heap` is"), "{why}");
    scene.stands_on("orders@r1").await;

    let scene = Scene::of(&metric("dry_run = true")).await;
    assert_eq!(scene.goes().await, Outcome::Promoted);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_hear_what_was_written_goes_back_all_the_same() {
    for hushed in [false, true] {
        let scene = Scene::of(CANARY).await;
        scene.behave("orders@r2", BAD);
        if hushed {
            scene.target.hush();
        }
        let Outcome::RolledBack { log, .. } = scene.goes().await else {
            panic!("every second answer was bad");
        };
        assert_eq!(log.is_empty(), hushed, "{log:?}");
        scene.stands_on("orders@r1").await;
    }
}

#[tokio::test(start_paused = true)]
async fn why_a_metric_cannot_be_read_is_told_and_kept() {
    let mistyped = CANARY.replace(
        "min_samples = 20 }",
        "min_samples = 20, errors = \"20%\", slow = \"20%\", at_most = \"20s\", when_quiet = \"roll-back\", metrics = [{ name = \"heap\", every = \"1s\", \
         command = [\"sh\", \"-c\", \"echo no such figure >&2; exit 3\"] }] }",
    );
    let scene = Scene::of(&mistyped).await;
    let Outcome::RolledBack { why, .. } = scene.goes().await else {
        panic!("nobody could see that it is as good");
    };
    assert_eq!(
        why,
        "orders@r2: metric `heap` is without any reading; it could not be read: exit status: 3: no such figure"
    );
    let told: Vec<String> = scene.troubles();
    assert_eq!(
        told,
        ["cannot read metric `heap` of orders: exit status: 3: no such figure"]
    );
}

#[tokio::test(start_paused = true)]
async fn counts_that_cannot_be_read_are_told_and_hold_a_rollout_until_they_can() {
    for rollout in [CANARY, ROLLING] {
        let scene = Scene::of(rollout).await;
        scene.target.uncounted(true);
        scene.behave("orders@r2", BAD);
        let watches = async {
            scene
                .until(|phase| matches!(phase, Phase::Serving { stage: 0 }))
                .await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(scene.phase().await, Some(Phase::Serving { stage: 0 }));
            scene.target.uncounted(false);
        };
        let (outcome, ()) = tokio::join!(scene.goes(), watches);
        assert!(matches!(outcome, Outcome::RolledBack { .. }), "{outcome:?}");
        assert_eq!(
            scene.troubles(),
            ["cannot read the counts on fake: the fake was told not to count"]
        );
        scene.stands_on("orders@r1").await;
    }
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

/// Time stands still but for those who sleep, so nobody slept.
#[tokio::test(start_paused = true)]
async fn the_end_of_the_last_old_instance_is_acted_upon_at_once() {
    let scene = Scene::of(ROLLING).await;
    scene.target.linger(true);
    let stop = CancellationToken::new();
    let outcome = scene.run("one", &stop);
    tokio::pin!(outcome);
    tokio::select! {
        ended = &mut outcome => panic!("it ended while an old instance did not: {ended:?}"),
        () = scene.until(|phase| *phase == Phase::Retiring) => {}
    }
    let ended = Instant::now();
    scene.target.linger(false);
    assert_eq!(outcome.await.expect("an outcome"), Outcome::Promoted);
    assert_eq!(ended.elapsed(), Duration::ZERO);
}
