//! Tables of what goes on around a canary: outages, weather, slow answers, late turns, steps.

use std::io::{self, Write};
use std::time::Duration;

use platform_decide::analysis::Policy;

use crate::crew;
use crate::sections::{HISTORY, Report, WITH_MARGIN, errors_only, patient};
use crate::table::{self, percent};
use crate::traffic::{Load, Scenario, Side, Weather};
use crate::trial::{self, End};

impl<W: Write> Report<W> {
    pub fn outage(&mut self) -> io::Result<()> {
        table::begin(
            &mut self.out,
            "Canary requests until a very bad canary is rolled back (default policy: errors and slow answers)",
            &[
                "canary's errors; weight; looks a second",
                "rolled back (%)",
                "mean n",
                "p95",
                "most",
                "answered badly, mean",
            ],
        )?;
        for canary in [0.2, 0.5, 1.0] {
            for (weight, looks_per_second) in [(0.5, 4), (0.5, 1), (0.05, 4), (0.01, 4)] {
                let scenario = Scenario {
                    weight,
                    looks_per_second,
                    history: HISTORY,
                    ..Scenario::steady(0.005, canary).with_slow(0.02)
                };
                let seen = self.runs(&scenario, &patient(&Policy::default()));
                table::row(
                    &mut self.out,
                    &[
                        format!(
                            "{}; {}; {looks_per_second}",
                            percent(canary),
                            percent(weight)
                        ),
                        seen.share(End::Worse),
                        format!("{:.0}", seen.samples()),
                        seen.percentile(95).to_string(),
                        seen.most().to_string(),
                        format!("{:.1}", seen.mean(|run| run.canary_bad as f64)),
                    ],
                )?;
            }
        }
        Ok(())
    }

    pub fn weather(&mut self) -> io::Result<()> {
        table::begin(
            &mut self.out,
            "Load and rates that change with time, and errors that come together (margin 0.5 %, regression 1.5 %)",
            &[
                "what changes; errors of the baseline",
                "stated clump",
                "equal: rolled back (%)",
                "mean n",
                "regression: rolled back (%)",
                "moved on (%)",
                "mean n",
            ],
        )?;
        let kinds = [
            ("load, as a day", Load::Diurnal, Weather::Calm),
            ("load, in bursts", Load::Bursty, Weather::Calm),
            ("load and rates, as a day", Load::Diurnal, Weather::Diurnal),
            ("shocks on both sides", Load::Steady, Weather::Shocks),
            (
                "each side's rate, each second",
                Load::Steady,
                Weather::Hiccups,
            ),
            ("clumps of 3 on average", Load::Steady, Weather::Clumps(3.0)),
        ];
        for (name, load, weather) in kinds {
            for base in [0.005, 0.02] {
                let clumps: &[f64] = match weather {
                    Weather::Clumps(_) => &[1.0, 3.0, 5.0],
                    Weather::Hiccups => &[1.0, 2.0],
                    _ => &[1.0],
                };
                for &clump in clumps {
                    let policy = Policy {
                        clump,
                        ..errors_only(WITH_MARGIN)
                    };
                    let steady = |canary: f64| Scenario {
                        load,
                        weather,
                        ..Scenario::steady(base, canary)
                    };
                    let scenario = |canary: f64| match weather {
                        Weather::Clumps(mean) => steady(canary).in_clumps(mean),
                        _ => steady(canary),
                    };
                    let equal = self.runs(&scenario(base), &policy);
                    let worse = self.runs(&scenario(base + WITH_MARGIN.regression), &policy);
                    table::row(
                        &mut self.out,
                        &[
                            format!("{name}; {}", percent(base)),
                            format!("{clump}"),
                            equal.share(End::Worse),
                            format!("{:.0}", equal.samples()),
                            worse.share(End::Worse),
                            worse.share(End::Better),
                            format!("{:.0}", worse.samples()),
                        ],
                    )?;
                }
            }
        }
        Ok(())
    }

