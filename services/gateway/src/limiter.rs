//! Rate limits: one token bucket for each client, token or key.
//!
//! A bucket is one number, the time at which it would be full again, so ten
//! thousand clients cost ten thousand numbers.
//!
//! Source: the generic cell rate algorithm, ITU-T I.371, annex A.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use platform_gateway_api::RateLimit;

use crate::balance::mix;
use crate::clock::saturating_micros;

const SHARDS: usize = 16;
/// Buckets in a shard beyond which full ones are forgotten.
const MANY: usize = 4_096;
/// Most buckets in a shard.
const MOST: usize = 16 * MANY;
/// Buckets that a request looks at, at the most, to make room for one more: as many as let a
/// shard shrink while ever new clients come.
const LOOKS: usize = 8;

/// The longest time in which a token comes, in microseconds: a year.
const LONGEST: u64 = 365 * 24 * 3600 * 1_000_000;

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
        // Bounded, so that times can be added up.
        let one = (every / limit.requests.max(1)).clamp(1, LONGEST);
        Self {
            one,
            room: one.saturating_mul(burst).min(u64::MAX / 4),
        }
    }
}

/// One client's bucket.
#[derive(Debug)]
struct Bucket {
    key: u64,
    full_at: u64,
}

/// Some of a route's buckets.
#[derive(Debug, Default)]
struct Shard {
    buckets: Vec<Bucket>,
    /// Where each key's bucket is.
    places: HashMap<u64, usize>,
    /// Which bucket is looked at next for one to forget.
    hand: usize,
}

impl Shard {
    /// When the bucket of `key` is full again; one that is full where there was none.
    fn full_at(&mut self, key: u64, now: u64) -> &mut u64 {
        if let Some(place) = self.places.get(&key) {
            return &mut self.buckets[*place].full_at;
        }
        self.make_room(now);
        let place = self.buckets.len();
        self.places.insert(key, place);
        self.buckets.push(Bucket { key, full_at: now });
        &mut self.buckets[place].full_at
    }

    /// When the bucket of `key` is full again, if there is one.
    fn known(&self, key: u64) -> Option<u64> {
        let place = self.places.get(&key)?;
        Some(self.buckets[*place].full_at)
    }

    /// Forgets a few full buckets where there are many; where there are as many as may be and none
    /// of those looked at is full, the fullest, whose client loses the least by it.
    fn make_room(&mut self, now: u64) {
        if self.buckets.len() < MANY {
            return;
        }
        let mut fullest = None;
        for _ in 0..LOOKS {
            let place = self.hand % self.buckets.len().max(1);
            let Some(bucket) = self.buckets.get(place) else {
                return;
            };
            if bucket.full_at <= now {
                self.forget(place);
                continue; // Another has come to its place.
            }
            self.hand = place + 1;
            let known = fullest.get_or_insert((bucket.full_at, place));
            *known = (*known).min((bucket.full_at, place));
        }
        if let Some((_, place)) = fullest.filter(|_| self.buckets.len() >= MOST) {
            self.forget(place);
        }
    }

    fn forget(&mut self, place: usize) {
        let gone = self.buckets.swap_remove(place);
        self.places.remove(&gone.key);
        if let Some(moved) = self.buckets.get(place) {
            self.places.insert(moved.key, place);
        }
    }
}

/// The buckets of one route.
#[derive(Debug)]
pub(crate) struct Limiter {
    start: Instant,
    shards: [Mutex<Shard>; SHARDS],
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

    /// Looks whether there is a token in the bucket of `key`, and leaves it there.
    ///
    /// - returns: as error, the microseconds until there is one
    pub(crate) fn look(&self, key: u64, limit: &RateLimit) -> Result<(), u64> {
        let now = saturating_micros(self.start.elapsed());
        let Rate { one, room } = Rate::of(limit);
        let full_at = self.shard(key).known(key).unwrap_or(now);
        let next = full_at.max(now) + one;
        if next - now > room {
            return Err(next - now - room);
        }
        Ok(())
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(mix(key) % SHARDS as u64).unwrap_or(0);
        let shard = &self.shards[index];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_at(&self, key: u64, limit: &RateLimit, now: u64) -> Result<(), u64> {
        let Rate { one, room } = Rate::of(limit);
        let mut shard = self.shard(key);
        let full_at = shard.full_at(key, now);
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
    fn a_limit_holds_however_long_its_time() {
        let limiter = Limiter::default();
        let limit = RateLimit {
            requests: 1,
            every_ms: u64::MAX,
            burst: 3,
            ..RateLimit::default()
        };
        for now in 0..3 {
            limiter.take_at(1, &limit, now).unwrap();
        }
        assert!(limiter.take_at(1, &limit, 3).is_err());
        let any = RateLimit {
            requests: u64::MAX,
            burst: u64::MAX,
            ..limit
        };
        limiter.take_at(2, &any, u64::MAX / 4).unwrap();
    }

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

    fn count(limiter: &Limiter) -> usize {
        let shards = limiter.shards.iter();
        shards
            .map(|shard| {
                let shard = shard.lock().unwrap();
                assert_eq!(shard.buckets.len(), shard.places.len());
                for (place, bucket) in shard.buckets.iter().enumerate() {
                    assert_eq!(shard.places[&bucket.key], place);
                }
                shard.buckets.len()
            })
            .sum()
    }

    #[test]
    fn who_has_nothing_left_stays_so_however_many_others_come() {
        let limiter = Limiter::default();
        let limit = RateLimit {
            requests: 10,
            every_ms: 3_600_000,
            ..RateLimit::default()
        };
        let takes = |key: u64, now: u64| limiter.take_at(key, &limit, now).is_ok();
        let greedy = 0..50_u64;
        assert!(greedy.clone().all(|key| limiter.look(key, &limit).is_ok()));
        for key in greedy.clone() {
            assert_eq!((0..20).filter(|_| takes(key, 0)).count(), 10);
            assert!(limiter.look(key, &limit).is_err());
        }
        // Twice as many as there is room for, none of whose buckets is full meanwhile.
        let others = 1_000..1_000 + 2 * (SHARDS * MOST) as u64;
        assert!(others.clone().all(|key| takes(key, 1_000)));
        assert!(count(&limiter) <= SHARDS * MOST);
        assert!(greedy.clone().all(|key| !takes(key, 2_000)));
        // Once their buckets are full, they make room, a few for each who comes.
        let later = 3_600_000_000 + 10_000;
        assert!((0..SHARDS * MOST / 4).all(|key| takes(u64::MAX - key as u64, later)));
        assert!(count(&limiter) < SHARDS * MOST / 3);
        assert!(greedy.clone().all(|key| takes(key, later)));
    }
}
