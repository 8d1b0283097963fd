//! Who ran out of memory and runs again.
//!
//! Engines up to 20.10 say so of a container for as long as it is there, later ones only until they start it anew. What they then
//! still have are their last 256 events.

use bollard::query_parameters::EventsOptions;
use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt as _;

use crate::observe::Found;
use crate::site::{Site, lock};

/// How much later than the start that follows it the engine may tell of what ended.
const TOLD_WITHIN: TimeDelta = TimeDelta::seconds(1);

impl Site {
    /// Notes of instances that were started again whether memory had run out, as far as the engine remembers.
    pub(crate) async fn recall_starved(&self, found: &mut [Found]) {
        let asked = {
            let mut known = lock(&self.starved);
            let said = found.iter().filter(|one| one.ran_out_of_memory());
            known.extend(said.filter_map(|one| one.container.id.clone()));
            let mut unknown = found.iter().filter(|one| {
                let id = one.container.id.as_ref();
                id.is_some_and(|id| !known.contains(id))
            });
            past_of(&mut unknown, Utc::now())
        };
        if let Some(options) = asked {
            let events: Result<Vec<_>, _> =
                self.engine.docker.events(Some(options)).try_collect().await;
            match events {
                Ok(events) => {
                    let ids = events.into_iter().filter_map(|event| event.actor?.id);
                    lock(&self.starved).extend(ids);
                }
                // What is known without them is told.
                Err(error) => tracing::debug!(%error, "the engine's events were not told"),
            }
        }
        let known = lock(&self.starved);
        for one in found {
            let id = one.container.id.as_ref();
            if id.is_some_and(|id| known.contains(id))
                && let Some(state) = one.container.state.as_mut()
            {
                state.oom_killed = Some(true);
            }
        }
    }
}

/// The question whether memory ran out of instances that were started again; `None` where it was not asked of any.
///
/// All times are the engine's but `now`, by which the question ends at the latest with what may still come of their last start.
fn past_of(found: &mut dyn Iterator<Item = &Found>, now: DateTime<Utc>) -> Option<EventsOptions> {
    let (mut ids, mut since, mut until) = (Vec::new(), None, None);
    for one in found {
        let container = &one.container;
        let state = container.state.as_ref();
        if !one.began_again() || one.ran_out_of_memory() {
            continue;
        }
        let started = state.and_then(|state| time(state.started_at.as_deref()?));
        let (Some(id), Some(created), Some(started)) = (&container.id, container.created, started)
        else {
            continue;
        };
        ids.push(id.clone());
        since = Some(since.map_or(created, |other| created.min(other)));
        until = Some(until.map_or(started, |other| started.max(other)));
    }
    let (since, until) = (since?, until?);
    // An engine that is asked for what is still to come waits for it.
    let since_then = (now - until).clamp(TimeDelta::zero(), TOLD_WITHIN);
    let filters = [
        ("type", vec!["container".to_owned()]),
        ("event", vec!["oom".to_owned()]),
        ("container", ids),
    ];
    Some(EventsOptions {
        since: Some(seconds(since)),
        until: Some(seconds(until + since_then)),
        filters: Some(
            filters
                .map(|(name, values)| (name.to_owned(), values))
                .into(),
        ),
    })
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some(time.to_utc())
}

/// As the engine reads times: `1700000000.000000001`.
fn seconds(time: DateTime<Utc>) -> String {
    format!("{}.{:09}", time.timestamp(), time.timestamp_subsec_nanos())
}

#[cfg(test)]
mod tests {
    use platform_decide::digest::Digest;

    use super::*;
    use crate::names::{GROUP, KEEP, NUMBER, Names, ROLE, SPEC};

    fn found(id: &str, created: &str, finished: &str, started: &str, said: bool) -> Found {
        let keep = serde_json::json!({
            "port": 8080, "is_job": false, "path": "/", "by_command": false, "every_ms": 1, "timeout_ms": 1,
            "failures": 1, "start_within_ms": 1, "crash_loop": 1, "stays_ended": false, "grace_seconds": 1,
        });
        let container = serde_json::from_value(serde_json::json!({
            "Id": id,
            "Created": created,
            "State": { "FinishedAt": finished, "StartedAt": started, "OOMKilled": said },
            "Config": { "Labels": {
                (ROLE): "service", (GROUP): "orders@r1", (NUMBER): "2", (SPEC): Digest::of(b"spec").to_string(),
                (KEEP): keep.to_string(),
            } },
        }));
        Found::read(container.unwrap(), "net", &Names::of_shop()).unwrap()
    }

    #[test]
    fn those_that_were_started_again_are_asked_for() {
        let never = "0001-01-01T00:00:00Z";
        let all = [
            found(
                "first",
                "2026-01-02T03:04:00Z",
                never,
                "2026-01-02T03:04:01Z",
                false,
            ),
            found(
                "starved",
                "2026-01-02T03:04:00Z",
                "2026-01-02T03:04:05Z",
                "2026-01-02T03:04:06Z",
                true,
            ),
            found(
                "again",
                "2026-01-02T03:04:10.5Z",
                "2026-01-02T03:04:19Z",
                "2026-01-02T03:04:20.25Z",
                false,
            ),
            found(
                "later",
                "2026-01-02T03:04:11Z",
                "2026-01-02T03:04:18Z",
                "2026-01-02T03:04:19Z",
                false,
            ),
        ];
        let now = time("2026-01-02T03:05:00Z").unwrap();
        let asked = past_of(&mut all.iter(), now).unwrap();
        let filters = asked.filters.unwrap();
        assert_eq!(filters["container"], ["again", "later"]);
        assert_eq!(filters["event"], ["oom"]);
        assert_eq!(asked.since.as_deref(), Some("1767323050.500000000"));
        assert_eq!(asked.until.as_deref(), Some("1767323061.250000000"));
        assert_eq!(past_of(&mut all[..2].iter(), now), None);
    }

    #[test]
    fn what_may_still_be_told_is_not_waited_for() {
        let one = found(
            "again",
            "2026-01-02T03:04:00Z",
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:06Z",
            false,
        );
        let check = |now: &str, until: &str| {
            let asked = past_of(&mut std::iter::once(&one), time(now).unwrap()).unwrap();
            assert_eq!(asked.until.as_deref(), Some(until), "{now}");
        };
        check("2026-01-02T03:04:06.25Z", "1767323046.250000000");
        // Clocks that differ.
        check("2026-01-02T03:03:00Z", "1767323046.000000000");
        check("2026-01-02T04:00:00Z", "1767323047.000000000");
    }
}
