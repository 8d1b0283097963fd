//! Counters behind the tallies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use platform_gateway_api::{LATENCY_BOUNDS_MICROS, RouteTally, Tally};

use crate::clock::saturating_micros;

const BUCKETS: usize = LATENCY_BOUNDS_MICROS.len() + 1;

/// A counter that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Times of answers, by bucket.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum_micros: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    pub(crate) fn record(&self, took: Duration) {
        let micros = saturating_micros(took);
        let bucket = LATENCY_BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Vec<u64> {
        self.buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .collect()
    }

    pub(crate) fn sum_micros(&self) -> u64 {
        self.sum_micros.load(Ordering::Relaxed)
    }
}

/// A number of things under way.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn subtract(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts one more while what is returned lives, unless there are `most` already; 0 is no limit.
    pub(crate) fn hold(self: &Arc<Self>, most: u64) -> Option<Held> {
        if most == 0 {
            self.add();
        } else {
            let taken = self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                    (count < most).then_some(count + 1)
                });
            taken.ok()?;
        }
        Some(Held(self.clone()))
    }
}

/// One of those that a gauge counts.
#[derive(Debug)]
pub(crate) struct Held(Arc<Gauge>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.subtract();
    }
}

/// Requests of a version that a comparison leaves out, or looks at alone.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    total: Counter,
    bad: Counter,
    slow: Counter,
}

impl Apart {
    pub(crate) fn record(&self, bad: bool, slow: bool) {
        self.total.increment();
        if bad {
            self.bad.increment();
        }
        if slow {
            self.slow.increment();
        }
    }
}

/// Counts of one version.
#[derive(Debug, Default)]
pub(crate) struct VersionCounts {
    pub(crate) good: Counter,
    pub(crate) bad: Counter,
    pub(crate) unreachable: Counter,
    pub(crate) slow: Counter,
    pub(crate) retried: Counter,
    pub(crate) aborted: Counter,
    pub(crate) asked_for: Apart,
    pub(crate) heavy: Apart,
    pub(crate) copied: Apart,
    pub(crate) in_flight: Arc<Gauge>,
    pub(crate) latency: Histogram,
}

impl VersionCounts {
    pub(crate) fn read(&self) -> Tally {
        let (good, bad) = (self.good.get(), self.bad.get());
        Tally {
            total: good + bad,
            good,
            bad,
            unreachable: self.unreachable.get(),
            slow: self.slow.get(),
            retried: self.retried.get(),
            aborted: self.aborted.get(),
            asked_for: self.asked_for.total.get(),
            asked_for_bad: self.asked_for.bad.get(),
            asked_for_slow: self.asked_for.slow.get(),
            heavy: self.heavy.total.get(),
            heavy_bad: self.heavy.bad.get(),
            heavy_slow: self.heavy.slow.get(),
            copied: self.copied.total.get(),
            copied_bad: self.copied.bad.get(),
            copied_slow: self.copied.slow.get(),
            in_flight: self.in_flight.get(),
            latency: self.latency.read(),
            latency_sum_micros: self.latency.sum_micros(),
        }
    }
}

/// Counts of one route.
#[derive(Debug, Default)]
pub(crate) struct RouteCounts {
    pub(crate) good: Counter,
    pub(crate) bad: Counter,
    pub(crate) own: Counter,
    pub(crate) cached: Counter,
    pub(crate) aborted: Counter,
    pub(crate) latency: Histogram,
}

impl RouteCounts {
    pub(crate) fn read(&self) -> RouteTally {
        let (good, bad) = (self.good.get(), self.bad.get());
        RouteTally {
            total: good + bad,
            good,
            bad,
            own: self.own.get(),
            cached: self.cached.get(),
            aborted: self.aborted.get(),
            latency: self.latency.read(),
            latency_sum_micros: self.latency.sum_micros(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_held_than_there_is_room_for() {
        let gauge = Arc::new(Gauge::default());
        let (first, second) = (gauge.hold(2), gauge.hold(2));
        assert!(first.is_some() && second.is_some() && gauge.hold(2).is_none());
        drop(first);
        assert!(gauge.hold(2).is_some());
        assert!(gauge.hold(0).is_some());
        drop(second);
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn a_time_falls_into_the_bucket_whose_bound_holds_it() {
        let histogram = Histogram::default();
        for micros in [1, 100, 101, 200_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let buckets = histogram.read();
        assert_eq!((buckets[0], buckets[1], buckets[41]), (2, 1, 1));
        assert_eq!(histogram.sum_micros(), 200_000_202);
    }
}
