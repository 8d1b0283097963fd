//! Reads an instance's pipes without ever falling behind on anything else.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::stat::Mode;
use platform_port::Stream;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use super::file::{LogFile, now};
use crate::durable::{self, StateError};

/// A line longer than this is split.
const LONGEST_LINE: usize = 16 * 1024;
/// Bytes taken from a pipe in one turn.
const CHUNK: usize = 32 * 1024;
/// Bytes taken from a pipe in one window. Beyond that the writer waits, so a flood costs the agent a bounded share.
const WINDOW_BYTES: usize = 2 * 1024 * 1024;
const WINDOW: Duration = Duration::from_millis(100);

/// The named pipes of one instance.
#[derive(Debug, Clone)]
pub(crate) struct Pipes {
    /// For standard output.
    pub(crate) stdout: PathBuf,
    /// For standard error.
    pub(crate) stderr: PathBuf,
}

impl Pipes {
    /// Makes the pipes in the instance's folder, or takes those that are there.
    ///
    /// # Errors
    ///
    /// If the folder takes no writes.
    pub(crate) fn make(folder: &Path) -> Result<Self, StateError> {
        durable::make_folder(folder)?;
        let pipes = Self {
            stdout: folder.join("stdout"),
            stderr: folder.join("stderr"),
        };
        for path in [&pipes.stdout, &pipes.stderr] {
            match nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
                Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
                Err(error) => return Err(StateError::of("make pipe", path, error.into())),
            }
        }
        Ok(pipes)
    }
}

/// Starts reading both pipes into the log. The returned guard stops it after what is in the pipes has been read.
///
/// # Errors
///
/// If a pipe cannot be opened.
pub(crate) fn capture(pipes: &Pipes, log: &Rc<RefCell<LogFile>>) -> io::Result<Capture> {
    let mut tasks = Vec::new();
    for (path, stream) in [
        (&pipes.stdout, Stream::Stdout),
        (&pipes.stderr, Stream::Stderr),
    ] {
        let receiver = pipe::OpenOptions::new()
            .read_write(true)
            .open_receiver(path)?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let log = Rc::clone(log);
        let task = tokio::task::spawn_local(follow(receiver, stream, log, stopped));
        tasks.push((stop, task));
    }
    Ok(Capture { tasks })
}

/// Reading under way.
#[derive(Debug)]
pub(crate) struct Capture {
    tasks: Vec<(
        tokio::sync::oneshot::Sender<()>,
        tokio::task::JoinHandle<()>,
    )>,
}

impl Capture {
    /// Reads what is left and ends. Called once nobody writes any more.
    pub(crate) async fn finish(self) {
        for (stop, task) in self.tasks {
            let _ = stop.send(());
            let _ = task.await;
        }
    }
}

async fn follow(
    receiver: pipe::Receiver,
    stream: Stream,
    log: Rc<RefCell<LogFile>>,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) {
    let mut splitter = Splitter::new(stream);
    let mut buffer: Vec<u8> = Vec::new();
    let mut window = (Instant::now(), 0);
    let mut last = false;
    loop {
        buffer.resize(CHUNK, 0);
        match receiver.try_read(&mut buffer) {
            Ok(read) if read > 0 => {
                let (lines, count) = splitter.feed(&buffer[..read], now());
                log.borrow_mut().append(&lines, count);
                window.1 += read;
                if window.1 >= WINDOW_BYTES {
                    let rest = WINDOW.saturating_sub(window.0.elapsed());
                    tokio::time::sleep(rest).await;
                    window = (Instant::now(), 0);
                } else {
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if last {
                    break;
                }
                // Idle pipes hold no memory.
                buffer = Vec::new();
                tokio::select! {
                    ready = receiver.readable() => if ready.is_err() { break },
                    _ = &mut stopped => last = true,
                }
                if window.0.elapsed() > WINDOW {
                    window = (Instant::now(), 0);
                }
            }
            _ => break,
        }
    }
    let (lines, count) = splitter.finish(now());
    log.borrow_mut().append(&lines, count);
}

/// Makes stamped lines of bytes as they come.
#[derive(Debug)]
struct Splitter {
    stream: Stream,
    partial: Vec<u8>,
}

impl Splitter {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            partial: Vec::new(),
        }
    }

    /// Returns the whole lines, stamped, and their number.
    fn feed(&mut self, mut bytes: &[u8], at: u64) -> (Vec<u8>, u64) {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let mut count = 0;
        while !bytes.is_empty() {
            let room = LONGEST_LINE - self.partial.len();
            let reach = bytes.len().min(room);
            if let Some(end) = bytes[..reach].iter().position(|byte| *byte == b'\n') {
                self.partial.extend_from_slice(&bytes[..end]);
                bytes = &bytes[end + 1..];
                count += 1;
                self.flush(&mut out, at);
            } else {
                self.partial.extend_from_slice(&bytes[..reach]);
                bytes = &bytes[reach..];
                if self.partial.len() >= LONGEST_LINE {
                    count += 1;
                    self.flush(&mut out, at);
                }
            }
        }
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        (out, count)
    }

    fn finish(&mut self, at: u64) -> (Vec<u8>, u64) {
        let mut out = Vec::new();
        if self.partial.is_empty() {
            return (out, 0);
        }
        self.flush(&mut out, at);
        (out, 1)
    }

    fn flush(&mut self, out: &mut Vec<u8>, at: u64) {
        let mark = match self.stream {
            Stream::Stdout => "o",
            Stream::Stderr => "e",
        };
        out.extend_from_slice(format!("{at} {mark} ").as_bytes());
        let text = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        out.extend_from_slice(text);
        out.push(b'\n');
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_stamped_and_long_ones_split() {
        let mut splitter = Splitter::new(Stream::Stdout);
        assert_eq!(splitter.feed(b"a\r\nb", 7), (b"7 o a\n".to_vec(), 1));
        assert_eq!(splitter.feed(b"c\n\n", 8), (b"8 o bc\n8 o \n".to_vec(), 2));
        let (lines, count) = splitter.feed(&vec![b'x'; LONGEST_LINE + 5], 9);
        assert_eq!((lines.len(), count), (LONGEST_LINE + 5, 1));
        assert_eq!(splitter.finish(10), (b"10 o xxxxx\n".to_vec(), 1));
    }
}
