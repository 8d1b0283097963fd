//! Active health checks: each endpoint is asked whether it is well.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use platform_gateway_api::HealthCheck;
use tokio::task::JoinHandle;

use crate::endpoint::EndpointState;
use crate::gateway::Gateway;
use crate::upstream_tls::{self, Trust};

/// How often the list of endpoints is compared with the configuration, besides when that is replaced.
const TICK: Duration = Duration::from_millis(100);
/// How soon an endpoint is asked again that has not passed yet: at first, and, twice as long each time, at the most.
const PROVING: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];

struct Watched {
    endpoint: Weak<EndpointState>,
    check: HealthCheck,
    task: JoinHandle<()>,
}

/// Watches all endpoints of services that ask for it, until the process ends.
pub(crate) async fn watch(gateway: Arc<Gateway>) {
    let mut watched: HashMap<usize, Watched> = HashMap::new();
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = gateway.reconfigured.notified() => {}
        }
        let snapshot = gateway.snapshot.load_full();
        let mut wanted = HashMap::new();
        for service in snapshot.services.values() {
            let Some(check) = &service.settings.health else {
                continue;
            };
            for endpoint in service
                .versions
                .iter()
                .flat_map(|version| &version.endpoints)
            {
                let key = Arc::as_ptr(endpoint) as usize;
                wanted.insert(key, (endpoint, check, &service.trust));
            }
        }
        watched.retain(|key, known| {
            let stays = known.endpoint.strong_count() > 0
                && wanted
                    .get(key)
                    .is_some_and(|(_, check, _)| **check == known.check);
            if !stays {
                known.task.abort();
                if let Some(endpoint) = known.endpoint.upgrade() {
                    endpoint.set_healthy(true);
                }
            }
            stays
        });
        for (key, (endpoint, check, trust)) in wanted {
            watched.entry(key).or_insert_with(|| Watched {
                endpoint: Arc::downgrade(endpoint),
                check: check.clone(),
                task: tokio::spawn(keep_asking(
                    Arc::downgrade(endpoint),
                    check.clone(),
                    trust.clone(),
                )),
            });
        }
    }
}

async fn keep_asking(endpoint: Weak<EndpointState>, check: HealthCheck, trust: Option<Arc<Trust>>) {
    let (mut well, mut unwell) = (0_u32, 0_u32);
    let every = Duration::from_millis(check.every_ms);
    let mut proving = PROVING[0];
    loop {
        let Some(endpoint) = endpoint.upgrade() else {
            return;
        };
        let limit = Duration::from_millis(check.timeout_ms);
        let answered = tokio::time::timeout(limit, ask(&endpoint, &check, trust.as_ref())).await;
        if matches!(answered, Ok(Ok(true))) {
            (well, unwell) = (well.saturating_add(1), 0);
        } else {
            (well, unwell) = (0, unwell.saturating_add(1));
        }
        let changed = if well >= check.healthy_after {
            endpoint.set_healthy(true)
        } else if unwell >= check.unhealthy_after {
            endpoint.set_healthy(false)
        } else {
            false
        };
        if changed {
            tracing::info!(endpoint = %endpoint.id, healthy = well > 0, "the health of an endpoint changed");
        }
        let pause = if endpoint.is_proven() {
            every
        } else {
            let pause = every.min(proving);
            proving = PROVING[1].min(proving * 2);
            pause
        };
        drop(endpoint);
        tokio::time::sleep(pause).await;
    }
}

async fn ask(
    endpoint: &Arc<EndpointState>,
    check: &HealthCheck,
    trust: Option<&Arc<Trust>>,
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let path = check.paths.get(&*endpoint.version).unwrap_or(&check.path);
    let stream = upstream_tls::connect(endpoint, trust).await?;
    if path.is_empty() {
        return Ok(true);
    }
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header("host", &endpoint.address)
        .header("connection", "close")
        .header("user-agent", "platform-gateway")
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    let answer = tokio::select! {
        answer = &mut answer => answer?,
        // The connection may end with the very poll that brought the answer.
        ended = &mut connection => {
            ended?;
            answer.await?
        }
    };
    Ok(answer.status().is_success())
}
