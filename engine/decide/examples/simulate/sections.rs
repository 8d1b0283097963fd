//! The tables, one function each.

use std::io::{self, Write};
use std::time::Duration;

use platform_decide::analysis::{Margin, Policy, Rates};

use crate::crew;
use crate::random::Draws;
use crate::reference::{Wald, fixed_samples_needed};
use crate::table::{self, Summary, percent};
use crate::traffic::Scenario;
use crate::trial::{self, End};

/// Half a percent allowed, one and a half must not be missed.
pub const WITH_MARGIN: Margin = Margin {
    allowed: 0.005,
    regression: 0.015,
};

/// Nothing allowed.
const WITHOUT_MARGIN: Margin = Margin {
    allowed: 0.0,
    regression: 0.015,
};

/// Requests of the old release known from before, in the columns that say so.
pub const HISTORY: u64 = 3000;

/// Prints tables as they are made.
pub struct Report<W> {
    /// Runs of each cell.
    pub runs: u64,
    /// Cells so far, which seeds the next.
    pub cell: u64,
    /// Where the tables go.
    pub out: W,
}

impl<W: Write> Report<W> {
    /// A report of so many runs a cell.
    pub fn new(runs: u64, out: W) -> Self {
        Self { runs, cell: 0, out }
    }

    /// All tables, or the one named.
    pub fn all(&mut self, only: Option<&str>) -> io::Result<()> {
        type Section<W> = fn(&mut Report<W>) -> io::Result<()>;
        // Each with the number of its first cell, which seeds it, so that it prints the same alone.
        let sections: [(&str, u64, Section<W>); 13] = [
            ("equal", 0, Self::equal),
            ("worse", 36, Self::worse),
            ("weights", 118, Self::weights),
            ("outage", 166, Self::outage),
            ("weather", 800, Self::weather),
            ("slow", 210, Self::slow),
            ("late", 216, Self::late),
            ("steps", 222, Self::steps),
            ("rivals", 225, Self::rivals),
            ("record", 365, Self::record),
            ("client", 400, Self::client),
            ("clients", 600, Self::clients),
            ("by-weight", 700, Self::by_weight),
        ];
        for (name, first_cell, section) in sections {
            if only.is_none_or(|only| only == name) {
                self.cell = first_cell;
                section(self)?;
            }
        }
        Ok(())
    }

    /// Runs a cell.
    pub fn runs(&mut self, scenario: &Scenario, policy: &Policy) -> Summary {
        self.cell += 1;
        Summary::of(crew::repeat(self.runs, self.cell, |draws| {
            trial::run(scenario, policy, draws)
        }))
    }

    /// Wald's test on the same cell: canary requests, mean and 95th percentile.
    fn wald(&mut self, wald: Wald) -> (f64, u64) {
        self.cell += 1;
        let mut ends = crew::repeat(self.runs, self.cell, |draws| wald.run(draws).1);
        ends.sort_unstable();
        let mean = ends.iter().map(|n| *n as f64).sum::<f64>() / ends.len() as f64;
        (mean, ends[(ends.len() * 95 / 100).min(ends.len() - 1)])
    }

    fn comparison(
        &mut self,
        scenario: &Scenario,
        margin: Margin,
        expected: End,
        label: String,
    ) -> io::Result<()> {
        let policy = errors_only(margin);
        let seen = self.runs(scenario, &policy);
        let known = self.runs(
            &Scenario {
                history: HISTORY,
                ..scenario.clone()
            },
            &policy,
        );
        let truth = Rates {
            baseline: scenario.baseline.bad,
            canary: scenario.canary.bad,
        };
        let fixed = fixed_samples_needed(
            truth,
            margin,
            scenario.weight,
            (policy.alpha, policy.beta),
            &mut Draws::seeded(self.cell),
        );
        let mut cells = vec![
            label,
            seen.share(expected),
            format!("{:.0}", seen.samples()),
            format!("{:.0}", known.samples()),
        ];
        let mut slowest = "–".to_owned();
        match Wald::new(truth, margin, scenario.weight, policy.alpha, policy.beta) {
            Some(wald) => {
                let (mean, p95) = self.wald(wald);
                // Both are to be compared at the errors that they make.
                let erred = 1.0 - known.count(wald.right_end()) as f64 / known.len() as f64;
                let (careful, _) = self.wald(wald.erring(erred.max(0.5 / self.runs as f64)));
                slowest = p95.to_string();
                cells.extend([
                    format!("{mean:.0}"),
                    format!(
                        "{:.2} / {:.2}",
                        seen.samples() / mean,
                        known.samples() / mean
                    ),
                    format!("{:.2}", known.samples() / careful),
                    format!("{:.0}", wald.bound()),
                    format!("{:.0}", wald.one_sample_bound(margin)),
                ]);
            }
            None => cells.extend(["–", "–", "–", "–", "–"].map(str::to_owned)),
        }
        cells.push(format!(
            "{} / {}",
            seen.percentile(95),
            known.percentile(95)
        ));
        cells.push(slowest);
        cells.push(fixed.to_string());
        table::row(&mut self.out, &cells)
    }

