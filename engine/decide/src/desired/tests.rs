//! What a blueprint comes to, and what of it is as things are today.

use super::*;
use crate::digest::Digest;
use crate::group::Place;

const SECURED: &str = r#"
        [project]
        name = "shop"
        [services.web]
        command = ["web"]
        port = 8081
        [gateway]
        tls = { certificates = [{ certificate = "shop.pem", key = "shop-key" }] }
        api_keys = { keys = "partners" }
    "#;

#[test]
fn the_gateway_is_handed_its_secrets_by_version() {
    let blueprint = platform_blueprint::Blueprint::parse(SECURED, "platform.toml");
    let blueprint = blueprint.unwrap().blueprint;
    let resolved = blueprint.resolve(None).unwrap();
    let artifact = Artifact {
        key: Digest::of(b"web"),
        place: Place::Installed,
    };
    let artifacts = BTreeMap::from([("web".parse().unwrap(), artifact)]);
    let [key, list]: [SecretName; 2] = ["shop-key", "partners"].map(|n| n.parse().unwrap());
    let set = BTreeMap::from([(key.clone(), 2)]);
    assert_eq!(
        Desired::new(&resolved, &artifacts, &set),
        Err(vec![Missing::GatewaySecret(list.clone())])
    );
    let set = BTreeMap::from([(key.clone(), 2), (list.clone(), 1)]);
    let desired = Desired::new(&resolved, &artifacts, &set).unwrap();
    assert_eq!(desired.ingress.secrets, set);
    let newer = BTreeMap::from([(key, 3), (list, 1)]);
    assert_eq!(desired.with_secrets(&newer).ingress.secrets, newer);
}

#[test]
fn certificates_are_those_of_today_and_only_those_that_are_named() {
    let text = SECURED.replace("    api_keys = { keys = \"partners\" }\n", "");
    let blueprint = platform_blueprint::Blueprint::parse(&text, "platform.toml");
    let resolved = blueprint.unwrap().blueprint.resolve(None).unwrap();
    let artifact = Artifact {
        key: Digest::of(b"web"),
        place: Place::Installed,
    };
    let artifacts = BTreeMap::from([("web".parse().unwrap(), artifact)]);
    let set = BTreeMap::from([("shop-key".parse().unwrap(), 1)]);
    let desired = Desired::new(&resolved, &artifacts, &set).unwrap();
    let check = |desired: Desired, now: &[(&str, &str)], expected: &[(&str, &str)]| {
        let digests = |texts: &[(&str, &str)]| -> BTreeMap<String, Digest> {
            let one =
                |(file, text): &(&str, &str)| ((*file).to_owned(), Digest::of(text.as_bytes()));
            texts.iter().map(one).collect()
        };
        let desired = desired.with_certificates(&digests(now));
        assert_eq!(desired.ingress.certificates, digests(expected));
        desired
    };
    let first = [("shop.pem", "first")];
    let desired = check(desired, &[first[0], ("other.pem", "other")], &first);
    // Nobody knows what it holds while it is gone.
    let desired = check(desired, &[], &first);
    check(desired, &[("shop.pem", "next")], &[("shop.pem", "next")]);
}

#[test]
fn the_gateway_believes_what_its_files_hold() {
    let text = SECURED.replace(
        "api_keys = { keys = \"partners\" }",
        "otlp = { url = \"https://collector.example\", ca = \"collector.pem\" }",
    );
    let blueprint = platform_blueprint::Blueprint::parse(&text, "platform.toml");
    let resolved = blueprint.unwrap().blueprint.resolve(None).unwrap();
    let artifact = Artifact {
        key: Digest::of(b"web"),
        place: Place::Installed,
    };
    let artifacts = BTreeMap::from([("web".parse().unwrap(), artifact)]);
    let set = BTreeMap::from([("shop-key".parse().unwrap(), 1)]);
    let desired = Desired::new(&resolved, &artifacts, &set).unwrap();
    let texts = ["collector.pem", "other.pem"].map(|file| (file.to_owned(), format!("of {file}")));
    let desired = desired.with_authorities(&texts.into());
    let ingress = &desired.ingress;
    assert_eq!(
        ingress.authority(Some("collector.pem")),
        Some("of collector.pem")
    );
    assert_eq!(ingress.authorities.len(), 1);
    assert_eq!(ingress.authority(None), None);
}

