//! Constant open-loop load on a gateway: requests leave by the clock, however slow the answers are.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Requests that can be under way at the same time.
const WORKERS: usize = 24;
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Failures that are kept in words.
const KEPT: usize = 10;

/// What the requests so far came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Requests that were answered with 200.
    pub(crate) answered: u64,
    /// Requests that were not, whatever the reason.
    pub(crate) failed: u64,
    /// Those among them that nobody took: there was nothing to connect to.
    pub(crate) refused: u64,
    /// The first failures, in words.
    pub(crate) failures: Vec<String>,
    /// Connections that were closed between two requests, so that the second needed another.
    pub(crate) reconnected: u64,
    /// Those among them of which nothing told before the request was written: it may have been on its way, or dropped.
    pub(crate) cut: u64,
    /// Answers by their text.
    pub(crate) answers: BTreeMap<String, u64>,
    /// The longest time from when a request was due to its answer.
    pub(crate) slowest: Duration,
}

impl Tally {
    /// The same, where no request failed and some were answered.
    pub(crate) fn unharmed(self) -> Self {
        assert_eq!(self.failed, 0, "{self:#?}");
        assert!(self.answered > 0, "{self:#?}");
        self
    }
}

/// Load that goes on until it is ended or dropped.
pub(crate) struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<Mutex<bool>>,
    threads: Vec<JoinHandle<()>>,
}

/// A request: when it is due, and whether it has a connection of its own.
struct Ticket {
    number: u64,
    due: Instant,
    fresh: bool,
}

impl Load {
    /// Sends so many requests a second for `/` of 127.0.0.1 at `port`.
    ///
    /// Every fourth has a connection of its own, and every tenth asks for an answer that takes a while.
    pub(crate) fn on(port: u16, per_second: u32) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let stop = Arc::new(Mutex::new(false));
        let (give, take) = mpsc::channel::<Ticket>();
        let take = Arc::new(Mutex::new(take));
        let mut threads: Vec<JoinHandle<()>> = (0..WORKERS)
            .map(|_| {
                let (tally, take) = (Arc::clone(&tally), Arc::clone(&take));
                thread::spawn(move || work(port, &take, &tally))
            })
            .collect();
        let told = Arc::clone(&stop);
        threads.push(thread::spawn(move || {
            let begun = Instant::now();
            let apart = Duration::from_secs(1) / per_second;
            for number in 0_u64.. {
                let due = begun + apart * u32::try_from(number).expect("a short test");
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let fresh = number % 4 == 0;
                let over = *told.lock().expect("unpoisoned");
                if over || give.send(Ticket { number, due, fresh }).is_err() {
                    return;
                }
            }
        }));
        Self {
            tally,
            stop,
            threads,
        }
    }

    /// What the requests so far came to.
    pub(crate) fn so_far(&self) -> Tally {
        self.tally.lock().expect("unpoisoned").clone()
    }

    /// Sends no more, and waits for the answers that are still to come.
    pub(crate) fn end(mut self) -> Tally {
        self.halt();
        self.so_far()
    }

    fn halt(&mut self) {
        *self.stop.lock().expect("unpoisoned") = true;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.halt();
    }
}

fn work(port: u16, take: &Mutex<mpsc::Receiver<Ticket>>, tally: &Mutex<Tally>) {
    let mut kept: Option<BufReader<TcpStream>> = None;
    loop {
        let ticket = take.lock().expect("unpoisoned").recv();
        let Ok(Ticket { number, due, fresh }) = ticket else {
            return;
        };
        let path = if number % 10 == 9 { "/slow" } else { "/" };
        let (mut reconnected, mut cut) = (false, false);
        let mut exchange = || -> Result<String, Failed> {
            if fresh {
                return ask(connect(port)?, path, true).map(|(text, _)| text);
            }
            if let Some(connection) = kept.take() {
                let closed = is_closed(connection.get_ref());
                match ask(connection, path, false) {
                    // Both ends may close a connection that nobody uses; who sends just then opens another.
                    Err(Failed::Unused(_)) => {
                        reconnected = true;
                        cut = !closed;
                    }
                    Err(other) => return Err(other),
                    Ok((text, connection)) => {
                        kept = connection;
                        return Ok(text);
                    }
                }
            }
            let (text, connection) = ask(connect(port)?, path, false)?;
            kept = connection;
            Ok(text)
        };
        let result = exchange();
        let took = due.elapsed();
        let mut tally = tally.lock().expect("unpoisoned");
        tally.reconnected += u64::from(reconnected);
        tally.cut += u64::from(cut);
        tally.slowest = tally.slowest.max(took);
        match result {
            Ok(text) => {
                tally.answered += 1;
                *tally.answers.entry(text).or_default() += 1;
            }
            Err(failed) => {
                tally.failed += 1;
                tally.refused += u64::from(matches!(failed, Failed::Refused(_)));
                let (Failed::Unused(why) | Failed::Refused(why) | Failed::Lost(why)) = failed;
                if tally.failures.len() < KEPT {
                    let kind = if fresh { "a fresh" } else { "a kept" };
                    let words = format!("{path} over {kind} connection after {took:?}: {why}");
                    tally.failures.push(words);
                }
            }
        }
    }
}

/// Why a request failed.
enum Failed {
    /// The connection was closed before a byte of the answer.
    Unused(String),
    /// There was nothing to connect to.
    Refused(String),
    /// The answer broke off, or was none that was wanted.
    Lost(String),
}

fn connect(port: u16) -> Result<BufReader<TcpStream>, Failed> {
    let connection = TcpStream::connect(("127.0.0.1", port))
        .and_then(|connection| {
            connection.set_read_timeout(Some(PATIENCE))?;
            connection.set_nodelay(true)?;
            Ok(connection)
        })
        .map_err(|error| Failed::Refused(format!("cannot connect: {error}")))?;
    Ok(BufReader::new(connection))
}

/// Whether the other end has closed a connection on which nothing is to come.
fn is_closed(connection: &TcpStream) -> bool {
    let looks = || -> std::io::Result<bool> {
        connection.set_nonblocking(true)?;
        let seen = connection.peek(&mut [0]);
        connection.set_nonblocking(false)?;
        match seen {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
            seen => Ok(seen? == 0),
        }
    };
    looks().unwrap_or(true)
}

type Answer = (String, Option<BufReader<TcpStream>>);

/// Asks once; the connection comes back where another request may follow.
fn ask(mut connection: BufReader<TcpStream>, path: &str, close: bool) -> Result<Answer, Failed> {
    let lost = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| Failed::Lost(format!("{what}: {error}"))
    };
    let manner = if close { "connection: close\r\n" } else { "" };
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{manner}\r\n");
    if let Err(error) = connection.get_mut().write_all(request.as_bytes()) {
        return Err(Failed::Unused(format!("cannot ask: {error}")));
    }
    let mut status = String::new();
    match connection.read_line(&mut status) {
        Ok(0) => return Err(Failed::Unused("closed before the answer".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
            return Err(Failed::Unused(format!("no answer: {error}")));
        }
        read => read.map_err(lost("no answer"))?,
    };
    let (mut length, mut again) = (0, !close);
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).map_err(lost("no head"))?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        again &= line != "connection: close";
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).map_err(lost("no body"))?;
    let body = String::from_utf8_lossy(&body).trim().to_owned();
    if !status.starts_with("HTTP/1.1 200 ") {
        return Err(Failed::Lost(format!("{} {body}", status.trim())));
    }
    Ok((body, again.then_some(connection)))
}
