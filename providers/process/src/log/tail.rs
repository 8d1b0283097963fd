//! Lines of a log as they come.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use platform_port::LogLine;

use super::file::part;
use super::reader::parse;

/// Lines of a log that come after a place in it, through rotations.
pub(super) struct Tail {
    instance: String,
    path: PathBuf,
    file: Option<File>,
    inode: u64,
    partial: Vec<u8>,
}

impl Tail {
    /// From the log's end as it is now, or from its start.
    pub(super) fn new(instance: String, path: PathBuf, from_end: bool) -> Self {
        let mut tail = Self {
            instance,
            path,
            file: None,
            inode: 0,
            partial: Vec::new(),
        };
        tail.open();
        if from_end && let Some(file) = &mut tail.file {
            // Not into the middle of a line that is being written: back to its start.
            let end = file.seek(SeekFrom::End(0)).unwrap_or(0);
            let back = end.saturating_sub(64 * 1024);
            let mut bytes = Vec::new();
            if file.seek(SeekFrom::Start(back)).is_ok()
                && file.take(end - back).read_to_end(&mut bytes).is_ok()
            {
                let rest = bytes
                    .iter()
                    .rposition(|b| *b == b'\n')
                    .map_or(0, |at| at + 1);
                tail.partial = bytes.split_off(rest);
            }
        }
        tail
    }

    fn open(&mut self) {
        self.file = File::open(&self.path).ok();
        self.inode = self
            .file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map_or(0, |seen| seen.ino());
    }

    pub(super) fn read(&mut self, lines: &mut Vec<LogLine>) {
        loop {
            if let Some(file) = &mut self.file {
                let _ = file.read_to_end(&mut self.partial);
            }
            let whole = self
                .partial
                .iter()
                .rposition(|b| *b == b'\n')
                .map_or(0, |at| at + 1);
            let rest = self.partial.split_off(whole);
            let bytes = std::mem::replace(&mut self.partial, rest);
            lines.extend(
                bytes
                    .split_inclusive(|byte| *byte == b'\n')
                    .filter_map(|line| parse(&self.instance, line)),
            );
            let now = fs::metadata(&self.path).map_or(0, |seen| seen.ino());
            if now == self.inode || now == 0 {
                return;
            }
            // Rotated, and read to its end just now: go on with what came after it.
            let between = (1..)
                .map(|number| part(&self.path, number))
                .take_while(|path| path.exists())
                .take_while(|path| fs::metadata(path).is_ok_and(|seen| seen.ino() != self.inode));
            for path in between.collect::<Vec<_>>().into_iter().rev() {
                let _ = File::open(path).and_then(|mut file| file.read_to_end(&mut self.partial));
            }
            self.open();
        }
    }
}
