//! The gateway's container: what happens to it by hand, and where it cannot be published.

use std::net::TcpListener;

use platform_decide::observed::GatewaySeen;
use platform_port::{SecretValues, Target, TargetError};
use platform_testkit::scene::free_port;

use crate::world::{World, docker, traffic};

impl World {
    async fn gateway(&self) -> GatewaySeen {
        let seen = self.target.observe().await.expect("a look");
        seen.gateway.expect("a gateway")
    }

    /// Has the gateway listen elsewhere.
    async fn moved(&self, port: u16, address: &str) -> Result<(), TargetError> {
        let mut traffic = traffic(port, &"orders@r1".parse().expect("a group"));
        traffic.ingress.gateway.address = address.parse().expect("an address");
        self.target.route(&traffic, &SecretValues::new()).await
    }

    /// There is one gateway, and nothing is wrong with it.
    async fn is_mended(&self) {
        self.target.ensure_gateway().await.expect("a gateway");
        let seen = self.gateway().await;
        assert!(seen.ready, "{seen:?}");
        assert_eq!(seen.amiss, None);
        let role = "label=platform.role=gateway";
        let own = format!("label=platform.project={}", self.project);
        let all = ["ps", "-a", "--filter", role, "--filter", &own];
        let all = docker(&[&all[..], &["--format", "{{.Names}}"]].concat());
        assert_eq!(all, self.container("gateway"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_to_the_gateway_by_hand_is_seen_and_mended() {
    let Some(world) = World::new("gateway") else {
        return;
    };
    let orders = world.group("orders@r1", 1, World::service(&[]));
    world.front(&orders.id).await;
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    let name = world.container("gateway");
    let id = || docker(&["inspect", "-f", "{{.Id}}", &name]);
    let first = id();
    for (words, told) in [
        (&["pause"][..], "it is paused"),
        (&["stop"], "its container is exited"),
        (&["kill"], "its container is exited"),
        (
            &["update", "--restart", "no"],
            "it was changed by hand: its restart policy",
        ),
    ] {
        docker(&[words, &[name.as_str()]].concat());
        let amiss = world.gateway().await.amiss.unwrap_or_default();
        assert!(amiss.contains(told), "{words:?}: {amiss}");
        world.is_mended().await;
        assert_eq!(id(), first, "mended where it is");
    }
    let other = format!("{name}-other");
    docker(&["rename", &name, &other]);
    let told = world.gateway().await.amiss.unwrap_or_default();
    assert_eq!(told, format!("it was renamed by hand to `{other}`"));
    world.is_mended().await;
    assert_eq!(id(), first, "it has its name back");
    let limits = ["update", "--memory", "256m", "--memory-swap", "512m", &name];
    docker(&limits);
    let told = world.gateway().await.amiss.unwrap_or_default();
    assert!(told.contains("its memory limit"), "{told}");
    world.is_mended().await;
    assert_ne!(id(), first, "made anew");
    world.until_ready(&orders).await;
    assert_eq!(world.ask("/").await.0, 200);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_cannot_listen_leaves_the_one_before() {
    let Some(world) = World::new("place") else {
        return;
    };
    let orders = world.group("orders@r1", 1, World::service(&[]));
    world.front(&orders.id).await;
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    let before = world.gateway().await;

    // Taken by a program, and at an address for documentation alone.
    let other = TcpListener::bind("0.0.0.0:0").expect("a port");
    let taken = other.local_addr().expect("its address").port();
    for (port, address, code) in [
        (taken, "127.0.0.1", "preflight::port-taken"),
        (free_port(), "203.0.113.7", "preflight::address-unknown"),
    ] {
        let error = world.moved(port, address).await.expect_err("nobody can");
        assert_eq!(error.code, code, "{error}: {}", error.source);
        world.is_mended().await;
        let seen = world.gateway().await;
        assert_eq!((&seen.url, &seen.ingress), (&before.url, &before.ingress));
        assert_eq!(world.ask("/").await.0, 200);
    }

    // Where others can, it moves.
    let port = free_port();
    world.moved(port, "127.0.0.1").await.expect("a free port");
    let asked = platform_testkit::scene::ask(port, "/").await;
    assert_eq!(asked.expect("an answer").0, 200);
    world.is_mended().await;

    // Gone, and where it was is taken: who asks for another place gets it.
    docker(&["rm", "-f", &world.container("gateway")]);
    let _other = TcpListener::bind(("127.0.0.1", port)).expect("the port");
    world.is_mended().await;
    let told = world.gateway().await;
    assert_ne!(told.ingress, before.ingress, "not where it was last routed");
    world.moved(world.port, "127.0.0.1").await.expect("a place");
    assert_eq!(world.gateway().await.ingress, before.ingress);
    assert_eq!(world.ask("/").await.0, 200);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_begin_at_once_share_what_is_made() {
    let Some(world) = World::new("begin") else {
        return;
    };
    // As runs do that want the lock: each of them finds no keeper, and makes it.
    let all: Vec<_> = (0..4).map(|_| world.another()).collect();
    let written = all.iter().zip(["one", "two", "three", "four"]);
    let written = written.map(|(target, key)| target.store().write(key, b"here", None));
    for written in futures::future::join_all(written).await {
        written.expect("it is written");
    }
    world.is_mended().await;
    world.down().await;
}
