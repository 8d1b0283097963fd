//! Rate limits that several gateways count together, through Redis.
//!
//! Redis takes the decision in one step, by its own clock. Where it does not
//! answer in time, the caller counts alone: a limit may then be exceeded by as
//! many times as there are gateways, and no request fails for it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use platform_gateway_api::{RateLimit, Shared as Settings};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Script};
use tokio::sync::OnceCell;

use crate::clock::now_ms;
use crate::limiter::Rate;

/// How long a request waits for the count.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long nobody asks after Redis failed.
const REST_MS: u64 = 1_000;

/// The generic cell rate algorithm, as in `limiter`, on one number by key: when the bucket is full again.
///
/// - returns: microseconds until there is a token, 0 if one was taken
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local one, room = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + one
if full - now > room then return full - now - room end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1)
return 0",
    )
});

/// Counts together with others.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    client: Client,
    connection: OnceCell<ConnectionManager>,
    rests_until: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the URL, which may hold a password.
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Reads where the server is, and does not ask it yet.
    ///
    /// # Errors
    ///
    /// In words, without the URL.
    pub(crate) fn new(settings: &Settings) -> Result<Self, String> {
        let url = match (&settings.url, &settings.url_file) {
            (Some(url), _) => url.clone(),
            (None, Some(path)) => std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read `{path}`: {error}"))?,
            (None, None) => String::new(),
        };
        let client = Client::open(url.trim()).map_err(|_| "the URL is none of Redis".to_owned())?;
        Ok(Self {
            settings: settings.clone(),
            client,
            connection: OnceCell::new(),
            rests_until: AtomicU64::new(0),
        })
    }

    /// Takes a token out of the bucket that all gateways share.
    ///
    /// - returns: `None` where Redis did not say; as error, the microseconds until there is one
    pub(crate) async fn take(
        &self,
        route: &str,
        key: u64,
        limit: &RateLimit,
    ) -> Option<Result<(), u64>> {
        if now_ms() < self.rests_until.load(Ordering::Relaxed) {
            return None;
        }
        let rate = Rate::of(limit);
        let name = format!("platform:rate:{}:{route}:{key:016x}", self.settings.space);
        let asking = async {
            let config = ConnectionManagerConfig::new().set_number_of_retries(1);
            // What takes longer to connect than anybody waits goes on where it was at the next request.
            let connection = self.connection.get_or_try_init(async || {
                ConnectionManager::new_lazy_with_config(self.client.clone(), config)
            });
            let mut connection = connection.await?.clone();
            TAKE.key(name)
                .arg(rate.one)
                .arg(rate.room)
                .invoke_async::<u64>(&mut connection)
                .await
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok(0)) => Some(Ok(())),
            Ok(Ok(wait)) => Some(Err(wait)),
            Ok(Err(error)) => {
                self.rest(error.kind());
                None
            }
            Err(_) => {
                self.rest("it did not answer in time");
                None
            }
        }
    }

    fn rest(&self, why: impl std::fmt::Debug) {
        self.rests_until
            .store(now_ms() + REST_MS, Ordering::Relaxed);
        tracing::warn!(?why, "Redis does not count; each gateway counts for itself");
    }
}
