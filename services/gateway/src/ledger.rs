//! Keeps what is counted in one piece: who reads the counts sees each event whole or not at all.

use std::sync::{PoisonError, RwLock};

use crate::tally::Counter;

/// Lets many count at a time, and nobody while the counts are read.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    gate: RwLock<()>,
    sequence: Counter,
}

impl Ledger {
    /// Counts one event. It must not enter another one, nor wait for anything.
    pub(crate) fn enter<T>(&self, event: impl FnOnce() -> T) -> T {
        let _shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let entered = event();
        self.sequence.increment();
        entered
    }

    /// Reads the counts, as `look` does, while nothing is counted.
    ///
    /// - returns: the number of events so far, and what was read
    pub(crate) fn read<T>(&self, look: impl FnOnce() -> T) -> (u64, T) {
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        (self.sequence.get(), look())
    }
}

#[cfg(test)]
mod tests {
    use std::thread::ScopedJoinHandle;

    use super::*;

    #[test]
    fn nobody_sees_half_of_an_event() {
        let ledger = Ledger::default();
        let counters = [Counter::default(), Counter::default()];
        let look = || ledger.read(|| [counters[0].get(), counters[1].get()]);
        std::thread::scope(|scope| {
            let counting: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..20_000 {
                            ledger.enter(|| counters.each_ref().map(Counter::increment));
                        }
                    })
                })
                .collect();
            while !counting.iter().all(ScopedJoinHandle::is_finished) {
                let (sequence, seen) = look();
                assert_eq!(seen, [sequence; 2]);
            }
        });
        assert_eq!(look(), (40_000, [40_000; 2]));
    }
}
