//! Threads that serve connections, each with a runtime of its own.
//!
//! A connection stays with one thread for its life, and so do the connections to services that its
//! requests use: nothing of a request wakes or waits for another thread.

use std::cell::Cell;
use std::io;
use std::net::TcpStream as StdTcpStream;
use std::sync::{Arc, OnceLock};
use std::thread;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use crate::tally::Gauge;

thread_local! {
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// Number of the worker that this thread is, from 1; 0 on any other thread.
pub(crate) fn current() -> u64 {
    NUMBER.get()
}

/// How many workers there are: one for each core.
pub(crate) fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

struct Worker {
    runtime: Handle,
    /// Connections that it serves.
    open: Arc<Gauge>,
}

/// The threads, one for each core.
pub(crate) struct Workers {
    workers: Vec<Worker>,
    stop: CancellationToken,
}

/// A connection's place at a worker, counted while this lives.
struct Seat(Arc<Gauge>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.subtract();
    }
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// When the system has no thread or no descriptor left.
    pub(crate) fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let workers = (1..=count())
            .map(|number| Worker::start(number as u64, stop.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self { workers, stop })
    }

    /// Has the least busy worker serve a connection.
    pub(crate) fn serve<F: Future<Output = ()> + Send + 'static>(
        &self,
        stream: StdTcpStream,
        work: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) {
        let Some(worker) = self.workers.iter().min_by_key(|worker| worker.open.get()) else {
            return;
        };
        worker.open.add();
        let seat = Seat(worker.open.clone());
        worker.runtime.spawn(async move {
            // Here, so that this thread is the one that hears of its bytes.
            match TcpStream::from_std(stream) {
                Ok(stream) => work(stream).await,
                Err(error) => tracing::warn!(%error, "cannot serve a connection"),
            }
            drop(seat);
        });
    }

    /// Ends the threads, and what they still serve.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Worker {
    fn start(number: u64, stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name(format!("gateway-{number}"))
            .spawn(move || {
                NUMBER.set(number);
                runtime.block_on(stop.cancelled());
                // Whoever still looks a name up does not hold the end up.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            runtime: handle,
            open: Arc::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::io::AsyncReadExt;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn connections_spread_evenly_and_end_with_the_workers() {
        let workers = Workers::start().unwrap();
        let count = workers.workers.len();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (met, mut seen) = mpsc::unbounded_channel();
        let mut clients = Vec::new();
        for _ in 0..2 * count {
            clients.push(TcpStream::connect(address).await.unwrap());
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let met = met.clone();
            workers.serve(stream, async move |mut stream| {
                met.send(current()).unwrap();
                let _ = stream.read_u8().await;
            });
        }
        let mut numbers = Vec::new();
        for _ in 0..2 * count {
            numbers.push(seen.recv().await.unwrap());
        }
        numbers.sort_unstable();
        let expected: Vec<u64> = (1..=count as u64).flat_map(|number| [number; 2]).collect();
        assert_eq!(numbers, expected);
        workers.stop();
        for mut client in clients {
            assert!(client.read_u8().await.is_err());
        }
    }
}