    pub fn slow(&mut self) -> io::Result<()> {
        table::begin(
            &mut self.out,
            "Errors and slow answers judged together (default policy: errors 0.5 / 1.5 %, slow 1 / 3 %)",
            &[
                "canary (baseline: 0.5 % bad, 2 % slow)",
                "rolled back (%)",
                "moved on (%)",
                "mean n",
                "p95",
            ],
        )?;
        let baseline = Side {
            bad: 0.005,
            slow: 0.02,
        };
        for (name, bad, slow) in [
            ("equal", 0.005, 0.02),
            ("1 % more slow (allowed)", 0.005, 0.03),
            ("3 % more slow", 0.005, 0.05),
            ("10 % more slow", 0.005, 0.12),
            ("1.5 % more bad", 0.02, 0.02),
            ("1.5 % more bad, 3 % more slow", 0.02, 0.05),
        ] {
            let scenario = Scenario {
                baseline,
                canary: Side { bad, slow },
                history: HISTORY,
                ..Scenario::steady(0.005, bad)
            };
            let seen = self.runs(&scenario, &patient(&Policy::default()));
            table::row(
                &mut self.out,
                &[
                    name.to_owned(),
                    seen.share(End::Worse),
                    seen.share(End::Better),
                    format!("{:.0}", seen.samples()),
                    seen.percentile(95).to_string(),
                ],
            )?;
        }
        Ok(())
    }

    pub fn late(&mut self) -> io::Result<()> {
        table::begin(
            &mut self.out,
            "A canary that turns bad late, while it is held for an hour (errors only, margin 0.5 %)",
            &[
                "errors after the turn; healthy canary requests before",
                "rolled back before the turn (%)",
                "rolled back after it (%)",
                "canary requests from the turn to the rollback, mean",
            ],
        )?;
        for canary in [0.02, 0.05, 0.2] {
            for turns_after in [60, 600] {
                let scenario = Scenario {
                    turns_after,
                    ..Scenario::steady(0.005, canary)
                };
                let policy = Policy {
                    at_least: Duration::from_hours(1),
                    at_most: Duration::from_hours(1),
                    ..errors_only(WITH_MARGIN)
                };
                self.cell += 1;
                let ends = crew::repeat(self.runs, self.cell, |draws| {
                    trial::run(&scenario, &policy, draws)
                });
                let turn = Duration::from_secs(turns_after);
                let early = ends
                    .iter()
                    .filter(|run| run.end == End::Worse && run.elapsed <= turn)
                    .count();
                let late: Vec<f64> = ends
                    .iter()
                    .filter(|run| run.end == End::Worse && run.elapsed > turn)
                    .map(|run| {
                        run.elapsed.saturating_sub(turn).as_secs_f64() * scenario.canary_per_second
                    })
                    .collect();
                table::row(
                    &mut self.out,
                    &[
                        format!("{}; {}", percent(canary), turns_after * 10),
                        table::share(early, ends.len()),
                        table::share(late.len(), ends.len()),
                        format!("{:.0}", late.iter().sum::<f64>() / late.len().max(1) as f64),
                    ],
                )?;
            }
        }
        Ok(())
    }

    pub fn steps(&mut self) -> io::Result<()> {
        table::begin(
            &mut self.out,
            "A rollout of five analyses in a row that share α = 1 % (errors only, margin 0.5 %, 0.5 % errors)",
            &[
                "canary's errors",
                "rolled back (%)",
                "canary requests, mean",
            ],
        )?;
        for clumps in [None, Some(3.0)] {
            for canary in [0.005, 0.01, 0.02] {
                let ends = self.five_in_a_row(canary, clumps);
                let back = ends.iter().filter(|(back, _)| *back).count();
                let requests: u64 = ends.iter().map(|(_, requests)| requests).sum();
                let come = clumps.map_or(String::new(), |mean| {
                    format!(", in clumps of {mean} on average, not stated")
                });
                table::row(
                    &mut self.out,
                    &[
                        format!("{}{come}", percent(canary)),
                        table::share(back, ends.len()),
                        format!("{:.0}", requests as f64 / ends.len() as f64),
                    ],
                )?;
            }
        }
        Ok(())
    }

    /// Whether each rollout went back, and the requests of the canary until then.
    ///
    /// - `clumps`: how many bad answers come together on average
    fn five_in_a_row(&mut self, canary: f64, clumps: Option<f64>) -> Vec<(bool, u64)> {
        let policy = errors_only(WITH_MARGIN).for_each_of(5);
        self.cell += 1;
        crew::repeat(self.runs, self.cell, |draws| {
            let mut requests = 0;
            for weight in [0.01, 0.05, 0.25, 0.5, 0.5] {
                let steady = Scenario {
                    weight,
                    history: HISTORY,
                    ..Scenario::steady(0.005, canary)
                };
                let scenario = match clumps {
                    Some(mean) => steady.in_clumps(mean),
                    None => steady,
                };
                let outcome = trial::run(&scenario, &policy, draws);
                requests += outcome.canary_requests;
                if outcome.end != End::Better {
                    return (true, requests);
                }
            }
            (false, requests)
        })
    }
}
