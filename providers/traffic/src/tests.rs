//! What is joined from a deployment, and what is left out of it.

use super::*;

mod options;

fn ingress() -> Ingress {
    let upstream = Upstream {
        internal: true,
        protocol: blueprint::Protocol::Http,
        traffic: blueprint::Traffic::default(),
        opt_in: blueprint::OptIn::default(),
        slow_after: 100,
    };
    let route = blueprint::Route {
        path: blueprint::PathMatch::Prefix("/api".to_owned()),
        service: Some("orders".parse().unwrap()),
        ..blueprint::Route::default()
    };
    Ingress {
        gateway: blueprint::Gateway::default(),
        routes: vec![route.clone(), route],
        services: BTreeMap::from([("orders".parse().unwrap(), upstream)]),
        secrets: BTreeMap::new(),
        authorities: BTreeMap::new(),
        certificates: BTreeMap::new(),
    }
}

#[test]
fn shares_and_ready_instances_make_weighted_versions() {
    let (old, new): (GroupId, GroupId) =
        ("orders@r1".parse().unwrap(), "orders@r2".parse().unwrap());
    let orders: ServiceName = "orders".parse().unwrap();
    let split = Split {
        shares: BTreeMap::from([
            (old.clone(), Share::thousandths(950)),
            (new.clone(), Share::thousandths(50)),
        ]),
        preview: Some(new.clone()),
        copies: None,
    };
    let traffic = Traffic {
        ingress: ingress(),
        splits: BTreeMap::from([(orders.clone(), split)]),
    };
    let ready = [ReadyInstance {
        group: new.clone(),
        name: "orders@r2.1".to_owned(),
        address: "127.0.0.1:21000".to_owned(),
        zone: None,
    }];
    let config = join(&Parts {
        traffic: Some(&traffic),
        groups: &BTreeSet::from([old.clone(), new]),
        ready: &ready,
        internal: &BTreeMap::from([(orders, Internal::loopback(22_000))]),
        http2: &BTreeSet::new(),
        one_sided: &BTreeMap::new(),
        public: None,
        checks: &BTreeMap::new(),
        mutual: None,
        secrets: &SecretValues::new(),
        secret_files: Path::new("/secrets"),
        shared: None,
        root: Some(Path::new("/shop")),
        project: "shop",
    });
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
fn an_absolute_redirect_is_split() {
    let split = |to: &str| {
        let found = route::redirect(&blueprint::Redirect {
            to: to.to_owned(),
            status: 308,
        });
        (found.origin, found.path)
    };
    assert_eq!(
        split("https://a.example/b"),
        (Some("https://a.example".to_owned()), Some("/b".to_owned()))
    );
    assert_eq!(
        split("https://a.example"),
        (Some("https://a.example".to_owned()), None)
    );
    assert_eq!(split("/b"), (None, Some("/b".to_owned())));
}

/// The configuration of `orders`, beside which `audit` and `users` run.
fn joined(change: impl FnOnce(&mut Ingress)) -> api::Config {
    let mut ingress = ingress();
    ingress.routes.truncate(1);
    let upstream = ingress.services.values().next().unwrap().clone();
    for name in ["audit", "users"] {
        let beside = Upstream {
            internal: false,
            ..upstream.clone()
        };
        ingress.services.insert(name.parse().unwrap(), beside);
    }
    change(&mut ingress);
    let groups: BTreeSet<GroupId> = ["orders@r1", "audit@r1", "users@r1"]
        .map(|id| id.parse().unwrap())
        .into();
    let ready: Vec<ReadyInstance> = groups
        .iter()
        .zip(21_000..)
        .map(|(group, port)| ReadyInstance {
            group: group.clone(),
            name: format!("{group}.1"),
            address: format!("127.0.0.1:{port}"),
            zone: (group.service.as_str() == "orders").then(|| "a".parse().unwrap()),
        })
        .collect();
    let internal = groups
        .iter()
        .zip(22_000..)
        .map(|(id, port)| (id.service.clone(), Internal::loopback(port)));
    let splits = groups
        .iter()
        .map(|id| (id.service.clone(), Split::all(id.clone())));
    let shared = ingress.gateway.shared.is_some();
    let traffic = Traffic {
        splits: splits.collect(),
        ingress,
    };
    let config = join(&Parts {
        traffic: Some(&traffic),
        groups: &groups,
        ready: &ready,
        internal: &internal.collect(),
        http2: &BTreeSet::new(),
        one_sided: &BTreeMap::new(),
        public: None,
        checks: &BTreeMap::new(),
        mutual: None,
        secrets: &secrets(),
        secret_files: Path::new("/secrets"),
        shared: shared.then_some(Path::new("/secrets/shared.1")),
        root: Some(Path::new("/shop")),
        project: "shop",
    });
    assert_eq!(config.validate(), Ok(()));
    config
}

/// The keys `key` and `list`.
fn secrets() -> SecretValues {
    let list = format!("partner {} orders:read", "ab".repeat(32));
    [("key", "PEM".to_owned()), ("list", list)]
        .map(|(name, value)| {
            let value = platform_port::SecretValue::new(value);
            (name.parse().unwrap(), value)
        })
        .into()
}

#[test]
fn keys_and_certificates_come_from_secrets() {
    let config = joined(|ingress| {
        let gateway = serde_json::json!({
            "tls": { "certificates": [{ "certificate": "tls/shop.pem", "key": "key" }] },
            "api_keys": { "keys": "list", "header": "x-key" },
        });
        ingress.gateway = serde_json::from_value(gateway).unwrap();
        ingress.secrets = [("key", 3), ("list", 1)]
            .map(|(name, version)| (name.parse().unwrap(), version))
            .into();
        let auth = serde_json::json!({ "by": ["api-key"], "scopes": ["orders:read"] });
        ingress.routes[0].auth = Some(serde_json::from_value(auth).unwrap());
    });
    let public = &config.listeners[0];
    assert_eq!((public.name.as_str(), public.https), ("public", Some(8443)));
    let secured = &config.listeners[1];
    assert_eq!(secured.address, "127.0.0.1:8443");
    let pair = &secured.tls.as_ref().unwrap().certificates[0];
    assert_eq!(pair.certificate, "/shop/tls/shop.pem");
    assert_eq!(pair.key, "/secrets/key.3");
    let auth = config.routes[0].auth.as_ref().unwrap();
    assert!(!auth.tokens);
    assert_eq!(auth.key_header, "x-key");
    assert_eq!(auth.api_keys[0].name, "partner");
    assert!(!text(&config).contains("PEM"));
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

#[test]
fn a_route_hands_over_all_of_its_options() {
    let config = joined(|ingress| {
        let route = &mut ingress.routes[0];
        route.csrf = true;
        route.escaped_slashes = blueprint::EscapedSlashes::Keep;
        route.csp = Some("default-src 'self'".to_owned());
        route.sticky = false;
        route.max_answer = Some(blueprint::ByteSize::from_mib(1));
        route.mirror = Some(blueprint::Mirror {
            service: "audit".parse().unwrap(),
            share: blueprint::Percent::whole(10),
            methods: vec![blueprint::Method::Get, blueprint::Method::Post],
        });
        ingress.gateway.limits.requests = 500;
        ingress.gateway.limits.cache = blueprint::ByteSize::from_mib(1);
        ingress.gateway.outliers.errors = 7;
        let orders = ingress.services.get_mut("orders").unwrap();
        orders.traffic.concurrency_each = Some(9);
    });
    let route = &config.routes[0];
    assert!(route.csrf && route.by_weight && route.security_headers);
    assert_eq!(route.max_answer, 1 << 20);
    assert_eq!(route.escaped_slashes, api::EscapedSlashes::Keep);
    assert_eq!(
        text(&route.response_headers),
        r#"{"remove":[],"set":{"content-security-policy":"default-src 'self'"},"add":{}}"#
    );
    assert_eq!(
        (route.mirror.as_deref(), route.mirror_share),
        (Some("mirror:audit"), 100)
    );
    assert_eq!(route.mirror_methods, ["GET", "POST"]);
    let service = &config.services["orders"];
    assert_eq!(
        text(&service.versions["mirror:audit"]),
        r#"{"weight":0,"endpoints":[{"id":"mirror:audit@r1.1","address":"127.0.0.1:21000","zone":null}],"role":"shadow"}"#
    );
    assert_eq!(service.sticky, Some(api::Sticky::Client));
    assert_eq!((config.max_requests, config.cache_memory), (500, 1 << 20));
    assert_eq!(service.outliers.consecutive_bad, 7);
    assert_eq!(service.limits.concurrent_per_endpoint, 9);
}

#[test]
fn copies_for_a_group_are_a_version_of_their_own() {
    let (old, fresh, new): (GroupId, GroupId, GroupId) = (
        "orders@r1".parse().unwrap(),
        "orders@r1-baseline".parse().unwrap(),
        "orders@r2".parse().unwrap(),
    );
    let orders: ServiceName = "orders".parse().unwrap();
    let check = |of: Option<&GroupId>| {
        let copies = Copies {
            to: new.clone(),
            of: of.cloned(),
            share: Share::thousandths(200),
        };
        let split = Split {
            shares: BTreeMap::from([
                (old.clone(), Share::thousandths(800)),
                (fresh.clone(), Share::thousandths(200)),
            ]),
            preview: Some(new.clone()),
            copies: Some(copies.clone()),
        };
        let traffic = Traffic {
            ingress: ingress(),
            splits: BTreeMap::from([(orders.clone(), split)]),
        };
        let ready = [ReadyInstance {
            group: new.clone(),
            name: "orders@r2.1".to_owned(),
            address: "127.0.0.1:21000".to_owned(),
            zone: None,
        }];
        let health = api::HealthCheck {
            paths: BTreeMap::from([("r2".to_owned(), "/well".to_owned())]),
            ..api::HealthCheck::default()
        };
        let config = join(&Parts {
            traffic: Some(&traffic),
            groups: &BTreeSet::from([old.clone(), fresh.clone(), new.clone()]),
            ready: &ready,
            internal: &BTreeMap::new(),
            http2: &BTreeSet::new(),
            one_sided: &BTreeMap::new(),
            public: None,
            checks: &BTreeMap::from([(orders.clone(), health)]),
            mutual: None,
            secrets: &SecretValues::new(),
            secret_files: Path::new("/secrets"),
            shared: None,
            root: Some(Path::new("/shop")),
            project: "shop",
        });
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
    let (old, new): (GroupId, GroupId) =
        ("orders@r1".parse().unwrap(), "orders@r2".parse().unwrap());
    let check = |preview: bool, trial: Option<&GroupId>, expected: Option<&str>| {
        let mut ingress = ingress();
        ingress.routes[0].preview = preview;
        let split = Split {
            shares: BTreeMap::from([(old.clone(), Share::FULL)]),
            preview: trial.cloned(),
            copies: None,
        };
        let traffic = Traffic {
            ingress,
            splits: BTreeMap::from([("orders".parse().unwrap(), split)]),
        };
        let config = join(&Parts {
            traffic: Some(&traffic),
            groups: &BTreeSet::from([old.clone(), new.clone()]),
            ready: &[],
            internal: &BTreeMap::new(),
            http2: &BTreeSet::new(),
            one_sided: &BTreeMap::new(),
            public: None,
            checks: &BTreeMap::new(),
            mutual: None,
            secrets: &SecretValues::new(),
            secret_files: Path::new("/secrets"),
            shared: None,
            root: Some(Path::new("/shop")),
            project: "shop",
        });
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.routes[0].version.as_deref(), expected);
        assert_eq!(config.routes[1].version, None);
    };
    check(true, Some(&new), Some("r2"));
    check(true, None, None);
    check(false, Some(&new), None);
}

fn digest(text: &str) -> platform_decide::digest::Digest {
    platform_decide::digest::Digest::of(text.as_bytes())
}

/// How a service is asked over TLS whose file of authorities was read.
fn one_sided(service: serde_json::Value) -> Option<api::UpstreamTls> {
    let service: blueprint::Service = serde_json::from_value(service).unwrap();
    let spec = platform_decide::group::ServiceSpec {
        service: std::sync::Arc::new(service),
        artifact: platform_decide::group::Artifact {
            key: digest("orders"),
            place: platform_decide::group::Place::Installed,
        },
        needs: Vec::new(),
        secrets: BTreeMap::new(),
        authority: Some("what it holds".to_owned()),
    };
    certificates::one_sided(Path::new("/shared"), &"orders".parse().unwrap(), &spec)
}

#[test]
fn who_shows_a_certificate_of_its_own_is_believed_by_name_and_authority() {
    let check = |service: serde_json::Value, name: &str, has_authority: bool| {
        let asked = one_sided(service).unwrap();
        assert_eq!(asked.name.as_deref(), Some(name));
        assert_eq!(asked.ca.is_some(), has_authority);
    };
    check(serde_json::json!({ "protocol": "h2" }), "orders", false);
    check(
        serde_json::json!({ "protocol": "https", "tls": { "ca": "ca.pem", "name": "own.example" } }),
        "own.example",
        true,
    );
    for protocol in ["http", "h2c", "mtls", "mtls-h2"] {
        assert_eq!(one_sided(serde_json::json!({ "protocol": protocol })), None);
    }
}

#[test]
fn groups_are_asked_as_each_speaks() {
    let (old, new): (GroupId, GroupId) =
        ("orders@r1".parse().unwrap(), "orders@r2".parse().unwrap());
    let mutual = Mutual {
        groups: BTreeSet::from([new.clone()]),
        authority: "/own/authority".into(),
        certificate: "/own/certificate".into(),
        key: "/own/key".into(),
    };
    let third: GroupId = "orders@r3".parse().unwrap();
    let shown = one_sided(serde_json::json!({ "protocol": "https", "tls": { "ca": "ca.pem" } }));
    let one_sided = BTreeMap::from([(third.clone(), shown.unwrap())]);
    let config = join(&Parts {
        traffic: None,
        groups: &BTreeSet::from([old.clone(), new, third]),
        ready: &[],
        internal: &BTreeMap::new(),
        http2: &BTreeSet::from([old.clone()]),
        one_sided: &one_sided,
        public: None,
        checks: &BTreeMap::new(),
        mutual: Some(&mutual),
        secrets: &SecretValues::new(),
        secret_files: Path::new("/secrets"),
        shared: None,
        root: Some(Path::new("/shop")),
        project: "shop",
    });
    let versions = &config.services["orders"].versions;
    assert_eq!(
        (&versions["r1"].tls, versions["r1"].http2),
        (&None, Some(true))
    );
    assert_eq!(versions["r2"].http2, None);
    assert_eq!(
        text(&versions["r3"].tls),
        r#"{"ca":"/shared/authorities.SHORT","name":"orders","certificate":null,"key":null}"#
            .replace("SHORT", digest("what it holds").short())
    );
    assert_eq!(
        text(&versions["r2"].tls),
        r#"{"ca":"/own/authority","name":"orders","certificate":"/own/certificate","key":"/own/key"}"#
    );
}

#[test]
fn a_stated_policy_header_and_an_empty_mirror_win() {
    let config = joined(|ingress| {
        let route = &mut ingress.routes[0];
        route.csp = Some("default-src 'self'".to_owned());
        let set = &mut route.response_headers.set;
        set.insert("Content-Security-Policy".to_owned(), "none".to_owned());
        route.mirror = Some(blueprint::Mirror {
            service: "audit".parse().unwrap(),
            share: blueprint::Percent::whole(0),
            methods: vec![blueprint::Method::Get],
        });
    });
    assert_eq!(
        text(&config.routes[0].response_headers.set),
        r#"{"Content-Security-Policy":"none"}"#
    );
    assert_eq!(config.routes[0].mirror, None);
    assert_eq!(config.services["orders"].versions.len(), 1);
}

#[test]
fn keys_of_a_service_are_at_its_internal_listener() {
    for (stated, url, listens) in [
        (Some("users:/keys"), "http://127.0.0.1:22002/keys", true),
        (
            Some("http://id.example/keys"),
            "http://id.example/keys",
            false,
        ),
        (None, "http://id.example/.well-known/jwks.json", false),
    ] {
        let config = joined(|ingress| {
            let jwt = serde_json::json!({ "issuer": "http://id.example", "jwks": stated });
            ingress.gateway.jwt = Some(serde_json::from_value(jwt).unwrap());
        });
        let jwks = config.identity.unwrap().jwks;
        assert_eq!(jwks, api::Jwks::Url(url.to_owned()));
        let found = config
            .listeners
            .iter()
            .any(|one| one.name == "internal-users" && one.address == "127.0.0.1:22002");
        assert_eq!(found, listens, "{stated:?}");
    }
}

#[test]
fn limits_are_shared_where_there_is_a_redis_to_count_through() {
    let limit = serde_json::json!({ "requests": 5, "shared": true });
    let limit: blueprint::RateLimit = serde_json::from_value(limit).unwrap();
    let limited = |config: api::Config| {
        assert_eq!(config.validate(), Ok(()));
        let limit = config.routes[0].rate_limit.as_ref().unwrap().shared;
        (limit, config.shared)
    };
    let through = api::Shared {
        url: None,
        url_file: Some("/secrets/shared.1".to_owned()),
        space: "shop".to_owned(),
    };
    let config = joined(|ingress| {
        ingress.routes[0].rate_limit = Some(limit.clone());
        ingress.gateway.shared = Some("counts".parse().unwrap());
    });
    assert_eq!(limited(config), (true, Some(through)));
    // Its resource has no server, as on a laptop.
    let config = joined(|ingress| ingress.routes[0].rate_limit = Some(limit.clone()));
    assert_eq!(limited(config), (false, None));
}

#[test]
fn another_address_is_another_file_whose_name_tells_nothing_of_it() {
    let mut ingress = ingress();
    ingress.secrets = BTreeMap::from([("far".parse().unwrap(), 3)]);
    let file = |resource: serde_json::Value, address: &str| {
        let resource = serde_json::from_value(resource).unwrap();
        let file = shared_file(Path::new("/secrets"), &ingress, &resource, address);
        file.unwrap().display().to_string()
    };
    let own = serde_json::json!({ "kind": "redis", "engine": "redis" });
    let [one, other] = ["redis://:hunter2@a:1", "redis://:hunter3@a:1"].map(|address| {
        let file = file(own.clone(), address);
        assert!(
            file.starts_with("/secrets/shared.") && !file.contains("hunter"),
            "{file}"
        );
        file
    });
    assert_ne!(one, other);
    // What people chose as a password could be guessed from a digest.
    let far = serde_json::json!({ "kind": "redis", "external": { "secret": "far" } });
    assert_eq!(file(far, "redis://:hunter2@a:1"), "/secrets/far.3");
}

#[test]
fn the_blueprint_and_the_gateway_refuse_the_same_fields_of_the_connection() {
    let blueprint = |name: &str| {
        let text = format!(
            "[project]\nname = 'shop'\n[services.web]\ncommand = ['web']\nport = 8081\n[[routes]]\nservice = 'web'\n\
             request_headers = {{ remove = ['{name}'] }}\n"
        );
        blueprint::Blueprint::parse(&text, "platform.toml").is_ok()
    };
    let gateway = |name: &str| {
        let route = serde_json::json!({
            "name": "all", "redirect": { "path": "/x", "status": 308 }, "request_headers": { "remove": [name] }
        });
        let config = serde_json::json!({ "routes": [route] });
        let config: api::Config = serde_json::from_value(config).unwrap();
        config.validate().is_ok()
    };
    for name in [
        "connection",
        "Content-Length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "x own",
    ] {
        assert!(!blueprint(name) && !gateway(name), "{name}");
    }
    assert!(blueprint("x-own") && gateway("x-own"));
}
