//! With the real gateway before the services: nothing that it accepted is dropped.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use platform_decide::observed::Observed;
use platform_decide::traffic::{Share, Split};
use platform_port::{SecretValues, Target};

use crate::world::{
    World, alive, ask, example, free_port, group, kill_9, pid_in, service, stop, traffic,
};

/// Asks again and again until told to stop; counts what was not answered well.
struct Load {
    stop: Arc<AtomicBool>,
    bad: Arc<AtomicU32>,
    good: Arc<AtomicU32>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn on(port: u16) -> Self {
        let load = Self {
            stop: Arc::default(),
            bad: Arc::default(),
            good: Arc::default(),
            tasks: Vec::new(),
        };
        let tasks = (0..4).map(|_| {
            let (stop, bad, good) = (
                Arc::clone(&load.stop),
                Arc::clone(&load.bad),
                Arc::clone(&load.good),
            );
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match ask(port, "/slow/150").await {
                        Ok((200, _)) => good.fetch_add(1, Ordering::Relaxed),
                        _ => bad.fetch_add(1, Ordering::Relaxed),
                    };
                }
            })
        });
        let tasks = tasks.collect();
        Self { tasks, ..load }
    }

    async fn asked(&self, more: u32) {
        let from = self.good.load(Ordering::Relaxed);
        let waiting = async {
            while self.good.load(Ordering::Relaxed) < from + more {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .expect("requests are answered");
    }

    async fn end(self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("it ends");
        }
        (
            self.good.load(Ordering::Relaxed),
            self.bad.load(Ordering::Relaxed),
        )
    }
}

