//! What is told while it goes on, and what is kept of it.

use std::time::Duration;

use platform_decide::release::ReleaseNumber;
use platform_drive::rollout::{self, Outcome, RolloutEvent, RolloutRecord, record_key};
use platform_port::Target;

use crate::scene::{BAD, CANARY, Scene, group_id};

#[tokio::test(start_paused = true)]
async fn a_report_is_kept_as_evidence() {
    let scene = Scene::of(CANARY).await;
    scene.behave("orders@r2", BAD);
    scene.goes().await;
    let key = record_key("one", "orders");
    let kept = scene
        .target
        .store()
        .read(&key)
        .await
        .expect("a read")
        .expect("a record");
    let record: RolloutRecord = serde_json::from_slice(&kept.bytes).expect("a record");
    assert_eq!(record.report.ended, "rolled-back");
    assert!(record.report.members[0].new.bad > 0);
    let member = &record.report.members[0];
    // Whoever reads the verdict finds its numbers.
    let compared = member.compared.as_ref().expect("what was compared");
    let verdict = member.verdict.as_deref().expect("a verdict");
    for side in [compared.new, compared.old] {
        let numbers = format!("({} of {})", side.bad, side.requests);
        assert!(verdict.contains(&numbers), "{numbers} in {verdict}");
    }
    assert!(member.baseline.requests > 0, "{member:?}");
    assert!(member.baseline.requests < member.old.requests, "{member:?}");
    let evidence = member.evidence.as_ref().expect("evidence");
    assert!(evidence.towards_worse > evidence.towards_better);
    assert!(
        record.markdown.contains("the new release is worse"),
        "{}",
        record.markdown
    );
    assert!(record.junit.contains("failures=\"1\""), "{}", record.junit);
    let last = rollout::last_record(scene.target.store())
        .await
        .expect("a read");
    assert_eq!(last, Some(record));
}

#[tokio::test(start_paused = true)]
async fn reports_are_found_by_run_release_and_service() {
    let scene = Scene::of(CANARY).await;
    scene.goes().await;
    let store = scene.target.store();
    let record = rollout::last_record(store).await.expect("a read");
    let first = record.expect("a record");
    // A later run, of a release whose services move in turn.
    for (service, ended_at) in [("b", 2), ("a", 1)] {
        let mut record = first.clone();
        record.report.release = ReleaseNumber(5);
        record.report.ended_at = ended_at;
        record.report.members[0].to = group_id(&format!("{service}@r5"));
        let bytes = serde_json::to_vec(&record).expect("JSON");
        let key = record_key("two", service);
        store.write(&key, &bytes, None).await.expect("a write");
    }
    let found = async |release: Option<u32>, service: Option<&str>| {
        let service = service.map(|service| service.parse().expect("a name"));
        let release = release.map(ReleaseNumber);
        let records = rollout::records(store, release, service.as_ref()).await;
        let records = records.expect("a read");
        records
            .iter()
            .map(|record| record.report.members[0].to.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(None, None).await, ["a@r5", "b@r5"]);
    assert_eq!(found(None, Some("a")).await, ["a@r5"]);
    assert_eq!(found(None, Some("orders")).await, ["orders@r2"]);
    assert_eq!(found(Some(2), None).await, ["orders@r2"]);
    assert_eq!(found(Some(5), Some("b")).await, ["b@r5"]);
    assert_eq!(found(Some(5), Some("orders")).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_told_with_numbers() {
    let scene = Scene::of(CANARY).await;
    assert_eq!(scene.goes().await, Outcome::Promoted);
    let heard = scene.heard.0.lock().expect("a lock");
    let steps: Vec<&str> = heard
        .iter()
        .filter_map(|event| match event {
            RolloutEvent::Step { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(steps[0], "orders@r2 takes over by 10 %, 50 %, all traffic");
    assert_eq!(steps.last(), Some(&"promoted"));
    let numbers = heard.iter().any(|event| match event {
        RolloutEvent::Progress(progress) => progress.members[0].new.answered.requests > 0,
        _ => false,
    });
    assert!(numbers);
}

#[tokio::test(start_paused = true)]
async fn what_heavy_clients_meet_is_told_and_not_judged() {
    let scene = Scene::of(CANARY).await;
    scene.target.heavy(&group_id("orders@r2"), 8);
    assert_eq!(scene.goes().await, Outcome::Promoted);
    let record = rollout::last_record(scene.target.store())
        .await
        .expect("a read")
        .expect("a record");
    let new = record.report.members[0].new;
    assert!(new.left_out > 0 && new.requests > 0, "{new:?}");
    assert_eq!(new.bad, 0);
    // Those clients met errors all the same.
    let besides = record.report.members[0].new_besides;
    assert_eq!(besides.heavy.requests, new.left_out);
    let row = format!(
        "| orders@r2 besides, of heavy clients | {} | {} | 0 |",
        besides.heavy.requests, besides.heavy.bad
    );
    assert!(
        besides.heavy.bad > 0 && record.markdown.contains(&row),
        "{row} in {}",
        record.markdown
    );
    assert!(
        record.markdown.contains("are in no comparison"),
        "{}",
        record.markdown
    );
    let heard = scene.heard.0.lock().expect("a lock");
    let told = heard.iter().any(|event| match event {
        RolloutEvent::Progress(progress) => {
            progress.to_string().contains("of heavy clients left out")
        }
        _ => false,
    });
    assert!(told);
}

#[tokio::test(start_paused = true)]
async fn a_regression_is_found_beside_a_heavy_client_of_the_old_release() {
    let scene = Scene::of(CANARY).await;
    scene.behave("orders@r2", BAD);
    scene.target.heavy(&group_id("orders@r1"), 8);
    let outcome = scene.goes().await;
    let worse = matches!(&outcome, Outcome::RolledBack { why, .. } if why.contains("is worse"));
    assert!(worse, "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn too_quiet_says_when_heavy_clients_are_the_reason() {
    let quick = CANARY.replace(
        "min_samples = 20",
        "min_samples = 20, at_most = \"10s\", when_quiet = \"roll-back\"",
    );
    let scene = Scene::of(&quick).await;
    scene.target.load(0);
    for group in ["orders@r1", "orders@r1-baseline", "orders@r2"] {
        scene.target.heavy(&group_id(group), 8);
    }
    let outcome = scene.goes().await;
    let said = matches!(
        &outcome,
        Outcome::RolledBack { why, .. } if why.contains("too quiet: 0 canary and 0 baseline requests") && why.contains("left out")
    );
    assert!(said, "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn what_stays_for_somebody_to_decide_is_taken_back_once_the_time_of_its_run_is_over() {
    let quick = CANARY.replace("min_samples = 20", "min_samples = 20, at_most = \"10s\"");
    let mut scene = Scene::of(&quick).await;
    scene.target.load(0);
    scene.within = Some(Duration::from_secs(60));
    let outcome = scene.goes().await;
    let said = matches!(
        &outcome,
        Outcome::RolledBack { why, out_of_time: true, .. }
            if why.contains("the 1m of `--timeout`: orders@r2: too quiet")
    );
    assert!(said, "{outcome:?}");
    scene.stands_on("orders@r1").await;
}
