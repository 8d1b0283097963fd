//! What somebody else made under a name of ours keeps its name, its life and its data.

use platform_blueprint::{Engine, Resource, ResourceKind};
use platform_decide::desired::DesiredResource;
use platform_decide::digest::Digest;
use platform_port::Target;

use crate::world::{World, docker};

fn resource(engine: Engine) -> DesiredResource {
    let resource: Resource = serde_json::from_value(serde_json::json!({
        "kind": ResourceKind::Postgres,
        "engine": engine,
    }))
    .expect("a resource");
    DesiredResource {
        digest: Digest::of_value(&resource),
        resource,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_container_keeps_its_name_and_its_life() {
    let Some(world) = World::new("foreign") else {
        return;
    };
    let name = world.container("gateway");
    docker(&["create", "--name", &name, "debian:bookworm-slim", "true"]);
    let error = world
        .target
        .ensure_gateway()
        .await
        .expect_err("the name is taken");
    assert_eq!(error.code, "docker::name-taken");
    world.target.destroy(true).await.expect("a destroy");
    assert_eq!(
        docker(&["inspect", "-f", "{{.State.Status}}", &name]),
        "created"
    );
    docker(&["rm", &name]);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_else_is_on_the_network_is_named_and_left_alone() {
    let Some(world) = World::new("foreign-guest") else {
        return;
    };
    world.target.ensure_gateway().await.expect("a gateway");
    let container = world.container("gateway");
    let network = container.trim_end_matches("_gateway");
    let guest = format!("{network}-guest");
    let image = "debian:bookworm-slim";
    docker(&[
        "run",
        "-d",
        "--name",
        &guest,
        "--network",
        network,
        image,
        "sleep",
        "600",
    ]);
    let error = world.target.destroy(true).await.expect_err("a guest");
    assert_eq!(error.code, "docker::network-in-use");
    assert!(error.source.to_string().contains(&guest), "{error:?}");
    let help = error.help.expect("what to do");
    assert!(
        help.contains(&format!("docker network disconnect {network} {guest}")),
        "{help}"
    );
    docker(&["rm", "-f", &guest]);
    world.target.destroy(true).await.expect("a destroy");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_takes_nothing_foreign_away_with_it() {
    let Some(world) = World::new("foreign-db") else {
        return;
    };
    let name = "orders-db".parse().expect("a name");
    let container = world.container("orders-db");
    let volumes = ["data_orders-db", "secrets_orders-db"].map(|what| world.container(what));
    for volume in &volumes {
        docker(&["volume", "create", volume]);
    }
    let mounted = volumes
        .each_ref()
        .map(|volume| format!("{volume}:/{volume}"));
    docker(&[
        "run",
        "-d",
        "--name",
        &container,
        "-v",
        &mounted[0],
        "debian:bookworm-slim",
        "sleep",
        "600",
    ]);
    let runs = || docker(&["inspect", "-f", "{{.State.Running}}", &container]);

    // It has its data elsewhere, where once a server may have stood.
    let embedded = resource(Engine::Embedded);
    let elsewhere = world.target.ensure_resource(&name, &embedded);
    let refused = elsewhere.await.expect_err("its volume is somebody else's");
    assert_eq!(refused.code, "docker::name-taken");
    assert_eq!(runs(), "true");
    let served = resource(Engine::Postgres);
    let error = world.target.ensure_resource(&name, &served).await;
    assert!(error.is_err(), "the name is taken");
    assert_eq!(runs(), "true");
    let removed = world.target.remove_resource(&name, true).await;
    removed.expect("nothing of ours is there");
    assert_eq!(runs(), "true");
    docker(&["rm", "-f", &container]);
    let removed = world.target.remove_resource(&name, true).await;
    removed.expect("nothing of ours is there");
    for volume in &volumes {
        // Fails where it is gone.
        docker(&["volume", "rm", volume]);
    }
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_renamed_is_the_only_one_on_its_data() {
    let Some(world) = World::new("renamed-db") else {
        return;
    };
    let name = "cache".parse().expect("a name");
    let wanted = |memory: &str| {
        let resource: Resource = serde_json::from_value(serde_json::json!({
            "kind": ResourceKind::Redis,
            "engine": Engine::Redis,
            "image": "platform/redis:7",
            "memory": memory,
        }))
        .expect("a resource");
        DesiredResource {
            digest: Digest::of_value(&resource),
            resource,
        }
    };
    let container = world.container("cache");
    let other = format!("{container}-other");
    let volume = world.container("data_cache");
    let on_it = || {
        docker(&[
            "ps",
            "-a",
            "--format",
            "{{.Names}}",
            "--filter",
            &format!("volume={volume}"),
        ])
    };
    let made = world.target.ensure_resource(&name, &wanted("64MiB")).await;
    made.expect("a server");
    for memory in ["64MiB", "96MiB"] {
        docker(&["rename", &container, &other]);
        let seen = world.target.observe().await.expect("a look");
        let told = seen.resources[&name].reason.clone();
        assert_eq!(told, Some(format!("renamed by hand to `{other}`")));
        let again = world.target.ensure_resource(&name, &wanted(memory)).await;
        again.expect("a server");
        assert_eq!(on_it(), container);
    }
    docker(&["rename", &container, &other]);
    let removed = world.target.remove_resource(&name, true).await;
    removed.expect("it is gone");
    assert_eq!(on_it(), "");
    world.down().await;
}
