//! The keys that tokens are verified with, fetched and kept fresh.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
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
/// Time a fetch may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Verified tokens that are remembered.
const REMEMBERED: usize = 8_192;

/// Verifies bearer tokens by one identity's keys.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) settings: Identity,
    keys: ArcSwap<KeySet>,
    fetched_at: AtomicU64,
    fetching: tokio::sync::Mutex<()>,
    /// Claims by token, while the keys stay the same.
    known: Mutex<HashMap<String, Arc<Claims>>>,
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
            fetching: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// Verifies a token; fetches the keys when it names one that is not known.
    pub(crate) async fn verify(self: &Arc<Self>, token: &str) -> Result<Arc<Claims>, Rejected> {
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
        if stranger && self.fetch().await {
            found = check();
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

    fn refresh_if_old(self: &Arc<Self>) {
        if matches!(self.settings.jwks, Jwks::Url(_))
            && self.fetched_at.load(Ordering::Relaxed) > 0
            && self.age() > self.settings.refresh_seconds.max(1) * 1000
        {
            let verifier = self.clone();
            tokio::spawn(async move { verifier.fetch().await });
        }
    }

    /// Fetches the keys unless that was done just now; a failure keeps the old ones.
    async fn fetch(&self) -> bool {
        let Jwks::Url(url) = &self.settings.jwks else {
            return false;
        };
        let asked_at = now_ms();
        let _one_at_a_time = self.fetching.lock().await;
        let last = self.fetched_at.load(Ordering::Relaxed);
        if last >= asked_at {
            return true; // Another request fetched them meanwhile.
        }
        if last > 0 && self.age() < PAUSE_MS {
            return false;
        }
        self.fetched_at.store(now_ms(), Ordering::Relaxed);
        let fetched = tokio::time::timeout(PATIENCE, download(&self.settings, url)).await;
        match fetched {
            Ok(Ok(keys)) => {
                self.keys.store(Arc::new(keys));
                self.lock().clear();
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(url, %error, "cannot fetch the keys for tokens");
                false
            }
            Err(_) => {
                tracing::warn!(url, "fetching the keys for tokens took too long");
                false
            }
        }
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
