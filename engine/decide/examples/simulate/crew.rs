//! Runs spread over the cores; the same result on any number of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::random::Draws;

/// Runs of one seed.
const BLOCK: u64 = 250;

/// Makes `runs` runs of `one` and returns all results in order.
pub fn repeat<T: Send>(runs: u64, cell: u64, one: impl Fn(&mut Draws) -> T + Sync) -> Vec<T> {
    let blocks = runs.div_ceil(BLOCK);
    let next = AtomicU64::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let block = next.fetch_add(1, Ordering::Relaxed);
            if block >= blocks {
                return done;
            }
            let mut draws = Draws::seeded(cell * 1_000_003 + block + 1);
            let count = BLOCK.min(runs - block * BLOCK);
            done.push((
                block,
                (0..count).map(|_| one(&mut draws)).collect::<Vec<_>>(),
            ));
        }
    };
    let mut all: Vec<(u64, Vec<T>)> = thread::scope(|scope| {
        let crew: Vec<_> = (0..cores()).map(|_| scope.spawn(work)).collect();
        crew.into_iter()
            .flat_map(|worker| worker.join().expect("a worker does not panic"))
            .collect()
    });
    all.sort_by_key(|(block, _)| *block);
    all.into_iter().flat_map(|(_, results)| results).collect()
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
