//! The contract that every adapter passes.

use std::sync::Arc;

use platform_port::Target;
use platform_testkit::contract;

use crate::world::{World, traffic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_docker_provider_keeps_the_contract() {
    let Some(world) = World::new("contract") else {
        return;
    };
    contract::store(world.target.store()).await;
    contract::store_contention(Arc::new(world.another())).await;
    let orders = world.group("orders@r1", 1, World::service(&[]));
    contract::group_life(&world.target, &orders, &traffic(world.port, &orders.id)).await;
    contract::destroy(&world.target).await;
    world.down().await;
}
