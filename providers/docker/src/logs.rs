//! Log lines of containers, past and to come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::LogsOptions;
use futures::StreamExt;
use futures::stream::BoxStream;
use platform_decide::group::GroupId;
use platform_port::{LogLine, LogQuery, Stream as Side, TargetError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::engine::fault;
use crate::names::{GROUP, NUMBER, RESOURCE, ROLE, instance_name};
use crate::site::Site;

/// How often new instances are looked for while lines are followed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A container whose lines are asked for.
pub(crate) struct Source {
    pub(crate) id: String,
    /// What its lines are said to come from.
    pub(crate) name: String,
    /// Lines of how many sources make up a service's.
    pub(crate) service: String,
    /// Whether its process runs.
    pub(crate) runs: bool,
}

impl Site {
    /// The containers whose lines are asked for.
    async fn sources(&self, query: &LogQuery) -> Result<Vec<Source>, TargetError> {
        let mut sources = Vec::new();
        for one in self.containers().await? {
            let runs = one.state == Some(ContainerSummaryStateEnum::RUNNING);
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
            let wanted = query.is_of(&service)
                && (text(ROLE) == "service" || !query.parties.is_empty())
                && query.instance.as_ref().is_none_or(|asked| *asked == name)
                && query.version.is_none_or(|asked| version == Some(asked));
            if let Some(id) = one.id.filter(|_| wanted) {
                sources.push(Source {
                    id,
                    name,
                    service,
                    runs,
                });
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
        let mut lines = self.past_logs(query).await?;
        let mut read_until: u64 = query.since.unwrap_or(0);
        for source in &sources {
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
    pub(crate) fn read(
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
        let mut known: BTreeMap<String, Reading> = BTreeMap::new();
        let mut found = first;
        let mut after = read_until;
        loop {
            for source in found.drain(..) {
                let shown = match known.get(&source.id) {
                    // A stream ends with its container's process; the engine may have started it anew.
                    Some(reading) if reading.task.is_finished() && source.runs => {
                        Arc::clone(&reading.shown)
                    }
                    Some(_) => continue,
                    None => Arc::new(AtomicU64::new(after)),
                };
                let query = LogQuery {
                    since: Some(shown.load(Ordering::Relaxed)),
                    tail: None,
                    ..query.clone()
                };
                let lines = self.read(&source, &query, true);
                let task = tokio::spawn(pass_on(lines, Arc::clone(&shown), tell.clone()));
                known.insert(source.id, Reading { shown, task });
            }
            // Those that come later are read from their beginning.
            after = 0;
            tokio::select! {
                () = tell.closed() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            found = self.sources(&query).await.unwrap_or_default();
        }
    }
}

/// A container that is followed.
struct Reading {
    /// Time of the last line that was shown.
    shown: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

/// Passes on the lines that were not shown already, until the stream ends.
async fn pass_on(
    mut lines: BoxStream<'static, Result<LogLine, TargetError>>,
    shown: Arc<AtomicU64>,
    tell: mpsc::Sender<Result<LogLine, TargetError>>,
) {
    let before = shown.load(Ordering::Relaxed);
    while let Some(line) = lines.next().await {
        let at = line.as_ref().map_or(0, |line| line.at);
        let old = line.is_ok() && at <= before;
        if !old && tell.send(line).await.is_err() {
            return;
        }
        shown.fetch_max(at, Ordering::Relaxed);
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
