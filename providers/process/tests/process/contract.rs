//! The contract that every adapter passes.

use std::sync::Arc;

use platform_testkit::contract;

use crate::world::{World, free_port, group, service, traffic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_provider_keeps_the_contract() {
    let world = World::new();
    let store = world.target.layout().store();
    let files = platform_process::FileStore::new(store);
    contract::store(&files).await;
    let again = World::target_in(world.folder.path(), crate::world::example("agent"));
    contract::store_contention(Arc::new(again)).await;
    let orders = group("orders@r1", 1, service(&[]));
    contract::group_life(&world.target, &orders, &traffic(free_port(), &orders.id)).await;
    contract::destroy(&world.target).await;
}
