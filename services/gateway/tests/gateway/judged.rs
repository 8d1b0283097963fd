//! What counts as bad and as slow, whatever the clients' patience, and that counts are read in one piece.

use std::time::Duration;

use platform_gateway_api::Tallies;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::{Behaviour, Place, Upstream, client, get, until};
use crate::load::Load;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_is_no_better_for_impatient_clients() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let hanging = Behaviour {
        delay: Duration::from_secs(600),
        ..Behaviour::default()
    };
    let upstream = Upstream::start_with("hanging", hanging).await;
    let service = |slow_after: u64| {
        json!({ "slow_after_ms": slow_after,
            "versions": { "r1": { "weight": 1000, "endpoints": [upstream.endpoint()] } } })
    };
    let route = |name: &str| json!({ "name": name, "service": name, "match": { "path": { "prefix": format!("/{name}") } } });
    gateway
        .configure(json!({
            "services": { "hasty": service(1), "patient": service(600_000) },
            "routes": [route("hasty"), route("patient")],
        }))
        .await;
    let address = gateway.address("public").await;
    let mut seen = Vec::new();
    let (mut late, mut asked) = (0, 0);
    for (request, expected) in [
        ("GET /hasty HTTP/1.1\r\nHost: a\r\n\r\n", true),
        (
            "POST /hasty HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
            true,
        ),
        // Had all the time that an answer may take,
        ("GET /patient HTTP/1.1\r\nHost: a\r\n\r\n", false),
        // did not send its request to the end,
        (
            "POST /hasty HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
            false,
        ),
        // or waits for whatever may come.
        (
            "GET /hasty HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n",
            false,
        ),
        (
            "POST /hasty HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 1\r\n\r\nx",
            false,
        ),
        (
            "POST /hasty HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nGrpc-Timeout: 1S\r\nContent-Length: 1\r\n\r\nx",
            true,
        ),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        asked += 1;
        until("the service is asked", async || upstream.asked() == asked).await;
        // Longer than the millisecond after which an answer is slow.
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(stream);
        late += u64::from(expected);
        let tallies = gateway.counted().await;
        let all: Vec<_> = ["hasty", "patient"]
            .into_iter()
            .filter_map(|service| tallies.version(service, "r1"))
            .collect();
        let sum = |count: fn(&platform_gateway_api::Tally) -> u64| {
            all.iter().map(|tally| count(tally)).sum::<u64>()
        };
        seen.push(request);
        assert_eq!(
            (
                sum(|it| it.total),
                sum(|it| it.bad),
                sum(|it| it.unreachable),
                sum(|it| it.slow)
            ),
            (late, late, late, late),
            "{seen:?}"
        );
        assert_eq!(sum(|it| it.aborted), asked - late, "{seen:?}");
        let endpoint = &tallies.services["hasty"].endpoints["hanging"];
        assert_eq!(endpoint.unreachable, late, "{seen:?}");
    }
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn impatient_clients_have_an_instance_that_hangs_set_aside() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let hanging = Behaviour {
        delay: Duration::from_secs(600),
        ..Behaviour::default()
    };
    let hanging = Upstream::start_with("hanging", hanging).await;
    let well = Upstream::start("well").await;
    gateway
        .configure(json!({ "services": { "orders": {
            "slow_after_ms": 1,
            "outliers": { "eject_ms": 600_000 },
            "versions": { "r1": { "weight": 1000, "endpoints": [hanging.endpoint(), well.endpoint()] } },
        } } }))
        .await;
    let address = gateway.address("public").await;
    while hanging.asked() < 3 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut part = [0; 1024];
        // One of the two answers; of the other nothing comes.
        let _ = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut part)).await;
    }
    let tallies = gateway.counted().await;
    assert_eq!(tallies.services["orders"].endpoints["hanging"].ejections, 1);
    let client = client();
    for _ in 0..4 {
        assert_eq!(get(&client, address, "/").await.name(), "well");
    }
    gateway.drain().await;
}

/// What must not change without an event.
fn counts(mut tallies: Tallies) -> Tallies {
    tallies.now_ms = 0;
    for service in tallies.services.values_mut() {
        for version in service.versions.values_mut() {
            version.in_flight = 0;
        }
        for endpoint in service.endpoints.values_mut() {
            endpoint.in_flight = 0;
        }
    }
    tallies
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_read_in_one_piece_under_load() {
    let place = Place::new();
    let gateway = place.gateway().await;
    let (one, two) = (Upstream::start("one").await, Upstream::start("two").await);
    gateway
        .configure(
            json!({ "services": { "orders": { "slow_after_ms": 1, "versions": {
            "r1": { "weight": 500, "endpoints": [one.endpoint()] },
            "r2": { "weight": 500, "endpoints": [two.endpoint()] },
        } } } }),
        )
        .await;
    let load = Load::start(gateway.address("public").await);
    let mut last: Option<Tallies> = None;
    for _ in 0..300 {
        let tallies = gateway.tallies().await;
        let versions = tallies.services.get("orders").map(|it| &it.versions);
        let sum = |count: fn(&platform_gateway_api::Tally) -> u64| {
            versions.map_or(0, |all| all.values().map(count).sum::<u64>())
        };
        // Route and version are counted at once, and so are an answer and its time.
        let route = &tallies.routes["all"];
        assert_eq!(sum(|it| it.total), route.total);
        assert_eq!(
            sum(|it| it.latency.iter().sum()),
            route.latency.iter().sum::<u64>()
        );
        assert!(sum(|it| it.slow) <= route.total);
        if let Some(last) = &last {
            assert!(last.sequence <= tallies.sequence);
            if last.sequence == tallies.sequence {
                assert_eq!(counts(last.clone()), counts(tallies.clone()));
            }
        }
        last = Some(tallies);
    }
    assert!(load.end().await > 0);
    let quiet = [gateway.counted().await, gateway.tallies().await];
    assert_eq!(quiet[0].sequence, quiet[1].sequence);
    let [first, second] = quiet.map(counts);
    assert_eq!(first, second);
    gateway.drain().await;
}
