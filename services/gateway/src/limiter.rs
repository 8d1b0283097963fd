//! Rate limits: one token bucket for each client, token or key.
//!
//! A bucket is one number, the time at which it would be full again, so ten
//! thousand clients cost ten thousand numbers.
//!
//! Source: the generic cell rate algorithm, ITU-T I.371, annex A.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use platform_gateway_api::RateLimit;

use crate::balance::mix;
use crate::clock::saturating_micros;

const SHARDS: usize = 16;
/// Buckets in a shard beyond which full ones are forgotten.
const MANY: usize = 4_096;

/// A rate as the algorithm has it, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Time in which one token comes.
    pub(crate) one: u64,
    /// Time in which an empty bucket is full.
    pub(crate) room: u64,
}

impl Rate {
    pub(crate) fn of(limit: &RateLimit) -> Self {
        let every = limit.every_ms.saturating_mul(1_000);
        let burst = if limit.burst == 0 {
            limit.requests
        } else {
            limit.burst
        };
        let one = (every / limit.requests.max(1)).max(1);
        Self {
            one,
            room: one.saturating_mul(burst),
        }
    }
}

/// The buckets of one route.
#[derive(Debug)]
pub(crate) struct Limiter {
    start: Instant,
    shards: [Mutex<HashMap<u64, u64>>; SHARDS],
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Limiter {
    /// Takes a token out of the bucket of `key`.
    ///
    /// - returns: as error, the microseconds until there is one
    pub(crate) fn take(&self, key: u64, limit: &RateLimit) -> Result<(), u64> {
        self.take_at(key, limit, saturating_micros(self.start.elapsed()))
    }

    fn take_at(&self, key: u64, limit: &RateLimit, now: u64) -> Result<(), u64> {
        let Rate { one, room } = Rate::of(limit);
        let index = usize::try_from(mix(key) % SHARDS as u64).unwrap_or(0);
        let shard = &self.shards[index];
        let mut buckets = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MANY && !buckets.contains_key(&key) {
            buckets.retain(|_, full_at| *full_at > now);
            if buckets.len() >= MANY * 16 {
                // Under an attack from very many addresses: forget rather than grow.
                buckets.clear();
            }
        }
        let full_at = buckets.entry(key).or_insert(now);
        let next = (*full_at).max(now) + one;
        if next - now > room {
            return Err(next - now - room);
        }
        *full_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_the_burst_and_then_the_rate_through() {
        let limiter = Limiter::default();
        let limit = RateLimit {
            requests: 10,
            every_ms: 1_000,
            burst: 20,
            ..RateLimit::default()
        };
        let passed = |now: u64| {
            (0..100)
                .filter(|_| limiter.take_at(7, &limit, now).is_ok())
                .count()
        };
        assert_eq!(passed(0), 20);
        assert_eq!(passed(1_000_000), 10);
        assert_eq!(limiter.take_at(7, &limit, 1_000_000), Err(100_000));
        assert_eq!(passed(60_000_000), 20);
        assert!(limiter.take_at(8, &limit, 1_000_000).is_ok());
    }
}
