//! A store or a target that is away for a moment, or for longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use platform_decide::desired::Desired;
use platform_decide::plan::Pace;
use platform_decide::release::ReleaseStatus;
use platform_decide::rollout::Note;
use platform_drive::apply::Crew;
use platform_drive::deploy::{Outcome, carry_out};
use platform_drive::error::DriveError;
use platform_drive::events::{Event, Events};
use platform_drive::lease::{self, Lost};
use platform_drive::record;
use platform_drive::rollout::{self, RolloutEvent};
use platform_port::{SecretValues, Target};
use platform_testkit::{FakeTarget, Trouble};

use crate::scene::{Heard, SHOP, Scene, desired, hold, with};

/// Breaks something at a moment of a deploy.
struct Breaks<M, B> {
    heard: Arc<Heard>,
    /// Whether this is the moment.
    moment: M,
    happens: B,
    broken: tokio::sync::Notify,
}

impl<M, B> Events for Breaks<M, B>
where
    M: Fn(&Event) -> bool + Send + Sync,
    B: Fn() + Send + Sync,
{
    fn emit(&self, event: Event) {
        if (self.moment)(&event) {
            (self.happens)();
            self.broken.notify_one();
        }
        self.heard.emit(event);
    }
}

impl Scene {
    /// Deploys with something that breaks at a moment, and is mended after a while.
    async fn deploy_broken(
        &self,
        wanted: &Desired,
        moment: impl Fn(&Event) -> bool + Send + Sync + 'static,
        broken: impl Fn(&FakeTarget, bool) + Copy + Send + Sync + 'static,
        time: Duration,
    ) -> Result<Outcome, DriveError> {
        let target = Arc::clone(&self.target);
        let breaks = Arc::new(Breaks {
            heard: Arc::clone(&self.heard),
            moment,
            happens: move || broken(&target, true),
            broken: tokio::sync::Notify::new(),
        });
        let crew = Crew {
            events: Arc::clone(&breaks) as Arc<dyn Events>,
            ..self.crew("broken")
        };
        let mends = async {
            for _ in 0..1_000 {
                breaks.broken.notified().await;
                tokio::time::sleep(time).await;
                broken(&self.target, false);
            }
        };
        let lease = hold(&crew).await.expect("a lease");
        let prepared = self.prepare(wanted, Pace::ByPolicy).await;
        let secrets = SecretValues::new();
        let result = tokio::select! {
            result = Box::pin(carry_out(&crew, &lease, prepared, with(&secrets))) => result,
            () = mends => unreachable!("a deploy has fewer moments"),
        };
        broken(&self.target, false);
        lease.release().await.expect("the lease back");
        result
    }

    fn has_heard(&self, heard: impl Fn(&Event) -> bool) -> bool {
        self.heard.0.lock().expect("a lock").iter().any(heard)
    }
}

fn no_store(target: &FakeTarget, broken: bool) {
    target.documents().away(broken);
}

fn no_acts(target: &FakeTarget, broken: bool) {
    if broken {
        target.fail_after(0);
    } else {
        target.recover();
    }
}

fn is_promoted(event: &Event) -> bool {
    matches!(
        event,
        Event::Rollout(RolloutEvent::Step {
            what: Note::Promoted,
            ..
        })
    )
}

fn is_taking_back(event: &Event) -> bool {
    matches!(event, Event::TakingBack { .. })
}

/// The engine is started anew while a promoted release is written down.
#[tokio::test(start_paused = true)]
async fn a_promoted_release_stays_while_the_store_is_away_for_a_moment() {
    let scene = Scene::new();
    scene.deploy("one", &desired(SHOP)).await.expect("a deploy");
    let changed = desired(&SHOP.replace("LOG = \"info\"", "LOG = \"debug\""));
    let moment = |event: &Event| is_promoted(event) || matches!(event, Event::ApplyComplete { .. });
    let outcome = scene
        .deploy_broken(&changed, moment, no_store, Duration::from_secs(2))
        .await;
    assert!(
        matches!(outcome, Ok(Outcome::Deployed { .. })),
        "{outcome:?}"
    );
    assert_eq!(
        scene.statuses().await,
        [(1, ReleaseStatus::Superseded), (2, ReleaseStatus::Active)]
    );
    assert!(!scene.has_heard(is_taking_back));
    assert!(scene.has_heard(|event| matches!(event, Event::Trouble { .. })));
    let records = record::all(scene.target.store()).await.expect("records");
    assert_eq!(records.len(), 2);
    let report = rollout::last_record(scene.target.store())
        .await
        .expect("a read");
    assert_eq!(report.expect("a report").report.ended, "promoted");
}

