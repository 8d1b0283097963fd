//! Services that do not do what they should.

use std::time::{Duration, Instant};

use platform_blueprint::{ByteSize, Check, Limits, Logs, Period, Restart, Service};
use platform_decide::observed::InstanceState;
use platform_port::Target;

use crate::world::{World, alive, group, pid_of, service};

fn impatient(words: &[&str]) -> Service {
    let mut service = service(words);
    service.health.start_within = Period::from_millis(1500);
    service.restart = Restart {
        backoff: Period::from_millis(20),
        crash_loop: 3,
        ..Restart::default()
    };
    service
}

#[tokio::test]
async fn what_never_becomes_ready_fails_with_the_reason() {
    let world = World::new();
    let orders = group(
        "orders@r1",
        1,
        impatient(&["ready-after=100000", "say=warming up"]),
    );
    world.ensure(&orders).await;
    let seen = world.until_state(&orders, InstanceState::Failed).await;
    let reason = seen.reason.expect("a reason");
    assert_eq!(
        reason,
        "it was not ready within 1500ms: GET /ready answered 503"
    );
    assert_eq!(world.marked(), Vec::<i32>::new(), "it is not left running");
    assert_eq!(world.log("orders").await, ["warming up"]);
    world.down().await;
}

#[tokio::test]
async fn the_wrong_port_is_named() {
    let world = World::new();
    let wrong = crate::world::free_port();
    let manner = format!("port={wrong}");
    let orders = group("orders@r1", 1, impatient(&[&manner]));
    world.ensure(&orders).await;
    let seen = world.until_state(&orders, InstanceState::Failed).await;
    let reason = seen.reason.expect("a reason");
    assert!(
        reason.contains(&format!("listens on port {wrong} in place of")),
        "{reason}"
    );
    world.down().await;
}

#[tokio::test]
async fn a_crash_at_start_becomes_a_crash_loop() {
    let world = World::new();
    let orders = group(
        "orders@r1",
        1,
        impatient(&["say=no config", "exit-after=10:3"]),
    );
    world.ensure(&orders).await;
    let seen = world
        .until_state(&orders, InstanceState::CrashLooping)
        .await;
    assert_eq!(seen.last_exit.as_deref(), Some("exit code 3"));
    assert_eq!(seen.reason.as_deref(), Some("it ended with exit code 3"));
    assert!(seen.restarts >= 2);
    assert!(world.log("orders").await.len() >= 3);
    world.down().await;
}

#[tokio::test]
async fn a_service_that_exits_with_0_has_failed() {
    let world = World::new();
    let orders = group("orders@r1", 1, impatient(&["exit-after=10:0"]));
    world.ensure(&orders).await;
    let seen = world
        .until_state(&orders, InstanceState::CrashLooping)
        .await;
    assert!(seen.reason.expect("a reason").contains("kind = \"job\""));
    world.down().await;
}

#[tokio::test]
async fn one_crash_is_mended() {
    let world = World::new();
    let file = world.folder.path().join("once");
    let manner = format!("once={}:9", file.display());
    let orders = group("orders@r1", 1, impatient(&[&manner]));
    world.ensure(&orders).await;
    let seen = world.until_ready(&orders).await;
    assert_eq!(seen.restarts(), 1);
    assert_eq!(seen.instances[0].last_exit.as_deref(), Some("exit code 9"));
    world.down().await;
}

#[tokio::test]
async fn what_no_longer_lives_is_restarted() {
    let world = World::new();
    let mut fading = impatient(&["live-for=500"]);
    fading.health.live = Some(Check::Http("/live".to_owned()));
    fading.health.interval = Period::from_millis(50);
    let orders = group("orders@r1", 1, fading);
    world.ensure(&orders).await;
    let first = pid_of(&world.until_ready(&orders).await.instances[0]);
    let what = "a restart";
    world
        .until(what, |seen| {
            seen.groups[&orders.id].restarts() > 0 && seen.groups[&orders.id].settled()
        })
        .await;
    assert!(!alive(first));
    world.down().await;
}

#[tokio::test]
async fn what_ignores_the_signal_is_killed() {
    let world = World::new();
    let mut deaf = service(&["ignore-term", "child"]);
    deaf.stop.grace = Period::from_millis(300);
    let orders = group("orders@r1", 1, deaf);
    world.ensure(&orders).await;
    let pid = pid_of(&world.until_ready(&orders).await.instances[0]);
    let begun = Instant::now();
    world
        .target
        .remove_group(&orders.id)
        .await
        .expect("it is removed");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(!alive(pid));
    assert_eq!(world.marked(), Vec::<i32>::new());
    world.down().await;
}

#[tokio::test]
async fn a_flood_starves_nobody_and_fills_nothing() {
    let world = World::new();
    let mut loud = service(&["flood"]);
    loud.logs = Logs {
        max_size: ByteSize::from_bytes(256 << 10),
        keep: 2,
    };
    let flood = group("flood@r1", 1, loud);
    world.ensure(&flood).await;
    world.until_ready(&flood).await;
    let calm = group("calm@r1", 1, service(&[]));
    let begun = Instant::now();
    world.ensure(&calm).await;
    world.until_ready(&calm).await;
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    let folder = world.state().join("logs").join("flood");
    let rotated = || std::fs::read_dir(&folder).map_or(0, Iterator::count) == 3;
    while !rotated() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "it was not rotated"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let size: u64 = std::fs::read_dir(&folder)
        .expect("logs")
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|seen| seen.len())
        .sum();
    assert!(size < 1 << 20, "{size}");
    world.down().await;
}

#[tokio::test]
async fn a_leak_ends_at_its_limit() {
    let world = World::new();
    let mut leaky = impatient(&["leak=300"]);
    leaky.limits = Limits {
        memory: Some(ByteSize::from_mib(64)),
        ..Limits::default()
    };
    leaky.restart.backoff = Period::from_secs(5);
    let orders = group("orders@r1", 1, leaky);
    world.ensure(&orders).await;
    let findings = world.target.doctor().await;
    if !findings.iter().any(|one| {
        one.message.contains("memory can be enforced")
            || one.message.contains("processor time and memory")
    }) {
        eprintln!("skipped: no control group for memory is writable here");
        world.down().await;
        return;
    }
    let seen = world.until_state(&orders, InstanceState::Restarting).await;
    assert!(seen.out_of_memory, "{seen:?}");
    assert_eq!(seen.last_exit.as_deref(), Some("out of memory"));
    let tag = format!("platform-{}", world.target.layout().tag());
    world.down().await;
    let left = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-name", &tag])
        .output()
        .expect("find");
    assert_eq!(
        String::from_utf8_lossy(&left.stdout),
        "",
        "control groups are left"
    );
}

#[tokio::test]
async fn a_program_that_is_not_there_fails_at_once() {
    let world = World::new();
    let mut missing = service(&[]);
    missing.command = vec!["no-such-program-anywhere".to_owned()];
    let orders = group("orders@r1", 1, missing);
    world.ensure(&orders).await;
    let seen = world.until_state(&orders, InstanceState::Failed).await;
    let reason = seen.reason.expect("a reason");
    assert_eq!(
        reason,
        "its program `no-such-program-anywhere` was not found"
    );
    // Asked for again, it is tried again.
    world.ensure(&orders).await;
    world.until_state(&orders, InstanceState::Failed).await;
    world.down().await;
}
