//! The lock of an environment: held by another, lost, renewed.

use std::time::Duration;

use platform_decide::group::GroupId;
use platform_decide::plan::Pace;
use platform_decide::release::ReleaseNumber;
use platform_drive::deploy::{Outcome, carry_out};
use platform_drive::error::DriveError;
use platform_drive::events::Event;
use platform_drive::journal;
use platform_drive::lease::{self, LeaseError};
use platform_drive::releases::History;
use platform_port::{SecretValues, Target};
use platform_testkit::{Behaviour, Trouble};

use crate::scene::{SHOP, Scene, desired, hold, with};

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
