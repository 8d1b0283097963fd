//! Active health checks: each endpoint is asked whether it is well.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use platform_gateway_api::HealthCheck;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::endpoint::EndpointState;
use crate::gateway::Gateway;
use crate::snapshot::{ServiceState, VersionState};
use crate::upstream_tls::{self, Trust};

/// How often the list of endpoints is compared with the configuration, besides when that is replaced.
const TICK: Duration = Duration::from_millis(100);
/// How soon an endpoint is asked again that has not passed yet: at first, and at the most. In between it is a tenth of the time it
/// has taken so far, so that no more than that is lost.
const PROVING: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];

/// How an endpoint is asked.
#[derive(Clone)]
struct Manner {
    check: HealthCheck,
    http2: bool,
    trust: Option<Arc<Trust>>,
}

impl Manner {
    /// `None` for a service whose endpoints are not asked.
    fn of(service: &ServiceState, version: &VersionState) -> Option<Self> {
        Some(Self {
            check: service.settings.health.clone()?,
            http2: version.http2,
            trust: version.trust.clone(),
        })
    }

    fn is_like(&self, other: &Self) -> bool {
        let key = |manner: &Self| manner.trust.as_ref().map(|trust| trust.key());
        self.check == other.check && self.http2 == other.http2 && key(self) == key(other)
    }
}

struct Watched {
    endpoint: Weak<EndpointState>,
    manner: Manner,
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
        let services = snapshot.services.values();
        let versions =
            services.flat_map(|service| service.versions.iter().map(move |one| (service, one)));
        for (service, version) in versions {
            let Some(manner) = Manner::of(service, version) else {
                continue;
            };
            for endpoint in &version.endpoints {
                let key = Arc::as_ptr(endpoint) as usize;
                wanted.insert(key, (endpoint, manner.clone()));
            }
        }
        watched.retain(|key, known| {
            let stays = known.endpoint.strong_count() > 0
                && wanted
                    .get(key)
                    .is_some_and(|(_, manner)| manner.is_like(&known.manner));
            if !stays {
                known.task.abort();
                if let Some(endpoint) = known.endpoint.upgrade() {
                    endpoint.set_healthy(true);
                }
            }
            stays
        });
        for (key, (endpoint, manner)) in wanted {
            watched.entry(key).or_insert_with(|| Watched {
                endpoint: Arc::downgrade(endpoint),
                manner: manner.clone(),
                task: tokio::spawn(keep_asking(Arc::downgrade(endpoint), manner)),
            });
        }
    }
}

async fn keep_asking(endpoint: Weak<EndpointState>, manner: Manner) {
    let check = &manner.check;
    let (mut well, mut unwell) = (0_u32, 0_u32);
    let every = Duration::from_millis(check.every_ms);
    let begun = Instant::now();
    loop {
        let Some(endpoint) = endpoint.upgrade() else {
            return;
        };
        let limit = Duration::from_millis(check.timeout_ms);
        let answered = tokio::time::timeout(limit, ask(&endpoint, &manner)).await;
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
            every.min(proving_pause(begun.elapsed()))
        };
        drop(endpoint);
        tokio::time::sleep(pause).await;
    }
}

/// How soon an endpoint is asked again that was first asked so long ago and has not passed yet.
fn proving_pause(asked_for: Duration) -> Duration {
    (asked_for / 10).clamp(PROVING[0], PROVING[1])
}

async fn ask(
    endpoint: &Arc<EndpointState>,
    manner: &Manner,
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let check = &manner.check;
    let path = check.paths.get(&*endpoint.version).unwrap_or(&check.path);
    let stream = upstream_tls::connect(endpoint, manner.trust.as_ref(), manner.http2).await?;
    if path.is_empty() {
        return Ok(true);
    }
    let stream = TokioIo::new(stream);
    let request = Request::get(path).header("user-agent", "platform-gateway");
    if manner.http2 {
        let scheme = manner.trust.as_ref().map_or("http", |_| "https");
        let request = request
            .uri(format!("{scheme}://{}{path}", endpoint.address))
            .body(Empty::<Bytes>::new())?;
        let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
        let (mut sender, connection) = made.await?;
        return answered(connection, sender.send_request(request)).await;
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let request = request
        .header("host", &endpoint.address)
        .header("connection", "close")
        .body(Empty::<Bytes>::new())?;
    answered(connection, sender.send_request(request)).await
}

/// Whether the answer that comes over a connection is a good one.
async fn answered(
    connection: impl Future<Output = hyper::Result<()>>,
    answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_comes_up_is_found_within_a_tenth_of_the_time_it_took() {
        let check = |asked_for: u64, pause: u64| {
            let found = proving_pause(Duration::from_millis(asked_for));
            assert_eq!(found, Duration::from_millis(pause));
        };
        check(0, 10);
        check(60, 10);
        check(400, 40);
        check(60_000, 100);
    }
}
