//! What instances of a group are handed in secret.

use platform_blueprint::{Resource, ResourceKind};
use platform_decide::desired::DesiredResource;
use platform_decide::digest::Digest;
use platform_decide::group::Need;
use platform_decide::observed::InstanceSeen;
use platform_port::{SecretValue, SecretValues, Target};
use platform_testkit::scene::ask_at;

use crate::world::{World, docker, end};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_secret_names_the_very_instance_and_its_zone() {
    let Some(world) = World::new("handed") else {
        return;
    };
    let resource: Resource = serde_json::from_value(serde_json::json!({
        "kind": "postgres",
        "external": { "secret": "store" },
    }))
    .expect("a resource");
    let store = DesiredResource {
        digest: Digest::of_value(&resource),
        resource,
    };
    let name = "store".parse().expect("a name");
    world
        .target
        .ensure_resource(&name, &store)
        .await
        .expect("it is taken in");
    let mut service = World::service(&[]);
    service.zones = ["a", "b"].map(|zone| zone.parse().expect("a name")).into();
    service.env = serde_json::from_value(serde_json::json!({
        "OWN": "${STORE_URL}?name=${PLATFORM_INSTANCE}&at=${PLATFORM_ZONE}",
    }))
    .expect("variables");
    let mut orders = world.group("orders@r1", 2, service);
    orders.spec.needs = vec![Need::Resource {
        name,
        resource: ResourceKind::Postgres,
    }];
    let secrets = SecretValues::from([(
        "store".parse().expect("a name"),
        SecretValue::new("postgres://app:hunter2@far/app"),
    )]);
    world.front(&orders.id).await;
    let started = world.target.ensure_group(&orders, &secrets).await;
    started.expect("a group");
    let wanted = ["orders@r1.1&at=a", "orders@r1.2&at=b"]
        .map(|own| format!("postgres://app:hunter2@far/app?name={own}"));
    let answers = async || {
        let seen = world.until_ready(&orders).await;
        let mut answers = Vec::new();
        for one in &seen.instances {
            let address = one.address.as_deref().expect("an address");
            let answer = ask_at(address, "/env/OWN", "").await.expect("an answer");
            answers.push(answer.1);
        }
        answers
    };
    assert_eq!(answers().await, wanted);

    // The engine starts them again with what lies there then.
    for name in ["orders-r1-1", "orders-r1-2"].map(|own| world.container(own)) {
        let inspected = docker(&["inspect", &name]);
        assert!(!inspected.contains("hunter2"), "a secret is shown");
        end(&name);
    }
    world
        .until("another life", |seen| {
            let again = |one: &InstanceSeen| one.restarts > 0;
            let group = seen.groups.get(&orders.id);
            group.is_some_and(|group| group.instances.iter().all(again))
        })
        .await;
    assert_eq!(answers().await, wanted);
    world.down().await;
}
