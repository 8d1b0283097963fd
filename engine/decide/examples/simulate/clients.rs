//! Traffic of clients that each stay with a side, request by request, with the gateway's own rule of who is left out.

use platform_decide::analysis::{Look, Tally};

use crate::crowd::{Crowd, Split};
use crate::random::Draws;
use crate::traffic::HeavyClient;

/// Places among which requests are dealt to clients by their shares; one whose share is less than a place has one or none.
const PLACES: u64 = 1 << 16;

/// Requests before the rollout, from which the gateway knows its clients.
const BEFORE: u64 = 100_000;

/// The key of the one that is not like the others.
const HEAVY: u64 = u64::MAX;

/// How many requests each of the others makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Others {
    /// So many clients that make as many each.
    Alike(u64),
    /// So many clients of which the second makes half as many as the first, the third a third, and so on.
    Zipf(u64),
}

/// Since when the heavy client is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Since before the rollout.
    Before,
    /// Its first request comes with the rollout's first.
    Start,
    /// Likewise, and the gateway has just started, too, and knows nobody.
    Anew,
}

/// Clients of a service with a canary.
#[derive(Debug, Clone)]
pub struct Population {
    pub others: Others,
    /// The one that is not like them.
    pub heavy: Option<HeavyClient>,
    pub since: Since,
    /// Whether heavy clients are left out.
    pub leaves_out: bool,
    /// Share of bad answers of the old release.
    pub baseline: f64,
    /// Share of bad answers of the new one.
    pub canary: f64,
    /// Share of the clients that are with the canary.
    pub weight: f64,
    /// Requests that the canary would get each second if all clients were small.
    pub canary_per_second: f64,
    pub looks_per_second: u64,
}

/// A population with what the gateway knows of it.
pub struct Known<'a> {
    of: &'a Population,
    crowd: Crowd,
    /// Whom a place belongs to.
    places: Vec<u64>,
}

/// One run of it: everybody has a side.
pub struct Run<'a> {
    of: &'a Known<'a>,
    crowd: Crowd,
    deal: u64,
    /// Requests left out, and all.
    pub left_out: u64,
    pub all: u64,
}

impl Population {
    /// Equal releases with 0.5 % errors, ten canary requests a second, everybody compared.
    pub fn steady(others: Others, weight: f64) -> Self {
        Self {
            others,
            heavy: None,
            since: Since::Before,
            leaves_out: false,
            baseline: 0.005,
            canary: 0.005,
            weight,
            canary_per_second: 10.0,
            looks_per_second: 2,
        }
    }

    /// Lets the gateway watch it for a while.
    pub fn known(&self) -> Known<'_> {
        let places = match self.others {
            Others::Alike(clients) => (0..PLACES).map(|place| place % clients).collect(),
            Others::Zipf(clients) => {
                let whole: f64 = (1..=clients).map(|rank| 1.0 / rank as f64).sum();
                let mut end = 0.0;
                let mut places = Vec::new();
                for rank in 1..=clients {
                    end += PLACES as f64 / rank as f64 / whole;
                    places.resize(end.round() as usize, rank);
                }
                places
            }
        };
        let mut known = Known {
            of: self,
            crowd: Crowd::default(),
            places,
        };
        let mut draws = Draws::seeded(7);
        if self.since != Since::Anew {
            for _ in 0..BEFORE {
                let client = known.client(self.since == Since::Before, &mut draws);
                known.crowd.meet(Some(client), 0, Split::None);
            }
        }
        known
    }
}

impl Known<'_> {
    fn client(&self, with_heavy: bool, draws: &mut Draws) -> u64 {
        if let Some(heavy) = self.of.heavy.filter(|_| with_heavy)
            && draws.uniform() < heavy.share
        {
            return HEAVY;
        }
        self.places[(draws.uniform() * self.places.len() as f64) as usize]
    }

    /// Deals everybody a side.
    pub fn dealt(&self, draws: &mut Draws) -> Run<'_> {
        Run {
            of: self,
            crowd: self.crowd.clone(),
            deal: (draws.uniform() * (1_u64 << 52) as f64) as u64,
            left_out: 0,
            all: 0,
        }
    }
}

impl Run<'_> {
    /// What both sides answer until the next look, without what is left out.
    pub fn look(&mut self, draws: &mut Draws) -> Look {
        let population = self.of.of;
        let weight = population.weight;
        let split = Split::Shared(weight.min(1.0 - weight));
        let mean = population.canary_per_second / weight / population.looks_per_second as f64;
        let mut look = Look::default();
        for _ in 0..draws.poisson(mean) {
            let client = self.of.client(true, draws);
            let with_canary = self.side(client) < weight;
            let own = population.heavy.filter(|_| client == HEAVY);
            let more = population.canary - population.baseline;
            let base = own.map_or(population.baseline, |heavy| heavy.bad);
            // A release that is worse is worse for this one, too.
            let bad = base + if with_canary { more } else { 0.0 };
            let heavy = self
                .crowd
                .meet(Some(client), usize::from(with_canary), split);
            self.all += 1;
            if heavy && population.leaves_out {
                self.left_out += 1;
                continue;
            }
            let side = if with_canary {
                &mut look.canary
            } else {
                &mut look.baseline
            };
            *side = side.plus(Tally {
                requests: 1,
                bad: u64::from(draws.uniform() < bad),
                slow: 0,
                left_out: 0,
            });
        }
        look
    }

    /// Where a client falls, the same throughout a run: 0.0 to 1.0.
    fn side(&self, client: u64) -> f64 {
        let mut value = client.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ self.deal.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((value ^ (value >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
