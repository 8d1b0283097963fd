//! Which clients make far more requests than the others, by the number of their requests alone.
//!
//! A client that stays with a release takes all its requests there, and what is wrong with them too. One that makes
//! much of a side's requests decides what that side looks like, so a comparison of releases leaves it out. Nothing
//! here knows what was answered: leaving clients out cannot favour a side.
//!
//! The rule is measured by `engine/decide/examples/simulate`, which has this file as a module.

use std::collections::HashMap;

/// A client is heavy above this share of the requests of the side with the fewest, were it there.
const SHARE: f64 = 0.02;
/// A client is heavy above so many times what is typical.
const TIMES: u32 = 5;
/// The part of the requests, counted from the smallest clients on, that ends at a typical one.
const TYPICAL: u64 = 4;
/// Clients that a side has to have for its own median to count.
const SIDE: usize = 5;
/// Recent requests that the smallest share of a heavy client is, at most, so that one who comes is soon known.
const SOON: f64 = 8.0;
/// Requests after which those before count half, at most.
const WINDOW: u64 = 1 << 16;
/// Clients that are known at a time: some 100 KiB.
const MOST: usize = 3_500;
/// Requests after which clients are weighed anew once a split has changed; then twice as many, and so on.
const FIRST_STEP: u64 = 32;
/// They are weighed at least so many times in a window.
const STEPS: u64 = 8;
/// The side of a client that has not asked since the split changed.
const NOWHERE: u8 = u8::MAX;

/// How the requests of a service are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Split {
    /// One version is all there is, so nothing is compared.
    #[default]
    None,
    /// One of several versions gets all requests.
    One,
    /// Several versions get some; the least of their shares, above 0.0 and up to 0.5.
    Shared(f64),
}

/// One client's recent requests.
#[derive(Debug, Clone, Copy, Default)]
struct Client {
    requests: u32,
    /// Where the last one went.
    side: u8,
    heavy: bool,
}

/// The clients of a service that asked lately.
///
/// Counts are halved when a window is full. When there are too many clients, each loses a request and who has none left
/// is forgotten (Misra and Gries, *Finding repeated elements*, 1982), so counts are never too high, and too low by no
/// more than one in [`MOST`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Crowd {
    clients: HashMap<u64, Client>,
    /// Recent requests.
    seen: u64,
    /// Those among them that stay with a side.
    sticky: u64,
    split: Split,
    /// Recent requests of a typical client.
    typical: u32,
    /// Those of the median client of each side that has enough of them.
    medians: Vec<u32>,
    /// Recent requests at which clients are weighed anew.
    next: u64,
    /// After how many more they are weighed the next time.
    step: u64,
}

impl Crowd {
    /// Takes in a request and returns whether a comparison leaves it out.
    ///
    /// - `client`: hash of what tells the client from others; `None` for a request that goes by weight
    /// - `side`: the version it goes to, by position
    pub(crate) fn meet(&mut self, client: Option<u64>, side: usize, split: Split) -> bool {
        if split != self.split {
            self.split = split;
            for client in self.clients.values_mut() {
                // Versions have other positions now, and clients other versions.
                client.side = NOWHERE;
                client.heavy &= split != Split::None;
            }
            self.step = FIRST_STEP;
            self.weigh();
        }
        self.seen += 1;
        let side = u8::try_from(side).unwrap_or(NOWHERE);
        let heavy = client.is_some_and(|client| self.count(client, side));
        if self.seen >= self.next {
            self.weigh();
        }
        heavy
    }

    fn count(&mut self, client: u64, side: u8) -> bool {
        self.sticky += 1;
        if self.clients.len() >= MOST && !self.clients.contains_key(&client) {
            self.clients.retain(|_, client| {
                client.requests -= 1;
                client.requests > 0
            });
            return false;
        }
        let limit = self.limit(side);
        let known = self.clients.entry(client).or_default();
        known.requests = known.requests.saturating_add(1);
        known.side = side;
        known.heavy |= limit.is_some_and(|limit| known.requests > limit);
        known.heavy
    }

