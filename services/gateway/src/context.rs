//! What is known about one request, from its head to its log line.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::Caller;
use crate::breaker::Leave;
use crate::cache::HIT;
use crate::choose::Chosen;
use crate::clock::now_ms;
use crate::connection::ConnectionState;
use crate::endpoint::{Attempted, EndpointState};
use crate::gateway::Gateway;
use crate::grpc::Ending;
use crate::mirror::Copy;
use crate::own::Own;
use crate::snapshot::{RouteState, ServiceState, Snapshot};
use crate::tally::{Held, VersionCounts};

/// A request that its client takes back this soon was hardly meant.
const SOON: Duration = Duration::from_secs(1);

/// One request.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct RequestContext {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) started: Instant,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) connection: Option<Arc<ConnectionState>>,
    pub(crate) client: Option<IpAddr>,
    pub(crate) host: String,
    /// The host as the client wrote it, with a port if it did; what a trusted proxy says goes first.
    pub(crate) authority: String,
    /// Whether the client asked over TLS, here or at a trusted proxy.
    pub(crate) secure: bool,
    /// Addresses that it came by as `Forwarded` says, the client's first.
    pub(crate) forwarded: Vec<IpAddr>,
    pub(crate) request_id: String,
    pub(crate) trace_parent: String,
    /// The span that this request's is a part of, where there is one.
    pub(crate) parent_span: Option<String>,
    /// Whether its span is exported.
    pub(crate) sampled: bool,
    /// Path and query as they came.
    pub(crate) target: String,
    pub(crate) route: Option<Arc<RouteState>>,
    /// The version that answers, by position.
    pub(crate) version: Option<usize>,
    /// Whether the request itself or its route named the version.
    pub(crate) asked_for: bool,
    /// What tells its client from others, where that decides which version answers.
    pub(crate) sticks: Option<u64>,
    /// Whether that client makes far more requests than others.
    heavy: bool,
    /// Whether every version it could have is resting.
    pub(crate) resting: bool,
    /// What the breaker of the version that answers gave.
    pub(crate) leave: Option<Leave>,
    /// Its place among the requests to the service.
    room: Option<Held>,
    /// The place among those that are kept, of the connection to the endpoint.
    pub(crate) seat: Option<Held>,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) tried: Vec<Arc<EndpointState>>,
    pub(crate) attempts: u32,
    pub(crate) repeats: u32,
    pub(crate) repeat: bool,
    /// Whether it renews a kept answer, and nobody waits for it.
    pub(crate) background: bool,
    /// Whether the client was given a kept answer in place of a bad one.
    pub(crate) concealed: bool,
    /// What a service said of a kept answer that did not change.
    pub(crate) not_modified: Option<http::HeaderMap>,
    /// What became of it in the cache.
    pub(crate) cached: Option<&'static str>,
    /// How its call ends, if it is one of gRPC.
    pub(crate) grpc: Option<Ending>,
    /// Time to the head of the answer, once a version gave one.
    pub(crate) head_after: Option<Duration>,
    pub(crate) attempt_took: Option<Duration>,
    pub(crate) own: Option<Own>,
    /// Bytes of the request's body that came.
    pub(crate) received: u64,
    /// Bytes of the answer's body that came.
    pub(crate) answered: u64,
    pub(crate) caller: Caller,
    /// Headers for scripts of other origins, on every answer.
    pub(crate) cors: Vec<(&'static str, String)>,
    /// What a shadow version will get.
    pub(crate) copy: Option<Copy>,
    /// A version on trial got a copy.
    pub(crate) copied: bool,
    logged: bool,
    /// Whether it ended because the client did.
    left: bool,
}

/// How a request ended.
struct Ended {
    /// What the client was told, if anything.
    status: Option<u16>,
    /// Whether it ended because the client did.
    client_left: bool,
    /// Whether the client had waited for longer than an answer may take.
    in_vain: bool,
}

/// One try at one endpoint.
pub(crate) struct Attempt {
    pub(crate) started: Instant,
    pub(crate) endpoint: Arc<EndpointState>,
    /// Since when the service has all of the request, where the client expects an answer soon.
    asked_since: Option<Instant>,
    /// Whether it shows if the endpoint, which was set aside, is well again.
    on_trial: bool,
    /// Whether its outcome was counted.
    pub(crate) settled: bool,
    /// Interim answers that came.
    pub(crate) interim: u32,
    /// Counts it as under way while it lives, however it ends.
    _under_way: (Held, Option<Held>),
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.on_trial && !self.settled {
            self.endpoint.give_back();
        }
    }
}

