//! Services that speak HTTP/2 alone: asked how they are, and sent copies, as they are sent requests.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::bench::{Behaviour, Place, Upstream, ask, client, until};

/// What a service was asked: version, authority, target, and whether it is a copy.
type Seen = Arc<Mutex<Vec<(http::Version, String, String, bool)>>>;

/// A service that speaks HTTP/2 alone and notes what it is asked.
async fn noting(name: &str) -> (Upstream, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let behaviour = Behaviour {
        http2: true,
        script: Some(Arc::new(move |head, _| {
            // One name for where it is asked, or none that can be relied on.
            assert!(head.headers.get("host").is_none());
            let authority = head.uri.authority().map(ToString::to_string);
            noted.lock().expect("nobody panicked").push((
                head.version,
                authority.unwrap_or_default(),
                head.uri.path().to_owned(),
                head.headers.contains_key("x-platform-mirror"),
            ));
            Response::new(Full::new(Bytes::from("{}")))
        })),
        ..Behaviour::default()
    };
    (Upstream::start_with(name, behaviour).await, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_asked_and_copied_to_in_http2() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (real, _) = noting("real").await;
    let (shadow, seen) = noting("shadow").await;
    // Nothing is sent to either before it was found well.
    let config = |revision: u64, http2: bool| {
        json!({
            "revision": revision,
            "services": { "orders": {
                "http2": http2,
                "health": { "path": "/health", "every_ms": 20, "unhealthy_after": 1, "prove": true },
                "versions": {
                    "r5": { "weight": 1000, "endpoints": [real.endpoint()] },
                    "r6": { "weight": 0, "role": "shadow", "endpoints": [shadow.endpoint()] },
                },
            } },
            "routes": [{ "name": "all", "service": "orders", "mirror": "r6", "mirror_methods": ["POST"] }],
        })
    };
    let serving = async |expected: bool| {
        until("the checks have had their say", async || {
            let tallies = gateway.tallies().await;
            let endpoints = tallies.services["orders"].endpoints.values();
            endpoints.filter(|one| one.serving == expected).count() == 2
        })
        .await;
    };
    gateway.configure(config(1, true)).await;
    serving(true).await;
    let address = gateway.address("public").await;
    for number in 0..10 {
        let target = format!("/{number}");
        let headers = [("host", "shop.test:81")];
        let answer = ask(&client(), "POST", address, &target, &headers, b"12345").await;
        assert_eq!(answer.expect("an answer").status, 200);
    }
    let copies = || -> Vec<Value> {
        let seen = seen.lock().expect("nobody panicked");
        let copies = seen.iter().filter(|(_, _, target, _)| target != "/health");
        copies
            .map(|(version, authority, target, copy)| {
                json!([format!("{version:?}"), authority, target, copy])
            })
            .collect()
    };
    until("all copies arrived", async || copies().len() == 10).await;
    for number in 0..10 {
        let expected = json!(["HTTP/2.0", "shop.test:81", format!("/{number}"), true]);
        assert!(copies().contains(&expected), "{:?}", copies());
    }
    // Another protocol is another question.
    gateway.configure(config(2, false)).await;
    serving(false).await;
    gateway.configure(config(3, true)).await;
    serving(true).await;
    gateway.drain().await;
}
