//! Configurations come and go; requests do not notice.

use std::path::PathBuf;
use std::time::Duration;

use platform_gateway_api::client::ClientError;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::bench::{Place, Upstream, ask, at, client, configuration, get, orders, until};
use crate::load::Load;
use crate::process::program;
use crate::secured::certificate;
use crate::upstreams::{Then, saying};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_refused_whole() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let first = json!({ "revision": 5, "services": orders(&[&upstream]) });
    gateway.configure(first.clone()).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let cases = [
        (
            json!({ "revision": 4 }),
            "`revision` 4 is older than 5, which is in force",
        ),
        // Somebody else went on from the one before, too.
        (
            json!({ "revision": 5 }),
            "`revision` 5 is in force with other content",
        ),
        (
            json!({ "revision": 6, "services": {}, "routes": [{ "name": "a", "service": "b" }] }),
            "`routes.0.service` names no service: `b`",
        ),
        (
            json!({ "revision": 6, "listeners": [{ "name": "x", "address": taken.local_addr().unwrap().to_string() }] }),
            "cannot listen on",
        ),
    ];
    for (config, expected) in cases {
        match gateway.admin.put_config(&configuration(config)).await {
            Err(ClientError::Refused(reasons)) => {
                assert!(reasons[0].to_string().contains(expected), "{reasons:?}");
            }
            other => panic!("not refused: {other:?}"),
        }
    }
    assert_eq!(gateway.configure(first).await, 5, "the same once more");
    let address = gateway.address("public").await;
    assert_eq!(get(&client(), address, "/").await.name(), "orders");
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_have_a_listener_of_their_own() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({
            "services": orders(&[&upstream]),
            "listeners": [
                { "name": "public", "address": "127.0.0.1:0" },
                { "name": "metrics", "address": "127.0.0.1:0", "kind": "metrics" },
            ],
        }))
        .await;
    let client = client();
    let public = gateway.address("public").await;
    assert_eq!(get(&client, public, "/").await.status, 200);
    let figures = gateway.address("metrics").await;
    let told = get(&client, figures, "/metrics").await;
    assert_eq!(told.header("content-type"), "text/plain; version=0.0.4");
    let counted = r#"gateway_requests_total{service="orders",version="r1",result="good"} 1"#;
    let text = String::from_utf8(told.body.to_vec()).unwrap();
    assert!(text.lines().any(|line| line == counted), "{text}");
    // Neither routes nor what the admin socket has are there, nor figures where everyone comes.
    for path in ["/", "/config", "/status"] {
        assert_eq!(get(&client, figures, path).await.status, 404, "{path}");
    }
    assert_eq!(get(&client, public, "/metrics").await.name(), "orders");
    let written = ask(&client, "POST", figures, "/metrics", &[], b"")
        .await
        .unwrap();
    assert_eq!(written.status, 405);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_descriptors_run_out_for_changes_nothing() {
    let place = Place::new();
    // The gateway takes all that it may have, so both limits are set.
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\""])
        .arg(program());
    let gateway = place.process_by(limited).await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({ "revision": 5, "services": orders(&[&upstream]) }))
        .await;
    let address = gateway.address("public").await;
    let many = |count: usize| {
        let listeners: Vec<_> = (0..count)
            .map(|number| json!({ "name": format!("l{number}"), "address": "127.0.0.1:0" }))
            .collect();
        configuration(json!({ "revision": 6, "services": {}, "listeners": listeners }))
    };
    // Each takes two: all can be bound and not all be served, or not even that.
    for count in [120, 150, 300] {
        match gateway.admin.put_config(&many(count)).await {
            Err(ClientError::Refused(reasons)) => {
                let told = reasons[0].to_string();
                assert!(told.contains("cannot listen on 127.0.0.1:0"), "{told}");
            }
            other => panic!("not refused: {other:?}"),
        }
        let status = gateway.admin.status().await.unwrap();
        assert_eq!((status.revision, status.listeners.len()), (5, 1), "{count}");
        assert_eq!(gateway.address("public").await, address);
        // On a connection of its own, which takes a descriptor, too.
        assert_eq!(get(&client(), address, "/").await.name(), "orders");
    }
    let applied = gateway.admin.put_config(&many(10)).await;
    assert_eq!(applied.unwrap(), 6);
    gateway.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_up_the_last_configuration_and_its_ports() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    gateway
        .configure(json!({ "revision": 3, "services": orders(&[&upstream]) }))
        .await;
    let address = gateway.address("public").await;
    gateway.drain().await;
    let gateway = place.gateway().await;
    assert_eq!(gateway.admin.status().await.unwrap().revision, 3);
    assert_eq!(gateway.address("public").await, address);
    assert_eq!(get(&client(), address, "/").await.name(), "orders");
    gateway.drain().await;
}