const MEASURED: &str = r#"
        [project]
        name = "shop"
        [services.web]
        command = ["web"]
        port = 8081
        [[rollout.analysis.metrics]]
        name = "heap"
        query = "heap"
        prometheus = "https://metrics.example"
        headers = { Authorization = { secret = "metrics" }, X-Scope-OrgID = "shop" }
    "#;

#[test]
fn the_secret_that_a_metric_is_asked_for_with_has_to_be_set_and_is_handed_to_nobody() {
    let blueprint = platform_blueprint::Blueprint::parse(MEASURED, "platform.toml");
    let resolved = blueprint.unwrap().blueprint.resolve(None).unwrap();
    let artifact = Artifact {
        key: Digest::of(b"web"),
        place: Place::Installed,
    };
    let artifacts = BTreeMap::from([("web".parse().unwrap(), artifact)]);
    let secret: SecretName = "metrics".parse().unwrap();
    assert_eq!(
        Desired::new(&resolved, &artifacts, &BTreeMap::new()),
        Err(vec![Missing::RolloutSecret(secret.clone())])
    );
    let set = BTreeMap::from([(secret, 1)]);
    let desired = Desired::new(&resolved, &artifacts, &set).unwrap();
    assert!(desired.ingress.secrets.is_empty());
    assert!(desired.services["web"].spec.secrets.is_empty());
}

const ELSEWHERE: &str = r#"
        [project]
        name = "shop"
        [services.web]
        command = ["web"]
        port = 8081
        needs = ["counts"]
        [services.about]
        command = ["about"]
        [resources.counts]
        kind = "redis"
        external = { secret = "counts-address" }
        [gateway]
        shared = "counts"
    "#;

#[test]
fn the_address_of_a_server_elsewhere_is_handed_to_who_needs_it_and_to_the_gateway() {
    let blueprint = platform_blueprint::Blueprint::parse(ELSEWHERE, "platform.toml");
    let resolved = blueprint.unwrap().blueprint.resolve(None).unwrap();
    let artifact = |name: &ServiceName| Artifact {
        key: Digest::of(name.as_str().as_bytes()),
        place: Place::Installed,
    };
    let artifacts = resolved.services.keys();
    let artifacts = artifacts
        .map(|name| (name.clone(), artifact(name)))
        .collect();
    let secret: SecretName = "counts-address".parse().unwrap();
    let missing = Desired::new(&resolved, &artifacts, &BTreeMap::new()).unwrap_err();
    let service = "web".parse().unwrap();
    let expected = [
        Missing::Secret {
            service,
            secret: secret.clone(),
        },
        Missing::GatewaySecret(secret.clone()),
    ];
    assert_eq!(missing, expected);
    let set = BTreeMap::from([(secret, 4)]);
    let desired = Desired::new(&resolved, &artifacts, &set).unwrap();
    let handed = |name: &str| &desired.services[name].spec.secrets;
    assert_eq!((handed("web"), &desired.ingress.secrets), (&set, &set));
    assert_eq!(handed("about"), &BTreeMap::new());
}

#[test]
fn how_long_a_server_may_take_changes_nothing_of_it() {
    let digest = |more: &str| {
        let text =
            format!("[project]\nname = \"shop\"\n[resources.db]\nkind = \"postgres\"\n{more}");
        let blueprint = platform_blueprint::Blueprint::parse(&text, "platform.toml");
        let resolved = blueprint.unwrap().blueprint.resolve(None).unwrap();
        let desired = Desired::new(&resolved, &BTreeMap::new(), &BTreeMap::new()).unwrap();
        let wanted = &desired.resources["db"];
        (wanted.digest.clone(), wanted.resource.start_within)
    };
    let (usual, none) = digest("");
    let (patient, within) = digest("start_within = \"10m\"");
    assert_eq!((usual.clone(), none), (patient, None));
    assert_eq!(within.unwrap().duration().as_secs(), 600);
    assert_ne!(digest("memory = \"64MiB\"").0, usual);
}
