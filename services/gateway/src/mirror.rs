//! Copies of requests for a shadow version, whose answers nobody waits for: of another service, as a route has it, or of a
//! release on trial.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::Method;
use http_body_util::BodyExt;
use pingora_http::RequestHeader;
use platform_gateway_api::{Copies, Route};

use crate::attempt::streams;
use crate::balance::{by_weight, in_turn, spread};
use crate::clock::now_ms;
use crate::context::RequestContext;
use crate::endpoint::Attempted;
use crate::fetch::Failure;
use crate::gateway::Gateway;
use crate::shadows::Shadows;
use crate::snapshot::{ServiceState, VersionState};
use crate::tally::Gauge;

/// Largest body that is copied.
const LARGEST: usize = 64 * 1024;
/// Copies under way; what is over them is left out.
const MOST: u64 = 128;
/// Time a shadow may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tells a shadow that the request is a copy.
pub(crate) const MARK: &str = "x-platform-mirror";

/// How much of a body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Part,
    /// To its end; Pingora calls one done, too, that broke off.
    All,
    /// More than is copied.
    TooMuch,
}

/// What shadow versions will get.
#[derive(Clone)]
pub(crate) struct Copy {
    pub(crate) head: RequestHeader,
    pub(crate) body: BytesMut,
    came: Came,
    /// The shadow of the route gets it.
    for_route: bool,
    /// The release on trial gets it.
    for_release: bool,
}

impl Copy {
    fn new(head: RequestHeader, for_route: bool, for_release: bool) -> Self {
        Self {
            head,
            body: BytesMut::new(),
            came: Came::Part,
            for_route,
            for_release,
        }
    }

    /// Forgets the body, which comes once more.
    pub(crate) fn begin_again(&mut self) {
        self.body.clear();
        if self.came == Came::All {
            self.came = Came::Part;
        }
    }

    /// All of the body has come.
    pub(crate) fn end(&mut self) {
        if self.came == Came::Part {
            self.came = Came::All;
        }
    }

    /// Keeps a part of the body; one that grows too large is not copied at all.
    pub(crate) fn add(&mut self, part: &[u8]) {
        if self.body.len() + part.len() > LARGEST {
            self.came = Came::TooMuch;
            self.body = BytesMut::new();
        }
        if self.came != Came::TooMuch {
            self.body.extend_from_slice(part);
        }
    }
}

/// Sends copies.
pub(crate) struct Mirror {
    shadows: Shadows,
    under_way: Arc<Gauge>,
    routes: AtomicU64,
    releases: AtomicU64,
}

impl Mirror {
    pub(crate) fn new() -> Self {
        Self {
            shadows: Shadows::new(),
            under_way: Arc::default(),
            routes: AtomicU64::new(0),
            releases: AtomicU64::new(0),
        }
    }

    /// Whether this request is among those that a route has copied.
    fn takes(&self, route: &Route, method: &Method) -> bool {
        if route.mirror.is_none() || !is_copied(&route.mirror_methods, method) {
            return false;
        }
        match route.mirror_share {
            0 | 1000.. => true,
            share => is_among(&self.routes, share),
        }
    }

    /// Whether this request is among those of which a release on trial gets a copy.
    ///
    /// - `by`: the version that answers it
    fn tries(&self, copies: &Copies, by: &str, head: &RequestHeader) -> bool {
        copies.of.as_ref().is_none_or(|of| of == by)
            && is_harmless(head)
            && is_among(&self.releases, copies.share)
    }
}

/// Whether the next of all requests is among a share of them, in thousandths.
fn is_among(turn: &AtomicU64, share: u32) -> bool {
    let point = spread(turn.fetch_add(1, Ordering::Relaxed));
    let parts = [share, 1000_u32.saturating_sub(share)];
    by_weight(point, parts.into_iter()) == Some(0)
}

/// Whether requests of a method are among those that a route has copied.
///
/// - `named`: in upper case; none means those that change nothing
fn is_copied(named: &[String], method: &Method) -> bool {
    if named.is_empty() {
        return is_safe(method);
    }
    named.iter().any(|one| one == method.as_str())
}

/// Whether a method changes nothing (RFC 9110, 9.2.1), and is for what a service has.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Whether a request may be made once more behind its client's back: it changes nothing, and it ends.
fn is_harmless(head: &RequestHeader) -> bool {
    is_safe(&head.method) && !streams(head)
}

/// The copy to make of a request that is sent to its version for the first time, if any is to be made.
pub(crate) fn begin(context: &RequestContext, head: &RequestHeader) -> Option<Copy> {
    let route = context.route.as_ref()?;
    let mirror = &context.gateway.mirror;
    let for_route = mirror.takes(&route.route, &head.method);
    let service = route.service.as_ref().zip(context.version);
    let for_release = service.is_some_and(|(service, version)| {
        let by = &service.versions[version];
        let copies = service.settings.copies.as_ref();
        // Who asked for the release on trial has its answer already.
        let copies = copies.filter(|_| by.role.takes_traffic());
        copies.is_some_and(|copies| mirror.tries(copies, &by.name, head))
    });
    (for_route || for_release).then(|| Copy::new(head.clone(), for_route, for_release))
}

