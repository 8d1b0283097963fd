//! Counts of good, bad and slow requests, exact and monotonic.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Upper bounds of the latency buckets in microseconds: 100 µs · √2ⁱ, rounded,
/// for i = 0 to 40 (100 µs to 105 s). One more bucket holds what is above.
pub const LATENCY_BOUNDS_MICROS: [u64; 41] = [
    100,
    141,
    200,
    283,
    400,
    566,
    800,
    1_131,
    1_600,
    2_263,
    3_200,
    4_525,
    6_400,
    9_051,
    12_800,
    18_102,
    25_600,
    36_204,
    51_200,
    72_408,
    102_400,
    144_815,
    204_800,
    289_631,
    409_600,
    579_262,
    819_200,
    1_158_524,
    1_638_400,
    2_317_048,
    3_276_800,
    4_634_095,
    6_553_600,
    9_268_190,
    13_107_200,
    18_536_380,
    26_214_400,
    37_072_760,
    52_428_800,
    74_145_520,
    104_857_600,
];

/// All counts since the gateway's process started.
///
/// Every number only grows while `epoch` stays the same, except `in_flight`.
/// A change of configuration resets nothing; counts of a version that is gone
/// stay. A new `epoch` means that all counts began again at zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Tallies {
    /// Names the process: differs after every restart and hand-over.
    pub epoch: String,
    /// Number of counted events. Readings of one epoch with equal numbers have equal counts, but for `in_flight`
    /// and `serving`: no reading has a part of an event.
    pub sequence: u64,
    /// Start of the epoch, milliseconds since 1970.
    pub since_ms: u64,
    /// When the counts were read, milliseconds since 1970.
    pub now_ms: u64,
    /// Revision of the configuration in force.
    pub revision: u64,
    /// The oldest revision that a request under way began with, each keeping to its own; `revision` where none began with another.
    /// Gateways that do not tell say 0.
    pub oldest_revision: u64,
    /// Counts by service.
    pub services: BTreeMap<String, ServiceTally>,
    /// Counts by route.
    pub routes: BTreeMap<String, RouteTally>,
}

impl Tallies {
    /// The counts of one version, if it ever was asked.
    pub fn version(&self, service: &str, version: &str) -> Option<&Tally> {
        self.services.get(service)?.versions.get(version)
    }
}

/// Counts of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServiceTally {
    /// Counts by version.
    pub versions: BTreeMap<String, Tally>,
    /// Counts by endpoint id.
    pub endpoints: BTreeMap<String, EndpointTally>,
    /// Requests answered 503 because no version had an endpoint.
    pub unserved: u64,
    /// Requests answered 503 by a concurrency limit or breaker.
    pub shed: u64,
}

/// Counts of one version of a service: the requests that were given to it.
///
/// `total = good + bad`. A request that a version did not answer and another
/// then did is bad for the first and good for the second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Tally {
    /// Requests finished.
    pub total: u64,
    /// Answered with a status below 500; in gRPC, with one that is no fault of the service.
    pub good: u64,
    /// Answered with 5xx, or in gRPC with `UNKNOWN`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, `INTERNAL`, `UNAVAILABLE` or
    /// `DATA_LOSS`; or not answered.
    pub bad: u64,
    /// Part of `bad` that was not answered at all: no connection, a reset, a timeout, or a client that left after it
    /// had waited for longer than `slow_after_ms`.
    pub unreachable: u64,
    /// Answered, of any status, but later than the service's `slow_after_ms`; or not answered when its client left, later than that.
    pub slow: u64,
    /// Attempts that failed and were repeated inside the version.
    pub retried: u64,
    /// Given up by the client before an answer, and before that was slow; in no other count.
    pub aborted: u64,
    /// Requests that an override or a route sent here instead of the weights.
    /// They are counted above, too. Who asks for a version is not drawn by
    /// chance, so a comparison of versions leaves them out.
    pub asked_for: u64,
    /// Part of `bad` among those.
    pub asked_for_bad: u64,
    /// Part of `slow` among those.
    pub asked_for_slow: u64,
    /// Requests of clients that stay with this version and make far more
    /// requests than others do, while there are several versions. They are
    /// counted above, too. One such client decides what its side looks like, so
    /// a comparison of versions leaves them out, on every side alike. Who is
    /// heavy follows from the number of requests, never from the answers.
    pub heavy: u64,
    /// Part of `bad` among those.
    pub heavy_bad: u64,
    /// Part of `slow` among those.
    pub heavy_slow: u64,
    /// Requests of which a version on trial got a copy. They are counted above,
    /// too.
    pub copied: u64,
    /// Part of `bad` among those.
    pub copied_bad: u64,
    /// Part of `slow` among those.
    pub copied_slow: u64,
    /// Under way now.
    pub in_flight: u64,
    /// Time to the answer's head of answered requests, by bucket; see
    /// [`LATENCY_BOUNDS_MICROS`]. Not cumulative.
    pub latency: Vec<u64>,
    /// Sum of those times, in microseconds.
    pub latency_sum_micros: u64,
}

