//! What the gateway counted, as a rollout reads it.

use std::collections::BTreeMap;

use platform_decide::group::GroupId;
use platform_gateway_api as api;
use platform_port::{LaneTally, Part, Tallies};

/// What comes before a group's lane in the name of the version that gets its copies, so that those are counted apart.
const COPIES: &str = "copies:";

/// The version that gets the copies for a group.
pub(crate) fn copies(group: &GroupId) -> String {
    format!("{COPIES}{}", group.lane())
}

/// The group whose copies a version gets, if it gets any.
pub(crate) fn copied_to(service: &str, version: &str) -> Option<GroupId> {
    let lane = version.strip_prefix(COPIES)?;
    format!("{service}@{lane}").parse().ok()
}

/// The counts of each lane that is a group of ours.
pub fn tallies(counted: &api::Tallies) -> Tallies {
    let mut lanes: BTreeMap<GroupId, LaneTally> = BTreeMap::new();
    for (service, own) in &counted.services {
        for (version, tally) in &own.versions {
            if let Some(id) = copied_to(service, version) {
                lanes.entry(id).or_default().copies = Part {
                    requests: tally.total,
                    bad: tally.bad,
                    slow: tally.slow,
                };
            } else if let Ok(id) = format!("{service}@{version}").parse::<GroupId>() {
                let lane = lanes.entry(id).or_default();
                let copies = lane.copies;
                *lane = LaneTally {
                    copies,
                    ..answered(tally)
                };
            }
        }
    }
    Tallies {
        epoch: counted.epoch.clone(),
        lanes,
    }
}

/// What a version answered to clients.
fn answered(tally: &api::Tally) -> LaneTally {
    LaneTally {
        requests: tally.total,
        bad: tally.bad,
        slow: tally.slow,
        time_micros: tally.latency_sum_micros,
        p99_micros: tally.latency_quantile_micros(0.99),
        asked_for: Part {
            requests: tally.asked_for,
            bad: tally.asked_for_bad,
            slow: tally.asked_for_slow,
        },
        heavy: Part {
            requests: tally.heavy,
            bad: tally.heavy_bad,
            slow: tally.heavy_slow,
        },
        copied: Part {
            requests: tally.copied,
            bad: tally.copied_bad,
            slow: tally.copied_slow,
        },
        copies: Part::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_comparison_leaves_out_or_looks_at_alone_is_told_apart() {
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
            copied: 20,
            copied_bad: 4,
            copied_slow: 2,
            ..api::Tally::default()
        };
        let shadow = api::Tally {
            total: 20,
            good: 11,
            bad: 9,
            slow: 8,
            ..api::Tally::default()
        };
        let mut counted = api::Tallies::default();
        let service = counted.services.entry("orders".to_owned()).or_default();
        service.versions.insert("copies:r2".to_owned(), shadow);
        service.versions.insert("r2".to_owned(), lane);
        let shadow = api::Tally::default();
        service.versions.insert("mirror:audit".to_owned(), shadow);
        let seen = tallies(&counted);
        let id: GroupId = "orders@r2".parse().unwrap();
        let lane = seen.lanes[&id];
        assert_eq!((lane.requests, lane.bad, lane.slow), (100, 10, 5));
        let parts = |part: Part| (part.requests, part.bad, part.slow);
        assert_eq!(parts(lane.asked_for), (7, 2, 1));
        assert_eq!(parts(lane.heavy), (30, 6, 3));
        assert_eq!(parts(lane.copied), (20, 4, 2));
        assert_eq!(parts(lane.copies), (20, 9, 8));
        assert_eq!(seen.lanes.len(), 1);
    }
}
