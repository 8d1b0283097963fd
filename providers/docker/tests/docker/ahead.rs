//! Instances that are made before they are asked for.

use platform_decide::group::GroupSpec;
use platform_port::{SecretValues, Target};

use crate::world::{World, docker};

/// Makes a group's one instance and starts none; its container.
async fn made_ahead(world: &World, group: &GroupSpec) -> String {
    let none = SecretValues::new();
    let made = world.target.prepare_group(group, &none).await;
    made.expect("it is made");
    let name = world.container("orders-r1-1");
    let state = docker(&["inspect", "-f", "{{.State.Status}}", &name]);
    assert_eq!(state, "created");
    docker(&["inspect", "-f", "{{.Id}}", &name])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_made_ahead_needs_nothing_but_a_start() {
    let Some(world) = World::new("ahead") else {
        return;
    };
    let orders = world.group("orders@r1", 1, World::service(&[]));
    world.front(&orders.id).await;
    let made = made_ahead(&world, &orders).await;
    // Whoever looked for what it is made from would not find it any more.
    let image = format!("platform.local/{}-orders:test", world.project);
    docker(&["rmi", "--force", &image]);
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    let id = docker(&["inspect", "-f", "{{.Id}}", &world.container("orders-r1-1")]);
    assert_eq!(id, made);
    world.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_made_ahead_goes_to_another_address_where_its_own_is_taken() {
    let Some(world) = World::new("moved") else {
        return;
    };
    let orders = world.group("orders@r1", 1, World::service(&[]));
    world.front(&orders.id).await;
    let made = made_ahead(&world, &orders).await;
    let name = world.container("orders-r1-1");
    let format = "{{range .NetworkSettings.Networks}}{{.IPAMConfig.IPv4Address}}{{end}}";
    let address = docker(&["inspect", "-f", format, &name]);
    let network = format!("{}_docker", world.project);
    let own = format!("platform.project={}", world.project);
    let stranger = docker(&[
        "run",
        "--detach",
        "--rm",
        // Taken away with what a failing test leaves.
        "--label",
        &own,
        "--network",
        &network,
        "--ip",
        &address,
        "debian:bookworm-slim",
        "sleep",
        "600",
    ]);
    world.ensure(&orders).await;
    world.until_ready(&orders).await;
    assert_ne!(docker(&["inspect", "-f", "{{.Id}}", &name]), made);
    assert_ne!(docker(&["inspect", "-f", format, &name]), address);
    docker(&["rm", "--force", &stranger]);
    world.down().await;
}
