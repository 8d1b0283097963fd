//! What outlives a configuration: counts, health, turns.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use platform_gateway_api::{Config, Endpoint, Identity, ServiceTally, Tallies};

use crate::breaker::Breaker;
use crate::clock::now_ms;
use crate::crowd::{Crowd, Split};
use crate::endpoint::EndpointState;
use crate::identity::Verifier;
use crate::ledger::Ledger;
use crate::limiter::Limiter;
use crate::tally::{Counter, Gauge, RouteCounts, VersionCounts};

/// A retry in thousandths of a token.
const RETRY: u64 = 1000;
/// Most saved-up retries.
const MOST_RETRIES: u64 = 100 * RETRY;

/// Counts and turns of a service over all its versions.
#[derive(Debug)]
pub(crate) struct ServiceRuntime {
    turns: AtomicU64,
    retry_tokens: AtomicU64,
    retry_refilled: AtomicU64,
    crowd: Mutex<Crowd>,
    pub(crate) in_flight: Arc<Gauge>,
    pub(crate) unserved: Counter,
    pub(crate) shed: Counter,
}

impl Default for ServiceRuntime {
    fn default() -> Self {
        Self {
            turns: AtomicU64::new(0),
            retry_tokens: AtomicU64::new(10 * RETRY),
            retry_refilled: AtomicU64::new(now_ms()),
            crowd: Mutex::default(),
            in_flight: Arc::default(),
            unserved: Counter::default(),
            shed: Counter::default(),
        }
    }
}

impl ServiceRuntime {
    /// A number that grows by one with each request.
    pub(crate) fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes in a request that nobody sent to a certain version; returns whether its client is a heavy one.
    pub(crate) fn meet(&self, client: Option<u64>, version: usize, split: Split) -> bool {
        lock(&self.crowd).meet(client, version, split)
    }

    /// Pays a request's share into the retry budget.
    pub(crate) fn earn_retry(&self, thousandths: u32) {
        if self.retry_tokens.load(Ordering::Relaxed) < MOST_RETRIES {
            self.save_up(u64::from(thousandths));
        }
    }

    /// Adds to the budget, up to its ceiling, whoever else adds or takes meanwhile.
    fn save_up(&self, thousandths: u64) {
        // Never fails: there is always a next value.
        let _ = self
            .retry_tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| {
                Some(tokens.saturating_add(thousandths).min(MOST_RETRIES))
            });
    }

    /// Takes a retry out of the budget, which also grows by one each second.
    pub(crate) fn take_retry(&self) -> bool {
        self.take_retry_at(now_ms())
    }

    fn take_retry_at(&self, now: u64) -> bool {
        let last = self.retry_refilled.load(Ordering::Relaxed);
        let gained = now.saturating_sub(last).min(10_000);
        if gained >= 1000
            && self
                .retry_refilled
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.save_up(gained);
        }
        self.retry_tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| {
                tokens.checked_sub(RETRY)
            })
            .is_ok()
    }
}

/// Counts and turns of one version.
#[derive(Debug, Default)]
pub(crate) struct VersionRuntime {
    turns: AtomicU64,
    pub(crate) counts: VersionCounts,
    pub(crate) breaker: Breaker,
}

/// Counts and buckets of one route.
#[derive(Debug, Default)]
pub(crate) struct RouteRuntime {
    pub(crate) counts: RouteCounts,
    pub(crate) limiter: Limiter,
    /// Counts keys and tokens that may have been guessed.
    pub(crate) guesses: Limiter,
}

impl VersionRuntime {
    /// A number that grows by one with each choice of an endpoint.
    pub(crate) fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct ServiceEntry {
    runtime: Arc<ServiceRuntime>,
    versions: BTreeMap<String, Arc<VersionRuntime>>,
    endpoints: HashMap<(String, String, String), Arc<EndpointState>>,
}

impl ServiceEntry {
    fn read(&self) -> ServiceTally {
        ServiceTally {
            versions: self
                .versions
                .iter()
                .map(|(version, runtime)| (version.clone(), runtime.counts.read()))
                .collect(),
            endpoints: self
                .endpoints
                .values()
                .map(|endpoint| (endpoint.id.to_string(), endpoint.read()))
                .collect(),
            unserved: self.runtime.unserved.get(),
            shed: self.runtime.shed.get(),
        }
    }
}

/// Everything that is counted or learnt, by name. Locked only while a
/// configuration is compiled or the counts are read.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    services: Mutex<BTreeMap<String, ServiceEntry>>,
    routes: Mutex<BTreeMap<String, Arc<RouteRuntime>>>,
    verifier: Mutex<Option<Arc<Verifier>>>,
    /// Endpoints that come from now on were not known when the process started.
    started: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    pub(crate) fn service(&self, name: &str) -> Arc<ServiceRuntime> {
        let mut services = lock(&self.services);
        services.entry(name.into()).or_default().runtime.clone()
    }