    /// Recent requests above which a client of this side is heavy; `None` while nothing is shared out.
    fn limit(&self, side: u8) -> Option<u32> {
        let Split::Shared(least) = self.split else {
            return None;
        };
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of no more than a window"
        )]
        let share = (SHARE * least * self.seen as f64) as u32;
        // Where a release has all its clients ask again and again, none of them is out of the ordinary.
        let median = self.medians.get(usize::from(side)).copied().unwrap_or(0);
        let times = TIMES.saturating_mul(self.typical.max(median));
        Some(share.max(times))
    }

    /// Finds what is typical and who is heavy, and has old requests count less.
    fn weigh(&mut self) {
        let window = self.window();
        let shared = matches!(self.split, Split::Shared(_));
        if shared {
            self.measure();
            self.find();
        }
        if self.seen >= window {
            while self.seen >= window {
                self.seen /= 2;
                self.sticky /= 2;
                self.clients.retain(|_, client| {
                    client.requests /= 2;
                    client.requests > 0
                });
            }
            if shared {
                self.measure();
            }
        }
        self.next = if shared {
            window.min(self.seen + self.step)
        } else {
            window
        };
        self.step = (2 * self.step).min(window / STEPS).max(FIRST_STEP);
    }

    fn find(&mut self) {
        let limits: Vec<Option<u32>> = (0..=NOWHERE).map(|side| self.limit(side)).collect();
        for client in self.clients.values_mut() {
            let limit = limits[usize::from(client.side)];
            client.heavy |= limit.is_some_and(|limit| client.requests > limit);
        }
    }

    /// Long enough for the smallest share that makes a client heavy to be some requests, and no longer.
    fn window(&self) -> u64 {
        match self.split {
            Split::None | Split::One => WINDOW,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "positive and bounded"
            )]
            Split::Shared(least) => WINDOW.min((SOON / (SHARE * least)) as u64),
        }
    }

    fn measure(&mut self) {
        let mut sizes: Vec<u32> = self
            .clients
            .values()
            .map(|client| client.requests)
            .collect();
        sizes.sort_unstable();
        let tracked: u64 = sizes.iter().map(|size| u64::from(*size)).sum();
        // Not counting the largest, which is not to be its own measure unless it is alone.
        let largest = sizes.pop().unwrap_or(0);
        let part = self.sticky.saturating_sub(u64::from(largest)) / TYPICAL;
        // Who was forgotten made hardly any.
        let mut sum = self.sticky.saturating_sub(tracked);
        self.typical = if sum == 0 && sizes.is_empty() {
            largest.max(1)
        } else {
            1
        };
        for size in sizes {
            if sum >= part {
                break;
            }
            sum += u64::from(size);
            self.typical = size;
        }
        let places = self.clients.values().map(|client| client.side);
        let last = places.filter(|side| *side != NOWHERE).max();
        self.medians = last.map_or_else(Vec::new, |last| {
            (0..=last).map(|side| self.median(side)).collect()
        });
    }

    /// Recent requests of the median client of a side; 0 where there are too few.
    fn median(&self, side: u8) -> u32 {
        let own = self.clients.values().filter(|client| client.side == side);
        let mut sizes: Vec<u32> = own.map(|client| client.requests).collect();
        let middle = sizes.len() / 2;
        if sizes.len() < SIDE {
            return 0;
        }
        *sizes.select_nth_unstable(middle).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAVY: u64 = u64::MAX;
    const HALVES: Split = Split::Shared(0.5);

    /// Numbers that look random, the same each time.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 33) % end
        }
    }

    /// Has `requests` come from `others` alike, and of each hundred so many from one more; who was left out of which.
    fn left_out(
        crowd: &mut Crowd,
        (others, of_hundred): (u64, u64),
        requests: u64,
        split: Split,
    ) -> (u64, u64) {
        let mut dice = Dice(7);
        let (mut heavy, mut others_out) = (0, 0);
        for _ in 0..requests {
            let client = if dice.below(100) < of_hundred {
                HEAVY
            } else {
                dice.below(others)
            };
            let side = usize::from(client % 2 == 0);
            let out = crowd.meet(Some(client), side, split);
            if client == HEAVY {
                heavy += u64::from(out);
            } else {
                others_out += u64::from(out);
            }
        }
        (heavy, others_out)
    }

    #[test]
    fn one_among_many_is_heavy_and_nobody_else() {
        for least in [0.5, 0.05, 0.01] {
            for of_hundred in [2, 10, 30] {
                let mut crowd = Crowd::default();
                left_out(&mut crowd, (2_000, of_hundred), 100_000, Split::None);
                let split = Split::Shared(least);
                let (heavy, others) = left_out(&mut crowd, (2_000, of_hundred), 10_000, split);
                // Its very first request is, too.
                assert!(heavy.abs_diff(of_hundred * 100) < 200, "{least}: {heavy}");
                assert!(others < 200, "{least}, {of_hundred}: {others}");
            }
        }
    }

    #[test]
    fn nobody_is_heavy_where_all_are_alike() {
        for others in [1, 2, 20, 100, 2_000, 4_000, 8_000, 50_000] {
            for least in [0.5, 0.05, 0.01] {
                let mut crowd = Crowd::default();
                left_out(&mut crowd, (others, 0), 100_000, Split::None);
                let split = Split::Shared(least);
                let (_, found) = left_out(&mut crowd, (others, 0), 20_000, split);
                // Chance makes some of many ask more often than others for a while.
                assert!(found < 400, "{others} at {least}: {found}");
            }
        }
    }

    #[test]
    fn who_comes_with_the_rollout_is_soon_known() {
        for known in [0, 100_000] {
            for least in [0.5, 0.05] {
                let mut crowd = Crowd::default();
                left_out(&mut crowd, (2_000, 0), known, Split::None);
                let split = Split::Shared(least);
                let mut dice = Dice(3);
                let mut counted = 0;
                for _ in 0..5_000 {
                    let client = if dice.below(10) == 0 {
                        HEAVY
                    } else {
                        dice.below(2_000)
                    };
                    let out = crowd.meet(Some(client), 0, split);
                    counted += u32::from(client == HEAVY && !out);
                }
                assert!((5..=25).contains(&counted), "{known}, {least}: {counted}");
            }
        }
    }

    #[test]
    fn a_release_whose_clients_all_ask_again_has_hardly_a_heavy_one() {
        for again in [3, 10, 100] {
            let mut crowd = Crowd::default();
            left_out(&mut crowd, (1_000, 0), 100_000, Split::None);
            let mut dice = Dice(5);
            let (mut asked, mut out) = (0, 0);
            for _ in 0..20_000 {
                let client = dice.below(1_000);
                let on_trial = client < 50;
                for _ in 0..if on_trial { again } else { 1 } {
                    let side = usize::from(on_trial);
                    let left_out = crowd.meet(Some(client), side, Split::Shared(0.05));
                    asked += u64::from(on_trial);
                    out += u64::from(left_out);
                }
            }
            assert!(out * 5 < asked, "{again} times: {out} of {asked}");
        }
    }

    #[test]
    fn what_goes_by_weight_is_never_left_out() {
        let mut crowd = Crowd::default();
        for _ in 0..10_000 {
            assert!(!crowd.meet(None, 0, HALVES));
        }
        // Beside it, clients alike are as they are without it.
        for request in 0..10_000 {
            assert!(!crowd.meet(None, 0, HALVES));
            assert!(!crowd.meet(Some(request % 20), 0, HALVES));
        }
    }

    #[test]
    fn with_one_version_nothing_is_left_out_and_nobody_stays_heavy() {
        let mut crowd = Crowd::default();
        left_out(&mut crowd, (2_000, 30), 10_000, HALVES);
        let (heavy, _) = left_out(&mut crowd, (2_000, 30), 1_000, Split::One);
        assert!(
            heavy > 200,
            "the old release still is there to compare with: {heavy}"
        );
        let found = left_out(&mut crowd, (2_000, 0), 70_000, Split::None);
        assert_eq!(found, (0, 0));
        assert!(
            !crowd.meet(Some(HEAVY), 0, HALVES),
            "it makes no more than others now"
        );
    }

    #[test]
    fn memory_is_bounded_and_counts_are_never_too_high() {
        let mut crowd = Crowd::default();
        let mut truth: HashMap<u64, u32> = HashMap::new();
        let mut dice = Dice(11);
        for _ in 0..60_000 {
            let client = match dice.below(10) {
                0 => HEAVY,
                1 => dice.below(5),
                _ => dice.below(1 << 30),
            };
            crowd.meet(Some(client), 0, Split::None);
            *truth.entry(client).or_default() += 1;
            assert!(crowd.clients.len() <= MOST);
        }
        for (client, known) in &crowd.clients {
            assert!(known.requests <= truth[client]);
        }
        let missed = truth[&HEAVY] - crowd.clients[&HEAVY].requests;
        assert!(missed as usize <= 60_000 / MOST, "{missed}");
        assert!(crowd.meet(Some(HEAVY), 0, HALVES));
    }
}
