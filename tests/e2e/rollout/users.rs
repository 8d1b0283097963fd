//! Users of a service: so many requests a second by the clock, each counted by who answered it and how.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const WORKERS: u32 = 16;
const PATIENCE: Duration = Duration::from_secs(15);

/// Answers by version and status; `("", 0)` where there was none.
pub(crate) type Answers = BTreeMap<(String, u16), u64>;

/// Users who ask until they are ended.
pub(crate) struct Users {
    answers: Arc<Mutex<Answers>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Users {
    /// Sends so many requests a second for a path, each over a connection of its own.
    pub(crate) fn ask(port: u16, path: &'static str, per_second: u32) -> Self {
        Self::ask_as(port, path, per_second, |_| String::new())
    }

    /// The same, each request with headers of its own.
    ///
    /// - `headers`: of the request of a number, each with its end of line
    pub(crate) fn ask_as(
        port: u16,
        path: &'static str,
        per_second: u32,
        headers: fn(u32) -> String,
    ) -> Self {
        let answers: Arc<Mutex<Answers>> = Arc::default();
        let over = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU32::new(0));
        let begun = Instant::now();
        let threads = (0..WORKERS)
            .map(|_| {
                let (answers, over, next) =
                    (Arc::clone(&answers), Arc::clone(&over), Arc::clone(&next));
                thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let due = begun + Duration::from_secs(1) / per_second * number;
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        let answer = answer_with(port, path, &headers(number));
                        let answer = answer.unwrap_or_default();
                        *answers
                            .lock()
                            .expect("unpoisoned")
                            .entry(answer)
                            .or_default() += 1;
                    }
                })
            })
            .collect();
        Self {
            answers,
            over,
            threads,
        }
    }

    /// What was answered so far.
    pub(crate) fn so_far(&self) -> Answers {
        self.answers.lock().expect("unpoisoned").clone()
    }

    /// Asks no more, and says what was answered.
    pub(crate) fn end(mut self) -> Answers {
        self.halt();
        self.so_far()
    }

    fn halt(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.halt();
    }
}

/// The version that answers one request, and its status.
///
/// - `headers`: each with its end of line
pub(crate) fn answer_with(port: u16, path: &str, headers: &str) -> Option<(String, u16)> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).ok()?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    connection.write_all(request.as_bytes()).ok()?;
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut version = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let header = line.trim().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("x-platform-version:") {
            value.trim().clone_into(&mut version);
        }
        if header.is_empty() {
            break;
        }
    }
    reader.read_to_end(&mut Vec::new()).ok()?;
    Some((version, status))
}
