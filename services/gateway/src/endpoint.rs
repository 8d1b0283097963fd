//! One endpoint as the data plane knows it: where it is, how it does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use platform_gateway_api::{EndpointTally, Outliers};

use crate::clock::now_ms;
use crate::tally::{Counter, Gauge, Held};
use crate::workers;

/// How long a looked-up address is used before it is looked up again.
const LOOKUP_MS: u64 = 5_000;
/// How long an address is believed that could not be connected to.
const BELIEVED_MS: u64 = 200;

/// What is kept about an endpoint while any configuration names it.
#[derive(Debug)]
pub(crate) struct EndpointState {
    pub(crate) id: Arc<str>,
    pub(crate) version: Arc<str>,
    /// As configured: an address or a host name, with port.
    pub(crate) address: String,
    pub(crate) zone: Option<String>,
    fixed: Option<SocketAddr>,
    looked_up: ArcSwapOption<SocketAddr>,
    looked_up_at: AtomicU64,
    looking_up: AtomicBool,
    /// Whether the address could not be connected to, so that the name may lead elsewhere by now.
    doubted: AtomicBool,
    /// One lookup at a time.
    turn: tokio::sync::Mutex<()>,
    pub(crate) good: Counter,
    pub(crate) bad: Counter,
    pub(crate) unreachable: Counter,
    pub(crate) in_flight: Arc<Gauge>,
    /// Connections in use that will be kept, of each worker and of all other threads.
    seats: Box<[Arc<Gauge>]>,
    pub(crate) ejections: Counter,
    /// Since when it is known, for slow start.
    pub(crate) since_ms: u64,
    healthy: AtomicBool,
    proven: AtomicBool,
    consecutive_unreachable: AtomicU32,
    consecutive_bad: AtomicU32,
    ejected_until: AtomicU64,
    ejections_in_a_row: AtomicU32,
}

/// How one attempt at an endpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempted {
    /// Answered below 500.
    Good,
    /// Answered 5xx.
    Bad,
    /// Not answered.
    Unreachable,
}

impl EndpointState {
    pub(crate) fn new(id: &str, version: &Arc<str>, address: &str, zone: Option<&str>) -> Self {
        Self {
            id: id.into(),
            version: version.clone(),
            address: address.into(),
            zone: zone.map(String::from),
            fixed: address.parse().ok(),
            looked_up: ArcSwapOption::empty(),
            looked_up_at: AtomicU64::new(0),
            looking_up: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            turn: tokio::sync::Mutex::default(),
            good: Counter::default(),
            bad: Counter::default(),
            unreachable: Counter::default(),
            in_flight: Arc::default(),
            seats: (0..=workers::count()).map(|_| Arc::default()).collect(),
            ejections: Counter::default(),
            since_ms: now_ms(),
            healthy: AtomicBool::new(true),
            proven: AtomicBool::new(true),
            consecutive_unreachable: AtomicU32::new(0),
            consecutive_bad: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            ejections_in_a_row: AtomicU32::new(0),
        }
    }

    /// The same, but it takes no requests before it was found healthy.
    pub(crate) fn unproven(mut self) -> Self {
        self.healthy = AtomicBool::new(false);
        self.proven = AtomicBool::new(false);
        self
    }

    /// A place for a connection among those that this thread keeps, while it is in use; none where it keeps as many already.
    ///
    /// Whoever has a place finds an idle connection or makes one; so idle ones and places are never more than this together.
    ///
    /// - `most`: of all threads
    pub(crate) fn seat(&self, most: u32) -> Option<Held> {
        let each = u64::from(most).div_ceil(workers::count() as u64);
        let number = usize::try_from(workers::current()).ok()?;
        // A gauge takes 0 for no limit.
        self.seats.get(number)?.hold(each).filter(|_| each > 0)
    }

    /// Whether it may be asked at all.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// The socket address, looked up when it is a name.
    ///
    /// A name that was looked up before is used at once and, when old, looked
    /// up again in the background; one that could not be connected to is looked up
    /// again first. A failing lookup keeps the last answer.
    pub(crate) async fn resolve(self: &Arc<Self>) -> std::io::Result<SocketAddr> {
        if let Some(address) = self.fixed {
            return Ok(address);
        }
        if let Some(known) = self.looked_up.load_full() {
            if self.doubted.load(Ordering::Relaxed) {
                return Ok(self.look_up_once().await.unwrap_or(*known));
            }
            let age = self.looked_up_before();
            if age > LOOKUP_MS && !self.looking_up.swap(true, Ordering::Relaxed) {
                let endpoint = self.clone();
                tokio::spawn(async move {
                    if let Err(error) = endpoint.look_up().await {
                        tracing::warn!(address = %endpoint.address, %error, "cannot look up an endpoint");
                    }
                    endpoint.looking_up.store(false, Ordering::Relaxed);
                });
            }
            return Ok(*known);
        }
        self.look_up().await
    }

