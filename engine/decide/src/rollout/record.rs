//! What the old release answered during a rollout, in the order in which it did.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::Tally;

/// Pieces that a record keeps; when there are more, neighbours become one.
const MOST_PIECES: usize = 128;

/// Answers of the old release, piece by piece, and how many pieces were laid beside the new one's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct Record {
    pieces: Vec<Tally>,
    /// Requests that a piece has at least, so that all of them are about as large.
    piece: u64,
    used: usize,
    used_requests: u64,
}

impl Record {
    /// Takes in what the old release answered.
    pub(super) fn add(&mut self, tally: Tally) {
        if tally.requests == 0 {
            return;
        }
        match self.pieces.last_mut() {
            // What is laid beside already is not put together anew.
            Some(last) if last.requests < self.piece || self.used > 0 => *last = last.plus(tally),
            _ => self.pieces.push(tally),
        }
        if self.pieces.len() > MOST_PIECES {
            self.pieces = self
                .pieces
                .chunks(2)
                .map(|pair| {
                    pair.iter()
                        .fold(Tally::default(), |sum, one| sum.plus(*one))
                })
                .collect();
            let requests: u64 = self.pieces.iter().map(|piece| piece.requests).sum();
            self.piece = requests / self.pieces.len() as u64;
        }
    }

    /// Lays it beside a new stage, from the beginning.
    pub(super) fn begin(&mut self) {
        self.used = 0;
        self.used_requests = 0;
    }

    /// The next pieces, until as many requests are laid beside as the new release has answered in all; each is given
    /// once, and nothing when there are none left.
    pub(super) fn next(&mut self, answered: u64) -> Tally {
        let mut sum = Tally::default();
        while self.used_requests + sum.requests < answered
            && let Some(piece) = self.pieces.get(self.used)
        {
            sum = sum.plus(*piece);
            self.used += 1;
        }
        self.used_requests += sum.requests;
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(requests: u64, bad: u64) -> Tally {
        Tally {
            requests,
            bad,
            slow: 0,
            left_out: 0,
        }
    }

    #[test]
    fn every_piece_is_given_once_and_in_order() {
        let mut record = Record::default();
        for bad in 0..4 {
            record.add(tally(10, bad));
        }
        assert_eq!(record.next(5), tally(10, 0));
        assert_eq!(record.next(8), Tally::default());
        assert_eq!(record.next(25), tally(20, 3));
        assert_eq!(record.next(400), tally(10, 3));
        assert_eq!(record.next(4_000), Tally::default());
        record.begin();
        assert_eq!(record.next(1), tally(10, 0));
    }

    #[test]
    fn a_long_record_keeps_everything_in_few_pieces() {
        let mut record = Record::default();
        for _ in 0..10_000 {
            record.add(tally(7, 1));
        }
        assert!(record.pieces.len() <= MOST_PIECES);
        assert_eq!(record.next(u64::MAX), tally(70_000, 10_000));
    }
}