/// Some of what the store seemed not to take in it took in.
#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_no_conflict() {
    let scene = Scene::new();
    scene.deploy("one", &desired(SHOP)).await.expect("a deploy");
    let changed = desired(&SHOP.replace("LOG = \"info\"", "LOG = \"debug\""));
    let moment = |event: &Event| matches!(event, Event::ApplyStart { .. }) || is_promoted(event);
    let lost = |target: &FakeTarget, broken: bool| {
        if broken {
            target.documents().fail([Trouble::AnswerLost; 3]);
        }
    };
    let outcome = scene
        .deploy_broken(&changed, moment, lost, Duration::ZERO)
        .await;
    assert!(
        matches!(outcome, Ok(Outcome::Deployed { .. })),
        "{outcome:?}"
    );
    assert_eq!(scene.target.documents().troubles_left(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_act_that_the_target_is_away_for_is_asked_for_again() {
    let scene = Scene::new();
    let moment = |event: &Event| matches!(event, Event::ApplyStart { .. });
    let outcome = scene
        .deploy_broken(&desired(SHOP), moment, no_acts, Duration::from_secs(2))
        .await;
    assert!(
        matches!(outcome, Ok(Outcome::Deployed { .. })),
        "{outcome:?}"
    );
    assert_eq!(scene.serving().await, ["orders@r1=1000", "web@r1=1000"]);
}

/// What comes after the promotion cannot be done: that is said, nothing is taken back, and the next run does it.
#[tokio::test(start_paused = true)]
async fn a_promoted_release_is_not_taken_back_because_the_target_stays_away() {
    let scene = Scene::new();
    scene.deploy("one", &desired(SHOP)).await.expect("a deploy");
    let without_web = SHOP
        .split("[services.web]")
        .next()
        .expect("a beginning")
        .to_owned()
        + "[resources.orders-db]\nkind = \"postgres\"\n[[routes]]\npath = \"/api/v1/orders\"\nservice = \"orders\"\n";
    let changed = desired(&without_web.replace("LOG = \"info\"", "LOG = \"debug\""));
    let outcome = scene
        .deploy_broken(&changed, is_promoted, no_acts, Duration::from_secs(300))
        .await;
    let Err(error @ DriveError::Unfinished { .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(
        error.to_string().contains("nothing is taken back"),
        "{error}"
    );
    assert!(!scene.has_heard(is_taking_back));
    assert_eq!(
        scene.serving().await.first().map(String::as_str),
        Some("orders@r2=1000")
    );
    scene.deploy("three", &changed).await.expect("a deploy");
    assert_eq!(scene.serving().await, ["orders@r2=1000"]);
    assert_eq!(
        scene.statuses().await,
        [(1, ReleaseStatus::Superseded), (2, ReleaseStatus::Active)]
    );
}

/// The lease cannot be renewed for its term and longer; nobody took it, so the run rests and goes on.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_beyond_the_locks_term_is_waited_for() {
    for (seconds, goes_on) in [(20, true), (50, true), (120, false)] {
        let scene = Scene::new();
        scene.deploy("one", &desired(SHOP)).await.expect("a deploy");
        let changed = desired(&SHOP.replace("LOG = \"info\"", "LOG = \"debug\""));
        let once = AtomicBool::new(false);
        let moment = move |event: &Event| {
            matches!(event, Event::Rollout(_)) && !once.swap(true, Ordering::SeqCst)
        };
        let outcome = scene
            .deploy_broken(&changed, moment, no_store, Duration::from_secs(seconds))
            .await;
        assert!(!scene.has_heard(is_taking_back));
        if goes_on {
            assert!(
                matches!(outcome, Ok(Outcome::Deployed { .. })),
                "{seconds}: {outcome:?}"
            );
            assert_eq!(scene.serving().await, ["orders@r2=1000", "web@r1=1000"]);
        } else {
            let expired = matches!(outcome, Err(DriveError::LeaseExpired { .. }));
            assert!(expired, "{seconds}: {outcome:?}");
            scene
                .deploy("three", &changed)
                .await
                .expect("the next goes on");
        }
    }
}

/// Another run has the lease when the store is back: the first does nothing more.
#[tokio::test(start_paused = true)]
async fn a_lock_that_was_taken_while_the_store_was_away_is_lost() {
    let scene = Scene::new();
    let crew = scene.crew("one");
    let lease = hold(&crew).await.expect("a lease");
    let store = scene.target.documents();
    // It is renewed, so that its document is no longer as the other run's will be.
    tokio::time::sleep(Duration::from_secs(7)).await;
    store.away(true);
    tokio::time::sleep(Duration::from_secs(20)).await;
    store.away(false);
    lease::force_release(store).await.expect("a store");
    let other = hold(&scene.crew("two")).await.expect("the lease");
    assert_eq!(lease.lost().await, Lost::Taken);
    assert!(!lease.is_held().await);
    other.release().await.expect("the lease back");
}