/// A configuration that differs from the one before in everything that may change.
fn changing(revision: u64, upstreams: &[Upstream; 3], certificate: &(PathBuf, PathBuf)) -> Value {
    let chosen = &upstreams[usize::try_from(revision % 3).expect("an index")];
    let next = &upstreams[usize::try_from((revision + 1) % 3).expect("an index")];
    let share = revision % 1000;
    let mut listeners = vec![json!({ "name": "public", "address": "127.0.0.1:0" })];
    // A second one comes and goes, with TLS and without.
    match revision % 4 {
        0 => listeners.push(json!({ "name": "other", "address": "127.0.0.1:0" })),
        1 => listeners.push(json!({ "name": "other", "address": "127.0.0.1:0", "tls": {
            "certificates": [{ "certificate": certificate.0, "key": certificate.1 }] } })),
        _ => (),
    }
    json!({
        "revision": revision,
        "listeners": listeners,
        "routes": [
            { "name": "all", "service": "orders" },
            { "name": format!("r{revision}"), "service": "orders",
              "match": { "path": { "prefix": format!("/{revision}") } } },
        ],
        "services": { "orders": {
            "versions": {
                "r1": { "weight": 1000 - share, "endpoints": [chosen.endpoint()] },
                "r2": { "weight": share, "endpoints": [next.endpoint()] },
            },
            "breaker": revision.is_multiple_of(2).then(|| json!({ "at_least": 10 })),
        } },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_configurations_a_second_cost_no_request() {
    const LAST: u64 = 200;
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstreams = [
        Upstream::start("one").await,
        Upstream::start("two").await,
        Upstream::start("three").await,
    ];
    let pair = certificate(place.path(), "orders.test");
    gateway.configure(changing(1, &upstreams, &pair)).await;
    let load = Load::of_both_protocols(gateway.address("public").await);
    // They come from several hands, so that one may overtake another.
    let mut every = tokio::time::interval(Duration::from_millis(10));
    let mut pushes = Vec::new();
    for revision in 2..=LAST {
        every.tick().await;
        let config = configuration(changing(revision, &upstreams, &pair));
        let admin = gateway.admin.clone();
        pushes.push(tokio::spawn(async move {
            match admin.put_config(&config).await {
                Ok(_) => true,
                Err(ClientError::Refused(reasons)) => {
                    assert_eq!(reasons[0].path, "revision", "{reasons:?}");
                    assert!(revision != LAST);
                    false
                }
                Err(error) => panic!("{error}"),
            }
        }));
    }
    let mut taken = 0;
    for push in pushes {
        taken += u64::from(push.await.unwrap());
    }
    assert!(taken > LAST / 2, "{taken}");
    load.goes_on().await;
    let asked = load.end().await;
    assert_eq!(gateway.admin.config().await.unwrap().revision, LAST);
    let tallies = gateway.counted().await;
    let counts = tallies.services["orders"].versions.values();
    let (good, bad) = counts.fold((0, 0), |(good, bad), tally| {
        (good + tally.good, bad + tally.bad)
    });
    assert_eq!((good, bad), (asked, 0));
    gateway.drain().await;
    // The last is what a restart takes up.
    let gateway = place.gateway().await;
    assert_eq!(gateway.admin.status().await.unwrap().revision, LAST);
    gateway.drain().await;
}

/// Whoever took an instance out wants to know when nobody goes by a configuration any more that has it.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_by_which_configuration_requests_still_go() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let silent = saying(b"", Then::Waits).await;
    let config = |revision: u64| json!({ "revision": revision, "services": at(silent) });
    let revisions = async || {
        let tallies = gateway.tallies().await;
        (tallies.oldest_revision, tallies.revision)
    };
    gateway.configure(config(1)).await;
    assert_eq!(revisions().await, (1, 1));
    let address = gateway.address("public").await;
    let mut asking = TcpStream::connect(address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    asking.write_all(request).await.unwrap();
    until("the request is under way", async || {
        gateway.admin.status().await.expect("a status").requests == 1
    })
    .await;
    gateway.configure(config(2)).await;
    gateway.configure(config(3)).await;
    assert_eq!(revisions().await, (1, 3));
    drop(asking);
    until("nobody goes by the first", async || {
        revisions().await == (3, 3)
    })
    .await;
    // A client that only keeps its connection goes by none.
    let upstream = Upstream::start("orders").await;
    let config = |revision: u64| json!({ "revision": revision, "services": orders(&[&upstream]) });
    gateway.configure(config(4)).await;
    let client = client();
    get(&client, address, "/").await;
    gateway.counted().await;
    gateway.configure(config(5)).await;
    assert_eq!(revisions().await, (5, 5));
    get(&client, address, "/").await;
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_come_and_go() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let upstream = Upstream::start("orders").await;
    let config = |revision: u64, names: &[&str]| {
        let listeners: Vec<_> = names
            .iter()
            .map(|name| json!({ "name": name, "address": "127.0.0.1:0" }))
            .collect();
        json!({ "revision": revision, "services": orders(&[&upstream]), "listeners": listeners })
    };
    gateway.configure(config(1, &["a", "b"])).await;
    let (a, b) = (gateway.address("a").await, gateway.address("b").await);
    let client = client();
    get(&client, a, "/").await;
    gateway.configure(config(2, &["b", "c"])).await;
    assert_eq!(gateway.address("b").await, b);
    get(&client, gateway.address("c").await, "/").await;
    until("the first is gone", async || {
        tokio::net::TcpStream::connect(a).await.is_err()
    })
    .await;
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_takes_no_admin_socket_away() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let admin = place.path().join("admin.sock");
    let second = platform_gateway::Options {
        admin: Some(admin.clone()),
        ..platform_gateway::Options::default()
    };
    let refused = platform_gateway::run(second).await.unwrap_err();
    let why = std::error::Error::source(&refused).unwrap().to_string();
    assert_eq!(why, "another gateway answers there");
    assert_eq!(
        refused.to_string(),
        format!("cannot listen at `{}`", admin.display())
    );
    gateway.admin.status().await.expect("the first one answers");
    gateway.drain().await;
}
