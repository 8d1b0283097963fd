//! Tables of clients that make much of the traffic, of the errors, or of both.

use std::io::{self, Write};
use std::time::Duration;

use platform_decide::analysis::{Policy, Tally};

use crate::clients::{Others, Population, Since};
use crate::crew;
use crate::sections::{Report, WITH_MARGIN, errors_only};
use crate::table::{self, Summary, percent};
use crate::traffic::{HeavyClient, Scenario};
use crate::trial::{self, End};

/// Errors of everybody else.
const BASE: f64 = 0.005;

/// So many others that are alike.
const MANY: Others = Others::Alike(2_000);

/// Time after which a comparison of clients of several kinds ends.
const LONGEST: Duration = Duration::from_mins(20);

impl<W: Write> Report<W> {
    pub fn client(&mut self) -> io::Result<()> {
        table::begin(
            &mut self.out,
            "One client with errors of its own among 2,000 others, all staying with a side (others 0.5 %, margin 0.5 %, regression 1.5 %)",
            &[
                "its share of the requests; its errors; canary's weight",
                "it comes",
                "equal, it is compared, too: rolled back (%)",
                "equal: rolled back (%)",
                "mean n",
                "regression: rolled back (%)",
                "mean n",
            ],
        )?;
        let shares = [0.02, 0.1, 0.3];
        for weight in [0.5, 0.05] {
            for share in shares {
                for bad in [0.02, 0.05, 0.2, 1.0] {
                    self.client_row(HeavyClient { share, bad }, weight, Since::Before)?;
                }
            }
        }
        for (weight, since) in [
            (0.5, Since::Start),
            (0.05, Since::Start),
            (0.5, Since::Anew),
        ] {
            for (share, bad) in [(0.02, 0.2), (0.02, 1.0), (0.1, 1.0), (0.3, 1.0)] {
                self.client_row(HeavyClient { share, bad }, weight, since)?;
            }
        }
        for share in shares {
            self.client_row(HeavyClient { share, bad: 1.0 }, 0.01, Since::Before)?;
        }
        Ok(())
    }

    fn client_row(&mut self, heavy: HeavyClient, weight: f64, since: Since) -> io::Result<()> {
        let population = |canary: f64, leaves_out: bool| Population {
            heavy: Some(heavy),
            since,
            leaves_out,
            canary,
            ..Population::steady(MANY, weight)
        };
        let policy = errors_only(WITH_MARGIN);
        let (compared, _) = self.population(&population(BASE, false), &policy);
        let (equal, _) = self.population(&population(BASE, true), &policy);
        let worse = BASE + WITH_MARGIN.regression;
        let (worse, _) = self.population(&population(worse, true), &policy);
        table::row(
            &mut self.out,
            &[
                format!(
                    "{}; {}; {}",
                    percent(heavy.share),
                    percent(heavy.bad),
                    percent(weight)
                ),
                match since {
                    Since::Before => "before the rollout",
                    Since::Start => "with it",
                    Since::Anew => "with it and the gateway",
                }
                .to_owned(),
                compared.share(End::Worse),
                equal.share(End::Worse),
                format!("{:.0}", equal.samples()),
                worse.share(End::Worse),
                format!("{:.0}", worse.samples()),
            ],
        )
    }

    pub fn clients(&mut self) -> io::Result<()> {
        table::begin(
            &mut self.out,
            "Clients of several kinds, each staying with a side, with and without heavy ones (0.5 % errors, margin 0.5 %, regression 1.5 %, at most 20 minutes)",
            &[
                "clients; canary's weight",
                "heavy ones",
                "left out (%)",
                "equal: rolled back (%)",
                "mean s",
                "regression: rolled back (%)",
                "mean s",
            ],
        )?;
        let zipf = Others::Zipf(1_000);
        let bad_one = HeavyClient {
            share: 0.1,
            bad: 0.2,
        };
        for (name, others, heavy) in [
            ("20 alike", Others::Alike(20), None),
            ("2,000 alike", MANY, None),
            ("20,000 alike", Others::Alike(20_000), None),
            ("1,000 after Zipf", zipf, None),
            ("20,000 after Zipf", Others::Zipf(20_000), None),
            (
                "1,000 after Zipf and one of 10 % with 20 % errors",
                zipf,
                Some(bad_one),
            ),
        ] {
            for weight in [0.5, 0.05] {
                for leaves_out in [false, true] {
                    let population = |canary: f64| Population {
                        heavy,
                        leaves_out,
                        canary,
                        ..Population::steady(others, weight)
                    };
                    let policy = Policy {
                        at_most: LONGEST,
                        ..errors_only(WITH_MARGIN)
                    };
                    let (equal, left_out) = self.population(&population(BASE), &policy);
                    let worse = BASE + WITH_MARGIN.regression;
                    let (worse, _) = self.population(&population(worse), &policy);
                    let seconds = |summary: &Summary| {
                        format!("{:.0}", summary.mean(|run| run.elapsed.as_secs_f64()))
                    };
                    table::row(
                        &mut self.out,
                        &[
                            format!("{name}; {}", percent(weight)),
                            if leaves_out { "left out" } else { "compared" }.to_owned(),
                            format!("{:.1}", 100.0 * left_out),
                            equal.share(End::Worse),
                            seconds(&equal),
                            worse.share(End::Worse),
                            seconds(&worse),
                        ],
                    )?;
                }
            }
        }
        Ok(())
    }

    pub fn by_weight(&mut self) -> io::Result<()> {
        table::begin(
            &mut self.out,
            "One client with 20 % errors whose requests go by weight (`sticky = false`), everything compared",
            &[
                "its share of the requests; canary's weight",
                "equal: rolled back (%)",
                "mean n",
                "regression: rolled back (%)",
                "mean n",
            ],
        )?;
        for share in [0.1, 0.3] {
            for weight in [0.5, 0.05] {
                let scenario = |canary: f64| Scenario {
                    weight,
                    heavy_client: Some(HeavyClient { share, bad: 0.2 }),
                    ..Scenario::steady(BASE, canary)
                };
                let policy = errors_only(WITH_MARGIN);
                let equal = self.runs(&scenario(BASE), &policy);
                let worse = self.runs(&scenario(BASE + WITH_MARGIN.regression), &policy);
                table::row(
                    &mut self.out,
                    &[
                        format!("{}; {}", percent(share), percent(weight)),
                        equal.share(End::Worse),
                        format!("{:.0}", equal.samples()),
                        worse.share(End::Worse),
                        format!("{:.0}", worse.samples()),
                    ],
                )?;
            }
        }
        Ok(())
    }

    /// Runs a cell; also the share of the requests that were left out.
    fn population(&mut self, population: &Population, policy: &Policy) -> (Summary, f64) {
        self.cell += 1;
        let known = population.known();
        let runs = crew::repeat(self.runs, self.cell, |draws| {
            let mut run = known.dealt(draws);
            let looks = population.looks_per_second;
            let outcome = trial::follow(policy, Tally::default(), looks, |_| run.look(draws));
            (outcome, run.left_out, run.all)
        });
        let left_out: u64 = runs.iter().map(|run| run.1).sum();
        let all: u64 = runs.iter().map(|run| run.2).sum();
        let outcomes = runs.into_iter().map(|run| run.0).collect();
        (Summary::of(outcomes), left_out as f64 / all.max(1) as f64)
    }
}