    /// Notes that its name's address could not be connected to.
    ///
    /// - `used`: that address
    /// - returns: whether another look at the name may help
    pub(crate) fn doubt(&self, used: SocketAddr) -> bool {
        let Some(known) = self.looked_up.load_full() else {
            return false;
        };
        let old = self.looked_up_before() >= BELIEVED_MS;
        if old {
            self.doubted.store(true, Ordering::Relaxed);
        }
        old || *known != used
    }

    /// Milliseconds since the name was looked up.
    fn looked_up_before(&self) -> u64 {
        now_ms().saturating_sub(self.looked_up_at.load(Ordering::Relaxed))
    }

    /// Looks a doubted address up again, once for all who ask meanwhile.
    async fn look_up_once(&self) -> std::io::Result<SocketAddr> {
        let _turn = self.turn.lock().await;
        match self.looked_up.load_full() {
            Some(known) if !self.doubted.load(Ordering::Relaxed) => Ok(*known),
            _ => {
                let found = self.look_up().await;
                self.looked_up_at.store(now_ms(), Ordering::Relaxed);
                self.doubted.store(false, Ordering::Relaxed);
                found
            }
        }
    }

    async fn look_up(&self) -> std::io::Result<SocketAddr> {
        let address = tokio::net::lookup_host(&self.address)
            .await?
            .next()
            .ok_or_else(|| std::io::Error::other("the name has no address"))?;
        self.looked_up.store(Some(Arc::new(address)));
        self.looked_up_at.store(now_ms(), Ordering::Relaxed);
        Ok(address)
    }

    /// Whether it should take requests: healthy, and not set aside.
    pub(crate) fn is_fit(&self, now: u64) -> bool {
        self.healthy.load(Ordering::Relaxed) && self.ejected_until.load(Ordering::Relaxed) <= now
    }

