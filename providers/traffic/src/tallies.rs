//! What the gateway counted, as a rollout reads it.

use platform_decide::group::GroupId;
use platform_gateway_api as api;
use platform_port::{LaneTally, LeftOut, Tallies};

/// The counts of each lane that is a group of ours.
pub fn tallies(counted: &api::Tallies) -> Tallies {
    let lanes = counted.services.iter().flat_map(|(service, own)| {
        own.versions.iter().filter_map(move |(lane, tally)| {
            let id: GroupId = format!("{service}@{lane}").parse().ok()?;
            let seen = LaneTally {
                requests: tally.total,
                bad: tally.bad,
                slow: tally.slow,
                time_micros: tally.latency_sum_micros,
                p99_micros: tally.latency_quantile_micros(0.99),
                asked_for: LeftOut {
                    requests: tally.asked_for,
                    bad: tally.asked_for_bad,
                    slow: tally.asked_for_slow,
                },
                heavy: LeftOut {
                    requests: tally.heavy,
                    bad: tally.heavy_bad,
                    slow: tally.heavy_slow,
                },
            };
            Some((id, seen))
        })
    });
    Tallies {
        epoch: counted.epoch.clone(),
        lanes: lanes.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_comparison_leaves_out_is_told_apart() {
        let lane = api::Tally {
            total: 100,
            good: 90,
            bad: 10,
            slow: 5,
            asked_for: 7,
            asked_for_bad: 2,
            asked_for_slow: 1,
            heavy: 30,
            heavy_bad: 6,
            heavy_slow: 3,
            ..api::Tally::default()
        };
        let mut counted = api::Tallies::default();
        let service = counted.services.entry("orders".to_owned()).or_default();
        service.versions.insert("r2".to_owned(), lane);
        let seen = tallies(&counted);
        let id: GroupId = "orders@r2".parse().unwrap();
        let lane = seen.lanes[&id];
        assert_eq!((lane.requests, lane.bad, lane.slow), (100, 10, 5));
        let parts = |part: LeftOut| (part.requests, part.bad, part.slow);
        assert_eq!(parts(lane.asked_for), (7, 2, 1));
        assert_eq!(parts(lane.heavy), (30, 6, 3));
    }
}