/// Sends the copies of a request that is over, and notes whether a release on trial gets one.
pub(crate) fn send(context: &mut RequestContext) {
    let copy = context.copy.take();
    let Some(copy) = copy.filter(|copy| copy.came == Came::All) else {
        return;
    };
    let Some(route) = context.route.clone() else {
        return;
    };
    let Some(service) = &route.service else {
        return;
    };
    let of_release = copy.for_release.then(|| copy.clone());
    if let (true, Some(version)) = (copy.for_route, &route.route.mirror) {
        launch(&context.gateway, service, version, copy);
    }
    if let (Some(copy), Some(copies)) = (of_release, &service.settings.copies) {
        context.copied = launch(&context.gateway, service, &copies.version, copy);
    }
}

/// Sends a copy, unless too many are under way or nobody can take it; returns whether it does.
fn launch(gateway: &Arc<Gateway>, service: &Arc<ServiceState>, version: &str, copy: Copy) -> bool {
    let Some(version) = service.position(version) else {
        return false;
    };
    let Some(place) = gateway.mirror.under_way.hold(MOST) else {
        return false;
    };
    let shadow = &service.versions[version];
    let (now, turn) = (now_ms(), shadow.runtime.turn());
    let Some(index) = in_turn(&shadow.endpoints, turn, |endpoint| endpoint.is_fit(now)) else {
        return false;
    };
    let (gateway, service) = (gateway.clone(), service.clone());
    tokio::spawn(async move {
        deliver(&gateway, &service, &service.versions[version], index, copy).await;
        drop(place);
    });
    true
}

/// Sends a copy to an endpoint of a version, and counts the answer.
async fn deliver(
    gateway: &Gateway,
    service: &ServiceState,
    version: &VersionState,
    index: usize,
    copy: Copy,
) {
    let manner = (version.http2, version.trust.as_ref());
    let endpoint = &version.endpoints[index];
    let counts = &version.runtime.counts;
    let _under_way = counts.in_flight.hold(0);
    let started = Instant::now();
    let until = tokio::time::Instant::now() + PATIENCE;
    let asked = gateway.mirror.shadows.ask(manner, endpoint, &copy);
    let answered = match tokio::time::timeout_at(until, asked).await {
        Ok(Ok(answer)) => {
            let (status, took) = (answer.status().as_u16(), started.elapsed());
            // Read to its end, so that the shadow does its whole work; a long one has been answered all the same.
            let mut body = answer.into_body();
            let read = async {
                while body.frame().await.transpose()?.is_some() {}
                Ok::<_, Failure>(())
            };
            let broken = tokio::time::timeout_at(until, read).await;
            (!matches!(broken, Ok(Err(_)))).then_some((status, took))
        }
        Ok(Err(_)) | Err(_) => None,
    };
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

    #[test]
    fn only_what_changes_nothing_and_ends_is_copied_to_a_release_on_trial() {
        let harmless = |method: &str, header: Option<(&'static str, &'static str)>| {
            let mut head = RequestHeader::build(method, b"/", None).unwrap();
            if let Some((name, value)) = header {
                head.insert_header(name, value).unwrap();
            }
            is_harmless(&head)
        };
        for (method, expected) in [
            ("GET", true),
            ("HEAD", true),
            ("POST", false),
            ("PUT", false),
            ("DELETE", false),
            ("OPTIONS", false),
        ] {
            assert_eq!(harmless(method, None), expected, "{method}");
        }
        assert!(!harmless("GET", Some(("upgrade", "websocket"))));
        assert!(!harmless("GET", Some(("accept", "text/event-stream"))));
    }

    #[test]
    fn a_route_has_those_methods_copied_that_it_names_and_else_those_that_change_nothing() {
        let check = |named: &[&str], expected: &[&str]| {
            let named: Vec<String> = named.iter().map(|&one| one.to_owned()).collect();
            let all = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];
            let copied = all.into_iter().filter(|method| {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                is_copied(&named, &method)
            });
            assert_eq!(copied.collect::<Vec<_>>(), expected, "{named:?}");
        };
        check(&[], &["GET", "HEAD"]);
        check(&["GET", "POST"], &["GET", "POST"]);
        check(&["DELETE"], &["DELETE"]);
    }

    #[tokio::test]
    async fn a_share_of_the_requests_is_copied() {
        let mirror = Mirror::new();
        let copied = |route: &Route| {
            (0..1_000)
                .filter(|_| mirror.takes(route, &Method::GET))
                .count()
        };
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