    fn comparison_table(&mut self, title: &str, first: &str, end: &str) -> io::Result<()> {
        table::begin(
            &mut self.out,
            title,
            &[
                first,
                end,
                "mean n",
                "with history",
                "SPRT",
                "ratio / with history",
                "if it erred as rarely",
                "Wald bound",
                "one-sample",
                "p95 / with history",
                "SPRT p95",
                "fixed n",
            ],
        )
    }

    fn equal(&mut self) -> io::Result<()> {
        self.comparison_table(
            "Equal releases, and releases just at the margin: false rollbacks (%, 95 % interval; α = 1 %)",
            "errors, both sides; margin",
            "rolled back",
        )?;
        for margin in [WITH_MARGIN, WITHOUT_MARGIN] {
            for base in [0.001, 0.005, 0.02] {
                let label = format!("{}; {}", percent(base), percent(margin.allowed));
                self.comparison(&Scenario::steady(base, base), margin, End::Worse, label)?;
            }
        }
        for base in [0.001, 0.005, 0.02] {
            let canary = base + WITH_MARGIN.allowed;
            let label = format!(
                "{} against {}; {}",
                percent(canary),
                percent(base),
                percent(WITH_MARGIN.allowed)
            );
            self.comparison(
                &Scenario::steady(base, canary),
                WITH_MARGIN,
                End::Worse,
                label,
            )?;
        }
        Ok(())
    }

    fn worse(&mut self) -> io::Result<()> {
        self.comparison_table(
            "Regressions of the stated size: found (%, 95 % interval; 1 − β = 95 %)",
            "errors: canary against baseline; margin",
            "rolled back",
        )?;
        for margin in [WITH_MARGIN, WITHOUT_MARGIN] {
            for base in [0.001, 0.005, 0.02] {
                let canary = base + margin.regression;
                let label = format!(
                    "{} against {}; {}",
                    percent(canary),
                    percent(base),
                    percent(margin.allowed)
                );
                self.comparison(&Scenario::steady(base, canary), margin, End::Worse, label)?;
            }
        }
        self.comparison_table(
            "Other differences, margin 0.5 %, stated regression 1.5 %",
            "errors: baseline, times",
            "rolled back",
        )?;
        for base in [0.001, 0.005, 0.02] {
            for times in [1.5_f64, 2.0, 4.0, 10.0, 50.0] {
                let canary = (times * base).min(0.98);
                let label = format!("{} × {times} = {}", percent(base), percent(canary));
                self.comparison(
                    &Scenario::steady(base, canary),
                    WITH_MARGIN,
                    End::Worse,
                    label,
                )?;
            }
        }
        Ok(())
    }

    fn weights(&mut self) -> io::Result<()> {
        self.comparison_table(
            "Unequal weights, 0.5 % errors of the baseline, margin 0.5 %",
            "canary's weight; canary's errors",
            "rolled back",
        )?;
        for weight in [0.01, 0.05, 0.25, 0.5] {
            for canary in [0.005, 0.02, 0.2] {
                let scenario = Scenario {
                    weight,
                    ..Scenario::steady(0.005, canary)
                };
                let label = format!("{}; {}", percent(weight), percent(canary));
                self.comparison(&scenario, WITH_MARGIN, End::Worse, label)?;
            }
        }
        Ok(())
    }
}

/// Errors alone, for as long as it takes.
pub fn errors_only(margin: Margin) -> Policy {
    patient(&Policy {
        errors: Some(margin),
        slow: None,
        ..Policy::default()
    })
}

/// The policy with no time limit.
pub fn patient(policy: &Policy) -> Policy {
    Policy {
        at_least: Duration::ZERO,
        at_most: Duration::from_secs(10_000_000),
        ..policy.clone()
    }
}
