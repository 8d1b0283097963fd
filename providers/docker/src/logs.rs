//! Log lines of containers, past and to come.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures::StreamExt;
use futures::stream::BoxStream;
use platform_decide::group::GroupId;
use platform_port::{LogLine, LogQuery, Stream as Side, TargetError};
use tokio::sync::mpsc;

use crate::engine::fault;
use crate::names::{GROUP, NUMBER, RESOURCE, ROLE, instance_name};
use crate::site::{Site, label};

/// How often new instances are looked for while lines are followed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A container whose lines are asked for.
struct Source {
    id: String,
    /// What its lines are said to come from.
    name: String,
    /// Lines of how many sources make up a service's.
    service: String,
}

impl Site {
    /// The containers whose lines are asked for.
    async fn sources(&self, query: &LogQuery) -> Result<Vec<Source>, TargetError> {
        let mut sources = Vec::new();
        for one in self.containers().await? {
            let labels = one.labels.unwrap_or_default();
            let text = |name: &str| labels.get(name).cloned().unwrap_or_default();
            let group: Option<GroupId> = text(GROUP).parse().ok();
            let (name, service) = match (text(ROLE).as_str(), &group) {
                ("service", Some(group)) => {
                    let number = text(NUMBER).parse().unwrap_or(0);
                    (instance_name(group, number), group.service.to_string())
                }
                ("gateway", _) => ("gateway".to_owned(), "gateway".to_owned()),
                ("resource", _) => (text(RESOURCE), text(RESOURCE)),
                _ => continue,
            };
            let version = group.map(|group| group.version);
            let wanted = (query.services.is_empty() && text(ROLE) == "service"
                || query.services.iter().any(|asked| asked.as_str() == service))
                && query.instance.as_ref().is_none_or(|asked| *asked == name)
                && query.version.is_none_or(|asked| version == Some(asked));
            if let Some(id) = one.id.filter(|_| wanted) {
                sources.push(Source { id, name, service });
            }
        }
        Ok(sources)
    }

    /// Reads log lines, oldest first.
    pub(crate) async fn logs(
        self: &Arc<Self>,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine, TargetError>>, TargetError> {
        let sources = self.sources(query).await?;
        let mut lines = Vec::new();
        let mut known = BTreeSet::new();
        let mut read_until: u64 = query.since.unwrap_or(0);
        for source in &sources {
            known.insert(source.id.clone());
            let mut own = self.read(source, query, false);
            while let Some(line) = own.next().await {
                lines.push((source.service.clone(), line?));
            }
        }
        lines.sort_by_key(|(_, line)| line.at);
        if let Some(tail) = query.tail {
            lines = newest(lines, tail);
        }
        if let Some((_, last)) = lines.last() {
            read_until = read_until.max(last.at);
        }
        let past = futures::stream::iter(lines.into_iter().map(|(_, line)| Ok(line)));
        if !query.follow {
            return Ok(past.boxed());
        }
        let (tell, told) = mpsc::channel(256);
        let (site, query) = (Arc::clone(self), query.clone());
        tokio::spawn(async move { site.follow(sources, query, read_until, tell).await });
        let coming = tokio_stream::wrappers::ReceiverStream::new(told);
        Ok(past.chain(coming).boxed())
    }

    /// Lines of one container, with when the engine took them in.
    fn read(
        &self,
        source: &Source,
        query: &LogQuery,
        follow: bool,
    ) -> BoxStream<'static, Result<LogLine, TargetError>> {
        let since = query.since.unwrap_or(0);
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            timestamps: true,
            follow,
            since: i32::try_from(since / 1000).unwrap_or(0),
            tail: match query.tail {
                Some(tail) if !follow => tail.to_string(),
                _ => "all".to_owned(),
            },
            ..LogsOptions::default()
        };
        let name = source.name.clone();
        self.engine
            .docker
            .logs(&source.id, Some(options))
            .filter_map(move |piece| {
                let line = match piece {
                    Ok(piece) => line(&name, piece).filter(|line| line.at >= since).map(Ok),
                    Err(error) => Some(Err(fault(format!("read the log of {name}"), error))),
                };
                std::future::ready(line)
            })
            .boxed()
    }

    /// Goes on with new lines, also of containers that come later.
    async fn follow(
        self: Arc<Self>,
        first: Vec<Source>,
        query: LogQuery,
        read_until: u64,
        tell: mpsc::Sender<Result<LogLine, TargetError>>,
    ) {
        let mut known: BTreeSet<String> = BTreeSet::new();
        let mut fresh = first;
        let mut after = read_until;
        loop {
            for source in fresh
                .drain(..)
                .filter(|source| !known.contains(&source.id))
                .collect::<Vec<_>>()
            {
                known.insert(source.id.clone());
                let query = LogQuery {
                    since: Some(after),
                    tail: None,
                    ..query.clone()
                };
                let mut lines = self.read(&source, &query, true);
                let tell = tell.clone();
                tokio::spawn(async move {
                    while let Some(line) = lines.next().await {
                        // What was shown already is not shown again.
                        let old = line.as_ref().is_ok_and(|line| line.at <= after);
                        if !old && tell.send(line).await.is_err() {
                            return;
                        }
                    }
                });
            }
            // Those that come later are read from their beginning.
            after = 0;
            tokio::select! {
                () = tell.closed() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            known = self.still(known).await;
            fresh = self.sources(&query).await.unwrap_or_default();
        }
    }

    /// Forgets containers that were restarted or stopped: their stream has ended and begins anew.
    async fn still(&self, known: BTreeSet<String>) -> BTreeSet<String> {
        let mut still = BTreeSet::new();
        for id in known {
            // A stream ends with its container's process; one that does not run has been read to its end.
            if let Ok(Some(seen)) = self.inspect(&id).await
                && label(&seen, ROLE).is_some()
            {
                still.insert(id);
            }
        }
        still
    }
}

