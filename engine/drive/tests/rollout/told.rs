//! What is told while it goes on, and what is kept of it.

use platform_drive::rollout::{self, Outcome, RolloutEvent, RolloutRecord, record_key};
use platform_port::Target;

use crate::scene::{BAD, CANARY, Scene};

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
