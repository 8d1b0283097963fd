//! Runs that were stopped or killed half-way, and the next one.

use std::time::Duration;

use platform_decide::group::GroupId;
use platform_decide::plan::Pace;
use platform_decide::release::{ReleaseNumber, ReleaseStatus};
use platform_drive::deploy::{Outcome, carry_out};
use platform_drive::error::DriveError;
use platform_drive::journal::{self, Journal};
use platform_drive::lease;
use platform_drive::record;
use platform_drive::releases::History;
use platform_drive::rollout::{RolloutRecord, record_key};
use platform_port::{SecretValues, Target};
use platform_testkit::Behaviour;

use crate::scene::{SHOP, Scene, desired, hold, with};

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
    let Err(stopped) = stopped else {
        panic!("it was told to stop: {stopped:?}")
    };
    let told = stopped.to_string();
    assert!(told.starts_with("stopped in `start orders@r1`; "), "{told}");
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

/// What was begun and is gone back from was taken back; what another one takes the place of never came up.
#[tokio::test]
async fn a_release_that_a_run_was_stopped_at_was_taken_back_or_never_came_up() {
    let scene = Scene::new();
    let shop = desired(SHOP);
    scene.deploy("one", &shop).await.expect("a deploy");
    let with_log =
        |level: &str| desired(&SHOP.replace("LOG = \"info\"", &format!("LOG = \"{level}\"")));
    let stopped = async |run: &str, level: &str, group: &str| {
        scene
            .target
            .behave(&group.parse().expect("a group"), Behaviour::NeverReady);
        let crew = scene.crew(run);
        let word = crew.stop.clone();
        let begun = format!("ensure {group}");
        let wanted = with_log(level);
        let (stopped, ()) = tokio::join!(scene.deploy_with(&crew, &wanted), async {
            while !scene
                .target
                .acts()
                .iter()
                .any(|act| act.starts_with(&begun))
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            word.cancel();
        });
        assert!(
            matches!(stopped, Err(DriveError::Stopped { .. })),
            "{stopped:?}"
        );
    };
    stopped("two", "debug", "orders@r2").await;
    scene.deploy("three", &shop).await.expect("the way back");
    let key = record_key("three", "orders");
    let kept = scene.target.store().read(&key).await.expect("a store");
    let kept = kept.expect("a report is evidence of the run that took it back");
    let kept: RolloutRecord = serde_json::from_slice(&kept.bytes).expect("a report");
    assert_eq!(kept.report.release, ReleaseNumber(2));
    assert_eq!(kept.report.ended, "rolled-back");
    let last = kept.report.log.last().expect("an entry");
    assert_eq!(last.note.to_string(), "goes back: r1 took its place");
    for page in [&kept.markdown, &kept.junit] {
        assert!(page.contains("r1 took its place"), "{page}");
    }
    stopped("four", "trace", "orders@r3").await;
    scene
        .deploy("five", &with_log("warn"))
        .await
        .expect("a deploy");
    assert_eq!(
        scene.statuses().await,
        [
            (1, ReleaseStatus::Superseded),
            (2, ReleaseStatus::RolledBack),
            (3, ReleaseStatus::Failed),
            (4, ReleaseStatus::Active),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_not_ready_in_time_is_told_the_time_that_was_stated() {
    let scene = Scene::new();
    let group: GroupId = "web@r1".parse().expect("a group");
    scene.target.behave(&group, Behaviour::NeverReady);
    let stated = "port = 8081\nhealth = { start_within = \"1500ms\" }";
    let wanted = desired(&SHOP.replace("port = 8081", stated));
    let failed = scene.deploy("one", &wanted).await;
    let Err(DriveError::Failed { failure, .. }) = &failed else {
        panic!("{failed:?}");
    };
    let words = failure.in_words();
    assert!(
        words.contains(
            "web@r1 was not ready within the 1500ms of `start_within`, nor in the 15s more"
        ),
        "{words}"
    );
}