impl RequestContext {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        gateway.requests.add();
        Self {
            started: Instant::now(),
            snapshot: gateway.snapshot.load_full(),
            gateway,
            connection: None,
            client: None,
            host: String::new(),
            authority: String::new(),
            secure: false,
            forwarded: Vec::new(),
            request_id: String::new(),
            trace_parent: String::new(),
            parent_span: None,
            sampled: false,
            target: String::new(),
            route: None,
            version: None,
            asked_for: false,
            sticks: None,
            heavy: false,
            resting: false,
            leave: None,
            room: None,
            seat: None,
            attempt: None,
            tried: Vec::new(),
            attempts: 0,
            repeats: 0,
            repeat: false,
            background: false,
            concealed: false,
            not_modified: None,
            cached: None,
            grpc: None,
            head_after: None,
            attempt_took: None,
            own: None,
            received: 0,
            answered: 0,
            caller: Caller::Unknown,
            cors: Vec::new(),
            copy: None,
            copied: false,
            logged: false,
            left: false,
        }
    }

    pub(crate) fn service(&self) -> Option<&Arc<ServiceState>> {
        self.route.as_ref()?.service.as_ref()
    }

    /// The version that answers, where clients are told.
    pub(crate) fn shown_version(&self) -> Option<&str> {
        let service = self.service().filter(|_| self.snapshot.show_version)?;
        Some(&service.versions[self.version?].name)
    }

    /// Begins a try at an endpoint of a version.
    pub(crate) fn begin(&mut self, chosen: Chosen) {
        let Chosen {
            version,
            endpoint,
            place,
            on_trial,
            leave,
        } = chosen;
        self.give_to(version);
        self.leave = leave;
        let service = self.service().cloned();
        if let Some(service) = &service
            && self.attempts == 0
            && service.settings.sticky.is_some()
            && !self.asked_for
        {
            self.heavy = service.runtime.meet(self.sticks, version, service.split);
        }
        let counts = service
            .as_ref()
            .map(|service| &service.versions[version].runtime.counts);
        let under_way = counts.and_then(|counts| counts.in_flight.hold(0));
        self.tried.push(endpoint.clone());
        self.attempts += 1;
        self.attempt = Some(Attempt {
            started: Instant::now(),
            endpoint,
            asked_since: None,
            on_trial,
            settled: false,
            interim: 0,
            _under_way: (place, under_way),
        });
    }

    /// Takes a place among the requests that the service may have under way, for all attempts of this one. What is
    /// answered without asking the service never needs one.
    pub(crate) fn enter_service(&mut self) -> Result<(), Own> {
        let Some(route) = self.route.clone().filter(|_| self.room.is_none()) else {
            return Ok(());
        };
        let Some(service) = &route.service else {
            return Ok(());
        };
        let most = u64::from(service.settings.limits.concurrent);
        self.room = service.runtime.in_flight.hold(most);
        if self.room.is_none() {
            let shed = &service.runtime.shed;
            self.gateway.ledger.enter(|| shed.increment());
            let own = Own::new(503, "too-busy", "the service is at its limit");
            return Err(own.retry_after(1));
        }
        service.runtime.earn_retry(route.route.retries.budget);
        Ok(())
    }

    /// Counts a request that leaves its version unanswered, or a repeat inside it.
    fn give_to(&mut self, version: usize) {
        if self.attempts > 0
            && let (Some(before), Some(service)) = (self.version, self.service())
        {
            let runtime = &service.versions[before].runtime;
            let counts = &runtime.counts;
            if before != version
                && let (Some(rules), Some(leave)) = (&service.settings.breaker, self.leave)
            {
                runtime.breaker.record(leave, true, rules, now_ms());
            }
            self.gateway.ledger.enter(|| {
                if before == version {
                    counts.retried.increment();
                } else {
                    counts.unreachable.increment();
                    counts.bad.increment();
                    self.count_apart(counts, true, false);
                }
            });
        }
        self.version = Some(version);
    }

    /// Counts how the try under way ended, once.
    pub(crate) fn settle(&mut self, outcome: Attempted) {
        let (Some(service), Some(version)) = (self.service().cloned(), self.version) else {
            return;
        };
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| !attempt.settled) else {
            return;
        };
        attempt.settled = true;
        self.gateway.ledger.enter(|| {
            attempt.endpoint.record(
                outcome,
                attempt.on_trial,
                &service.settings.outliers,
                &service.versions[version].endpoints,
            );
        });
        if let (Attempted::Good, Some(leave)) = (outcome, self.leave) {
            service.versions[version].runtime.breaker.answered(leave);
        }
    }

    /// Notes how a call of gRPC ended, which settles the try.
    pub(crate) fn end_call(&mut self, ending: Ending) {
        self.grpc = Some(ending);
        if let Some(bad) = ending.is_bad() {
            self.settle(if bad { Attempted::Bad } else { Attempted::Good });
        }
    }

    /// Notes that the service has all of a request whose client waits for the answer.
    pub(crate) fn await_answer(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.asked_since = Some(Instant::now());
        }
    }

    /// Whether the service had all of the request, and did not begin to answer in the time after which an answer is slow.
    fn kept_waiting(&self) -> bool {
        let since = self
            .attempt
            .as_ref()
            .and_then(|attempt| attempt.asked_since);
        let (Some(since), Some(service)) = (since, self.service()) else {
            return false;
        };
        let slow_after = Duration::from_millis(service.settings.slow_after_ms);
        self.attempt_took.is_none() && since.elapsed() > slow_after
    }

    /// Counts the request, once, when it is over.
    ///
    /// - `status`: what the client was told, if anything
    /// - `client_left`: whether it ended because the client did
    pub(crate) fn count(&mut self, status: Option<u16>, client_left: bool) {
        if std::mem::replace(&mut self.logged, true) {
            return;
        }
        self.left = client_left;
        // A service that hangs is no better for clients that have no patience.
        let in_vain = client_left && self.kept_waiting();
        if in_vain {
            self.settle(Attempted::Unreachable);
        }
        let ended = Ended {
            status,
            client_left,
            in_vain,
        };
        self.tell_breaker(&ended);
        self.gateway.ledger.enter(|| self.tally(&ended));
    }

    /// What the version's answer was worth: whether it was bad, if it is to be judged.
    fn judged(&self, ended: &Ended) -> Option<bool> {
        match (self.attempt_took, ended.status) {
            (Some(_), Some(status)) => Some(self.concealed || status >= 500),
            _ if ended.client_left && !ended.in_vain => None,
            _ => Some(true),
        }
    }

    fn tell_breaker(&self, ended: &Ended) {
        let (Some(service), Some(version)) = (self.service(), self.version) else {
            return;
        };
        let (Some(rules), Some(leave)) = (&service.settings.breaker, self.leave) else {
            return;
        };
        let breaker = &service.versions[version].runtime.breaker;
        match self.judged(ended) {
            Some(bad) => breaker.record(leave, bad, rules, now_ms()),
            None => breaker.give_back(leave, now_ms()),
        }
    }

    /// Adds a request that ended to the counts of its route and its version.
    fn tally(&self, ended: &Ended) {
        if let Some(route) = self.route.as_ref().filter(|_| !self.background) {
            let counts = &route.runtime.counts;
            match ended.status {
                None => counts.aborted.increment(),
                Some(status) => {
                    if status >= 500 {
                        counts.bad.increment();
                    } else {
                        counts.good.increment();
                    }
                    if self.own.is_some() {
                        counts.own.increment();
                    }
                    let took = self.head_after.unwrap_or_else(|| self.started.elapsed());
                    counts.latency.record(took);
                    if self.attempts == 0 && self.cached == Some(HIT) {
                        counts.cached.increment();
                    }
                }
            }
        }
        let (Some(service), Some(version)) = (self.service(), self.version) else {
            return;
        };
        if self.attempts == 0 {
            return;
        }
        let counts = &service.versions[version].runtime.counts;
        let Some(bad) = self.judged(ended) else {
            counts.aborted.increment();
            return;
        };
        let answered = self.attempt_took.filter(|_| ended.status.is_some());
        let slow_after = Duration::from_millis(service.settings.slow_after_ms);
        let slow = ended.in_vain || answered.is_some_and(|took| took > slow_after);
        match answered {
            Some(took) => counts.latency.record(took),
            None => counts.unreachable.increment(),
        }
        if bad {
            counts.bad.increment();
        } else {
            counts.good.increment();
        }
        if slow {
            counts.slow.increment();
        }
        self.count_apart(counts, bad, slow);
    }

    /// Counts a request once more where a comparison of versions leaves it out, or looks at it beside its copy.
    fn count_apart(&self, counts: &VersionCounts, bad: bool, slow: bool) {
        if self.copied {
            counts.copied.record(bad, slow);
        }
        if self.asked_for {
            counts.asked_for.record(bad, slow);
        } else if self.heavy {
            counts.heavy.record(bad, slow);
        }
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        // A request whose connection was closed under it never reaches its log line.
        if self.route.is_some() {
            self.count(None, true);
        }
        self.gateway.requests.subtract();
        if let Some(connection) = &self.connection {
            connection.end();
            if self.left && connection.is_http2() && self.started.elapsed() < SOON {
                connection.took_back();
            }
        }
    }
}