    pub(crate) fn version(&self, service: &str, version: &str) -> Arc<VersionRuntime> {
        let mut services = lock(&self.services);
        let entry = services.entry(service.into()).or_default();
        entry.versions.entry(version.into()).or_default().clone()
    }

    pub(crate) fn route(&self, name: &str) -> Arc<RouteRuntime> {
        lock(&self.routes).entry(name.into()).or_default().clone()
    }

    /// The configuration that the process started with is in force.
    pub(crate) fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// The verifier of tokens; its keys stay while its settings do.
    pub(crate) fn verifier(&self, identity: Option<&Identity>) -> Option<Arc<Verifier>> {
        let mut known = lock(&self.verifier);
        let same = |verifier: &Arc<Verifier>| Some(&verifier.settings) == identity;
        if !known.as_ref().is_some_and(same) {
            *known = identity.map(|identity| Arc::new(Verifier::new(identity.clone())));
        }
        known.clone()
    }

    pub(crate) fn endpoint(
        &self,
        service: &str,
        version: &Arc<str>,
        endpoint: &Endpoint,
        prove: bool,
    ) -> Arc<EndpointState> {
        let fresh = || {
            let state = EndpointState::new(
                &endpoint.id,
                version,
                &endpoint.address,
                endpoint.zone.as_deref(),
            );
            Arc::new(if prove && self.started.load(Ordering::Relaxed) {
                state.unproven()
            } else {
                state
            })
        };
        let mut services = lock(&self.services);
        let entry = services.entry(service.into()).or_default();
        let key = (
            version.to_string(),
            endpoint.id.clone(),
            endpoint.address.clone(),
        );
        let known = entry.endpoints.entry(key).or_insert_with(fresh);
        if known.zone != endpoint.zone {
            *known = fresh();
        }
        known.clone()
    }

    /// Forgets the endpoints that the configuration does not name any more, once
    /// nothing is under way to them: who stops one can wait for that.
    /// Counts of services, versions and routes stay.
    pub(crate) fn keep_only(&self, config: &Config) {
        for (name, entry) in lock(&self.services).iter_mut() {
            let Some(service) = config.services.get(name) else {
                entry
                    .endpoints
                    .retain(|_, endpoint| endpoint.in_flight.get() > 0);
                continue;
            };
            let named: HashSet<(&str, &str, &str)> = service
                .versions
                .iter()
                .flat_map(|(version, settings)| {
                    settings.endpoints.iter().map(move |endpoint| {
                        (
                            version.as_str(),
                            endpoint.id.as_str(),
                            endpoint.address.as_str(),
                        )
                    })
                })
                .collect();
            entry.endpoints.retain(|(version, id, address), endpoint| {
                named.contains(&(version, id, address)) || endpoint.in_flight.get() > 0
            });
        }
    }

    /// Fills in all counts, as they were at one moment, and how many events they are of.
    pub(crate) fn read(&self, ledger: &Ledger, tallies: &mut Tallies) {
        // Locked before the ledger is, as nobody counts while that is read.
        let (services, routes) = (lock(&self.services), lock(&self.routes));
        (tallies.sequence, ()) = ledger.read(|| {
            for (name, entry) in services.iter() {
                tallies.services.insert(name.clone(), entry.read());
            }
            for (name, runtime) in routes.iter() {
                tallies.routes.insert(name.clone(), runtime.counts.read());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_bounded_by_their_budget() {
        let runtime = ServiceRuntime::default();
        let taken = (0..50).filter(|_| runtime.take_retry()).count();
        assert_eq!(taken, 10);
        for _ in 0..20 {
            runtime.earn_retry(200);
        }
        let taken = (0..50).filter(|_| runtime.take_retry()).count();
        assert_eq!(taken, 4);
    }

    #[test]
    fn time_that_passes_saves_up_no_more_than_the_ceiling() {
        let runtime = ServiceRuntime::default();
        let start = now_ms();
        for second in 1..2_000 {
            // One retry each ten seconds, which bring ten.
            assert!(runtime.take_retry_at(start + second * 10_000));
        }
        runtime.earn_retry(u32::MAX);
        let end = start + 20_000_000;
        let taken = (0..1_000).filter(|_| runtime.take_retry_at(end)).count();
        assert_eq!(taken, 100);
    }

    #[test]
    fn counts_outlive_a_configuration_and_endpoints_do_not() {
        let registry = Registry::default();
        let version: Arc<str> = "r5".into();
        let endpoint = Endpoint {
            id: "a".into(),
            address: "127.0.0.1:1".into(),
            zone: None,
        };
        registry.endpoint("orders", &version, &endpoint, false);
        registry.version("orders", "r5").counts.good.increment();
        registry.keep_only(&Config::default());
        let mut tallies = Tallies::default();
        registry.read(&Ledger::default(), &mut tallies);
        assert_eq!(tallies.version("orders", "r5").unwrap().good, 1);
        assert!(tallies.services["orders"].endpoints.is_empty());
    }
}
