//! Releases that share requests, get copies or are on trial.

use super::*;

fn groups<const N: usize>(names: [&str; N]) -> [GroupId; N] {
    names.map(|name| name.parse().unwrap())
}

fn orders() -> ServiceName {
    "orders".parse().unwrap()
}

/// Traffic of `orders`, split so.
fn traffic(split: Split) -> Traffic {
    Traffic {
        ingress: ingress(),
        splits: BTreeMap::from([(orders(), split)]),
    }
}

/// The first instance of a group, ready.
fn first_of(group: &GroupId) -> ReadyInstance {
    ReadyInstance {
        group: group.clone(),
        name: format!("{group}.1"),
        address: "127.0.0.1:21000".to_owned(),
        zone: None,
    }
}

#[test]
fn shares_and_ready_instances_make_weighted_versions() {
    let [old, new] = groups(["orders@r1", "orders@r2"]);
    let traffic = traffic(Split {
        shares: BTreeMap::from([
            (old.clone(), Share::thousandths(950)),
            (new.clone(), Share::thousandths(50)),
        ]),
        preview: Some(new.clone()),
        copies: None,
    });
    let ready = [first_of(&new)];
    let shop = Shop {
        internal: BTreeMap::from([(orders(), Internal::loopback(22_000))]),
        ..Shop::of([old, new])
    };
    let config = join(&shop.parts(Some(&traffic), &ready));
    let service = &config.services["orders"];
    assert_eq!(service.versions["r1"].weight, 950);
    assert_eq!(service.versions["r2"].role, api::Role::Canary);
    assert_eq!(
        service.versions["r2"].endpoints[0].address,
        "127.0.0.1:21000"
    );
    // A header counts before any cookie.
    let asked = service.overrides.iter();
    let asked: Vec<_> = asked
        .map(|one| {
            (
                one.header.is_some(),
                one.value.as_str(),
                one.version.as_str(),
            )
        })
        .collect();
    assert_eq!(
        asked,
        [
            (true, "new", "r2"),
            (true, "old", "r1"),
            (false, "new", "r2"),
            (false, "old", "r1"),
        ]
    );
    let addresses: Vec<&str> = config
        .listeners
        .iter()
        .map(|l| l.address.as_str())
        .collect();
    assert_eq!(addresses, ["127.0.0.1:8080", "127.0.0.1:22000"]);
    assert_eq!(config.routes[0].name, "/api");
    assert_eq!(config.routes[1].name, "/api-2");
}

#[test]
fn copies_for_a_group_are_a_version_of_their_own() {
    let [old, fresh, new] = groups(["orders@r1", "orders@r1-baseline", "orders@r2"]);
    let orders = orders();
    let check = |of: Option<&GroupId>| {
        let copies = Copies {
            to: new.clone(),
            of: of.cloned(),
            share: Share::thousandths(200),
        };
        let traffic = traffic(Split {
            shares: BTreeMap::from([
                (old.clone(), Share::thousandths(800)),
                (fresh.clone(), Share::thousandths(200)),
            ]),
            preview: Some(new.clone()),
            copies: Some(copies.clone()),
        });
        let ready = [first_of(&new)];
        let health = api::HealthCheck {
            paths: BTreeMap::from([("r2".to_owned(), "/well".to_owned())]),
            ..api::HealthCheck::default()
        };
        let shop = Shop {
            checks: BTreeMap::from([(orders.clone(), health)]),
            ..Shop::of([old.clone(), fresh.clone(), new.clone()])
        };
        let config = join(&shop.parts(Some(&traffic), &ready));
        assert_eq!(config.validate(), Ok(()));
        let service = &config.services["orders"];
        assert_eq!(copies_of(&orders, service), Some(copies));
        assert_eq!(preview_of(&orders, service), Some(new.clone()));
        let shadow = &service.versions["copies:r2"];
        assert_eq!((shadow.role, shadow.weight), (api::Role::Shadow, 0));
        assert_eq!(shadow.endpoints[0].id, "copies:orders@r2.1");
        assert_eq!(service.versions["r2"].role, api::Role::Preview);
        let health = service.health.as_ref().unwrap();
        assert_eq!(health.paths["copies:r2"], "/well");
    };
    check(None);
    check(Some(&fresh));
}

#[test]
fn a_preview_route_leads_to_what_is_on_trial() {
    let [old, new] = groups(["orders@r1", "orders@r2"]);
    let check = |preview: bool, trial: Option<&GroupId>, expected: Option<&str>| {
        let mut traffic = traffic(Split {
            shares: BTreeMap::from([(old.clone(), Share::FULL)]),
            preview: trial.cloned(),
            copies: None,
        });
        traffic.ingress.routes[0].preview = preview;
        let shop = Shop::of([old.clone(), new.clone()]);
        let config = join(&shop.parts(Some(&traffic), &[]));
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.routes[0].version.as_deref(), expected);
        assert_eq!(config.routes[1].version, None);
    };
    check(true, Some(&new), Some("r2"));
    check(true, None, None);
    check(false, Some(&new), None);
}