impl Tally {
    /// The counts gained since `earlier`, a reading of the same epoch.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let latency = self
            .latency
            .iter()
            .enumerate()
            .map(|(bucket, count)| {
                count.saturating_sub(earlier.latency.get(bucket).copied().unwrap_or(0))
            })
            .collect();
        Self {
            total: self.total.saturating_sub(earlier.total),
            good: self.good.saturating_sub(earlier.good),
            bad: self.bad.saturating_sub(earlier.bad),
            unreachable: self.unreachable.saturating_sub(earlier.unreachable),
            slow: self.slow.saturating_sub(earlier.slow),
            retried: self.retried.saturating_sub(earlier.retried),
            aborted: self.aborted.saturating_sub(earlier.aborted),
            asked_for: self.asked_for.saturating_sub(earlier.asked_for),
            asked_for_bad: self.asked_for_bad.saturating_sub(earlier.asked_for_bad),
            asked_for_slow: self.asked_for_slow.saturating_sub(earlier.asked_for_slow),
            heavy: self.heavy.saturating_sub(earlier.heavy),
            heavy_bad: self.heavy_bad.saturating_sub(earlier.heavy_bad),
            heavy_slow: self.heavy_slow.saturating_sub(earlier.heavy_slow),
            copied: self.copied.saturating_sub(earlier.copied),
            copied_bad: self.copied_bad.saturating_sub(earlier.copied_bad),
            copied_slow: self.copied_slow.saturating_sub(earlier.copied_slow),
            in_flight: self.in_flight,
            latency,
            latency_sum_micros: self
                .latency_sum_micros
                .saturating_sub(earlier.latency_sum_micros),
        }
    }

    /// Returns the latency in microseconds that a share of the answers stayed
    /// within: the upper bound of the bucket it falls in.
    ///
    /// - `quantile`: 0.0 to 1.0
    /// - returns: `None` without an answer; `u64::MAX` above the last bound
    pub fn latency_quantile_micros(&self, quantile: f64) -> Option<u64> {
        let total: u64 = self.latency.iter().sum();
        if total == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank need not be exact beyond 2^52 requests"
        )]
        let rank = ((total as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.latency.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(
                    LATENCY_BOUNDS_MICROS
                        .get(bucket)
                        .copied()
                        .unwrap_or(u64::MAX),
                );
            }
        }
        None
    }
}

/// Counts of one endpoint: attempts, not requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EndpointTally {
    /// Version it belongs to.
    pub version: String,
    /// Attempts answered below 500.
    pub good: u64,
    /// Attempts answered 5xx or not at all.
    pub bad: u64,
    /// Part of `bad` that was not answered.
    pub unreachable: u64,
    /// Under way now.
    pub in_flight: u64,
    /// Times it was set aside.
    pub ejections: u64,
    /// Whether it takes requests now: neither set aside nor unhealthy.
    pub serving: bool,
}

/// Counts of one route, as its clients saw the answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RouteTally {
    /// Requests answered.
    pub total: u64,
    /// Answered below 500.
    pub good: u64,
    /// Answered 5xx, also by the gateway itself.
    pub bad: u64,
    /// Answered by the gateway itself (limits, authentication, no endpoint, …).
    pub own: u64,
    /// Answered with a kept answer, without asking the service.
    pub cached: u64,
    /// Given up by the client before an answer.
    pub aborted: u64,
    /// Time to the answer's head, by bucket; see [`LATENCY_BOUNDS_MICROS`].
    pub latency: Vec<u64>,
    /// Sum of those times, in microseconds.
    pub latency_sum_micros: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_powers_of_the_root_of_two() {
        for (index, bound) in LATENCY_BOUNDS_MICROS.iter().enumerate() {
            let exact = 100.0 * 2f64.powf(f64::from(u32::try_from(index).unwrap()) / 2.0);
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let off = (*bound as f64 - exact).abs();
            assert!(off <= 0.51, "bound {index} is {bound}, not {exact}");
        }
    }

    #[test]
    fn quantiles_are_upper_bounds() {
        let mut tally = Tally {
            latency: vec![0; 42],
            ..Tally::default()
        };
        assert_eq!(tally.latency_quantile_micros(0.5), None);
        tally.latency[0] = 99;
        tally.latency[41] = 1;
        assert_eq!(tally.latency_quantile_micros(0.99), Some(100));
        assert_eq!(tally.latency_quantile_micros(0.999), Some(u64::MAX));
    }
}
