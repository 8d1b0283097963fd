//! What the gateway counted, as a rollout reads it.

use platform_decide::group::GroupId;
use platform_gateway_api as api;
use platform_port::{AskedFor, LaneTally, Tallies};

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
                asked_for: AskedFor {
                    requests: tally.asked_for,
                    bad: tally.asked_for_bad,
                    slow: tally.asked_for_slow,
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
