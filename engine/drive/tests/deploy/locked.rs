//! The lock of an environment: held by another, lost, renewed.

use std::time::Duration;

use platform_decide::group::GroupId;
use platform_decide::plan::Pace;
use platform_decide::release::ReleaseNumber;
use platform_drive::deploy::{Outcome, carry_out};
use platform_drive::error::DriveError;
use platform_drive::events::Event;
use platform_drive::journal;
use platform_drive::lease::{self, LeaseError, Lost, Pulse, Vigil};
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

/// A run that was halted has not asked its store meanwhile, so what it says of its lock is what the store says when it goes on.
#[tokio::test(start_paused = true)]
async fn who_was_halted_is_told_whether_another_took_its_lock() {
    const HALTED: Duration = Duration::from_secs(90);
    let scene = Scene::new();
    let store = scene.target.documents();
    store.answer_after(Duration::from_millis(20));
    let lease = hold(&scene.crew("one")).await.expect("a lease");
    // It waits for its next renewal.
    tokio::task::yield_now().await;
    tokio::time::advance(HALTED).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(lease.is_held().await, "nobody else wanted it");

    lease::force_release(store).await.expect("a store");
    let other = hold(&scene.crew("two")).await.expect("the lease");
    tokio::time::advance(HALTED).await;
    assert_eq!(lease.lost().await, Lost::Taken);
    other.release().await.expect("the lease back");
}

/// Who waits for another run notices that it is gone, and that it does nothing.
#[tokio::test(start_paused = true)]
async fn a_vigil_tells_how_the_holder_of_a_lock_is() {
    let scene = Scene::new();
    let store = scene.target.store();
    let mut vigil = Vigil::default();
    assert_eq!(vigil.look(store).await.expect("a store"), Pulse::Gone);
    let lease = hold(&scene.crew("one")).await.expect("a lease");
    for _ in 0..4 {
        assert_eq!(vigil.look(store).await.expect("a store"), Pulse::Alive);
        tokio::time::sleep(lease::TERM / 2).await;
    }
    // Nobody renews it any more, and its process, which is this one, lives.
    drop(lease);
    assert_eq!(vigil.look(store).await.expect("a store"), Pulse::Alive);
    tokio::time::sleep(lease::TERM).await;
    assert_eq!(vigil.look(store).await.expect("a store"), Pulse::Silent);

    let holder = lease::holder(store).await.expect("a store");
    let mut holder = holder.expect("it is held");
    let mut puts = async |holder: &lease::Holder| {
        let before = store.read(lease::KEY).await.expect("a store");
        let before = before.expect("it is held").version;
        let bytes = serde_json::to_vec(holder).expect("JSON");
        let written = store.write(lease::KEY, &bytes, Some(&before)).await;
        written.expect("a store");
        vigil.look(store).await.expect("a store")
    };
    let here = holder.owner.clone();
    holder.owner.host = "elsewhere".to_owned();
    assert_eq!(puts(&holder).await, Pulse::Alive);
    // Of one on this machine that has ended nothing is waited for.
    holder.owner = here;
    holder.owner.started += 1;
    assert_eq!(puts(&holder).await, Pulse::Gone);
    holder.owner.host = "elsewhere".to_owned();
    assert_eq!(puts(&holder).await, Pulse::Alive);
    tokio::time::sleep(lease::TERM).await;
    assert_eq!(vigil.look(store).await.expect("a store"), Pulse::Gone);
}
