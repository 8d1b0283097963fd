//! Copies of requests for a shadow version, whose answers nobody waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http_body_util::BodyExt;
use pingora_http::RequestHeader;
use platform_gateway_api::Route;

use crate::balance::{by_weight, in_turn, spread};
use crate::clock::now_ms;
use crate::context::RequestContext;
use crate::endpoint::Attempted;
use crate::fetch::Failure;
use crate::gateway::Gateway;
use crate::shadows::Shadows;
use crate::snapshot::ServiceState;
use crate::tally::Gauge;

/// Largest body that is copied.
const LARGEST: usize = 64 * 1024;
/// Copies under way; what is over them is left out.
const MOST: u64 = 128;
/// Time a shadow may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tells a shadow that the request is a copy.
pub(crate) const MARK: &str = "x-platform-mirror";

/// What a shadow version will get.
pub(crate) struct Copy {
    pub(crate) head: RequestHeader,
    pub(crate) body: BytesMut,
    /// Whether nothing was left out.
    whole: bool,
    /// Whether the body came to its end; Pingora calls one done, too, that broke off.
    ended: bool,
}

impl Copy {
    pub(crate) fn new(head: RequestHeader) -> Self {
        Self {
            head,
            body: BytesMut::new(),
            whole: true,
            ended: false,
        }
    }

    /// Forgets the body, which comes once more.
    pub(crate) fn begin_again(&mut self) {
        self.body.clear();
        self.ended = false;
    }

    /// All of the body has come.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Keeps a part of the body; one that grows too large is not copied at all.
    pub(crate) fn add(&mut self, part: &[u8]) {
        if self.body.len() + part.len() > LARGEST {
            self.whole = false;
            self.body = BytesMut::new();
        }
        if self.whole {
            self.body.extend_from_slice(part);
        }
    }
}

/// Sends copies.
pub(crate) struct Mirror {
    shadows: Shadows,
    under_way: Arc<Gauge>,
    turn: AtomicU64,
}

impl Mirror {
    pub(crate) fn new() -> Self {
        Self {
            shadows: Shadows::new(),
            under_way: Arc::default(),
            turn: AtomicU64::new(0),
        }
    }

    /// Whether this request is among those that a route has copied.
    pub(crate) fn takes(&self, route: &Route) -> bool {
        match (&route.mirror, route.mirror_share) {
            (None, _) => false,
            (Some(_), 0 | 1000..) => true,
            (Some(_), share) => {
                let point = spread(self.turn.fetch_add(1, Ordering::Relaxed));
                by_weight(point, [share, 1000 - share].into_iter()) == Some(0)
            }
        }
    }
}

/// Sends the copy of a request that is over, if its route has a shadow.
pub(crate) fn send(context: &mut RequestContext) {
    let copy = context.copy.take();
    let Some(copy) = copy.filter(|copy| copy.whole && copy.ended) else {
        return;
    };
    let Some(route) = &context.route else {
        return;
    };
    let (Some(service), Some(version)) = (&route.service, &route.route.mirror) else {
        return;
    };
    let Some(version) = service.position(version) else {
        return;
    };
    let mirror = &context.gateway.mirror;
    let Some(place) = mirror.under_way.hold(MOST) else {
        return;
    };
    let (gateway, service) = (context.gateway.clone(), service.clone());
    tokio::spawn(async move {
        deliver(&gateway, &service, version, copy).await;
        drop(place);
    });
}

async fn deliver(gateway: &Gateway, service: &ServiceState, version: usize, copy: Copy) {
    let version = &service.versions[version];
    let manner = (version.http2, version.trust.as_ref());
    let now = now_ms();
    let turn = version.runtime.turn();
    let Some(index) = in_turn(&version.endpoints, turn, |endpoint| endpoint.is_fit(now)) else {
        return;
    };
    let endpoint = &version.endpoints[index];
    let counts = &version.runtime.counts;
    let _under_way = counts.in_flight.hold(0);
    let started = Instant::now();
    let answered = tokio::time::timeout(PATIENCE, async {
        let answer = gateway.mirror.shadows.ask(manner, endpoint, &copy).await?;
        let status = answer.status().as_u16();
        let took = started.elapsed();
        // Read to its end, so that the shadow does its whole work.
        let mut body = answer.into_body();
        while body.frame().await.transpose()?.is_some() {}
        Ok::<_, Failure>((status, took))
    });
    let answered = answered.await.ok().and_then(Result::ok);
    gateway.ledger.enter(|| {
        let outcome = if let Some((status, took)) = answered {
            counts.latency.record(took);
            if took > Duration::from_millis(service.settings.slow_after_ms) {
                counts.slow.increment();
            }
            if status >= 500 {
                counts.bad.increment();
                Attempted::Bad
            } else {
                counts.good.increment();
                Attempted::Good
            }
        } else {
            counts.bad.increment();
            counts.unreachable.increment();
            Attempted::Unreachable
        };
        let outliers = &service.settings.outliers;
        endpoint.record(outcome, false, outliers, &version.endpoints);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_share_of_the_requests_is_copied() {
        let mirror = Mirror::new();
        let copied = |route: &Route| (0..1_000).filter(|_| mirror.takes(route)).count();
        for (version, share, expected) in [
            (None, 0, 0),
            (Some("r6"), 0, 1_000),
            (Some("r6"), 1_000, 1_000),
            (Some("r6"), 100, 100),
        ] {
            let route = Route {
                mirror: version.map(str::to_owned),
                mirror_share: share,
                ..Route::default()
            };
            assert!(
                copied(&route).abs_diff(expected) <= 3,
                "{version:?} {share}"
            );
        }
    }
}
