//! A rollout that everything was stopped under: by a crash of the machine, or by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use platform_decide::desired::Desired;
use platform_decide::plan::Pace;
use platform_decide::release::ReleaseNumber;
use platform_decide::rollout::Phase;
use platform_drive::apply::Crew;
use platform_drive::clock::Clock;
use platform_drive::deploy::Outcome;
use platform_drive::error::DriveError;
use platform_drive::{lease, rollout};
use platform_port::Target;
use platform_testkit::Behaviour;

use crate::scene::{SHOP, Scene, desired};

const BAD: Behaviour = Behaviour::Serves {
    after_looks: 2,
    bad: 0.5,
    slow: 0.0,
};

/// A clock on which every look at it takes a while, so that minutes pass in moments.
struct Leaping(AtomicU64);

impl Clock for Leaping {
    fn millis(&self) -> u64 {
        1_000_000 + self.0.fetch_add(400, Ordering::SeqCst)
    }
}

/// The shop with a canary of `web` that is judged, after `orders`, which is not.
fn shop(log: &str) -> Desired {
    desired(&blueprint(log))
}

fn blueprint(log: &str) -> String {
    let rolling = "rollout = { strategy = \"rolling\", hold = \"0s\", bake = \"0s\" }";
    let canary = "rollout = { strategy = \"canary\", steps = [\"20%\"], hold = \"2s\", bake = \"4s\", \
                  analysis = { at_least = \"1s\", min_samples = 20 } }";
    let (orders, web) = SHOP.split_once("[services.web]").expect("two services");
    let orders = orders.replace("\"info\"", &format!("\"{log}\""));
    let web = web.replacen(
        rolling,
        &format!("{canary}\nenv = {{ LOG = \"{log}\" }}"),
        1,
    );
    format!("{orders}[services.web]{web}")
}

struct Fallen {
    scene: Scene,
    clock: Arc<Leaping>,
}

impl Fallen {
    /// A first release that serves, and a second whose rollout of a service had begun when everything was stopped.
    async fn at(service: &str) -> Self {
        let own = Self {
            scene: Scene::new(),
            clock: Arc::new(Leaping(AtomicU64::new(0))),
        };
        own.deploy("one", "info").await.expect("a deploy");
        own.scene.target.load(40);
        let begun = async {
            let store = own.scene.target.store();
            loop {
                let all = rollout::all(store, ReleaseNumber(2)).await.expect("states");
                let mut of = all
                    .iter()
                    .filter(|state| state.members[0].service().as_str() == service);
                if of.any(|state| state.phase != Phase::BeforeStart) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            outcome = own.deploy("two", "debug") => panic!("{outcome:?}"),
            () = begun => {}
        }
        own.scene.target.stop().await.expect("a stop");
        // The killed run lived in this process, so its lock has to be taken away by hand.
        let store = own.scene.target.store();
        lease::force_release(store).await.expect("a store");
        own
    }

    async fn deploy(&self, run: &str, log: &str) -> Result<Outcome, DriveError> {
        let crew = Crew {
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            ..self.scene.crew(run)
        };
        self.scene.deploy_with(&crew, &shop(log)).await
    }

    async fn stands_on(&self, release: &str) {
        let seen = self.scene.target.observe().await.expect("a look");
        let groups: Vec<String> = seen.groups.keys().map(ToString::to_string).collect();
        assert_eq!(
            groups,
            [format!("orders@{release}"), format!("web@{release}")]
        );
        let serving = groups.iter().map(|group| format!("{group}=1000"));
        assert_eq!(self.scene.serving().await, serving.collect::<Vec<_>>());
        let last = rollout::last(self.scene.target.store())
            .await
            .expect("a store");
        let phase = last.expect("a rollout").phase;
        assert!(
            matches!(phase, Phase::Promoted | Phase::RolledBack { .. }),
            "{phase:?}"
        );
        let wanted = shop(if release == "r1" { "info" } else { "debug" });
        let again = self.scene.prepare(&wanted, Pace::ByPolicy).await.plan;
        assert!(again.is_empty(), "{:#?}", again.changes);
    }
}

/// `orders` had begun, of `web` there was no more than the intention; or `orders` was promoted, and `web` had begun.
#[tokio::test(start_paused = true)]
async fn a_release_that_was_not_judged_yet_is_judged() {
    for service in ["orders", "web"] {
        let fallen = Fallen::at(service).await;
        let web = "web@r2".parse().expect("a group");
        fallen.scene.target.behave(&web, BAD);
        let outcome = fallen.deploy("three", "debug").await.expect("an outcome");
        assert!(
            matches!(outcome, Outcome::RolledBack { .. }),
            "{service}: {outcome:?}"
        );
        fallen.stands_on("r1").await;

        let fallen = Fallen::at(service).await;
        let outcome = fallen.deploy("three", "debug").await.expect("an outcome");
        assert!(
            matches!(outcome, Outcome::Deployed { .. }),
            "{service}: {outcome:?}"
        );
        fallen.stands_on("r2").await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_back_from_goes_although_nothing_of_it_was_seen() {
    for service in ["orders", "web"] {
        let fallen = Fallen::at(service).await;
        fallen.deploy("three", "info").await.expect("a way back");
        let acts = fallen.scene.target.acts();
        for group in ["web@r2", "web@r1-baseline", "orders@r2"] {
            let removed = format!("remove {group}");
            assert!(acts.contains(&removed), "{removed}: {acts:#?}");
        }
        fallen.stands_on("r1").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_gone_on_with_says_which_settings_have_no_part_in_it() {
    let fallen = Fallen::at("web").await;
    let scene = &fallen.scene;
    let told = async |text: &str| {
        let prepared = scene.prepare(&desired(text), Pace::ByPolicy).await;
        let findings = prepared.findings.into_iter();
        let mut kept = findings.filter(|finding| finding.code == "rollout::settings-kept");
        kept.next().map(|finding| finding.message)
    };
    let text = blueprint("debug");
    assert_eq!(told(&text).await, None);
    let changed = text.replace("hold = \"2s\"", "hold = \"1s\"");
    let told = told(&changed).await.expect("a finding");
    assert!(told.ends_with("those of now: `hold` 2s → 1s"), "{told}");
}
