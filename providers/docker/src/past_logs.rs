//! What instances wrote that are gone: their last lines, kept with the environment's documents for as long as their release is.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use futures::future::try_join_all;
use platform_decide::group::GroupId;
use platform_decide::release::Release;
use platform_port::{LogLine, LogQuery, TargetError};

use crate::inside::{Answer, Ask};
use crate::keeper::{Reach, unexpected};
use crate::logs::Source;
use crate::observe::Found;
use crate::site::Site;

/// Where the lines of each group are, by its name.
const PAST: &str = "docker/logs/";
/// Lines that are kept of a group.
const LINES: usize = 1000;
/// Bytes of text that are kept of a group.
const BYTES: usize = 256 * 1024;

impl Site {
    /// Keeps the last lines of instances that are about to be removed.
    ///
    /// The log is an extra: whoever removes them goes on where it cannot be kept.
    pub(crate) async fn keep_logs(&self, group: &GroupId, instances: &[&Found]) {
        if let Err(error) = self.kept_logs(group, instances).await {
            tracing::warn!(%error, %group, "cannot keep the log of what is removed");
        }
    }

    async fn kept_logs(&self, group: &GroupId, instances: &[&Found]) -> Result<(), TargetError> {
        let query = LogQuery {
            tail: Some(LINES),
            ..LogQuery::default()
        };
        let reads = instances.iter().map(|one| {
            let source = Source {
                id: one.container.id.clone().unwrap_or_default(),
                name: one.name(),
                service: group.service.to_string(),
                runs: false,
            };
            self.read(&source, &query, false).try_collect::<Vec<_>>()
        });
        let lines = try_join_all(reads).await?.concat();
        if lines.is_empty() {
            return Ok(());
        }
        self.change(&format!("{PAST}{group}"), |kept: &mut Vec<LogLine>| {
            add(kept, &lines);
        })
        .await
        .map(drop)
    }

    /// The lines that were kept, each with its service.
    pub(crate) async fn past_logs(
        &self,
        query: &LogQuery,
    ) -> Result<Vec<(String, LogLine)>, TargetError> {
        let mut lines = Vec::new();
        for (key, group) in self.past_groups(Reach::IfKept).await? {
            let is_asked = query.is_of(group.service.as_str());
            if !is_asked || query.version.is_some_and(|asked| asked != group.version) {
                continue;
            }
            let (kept, _) = self.document::<Vec<LogLine>>(&key, Reach::IfKept).await?;
            let of_instance = |line: &LogLine| {
                let asked = query.instance.as_ref();
                asked.is_none_or(|asked| *asked == line.instance)
            };
            let since = query.since.unwrap_or(0);
            let kept = kept.into_iter().filter(of_instance);
            let kept = kept.filter(|line| line.at >= since);
            lines.extend(kept.map(|line| (group.service.to_string(), line)));
        }
        Ok(lines)
    }

    /// Lets go of the lines of groups that are older than every release that may still be asked for, and in none of them.
    pub(crate) async fn tidy_logs(&self, releases: &[Release]) -> Result<(), TargetError> {
        let oldest = releases.iter().map(|release| release.number).min();
        let named: BTreeSet<GroupId> = releases
            .iter()
            .flat_map(|release| release.groups().map(|group| group.id))
            .collect();
        for (key, group) in self.past_groups(Reach::IfRunning).await? {
            if oldest.is_some_and(|oldest| group.version < oldest) && !named.contains(&group) {
                let ask = Ask::Delete { key };
                match self.ask(ask, Reach::IfRunning).await? {
                    None | Some(Answer::Done) => {}
                    other => return Err(unexpected("let go of old logs", other)),
                }
            }
        }
        Ok(())
    }

    async fn past_groups(&self, reach: Reach) -> Result<Vec<(String, GroupId)>, TargetError> {
        let ask = Ask::List {
            prefix: PAST.to_owned(),
        };
        let keys = match self.ask(ask, reach).await? {
            None => Vec::new(),
            Some(Answer::Keys(keys)) => keys,
            other => return Err(unexpected("look for old logs", other)),
        };
        let groups = keys.into_iter().filter_map(|key| {
            let group = key.strip_prefix(PAST)?.parse().ok()?;
            Some((key, group))
        });
        Ok(groups.collect())
    }
}

/// Adds lines to those that are kept, and lets go of the oldest. What was added before is not added again.
fn add(kept: &mut Vec<LogLine>, lines: &[LogLine]) {
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    for line in kept.iter() {
        let at = newest.entry(line.instance.clone()).or_default();
        *at = line.at.max(*at);
    }
    let is_new = |line: &&LogLine| newest.get(&line.instance).is_none_or(|at| *at < line.at);
    kept.extend(lines.iter().filter(is_new).cloned());
    kept.sort_by_key(|line| line.at);
    let mut bytes = 0;
    let last = kept.iter().rev().take(LINES).take_while(|line| {
        bytes += line.text.len();
        bytes <= BYTES
    });
    let count = last.count();
    kept.drain(..kept.len() - count);
}

#[cfg(test)]
mod tests {
    use platform_port::Stream;

    use super::*;

    fn line(instance: &str, at: u64, text: &str) -> LogLine {
        LogLine {
            at,
            instance: instance.to_owned(),
            stream: Stream::Stdout,
            text: text.to_owned(),
        }
    }

    #[test]
    fn the_newest_lines_are_kept_once() {
        let of = |instance: &str, count: u64| -> Vec<LogLine> {
            (0..count).map(|at| line(instance, at, "x")).collect()
        };
        let mut kept = Vec::new();
        add(&mut kept, &of("a@r1.1", 3));
        add(&mut kept, &of("a@r1.1", 4));
        add(&mut kept, &of("a@r1.2", 2));
        assert_eq!(kept.len(), 6, "{kept:?}");
        add(&mut kept, &of("a@r1.3", 2000));
        assert_eq!(kept.len(), LINES);
        assert_eq!(kept[0].at, 1000);

        let long = "x".repeat(BYTES / 2);
        let mut kept = Vec::new();
        add(&mut kept, &[1, 2, 3].map(|at| line("a@r1.1", at, &long)));
        let times: Vec<u64> = kept.iter().map(|line| line.at).collect();
        assert_eq!(times, [2, 3]);
    }
}
