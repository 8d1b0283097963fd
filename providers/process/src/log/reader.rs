//! Log lines read back from the files, merged by time, and followed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use futures::stream::{self, BoxStream, StreamExt};
use platform_port::{LogLine, LogQuery, Stream};

use super::file::part;
use super::tail::Tail;

/// Pause between two looks for new lines.
const POLL: Duration = Duration::from_millis(100);
/// Lines handed on at a time.
const BATCH: usize = 512;

/// Splits `orders@r5.2` or `orders@r5-baseline.2` into service and version; `gateway` and resources have no version.
fn parts(instance: &str) -> (&str, Option<u32>) {
    let Some((service, rest)) = instance.split_once('@') else {
        return (instance.split('.').next().unwrap_or(instance), None);
    };
    let digits = rest.strip_prefix('r').map(|rest| {
        let end = rest
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(rest.len());
        &rest[..end]
    });
    (service, digits.and_then(|digits| digits.parse().ok()))
}

fn wanted(query: &LogQuery, instance: &str) -> bool {
    let (service, version) = parts(instance);
    query.is_of(service)
        && query.instance.as_ref().is_none_or(|only| only == instance)
        && query.version.is_none_or(|only| version == Some(only.0))
}

/// The logs that a query asks for: instance and path of the newest part.
fn sources(folder: &Path, query: &LogQuery) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for service in fs::read_dir(folder).into_iter().flatten().flatten() {
        for entry in fs::read_dir(service.path()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if let Some(instance) = name.to_str().and_then(|name| name.strip_suffix(".log"))
                && wanted(query, instance)
            {
                found.push((instance.to_owned(), entry.path()));
            }
        }
    }
    found.sort();
    found
}

pub(super) fn parse(instance: &str, bytes: &[u8]) -> Option<LogLine> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let at = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let stream = match bytes.get(space + 1)? {
        b'o' => Stream::Stdout,
        b'e' => Stream::Stderr,
        _ => return None,
    };
    Some(LogLine {
        at,
        instance: instance.to_owned(),
        stream,
        text: String::from_utf8_lossy(bytes.get(space + 3..).unwrap_or_default()).into_owned(),
    })
}

/// The parts of a log, oldest first, opened now so that a rotation moves none away.
fn open_parts(path: &Path, since: Option<u64>) -> Vec<File> {
    let mut files = Vec::new();
    let mut number = 0;
    loop {
        let candidate = if number == 0 {
            path.to_owned()
        } else {
            part(path, number)
        };
        let Ok(file) = File::open(candidate) else {
            break;
        };
        let changed = file
            .metadata()
            .and_then(|seen| seen.modified())
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
            .map(|at| at.as_millis());
        let too_old = since
            .zip(changed)
            .is_some_and(|(since, changed)| changed + 1000 < u128::from(since));
        if too_old {
            break;
        }
        files.push(file);
        number += 1;
    }
    files.reverse();
    files
}

/// One log's lines in the order they were written.
struct Lines {
    instance: String,
    files: VecDeque<BufReader<File>>,
}

impl Iterator for Lines {
    type Item = LogLine;

    fn next(&mut self) -> Option<LogLine> {
        let mut bytes = Vec::new();
        loop {
            let file = self.files.front_mut()?;
            bytes.clear();
            match file.read_until(b'\n', &mut bytes) {
                // A line without its end is still being written; following goes on there.
                Ok(_) if bytes.last() == Some(&b'\n') => {
                    if let Some(line) = parse(&self.instance, &bytes) {
                        return Some(line);
                    }
                }
                _ => {
                    self.files.pop_front();
                }
            }
        }
    }
}

/// Lines of several logs, oldest first.
struct Merged {
    sources: Vec<Lines>,
    heads: BinaryHeap<Reverse<(u64, usize, u64)>>,
    lines: BTreeMap<(usize, u64), LogLine>,
    number: u64,
    since: u64,
}

impl Merged {
    fn new(sources: Vec<Lines>, since: Option<u64>) -> Self {
        let mut merged = Self {
            heads: BinaryHeap::new(),
            lines: BTreeMap::new(),
            number: 0,
            since: since.unwrap_or(0),
            sources,
        };
        for index in 0..merged.sources.len() {
            merged.advance(index);
        }
        merged
    }

    fn advance(&mut self, index: usize) {
        let since = self.since;
        if let Some(line) = self.sources[index].find(|line| line.at >= since) {
            self.number += 1;
            self.heads.push(Reverse((line.at, index, self.number)));
            self.lines.insert((index, self.number), line);
        }
    }
}

impl Iterator for Merged {
    type Item = LogLine;

    fn next(&mut self) -> Option<LogLine> {
        let Reverse((_, index, number)) = self.heads.pop()?;
        let line = self.lines.remove(&(index, number));
        self.advance(index);
        line
    }
}

/// The newest `count` lines of one log, oldest first.
///
/// Reads backwards in growing pieces, so the size of the log does not matter.
fn last_lines(path: &Path, instance: &str, count: usize, since: Option<u64>) -> Vec<LogLine> {
    let mut found: VecDeque<LogLine> = VecDeque::new();
    for mut file in open_parts(path, since).into_iter().rev() {
        let missing = count - found.len();
        let lines = end_of(&mut file, missing).unwrap_or_default();
        for line in lines.iter().rev().filter_map(|line| parse(instance, line)) {
            if found.len() == count || since.is_some_and(|since| line.at < since) {
                return found.into();
            }
            found.push_front(line);
        }
        if found.len() == count {
            break;
        }
    }
    found.into()
}

