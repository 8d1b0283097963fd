//! What is found before anything is touched.

use std::collections::BTreeMap;

use platform_blueprint::{Rollout, Service};
use platform_decide::desired::{Desired, DesiredService};
use platform_port::{Finding, SecretValues, Severity, Target};

use crate::world::{World, free_port, group, service, traffic};

fn desired(port: u16, service: Service) -> Desired {
    let orders = group("orders@r1", 1, service);
    Desired {
        project: "shop".parse().expect("a name"),
        environment: "local".parse().expect("a name"),
        services: BTreeMap::from([(
            orders.id.service.clone(),
            DesiredService {
                spec: orders.spec.clone(),
                digest: orders.digest.clone(),
                replicas: 1,
                rollout: Rollout::default(),
            },
        )]),
        resources: BTreeMap::new(),
        ingress: traffic(port, &orders.id).ingress,
    }
}

async fn errors(world: &World, desired: &Desired) -> Vec<Finding> {
    let found = world.target.preflight(desired).await.expect("a look ahead");
    assert!(!world.state().exists(), "nothing is touched");
    found
        .into_iter()
        .filter(|finding| finding.severity == Severity::Error)
        .collect()
}

#[tokio::test]
async fn nothing_is_found_where_all_is_well() {
    let world = World::new();
    let found = errors(&world, &desired(free_port(), service(&[]))).await;
    assert_eq!(found, []);
}

#[tokio::test]
async fn a_taken_port_names_who_took_it() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let found = errors(&world, &desired(port, service(&[]))).await;
    assert_eq!(found[0].code, "preflight::port-taken");
    let own = format!("process {}", std::process::id());
    assert!(found[0].message.contains(&own), "{}", found[0].message);
}

#[tokio::test]
async fn a_missing_program_or_folder_is_named() {
    let world = World::new();
    let mut missing = service(&[]);
    missing.command = vec!["no-such-program".to_owned()];
    missing.folder = Some("nowhere".to_owned());
    missing.user = Some("nobody-of-this-name".to_owned());
    let found = errors(&world, &desired(free_port(), missing)).await;
    let codes: Vec<&str> = found.iter().map(|finding| finding.code.as_str()).collect();
    assert_eq!(
        codes,
        [
            "preflight::folder-unreadable",
            "preflight::program-missing",
            "preflight::user"
        ]
    );
}

#[tokio::test]
async fn our_own_gateway_does_not_take_our_port() {
    let world = World::new();
    let port = free_port();
    let desired = desired(port, service(&[]));
    world.target.ensure_gateway().await.expect("a gateway");
    let orders = group("orders@r1", 1, service(&[]));
    world
        .target
        .route(&traffic(port, &orders.id), &SecretValues::new())
        .await
        .expect("routes");
    let found = world
        .target
        .preflight(&desired)
        .await
        .expect("a look ahead");
    let codes: Vec<&Finding> = found
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .collect();
    assert!(codes.is_empty(), "{codes:?}");
    world.down().await;
}