async fn serving(world: &World, port: u16) -> platform_decide::group::GroupSpec {
    let orders = group("orders@r1", 2, service(&[]));
    world.target.ensure_gateway().await.expect("a gateway");
    world
        .until("the gateway", |seen| {
            seen.gateway.as_ref().is_some_and(|gateway| gateway.ready)
        })
        .await;
    world
        .target
        .route(&traffic(port, &orders.id), &SecretValues::new())
        .await
        .expect("routes");
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    orders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ready_answers_and_a_change_drops_nothing() {
    let world = World::new();
    let port = free_port();
    let old = serving(&world, port).await;
    assert_eq!(
        ask(port, "/").await.expect("an answer").0,
        200,
        "ready means reachable"
    );
    let load = Load::on(port);
    load.asked(20).await;
    let new = group("orders@r2", 2, service(&[]));
    world.ensure(&new).await;
    world.until_ready(&new).await;
    let mut half = traffic(port, &new.id);
    let split = Split {
        shares: [
            (old.id.clone(), Share::thousandths(500)),
            (new.id.clone(), Share::thousandths(500)),
        ]
        .into(),
        preview: None,
        copies: None,
    };
    half.splits.insert(new.id.service.clone(), split);
    world
        .target
        .route(&half, &SecretValues::new())
        .await
        .expect("half and half");
    load.asked(40).await;
    let tallies = world.target.tallies().await.expect("tallies");
    assert!(tallies.lanes[&new.id].requests > 0);
    world
        .target
        .route(&traffic(port, &new.id), &SecretValues::new())
        .await
        .expect("all to the new one");
    world
        .target
        .remove_group(&old.id)
        .await
        .expect("the old one goes");
    load.asked(20).await;
    let (good, bad) = load.end().await;
    assert!(good > 80);
    assert_eq!(bad, 0, "of {good}");
    let seen = world.target.observe().await.expect("it can be observed");
    assert_eq!(
        seen.gateway.expect("a gateway").splits,
        traffic(port, &new.id).splits
    );
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_under_load_fails_no_request() {
    let world = World::new();
    let port = free_port();
    let orders = serving(&world, port).await;
    let load = Load::on(port);
    load.asked(20).await;
    for _ in 0..3 {
        let agent = world.agent_pid();
        kill_9(agent);
        world.another_agent(agent).await;
        load.asked(20).await;
    }
    world.until_ready(&orders).await;
    let revision = world
        .target
        .observe()
        .await
        .expect("a look")
        .gateway
        .expect("a gateway")
        .revision;
    world
        .target
        .route(&traffic(port, &orders.id), &SecretValues::new())
        .await
        .expect("it routes still");
    let more = group("orders@r1", 3, orders.spec.service.clone());
    world.ensure(&more).await;
    world.until_ready(&more).await;
    let after = world
        .target
        .observe()
        .await
        .expect("a look")
        .gateway
        .expect("a gateway")
        .revision;
    assert!(
        after > revision,
        "revisions grow over agents: {revision}, {after}"
    );
    let (good, bad) = load.end().await;
    assert_eq!(bad, 0, "of {good}");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_hangs_before_its_agent_starts_is_told_and_replaced() {
    let world = World::new();
    let port = free_port();
    serving(&world, port).await;
    let gateway = pid_in(&world.record("gateway.1")["process"]);
    stop(gateway);
    let agent = world.agent_pid();
    kill_9(agent);
    world.another_agent(agent).await;
    let hangs = |seen: &Observed| {
        let gateway = seen.gateway.as_ref().filter(|gateway| !gateway.ready);
        let amiss = gateway.and_then(|gateway| gateway.amiss.as_deref());
        amiss == Some("it runs and does not answer")
    };
    world.until("that it hangs", hangs).await;
    world.target.ensure_gateway().await.expect("another");
    world
        .until("another gateway", |seen| {
            seen.gateway.as_ref().is_some_and(|gateway| gateway.ready)
        })
        .await;
    assert!(!alive(gateway));
    assert_eq!(ask(port, "/").await.expect("an answer").0, 200);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_of_another_build_takes_over_without_a_drop() {
    let world = World::new();
    let port = free_port();
    serving(&world, port).await;
    let copy = world.folder.path().join("newer");
    std::fs::copy(example("agent"), &copy).expect("a copy");
    let newer = World::target_in(world.folder.path(), copy.clone());
    let load = Load::on(port);
    load.asked(20).await;
    newer.ensure_gateway().await.expect("the newer gateway");
    while !runs_gateway(&copy) {
        load.asked(5).await;
    }
    load.asked(60).await;
    let (good, bad) = load.end().await;
    assert_eq!(bad, 0, "of {good}");
    newer.stop().await.expect("it stops");
    world.down().await;
}

/// Whether a gateway of this program file runs.
fn runs_gateway(program: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    processes.map(|entry| entry.path()).any(|process| {
        std::fs::read_link(process.join("exe")).is_ok_and(|exe| exe == program)
            && std::fs::read_to_string(process.join("cmdline"))
                .is_ok_and(|line| line.contains("\0gateway\0"))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_stay_while_a_gateway_that_was_replaced_asks_them() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new();
    let port = free_port();
    let old = serving(&world, port).await;
    let copy = world.folder.path().join("newer");
    std::fs::copy(example("agent"), &copy).expect("a copy");
    let newer = World::target_in(world.folder.path(), copy.clone());
    let mut kept = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("a connection");
    // Taken by the gateway that is about to be replaced.
    kept.write_all(b"GET /slow/1800 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .expect("a request");
    newer.ensure_gateway().await.expect("the newer gateway");
    let begun = std::time::Instant::now();
    while !runs_gateway(&copy) {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not run");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let new = group("orders@r2", 1, old.spec.service.clone());
    world.ensure(&new).await;
    world.until_ready(&new).await;
    world
        .target
        .route(&traffic(port, &new.id), &SecretValues::new())
        .await
        .expect("a route");
    let removal = world.target.remove_group(&old.id);
    let mut answer = String::new();
    let (removed, read) = tokio::join!(removal, kept.read_to_string(&mut answer));
    removed.expect("it is removed");
    read.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("slow"), "{answer}");
    newer.stop().await.expect("it stops");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_is_back_at_once() {
    let world = World::new();
    let port = free_port();
    let orders = serving(&world, port).await;
    let pid = world
        .marked()
        .into_iter()
        .find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains("\0gateway\0"))
        })
        .expect("a gateway's process");
    kill_9(pid);
    let begun = std::time::Instant::now();
    while ask(port, "/").await.map(|answer| answer.0).ok() != Some(200) {
        assert!(begun.elapsed() < Duration::from_secs(5), "it is not back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.until_ready(&orders).await;
    world.down().await;
}
