//! Gateways that count together in Redis.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::bench::{Place, Upstream, client, closed_port, get, orders, skip, until};

/// A Redis server of a test's own.
struct Redis {
    server: Child,
    port: u16,
}

impl Redis {
    /// Starts it and waits until it listens; `None` where it is not installed.
    async fn start() -> Option<Self> {
        let port = closed_port().port();
        let started = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn();
        let Ok(server) = started else {
            skip("there is no redis-server");
            return None;
        };
        let redis = Self { server, port };
        until("Redis listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
        })
        .await;
        Some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_count_together_and_each_for_itself_when_redis_is_gone() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let upstream = Upstream::start("orders").await;
    let places = [Place::new(), Place::new(), Place::new()];
    let mut gateways = Vec::new();
    for (place, space) in places.iter().zip(["shop", "shop", "bank"]) {
        let gateway = place.gateway().await;
        let limit = json!({ "requests": 6, "every_ms": 3_600_000, "per": "route", "shared": true });
        gateway
            .configure(json!({
                "services": orders(&[&upstream]),
                "shared": { "url": format!("redis://127.0.0.1:{}", redis.port), "space": space },
                "routes": [{ "name": "all", "service": "orders", "rate_limit": limit }],
            }))
            .await;
        gateways.push(gateway);
    }
    let client = client();
    let mut statuses = Vec::new();
    for number in 0..10 {
        let address = gateways[number % 2].address("public").await;
        statuses.push(get(&client, address, "/").await.status);
    }
    assert_eq!(statuses, [vec![200; 6], vec![429; 4]].concat());
    // Others have the same server, and counts of their own.
    let address = gateways[2].address("public").await;
    assert_eq!(get(&client, address, "/").await.status, 200);
    // What nobody can count is let through, as far as each gateway's own count allows.
    drop(redis);
    for gateway in &gateways {
        let address = gateway.address("public").await;
        assert_eq!(get(&client, address, "/").await.status, 200);
    }
    for gateway in gateways {
        gateway.drain().await;
    }
}
