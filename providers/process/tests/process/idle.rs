//! What the agent costs while nothing happens. Run with `--run-ignored only`; the figures go to `docs/benchmarks.md`.

use std::fs;
use std::time::Duration;

use crate::world::{World, group, service};

const SERVICES: u32 = 50;
const WATCHED_FOR: Duration = Duration::from_secs(20);

/// Processor time in clock ticks of 10 ms, and resident memory in KiB.
fn cost(pid: i32) -> (u64, u64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a stat");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .expect("fields")
        .split_whitespace()
        .collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("ticks");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .expect("resident memory");
    (ticks(11) + ticks(12), resident)
}

#[tokio::test]
#[ignore = "takes half a minute and needs a quiet machine"]
async fn the_agent_idles_at_fifty_services() {
    let world = World::new();
    let mut usual = service(&[]);
    usual.health.interval = platform_blueprint::Health::default().interval;
    let begun = std::time::Instant::now();
    let groups: Vec<_> = (0..SERVICES)
        .map(|number| group(&format!("service-{number}@r1"), 1, usual.clone()))
        .collect();
    for group in &groups {
        world.ensure(group).await;
    }
    for group in &groups {
        world.until_ready(group).await;
    }
    let up = begun.elapsed();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let pid = world.agent_pid();
    let (before, _) = cost(pid);
    tokio::time::sleep(WATCHED_FOR).await;
    let (after, resident) = cost(pid);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let share = (after - before) as f64 * 10.0 / WATCHED_FOR.as_millis() as f64 * 100.0;
    let looked = std::time::Instant::now();
    platform_port::Target::observe(&world.target)
        .await
        .expect("a look");
    eprintln!(
        "{SERVICES} services up in {up:?}; agent: {share:.2} % of a core, {resident} KiB resident; observe {:?}",
        looked.elapsed()
    );
    world.down().await;
}
