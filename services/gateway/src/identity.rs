//! The keys that tokens are verified with, fetched and kept fresh.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Request;
use platform_gateway_api::{Identity, Jwks};

use crate::clock::{now_ms, unix_ms};
use crate::fetch::{Failure, fetch};
use crate::jwt::{Claims, Expected, KeySet, Rejected, verify};

/// Shortest time between two fetches, so that made-up key ids cost little.
const PAUSE_MS: u64 = 5_000;
/// Time to the next fetch after one that failed; twice as long after each further one, up to [`PAUSE_MS`].
const AGAIN_MS: u64 = 250;
/// Time a fetch may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Verified tokens that are remembered.
const REMEMBERED: usize = 8_192;

/// Verifies bearer tokens by one identity's keys.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) settings: Identity,
    keys: ArcSwap<KeySet>,
    /// When the keys came, 0 for never.
    fetched_at: AtomicU64,
    /// When a fetch last ended, be it that it failed.
    tried_at: AtomicU64,
    /// Fetches that failed since one did not.
    failures: AtomicU32,
    fetching: tokio::sync::Mutex<()>,
    /// Claims by token, while the keys stay the same.
    known: Mutex<HashMap<String, Arc<Claims>>>,
}

/// What came of asking for the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fetched {
    /// They are as they are published.
    Now,
    /// They were fetched a short time ago, or never are.
    Before,
    /// They could not be had.
    Failed,
}

/// Why a token does not show who bears it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unverified {
    /// It is not good.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The keys that could tell were not to be had.
    #[error("the keys for tokens cannot be fetched")]
    NoKeys,
}

impl Verifier {
    pub(crate) fn new(settings: Identity) -> Self {
        let keys = match &settings.jwks {
            Jwks::Inline(text) => KeySet::parse(text.as_bytes()).unwrap_or_default(),
            Jwks::Url(_) => KeySet::default(),
        };
        Self {
            settings,
            keys: ArcSwap::from_pointee(keys),
            fetched_at: AtomicU64::new(0),
            tried_at: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            fetching: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// Verifies a token; fetches the keys when it names one that is not known.
    pub(crate) async fn verify(self: &Arc<Self>, token: &str) -> Result<Arc<Claims>, Unverified> {
        let now = unix_ms() / 1000;
        let leeway = self.settings.leeway_seconds;
        self.refresh_if_old();
        let known = self.lock().get(token).cloned();
        if let Some(claims) = known
            && claims.expires.saturating_add(leeway) > now
        {
            return Ok(claims);
        }
        let expected = Expected {
            issuer: &self.settings.issuer,
            scopes: &self.settings.scopes_claim,
            roles: &self.settings.roles_claim,
            leeway,
        };
        let check = || verify(token, &self.keys.load(), &expected, now);
        let mut found = check();
        // A key may be another by now, also one that kept its name.
        let stranger = matches!(found, Err(Rejected::UnknownKey | Rejected::Signature));
        if stranger {
            match self.fetch().await {
                Fetched::Now => found = check(),
                // It may be good by a key that nobody could ask for.
                Fetched::Failed if matches!(found, Err(Rejected::UnknownKey)) => {
                    return Err(Unverified::NoKeys);
                }
                Fetched::Before | Fetched::Failed => (),
            }
        }
        let claims = Arc::new(found?);
        let mut known = self.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(token.into(), claims.clone());
        Ok(claims)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Claims>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn age(&self) -> u64 {
        now_ms().saturating_sub(self.fetched_at.load(Ordering::Relaxed))
    }

    /// Whether a fetch failed so short a time ago that another one would hardly fare better.
    fn rests(&self, now: u64) -> bool {
        let failures = self.failures.load(Ordering::Relaxed);
        let since = now.saturating_sub(self.tried_at.load(Ordering::Relaxed));
        failures > 0 && since < (AGAIN_MS << (failures - 1).min(8)).min(PAUSE_MS)
    }

    fn refresh_if_old(self: &Arc<Self>) {
        if matches!(self.settings.jwks, Jwks::Url(_))
            && self.fetched_at.load(Ordering::Relaxed) > 0
            && self.age() > self.settings.refresh_seconds.max(1) * 1000
            && !self.rests(now_ms())
            && self.fetching.try_lock().is_ok()
        {
            let verifier = self.clone();
            tokio::spawn(async move { verifier.fetch().await });
        }
    }

    /// Fetches the keys unless that was done just now; a failure keeps the old ones.
    async fn fetch(&self) -> Fetched {
        let Jwks::Url(url) = &self.settings.jwks else {
            return Fetched::Before;
        };
        let asked_at = now_ms();
        let _one_at_a_time = self.fetching.lock().await;
        let last = self.fetched_at.load(Ordering::Relaxed);
        if last >= asked_at {
            return Fetched::Now; // Another request fetched them meanwhile.
        }
        if self.rests(now_ms()) || self.tried_at.load(Ordering::Relaxed) >= asked_at {
            return Fetched::Failed;
        }
        if last > 0 && self.age() < PAUSE_MS {
            return Fetched::Before;
        }
        let fetched = tokio::time::timeout(PATIENCE, download(&self.settings, url)).await;
        self.tried_at.store(now_ms(), Ordering::Relaxed);
        match fetched {
            Ok(Ok(keys)) => {
                self.keys.store(Arc::new(keys));
                self.lock().clear();
                self.failures.store(0, Ordering::Relaxed);
                self.fetched_at.store(now_ms(), Ordering::Relaxed);
                return Fetched::Now;
            }
            Ok(Err(error)) => tracing::warn!(url, %error, "cannot fetch the keys for tokens"),
            Err(_) => tracing::warn!(url, "fetching the keys for tokens took too long"),
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        Fetched::Failed
    }
}

async fn download(settings: &Identity, url: &str) -> Result<KeySet, Failure> {
    let request = Request::get("/").header("accept", "application/json");
    let (status, body) = fetch(url, request, Bytes::new(), settings.ca.as_deref()).await?;
    if !status.is_success() {
        return Err(format!("the answer was {status}").into());
    }
    Ok(KeySet::parse(&body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_that_could_not_be_fetched_are_as_old_as_before() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = taken.local_addr().unwrap();
        drop(taken);
        let verifier = Verifier::new(Identity {
            jwks: Jwks::Url(format!("http://{closed}/keys")),
            ..Identity::default()
        });
        assert_eq!(verifier.fetch().await, Fetched::Failed);
        assert_eq!(verifier.fetched_at.load(Ordering::Relaxed), 0);
        assert_eq!(verifier.failures.load(Ordering::Relaxed), 1);
        // So soon after, nobody is asked.
        let ended = verifier.tried_at.load(Ordering::Relaxed);
        for (failures, rest) in [(1, 250), (2, 500), (4, 2_000), (40, PAUSE_MS)] {
            verifier.failures.store(failures, Ordering::Relaxed);
            assert!(verifier.rests(ended + rest - 1), "{failures}");
            assert!(!verifier.rests(ended + rest), "{failures}");
        }
        assert_eq!(verifier.fetch().await, Fetched::Failed);
        assert_eq!(verifier.failures.load(Ordering::Relaxed), 40);
    }
}
