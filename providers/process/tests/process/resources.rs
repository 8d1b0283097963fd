//! Resources: embedded ones, and real servers where they are installed.

use std::time::Duration;

use platform_blueprint::{Engine, Resource, ResourceKind};
use platform_decide::desired::DesiredResource;
use platform_decide::digest::Digest;
use platform_decide::group::Need;
use platform_port::Target;

use crate::world::{World, ask, group, service};

fn resource(kind: ResourceKind, engine: Engine) -> DesiredResource {
    let resource: Resource = serde_json::from_value(serde_json::json!({
        "kind": kind,
        "engine": engine,
    }))
    .expect("a resource");
    DesiredResource {
        digest: Digest::of_value(&resource),
        resource,
    }
}

async fn url_of(world: &World, kind: ResourceKind, engine: Engine) -> String {
    let name = "main-store".parse().expect("a name");
    world
        .target
        .ensure_resource(&name, &resource(kind, engine))
        .await
        .expect("it is taken in");
    let found = world.until("the resource", |seen| {
        seen.resources.get(&name).is_some_and(|one| one.ready)
    });
    tokio::time::timeout(Duration::from_secs(30), found)
        .await
        .expect("in time");
    let mut orders = group("orders@r1", 1, service(&[]));
    orders.spec.needs = vec![Need::Resource {
        name,
        resource: kind,
    }];
    orders.digest = orders.spec.digest();
    world.ensure(&orders).await;
    let seen = world.until_ready(&orders).await;
    let address = seen.instances[0].address.clone().expect("an address");
    let port = address
        .rsplit_once(':')
        .expect("a port")
        .1
        .parse()
        .expect("a port");
    ask(port, "/env/MAIN_STORE_URL").await.expect("an answer").1
}

#[tokio::test]
async fn embedded_resources_need_no_server() {
    for (kind, start) in [
        (ResourceKind::Postgres, "sqlite:/"),
        (ResourceKind::Redis, "memory:"),
        (ResourceKind::Nats, "queue:/"),
        (ResourceKind::ObjectStore, "file:/"),
        (ResourceKind::Search, "file:/"),
    ] {
        let world = World::new();
        let url = url_of(&world, kind, Engine::Embedded).await;
        assert!(url.starts_with(start), "{url}");
        let name = "main-store".parse().expect("a name");
        let data = world.state().join("data/main-store");
        std::fs::write(data.join("kept"), "x").expect("data");
        world
            .target
            .remove_resource(&name, false)
            .await
            .expect("it is removed");
        assert!(data.join("kept").exists());
        world
            .target
            .remove_resource(&name, true)
            .await
            .expect("it is removed");
        assert!(!data.exists());
        world.down().await;
    }
}

async fn real(kind: ResourceKind, engine: Engine, program: &str, scheme: &str) {
    let installed = [
        "/usr/lib/postgresql/15/bin",
        "/usr/lib/postgresql/16/bin",
        "/usr/lib/postgresql/17/bin",
        "/usr/bin",
        "/usr/sbin",
    ]
    .iter()
    .any(|folder| std::path::Path::new(folder).join(program).exists());
    if !installed {
        eprintln!("skipped: {program} is not installed");
        return;
    }
    let world = World::new();
    let url = url_of(&world, kind, engine).await;
    assert!(url.starts_with(scheme), "{url}");
    let password = url
        .rsplit_once('@')
        .and_then(|(left, _)| left.rsplit_once(':'))
        .expect("a password")
        .1;
    let seen = world.target.observe().await.expect("a look");
    assert!(!format!("{seen:?}").contains(password));
    // It is kept running.
    let name: platform_blueprint::ResourceName = "main-store".parse().expect("a name");
    let record = world.record("main-store");
    let pid = record["process"]["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .expect("a pid");
    crate::world::kill_9(pid);
    world
        .until("its end to be seen", |seen| !seen.resources[&name].ready)
        .await;
    world
        .until("it to be back", |seen| seen.resources[&name].ready)
        .await;
    world.down().await;
}

#[tokio::test]
async fn postgres_runs_as_a_process() {
    real(
        ResourceKind::Postgres,
        Engine::Postgres,
        "postgres",
        "postgres://",
    )
    .await;
}

#[tokio::test]
async fn redis_runs_as_a_process() {
    real(
        ResourceKind::Redis,
        Engine::Redis,
        "redis-server",
        "redis://",
    )
    .await;
}

#[tokio::test]
async fn nats_runs_as_a_process() {
    real(ResourceKind::Nats, Engine::Nats, "nats-server", "nats://").await;
}