fn end_of(file: &mut File, count: usize) -> io::Result<Vec<Vec<u8>>> {
    let length = file.metadata()?.len();
    let mut size = 64 * 1024;
    loop {
        let start = length.saturating_sub(size);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(length - start).read_to_end(&mut bytes)?;
        // The first piece may be the end of a longer line, the last one not yet whole.
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let mut lines: Vec<&[u8]> = bytes[..whole]
            .split_inclusive(|byte| *byte == b'\n')
            .collect();
        if start > 0 && !lines.is_empty() {
            lines.remove(0);
        }
        if start == 0 || lines.len() >= count {
            let skip = lines.len().saturating_sub(count);
            return Ok(lines[skip..].iter().map(|line| line.to_vec()).collect());
        }
        size *= 4;
    }
}

/// Answers a query from the files in `folder`.
pub(crate) fn lines(folder: &Path, query: &LogQuery) -> BoxStream<'static, LogLine> {
    let found = sources(folder, query);
    let mut tails: BTreeMap<PathBuf, Tail> = BTreeMap::new();
    if query.follow {
        for (instance, path) in &found {
            tails.insert(
                path.clone(),
                Tail::new(instance.clone(), path.clone(), true),
            );
        }
    }
    let past: Box<dyn Iterator<Item = LogLine> + Send> = match query.tail {
        Some(count) => Box::new(newest(&found, count, query.since).into_iter()),
        None => Box::new(Merged::new(
            found
                .iter()
                .map(|(instance, path)| Lines {
                    instance: instance.clone(),
                    files: open_parts(path, query.since)
                        .into_iter()
                        .map(BufReader::new)
                        .collect(),
                })
                .collect(),
            query.since,
        )),
    };
    let past = stream::unfold(past, |mut past| async move {
        let read = tokio::task::spawn_blocking(move || {
            let batch: Vec<LogLine> = past.by_ref().take(BATCH).collect();
            (batch, past)
        });
        let (batch, past) = read.await.ok()?;
        (!batch.is_empty()).then_some((stream::iter(batch), past))
    })
    .flatten();
    if !query.follow {
        return past.boxed();
    }
    past.chain(followed(folder.to_owned(), query.clone(), tails))
        .boxed()
}

fn newest(found: &[(String, PathBuf)], count: usize, since: Option<u64>) -> Vec<LogLine> {
    let services: BTreeSet<&str> = found
        .iter()
        .map(|(instance, _)| parts(instance).0)
        .collect();
    let mut lines = Vec::new();
    for service in services {
        let mut own: Vec<LogLine> = found
            .iter()
            .filter(|(instance, _)| parts(instance).0 == service)
            .flat_map(|(instance, path)| last_lines(path, instance, count, since))
            .collect();
        own.sort_by_key(|line| line.at);
        let skip = own.len().saturating_sub(count);
        lines.extend(own.into_iter().skip(skip));
    }
    lines.sort_by_key(|line| line.at);
    lines
}

fn followed(
    folder: PathBuf,
    query: LogQuery,
    tails: BTreeMap<PathBuf, Tail>,
) -> impl futures::Stream<Item = LogLine> + Send {
    stream::unfold(
        (folder, query, tails),
        |(folder, query, mut tails)| async move {
            loop {
                let mut lines = Vec::new();
                for (instance, path) in sources(&folder, &query) {
                    tails
                        .entry(path.clone())
                        .or_insert_with(|| Tail::new(instance, path, false));
                }
                for tail in tails.values_mut() {
                    tail.read(&mut lines);
                }
                if !lines.is_empty() {
                    lines.sort_by_key(|line| line.at);
                    return Some((stream::iter(lines), (folder, query, tails)));
                }
                tokio::time::sleep(POLL).await;
            }
        },
    )
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::super::file::{LogFile, line};
    use super::*;

    fn write(folder: &Path, instance: &str, times: std::ops::Range<u64>) {
        let (service, _) = parts(instance);
        let mut log = LogFile::new(&folder.join(service), instance, 4096, 3);
        for at in times {
            log.append(
                &line(at, Stream::Stdout, &format!("{instance} says {at}")),
                1,
            );
        }
    }

    async fn read(folder: &Path, query: LogQuery) -> Vec<u64> {
        lines(folder, &query).map(|line| line.at).collect().await
    }

    #[tokio::test]
    async fn lines_of_several_instances_are_merged_by_time() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "orders@r1.1", 0..250);
        write(folder.path(), "orders@r2.1", 100..350);
        write(folder.path(), "web@r1.1", 0..10);
        let all = read(folder.path(), LogQuery::default()).await;
        assert!(all.is_sorted());
        assert_eq!(all.len(), 510);
        let tail = read(
            folder.path(),
            LogQuery {
                parties: vec![platform_port::Party::Service("orders".parse().unwrap())],
                tail: Some(300),
                ..LogQuery::default()
            },
        )
        .await;
        assert_eq!((tail.len(), tail[299]), (300, 349));
        let since = read(
            folder.path(),
            LogQuery {
                version: Some(platform_decide::release::ReleaseNumber(2)),
                since: Some(340),
                ..LogQuery::default()
            },
        )
        .await;
        assert_eq!(since, (340..350).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn following_misses_nothing_over_rotations_and_new_instances() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "orders@r1.1", 0..5);
        let query = LogQuery {
            tail: Some(0),
            follow: true,
            ..LogQuery::default()
        };
        let stream = lines(folder.path(), &query);
        write(folder.path(), "orders@r1.1", 5..205);
        write(folder.path(), "orders@r2.1", 205..210);
        let seen: Vec<u64> = tokio::time::timeout(
            Duration::from_secs(5),
            stream.take(205).map(|line| line.at).collect(),
        )
        .await
        .unwrap();
        assert_eq!(seen, (5..210).collect::<Vec<_>>());
    }
}