/// The newest `tail` lines of each service.
fn newest(lines: Vec<(String, LogLine)>, tail: usize) -> Vec<(String, LogLine)> {
    let mut left: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    let mut kept: Vec<(String, LogLine)> = lines
        .into_iter()
        .rev()
        .filter(|(service, _)| {
            let left = left.entry(service.clone()).or_insert(tail);
            let keep = *left > 0;
            *left = left.saturating_sub(1);
            keep
        })
        .collect();
    kept.reverse();
    kept
}

/// A line as the engine gives it: `2026-11-23T09:00:00.123456789Z text`.
fn line(name: &str, piece: LogOutput) -> Option<LogLine> {
    let (stream, message) = match piece {
        LogOutput::StdErr { message } => (Side::Stderr, message),
        LogOutput::StdOut { message } | LogOutput::Console { message } => (Side::Stdout, message),
        LogOutput::StdIn { .. } => return None,
    };
    let text = String::from_utf8_lossy(&message);
    let (time, text) = text.split_once(' ')?;
    let time = chrono::DateTime::parse_from_rfc3339(time).ok()?;
    Some(LogLine {
        at: u64::try_from(time.timestamp_millis()).unwrap_or(0),
        instance: name.to_owned(),
        stream,
        text: text.trim_end_matches(['\n', '\r']).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_the_newest_are_kept() {
        let piece = LogOutput::StdErr {
            message: "2026-11-23T09:00:00.5Z it  works \r\n".into(),
        };
        let read = line("orders@r1.1", piece).unwrap();
        assert_eq!((read.at % 1000, read.text.as_str()), (500, "it  works "));
        let lines = (0..4).map(|at| {
            let service = if at % 2 == 0 { "a" } else { "b" };
            (service.to_owned(), LogLine { at, ..read.clone() })
        });
        let kept: Vec<u64> = newest(lines.collect(), 1)
            .iter()
            .map(|(_, l)| l.at)
            .collect();
        assert_eq!(kept, [2, 3]);
    }
}