    pub(crate) fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }

    pub(crate) fn set_healthy(&self, healthy: bool) -> bool {
        if healthy {
            self.proven.store(true, Ordering::Relaxed);
        }
        self.healthy.swap(healthy, Ordering::Relaxed) != healthy
    }

    /// Lets a request in. Of those that come after the endpoint was set aside, one shows whether it is well again, and
    /// the others wait for that; where nothing is heard of it for as long as a rest takes, another one does.
    ///
    /// - returns: whether this is that one; `None` if it may not come in
    pub(crate) fn admit(&self, rules: &Outliers, now: u64) -> Option<bool> {
        let until = self.ejected_until.load(Ordering::Relaxed);
        if until == 0 {
            return Some(false);
        }
        if until > now {
            return None;
        }
        let next = now + rules.eject_ms.max(50);
        self.ejected_until
            .compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
            .then_some(true)
    }

    /// The request that was to show whether it is well ended without a word; another may.
    pub(crate) fn give_back(&self) {
        self.ejected_until.store(now_ms(), Ordering::Relaxed);
    }

    /// Decides by the one request that was let in whether the others are. Failures that set nothing
    /// aside keep nobody out either.
    fn conclude(&self, outcome: Attempted, rules: &Outliers) {
        let counts = match outcome {
            Attempted::Good => false,
            Attempted::Bad => rules.consecutive_bad > 0,
            Attempted::Unreachable => rules.consecutive_unreachable > 0,
        };
        if counts {
            self.set_aside(rules, now_ms());
        } else {
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    /// Counts an attempt and sets the endpoint aside when it failed too often in a row.
    ///
    /// - `on_trial`: whether it was to show that the endpoint is well again
    /// - `siblings`: all endpoints of the version, this one among them
    pub(crate) fn record(
        &self,
        outcome: Attempted,
        on_trial: bool,
        rules: &Outliers,
        siblings: &[Arc<Self>],
    ) {
        if on_trial {
            self.conclude(outcome, rules);
        }
        match outcome {
            Attempted::Good => {
                self.good.increment();
                // Written only when there is something to forget: the line stays shared.
                if self.consecutive_unreachable.load(Ordering::Relaxed) != 0 {
                    self.consecutive_unreachable.store(0, Ordering::Relaxed);
                }
                if self.consecutive_bad.load(Ordering::Relaxed) != 0 {
                    self.consecutive_bad.store(0, Ordering::Relaxed);
                }
                if self.ejections_in_a_row.load(Ordering::Relaxed) != 0 {
                    self.ejections_in_a_row.store(0, Ordering::Relaxed);
                }
            }
            Attempted::Bad => {
                self.bad.increment();
                self.consecutive_unreachable.store(0, Ordering::Relaxed);
                let row = self.consecutive_bad.fetch_add(1, Ordering::Relaxed) + 1;
                if rules.consecutive_bad > 0 && row >= rules.consecutive_bad {
                    self.eject(rules, siblings);
                }
            }
            Attempted::Unreachable => {
                self.bad.increment();
                self.unreachable.increment();
                let row = self.consecutive_unreachable.fetch_add(1, Ordering::Relaxed) + 1;
                if rules.consecutive_unreachable > 0 && row >= rules.consecutive_unreachable {
                    self.eject(rules, siblings);
                }
            }
        }
    }

    fn eject(&self, rules: &Outliers, siblings: &[Arc<Self>]) {
        let now = now_ms();
        if self.is_ejected(now) {
            return;
        }
        let staying = siblings
            .iter()
            .filter(|sibling| sibling.is_fit(now))
            .count();
        let left = staying.saturating_sub(usize::from(self.is_fit(now)));
        let floor = (siblings.len() * rules.floor_percent as usize)
            .div_ceil(100)
            .max(1);
        if left >= floor {
            self.set_aside(rules, now);
        }
    }

    fn set_aside(&self, rules: &Outliers, now: u64) {
        let row = self.ejections_in_a_row.fetch_add(1, Ordering::Relaxed);
        let factor = 1_u64 << row.min(4);
        let rest = rules.eject_ms.saturating_mul(factor.min(10));
        self.ejected_until.store(now + rest, Ordering::Relaxed);
        self.consecutive_unreachable.store(0, Ordering::Relaxed);
        self.consecutive_bad.store(0, Ordering::Relaxed);
        self.ejections.increment();
        tracing::warn!(endpoint = %self.id, version = %self.version, rest_ms = rest, "an endpoint is set aside");
    }

    pub(crate) fn read(&self) -> EndpointTally {
        EndpointTally {
            version: self.version.to_string(),
            good: self.good.get(),
            bad: self.bad.get(),
            unreachable: self.unreachable.get(),
            in_flight: self.in_flight.get(),
            ejections: self.ejections.get(),
            serving: self.is_fit(now_ms()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: usize) -> Vec<Arc<EndpointState>> {
        let version: Arc<str> = "r1".into();
        (0..count)
            .map(|index| {
                let id = format!("e{index}");
                Arc::new(EndpointState::new(&id, &version, "127.0.0.1:1", None))
            })
            .collect()
    }

    #[test]
    fn failing_endpoints_are_set_aside_down_to_the_floor() {
        let rules = Outliers::default();
        let all = endpoints(4);
        for endpoint in &all {
            for _ in 0..3 {
                endpoint.record(Attempted::Unreachable, false, &rules, &all);
            }
        }
        let now = now_ms();
        let fit = all.iter().filter(|endpoint| endpoint.is_fit(now)).count();
        assert_eq!(fit, 2);
    }

    #[test]
    fn the_only_endpoint_stays() {
        let rules = Outliers {
            floor_percent: 0,
            ..Outliers::default()
        };
        let all = endpoints(1);
        for _ in 0..10 {
            all[0].record(Attempted::Unreachable, false, &rules, &all);
        }
        assert!(all[0].is_fit(now_ms()));
    }

    #[test]
    fn a_good_answer_forgets_failures() {
        let rules = Outliers::default();
        let all = endpoints(2);
        for outcome in [
            Attempted::Unreachable,
            Attempted::Unreachable,
            Attempted::Good,
            Attempted::Unreachable,
        ] {
            all[0].record(outcome, false, &rules, &all);
        }
        assert!(all[0].is_fit(now_ms()));
    }

    #[test]
    fn one_request_shows_whether_it_is_well_again() {
        let rules = Outliers::default();
        let all = endpoints(2);
        let endpoint = &all[0];
        for _ in 0..3 {
            assert_eq!(endpoint.admit(&rules, now_ms()), Some(false));
            endpoint.record(Attempted::Unreachable, false, &rules, &all);
        }
        let rested = |times: u64| now_ms() + times * rules.eject_ms;
        assert_eq!(endpoint.admit(&rules, now_ms()), None);
        assert_eq!(endpoint.admit(&rules, rested(1)), Some(true));
        assert_eq!(endpoint.admit(&rules, rested(1)), None);
        // Asked before it was set aside, answered since.
        endpoint.record(Attempted::Good, false, &rules, &all);
        assert_eq!(endpoint.admit(&rules, rested(1)), None);
        endpoint.give_back();
        assert_eq!(endpoint.admit(&rules, now_ms()), Some(true));
        endpoint.record(Attempted::Unreachable, true, &rules, &all);
        assert_eq!(endpoint.ejections.get(), 2);
        assert_eq!(endpoint.admit(&rules, now_ms()), None);
        assert_eq!(endpoint.admit(&rules, rested(3)), Some(true));
        // It answers, and that bad answers set aside was not asked for.
        endpoint.record(Attempted::Bad, true, &rules, &all);
        assert_eq!(endpoint.admit(&rules, now_ms()), Some(false));
        assert_eq!(endpoint.admit(&rules, now_ms()), Some(false));
    }
}
