//! One instance's log file, rotated by size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use platform_port::Stream;

/// The file `<instance>.log` with its older parts `.log.1`, `.log.2`, …
///
/// Each line is the time in milliseconds, `o` or `e` for the stream, and the text.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    most: u64,
    keep: u32,
    lost: u64,
}

impl LogFile {
    /// The log of an instance in its service's folder; opened at the first line.
    pub(crate) fn new(folder: &Path, instance: &str, most: u64, keep: u32) -> Self {
        Self {
            path: folder.join(format!("{instance}.log")),
            file: None,
            size: 0,
            most: most.max(4096),
            keep,
            lost: 0,
        }
    }

    /// Appends whole lines at once. What cannot be written is counted and told once there is room again.
    pub(crate) fn append(&mut self, lines: &[u8], count: u64) {
        if let Err(error) = self.try_append(lines) {
            if self.lost == 0 {
                tracing::warn!(path = %self.path.display(), %error, "log lines are lost");
            }
            self.lost += count;
            self.file = None;
        }
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&self.path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        if self.size >= self.most {
            self.rotate()?;
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        if self.lost > 0 {
            let note = line(
                now(),
                Stream::Stderr,
                &format!("platform: {} lines lost", self.lost),
            );
            file.write_all(&note)?;
            self.lost = 0;
        }
        file.write_all(lines)?;
        self.size += lines.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.keep == 0 {
            fs::remove_file(&self.path)?;
        } else {
            for number in (1..self.keep).rev() {
                let _ = fs::rename(part(&self.path, number), part(&self.path, number + 1));
            }
            fs::rename(&self.path, part(&self.path, 1))?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.path)?;
        self.file = Some(file);
        self.size = 0;
        Ok(())
    }
}

/// The path of an older part.
pub(super) fn part(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{number}"));
    path.with_file_name(name)
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// One line as it stands in the file.
pub(super) fn line(at: u64, stream: Stream, text: &str) -> Vec<u8> {
    let mark = match stream {
        Stream::Stdout => 'o',
        Stream::Stderr => 'e',
    };
    format!("{at} {mark} {text}\n").into_bytes()
}

/// Removes logs of instances that are gone, all but the newest `keep` of each service and none younger than `age`.
pub(crate) fn prune(folder: &Path, living: &dyn Fn(&str) -> bool, keep: usize, age: Duration) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut dead: Vec<(SystemTime, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let instance = name.strip_suffix(".log")?.to_owned();
            let changed = entry.metadata().ok()?.modified().ok()?;
            (!living(&instance)).then_some((changed, instance))
        })
        .collect();
    dead.sort();
    let too_many = dead.len().saturating_sub(keep);
    for (index, (changed, instance)) in dead.into_iter().enumerate() {
        let old = changed.elapsed().is_ok_and(|elapsed| elapsed > age);
        if index < too_many || old {
            let path = folder.join(format!("{instance}.log"));
            let _ = fs::remove_file(&path);
            for number in 1.. {
                if fs::remove_file(part(&path, number)).is_err() {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_stays_within_its_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::new(folder.path(), "orders@r1.1", 4096, 2);
        for number in 0..1000 {
            log.append(&line(number, Stream::Stdout, &"x".repeat(50)), 1);
        }
        let total: u64 = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        assert!(total < 3 * 4300, "{total}");
    }

    #[test]
    fn only_the_newest_dead_logs_stay() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..6 {
            LogFile::new(folder.path(), &format!("o@r{number}.1"), 4096, 1).append(b"1 o x\n", 1);
        }
        prune(
            folder.path(),
            &|instance| instance == "o@r0.1",
            2,
            Duration::from_secs(3600),
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
