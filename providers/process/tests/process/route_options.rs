//! What a route says of its clients and copies, with the real gateway.

use std::time::{Duration, Instant};

use platform_blueprint::{Method, Mirror, PathMatch, Percent, Route};
use platform_decide::group::{GroupId, GroupSpec};
use platform_decide::traffic::{Share, Split, Traffic};
use platform_port::{SecretValues, Target};

use crate::world::{WITHIN, World, ask, ask_with, free_port, group, service, traffic};

async fn gateway(world: &World) {
    world.target.ensure_gateway().await.expect("a gateway");
    world
        .until("the gateway", |seen| {
            seen.gateway.as_ref().is_some_and(|gateway| gateway.ready)
        })
        .await;
}

/// A split in thousandths for the new one, with a proxy on this machine that is believed.
fn shared(port: u16, old: &GroupId, new: &GroupId, share: u16) -> Traffic {
    let mut traffic = traffic(port, old);
    traffic.ingress.gateway.trust = vec!["127.0.0.1".to_owned()];
    let share = Share::thousandths(share);
    let split = Split {
        shares: [(old.clone(), share.rest()), (new.clone(), share)].into(),
        preview: Some(new.clone()),
        copies: None,
    };
    traffic.splits.insert(new.service.clone(), split);
    traffic
}

/// The group that answers each of 40 clients, asked twice.
async fn met(port: u16) -> Vec<String> {
    let mut met = Vec::new();
    for client in 0..40 {
        let from = format!("x-forwarded-for: 192.0.2.{client}\r\n");
        let mut groups = Vec::new();
        for _ in 0..2 {
            let (status, instance) = ask_with(port, "/", &from).await.expect("an answer");
            assert_eq!(status, 200);
            let (group, _) = instance.rsplit_once('.').expect("an instance's name");
            groups.push(group.to_owned());
        }
        assert_eq!(groups[0], groups[1], "client {client} was moved");
        met.extend(groups.pop());
    }
    met
}

async fn two_releases(world: &World, port: u16) -> (GroupSpec, GroupSpec) {
    let old = group("orders@r1", 1, service(&[]));
    let new = group("orders@r2", 1, service(&[]));
    gateway(world).await;
    let split = shared(port, &old.id, &new.id, 300);
    world
        .target
        .route(&split, &SecretValues::new())
        .await
        .expect("a split");
    for group in [&old, &new] {
        world.ensure(group).await;
    }
    for group in [&old, &new] {
        world.until_ready(group).await;
    }
    (old, new)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_stays_with_the_release_it_met() {
    let world = World::new();
    let port = free_port();
    let (old, new) = two_releases(&world, port).await;
    let before = met(port).await;
    let fresh = |met: &[String]| met.iter().filter(|one| *one == "orders@r2").count();
    assert!((1..=30).contains(&fresh(&before)), "{before:?}");
    let split = shared(port, &old.id, &new.id, 700);
    world
        .target
        .route(&split, &SecretValues::new())
        .await
        .expect("a larger share");
    let after = met(port).await;
    assert!(fresh(&after) > fresh(&before), "{after:?}");
    for (client, (before, after)) in before.iter().zip(&after).enumerate() {
        assert!(
            before == "orders@r1" || after == "orders@r2",
            "client {client} went back"
        );
    }
    // Programs of this machine share one address, so they are shared out by weight.
    let mut own = std::collections::BTreeSet::new();
    for _ in 0..20 {
        own.insert(ask(port, "/").await.expect("an answer").1);
    }
    assert_eq!(own.len(), 2, "{own:?}");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_route_leads_to_the_release_on_trial() {
    let world = World::new();
    let port = free_port();
    let (old, new) = two_releases(&world, port).await;
    let preview = Route {
        path: PathMatch::Prefix("/preview".to_owned()),
        service: Some(old.id.service.clone()),
        preview: true,
        ..Route::default()
    };
    let on_trial = shared(port, &old.id, &new.id, 0);
    let back = traffic(port, &old.id);
    for (mut traffic, expected) in [(on_trial, "orders@r2.1"), (back, "orders@r1.1")] {
        traffic.ingress.routes.push(preview.clone());
        world
            .target
            .route(&traffic, &SecretValues::new())
            .await
            .expect("routes");
        for _ in 0..5 {
            let found = ask(port, "/preview").await.expect("an answer");
            assert_eq!(found, (200, expected.to_owned()));
            let found = ask(port, "/").await.expect("an answer");
            assert_eq!(found, (200, "orders@r1.1".to_owned()));
        }
    }
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_asked_for_no_more_at_once_than_it_is_to() {
    let world = World::new();
    let port = free_port();
    let orders = group("orders@r1", 1, service(&[]));
    gateway(&world).await;
    let mut narrow = traffic(port, &orders.id);
    let upstream = narrow.ingress.services.values_mut().next();
    upstream.expect("orders").traffic.concurrency_each = Some(2);
    world
        .target
        .route(&narrow, &SecretValues::new())
        .await
        .expect("routes");
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    let asked = (0..6).map(|_| ask(port, "/slow/1000"));
    let mut answered: Vec<u16> = futures::future::join_all(asked)
        .await
        .into_iter()
        .map(|answer| answer.expect("an answer").0)
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, [200, 200, 503, 503, 503, 503]);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_service_gets_copies() {
    let world = World::new();
    let port = free_port();
    let orders = group("orders@r1", 1, service(&[]));
    let audit = group("audit@r1", 1, service(&["tell"]));
    gateway(&world).await;
    let mut copied = traffic(port, &orders.id);
    let beside = traffic(port, &audit.id);
    copied.ingress.services.extend(beside.ingress.services);
    copied.splits.extend(beside.splits);
    copied.ingress.routes[0].mirror = Some(Mirror {
        service: audit.id.service.clone(),
        share: Percent::FULL,
        methods: vec![Method::Get],
    });
    world
        .target
        .route(&copied, &SecretValues::new())
        .await
        .expect("routes");
    for group in [&orders, &audit] {
        world.ensure(group).await;
    }
    for group in [&orders, &audit] {
        world.until_ready(group).await;
    }
    let (status, answered) = ask(port, "/copied").await.expect("an answer");
    assert_eq!((status, answered.as_str()), (200, "orders@r1.1"));
    let begun = Instant::now();
    while !world
        .log("audit")
        .await
        .iter()
        .any(|line| line == "asked /copied")
    {
        assert!(begun.elapsed() < WITHIN, "no copy came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.down().await;
}
