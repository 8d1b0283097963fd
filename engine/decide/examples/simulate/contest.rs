//! The table of the rules that others apply.

use std::io::{self, Write};
use std::time::Duration;

use platform_decide::analysis::Policy;

use crate::crew;
use crate::rivals::{self, KAYENTA_MINUTES, THRESHOLD_MINUTES, Threshold};
use crate::sections::{HISTORY, Report, WITH_MARGIN, errors_only};
use crate::table::{self, percent};
use crate::traffic::Scenario;
use crate::trial::End;

impl<W: Write> Report<W> {
    pub fn rivals(&mut self) -> io::Result<()> {
        for per_second in [1.0, 10.0] {
            table::begin(
                &mut self.out,
                &format!(
                    "Rolled back (%), at {:.0} canary requests a minute, equal weights",
                    per_second * 60.0
                ),
                &[
                    "errors: canary against baseline",
                    "this analysis: rolled back",
                    "open after 10 min",
                    "mean s",
                    "Argo limit 1",
                    "2",
                    "5",
                    "10",
                    "Flagger threshold 1",
                    "2",
                    "5",
                    "10",
                    "Kayenta",
                ],
            )?;
            for (base, canary) in [
                (0.001, 0.001),
                (0.005, 0.005),
                (0.02, 0.02),
                (0.005, 0.02),
                (0.005, 0.05),
                (0.02, 0.035),
                (0.001, 0.2),
            ] {
                self.rival_row(&Scenario {
                    canary_per_second: per_second,
                    history: HISTORY,
                    ..Scenario::steady(base, canary)
                })?;
            }
        }
        writeln!(
            self.out,
            "\nThreshold rules: success of at least 99 % in each of {THRESHOLD_MINUTES} minutes. Kayenta: one judgement \
             after {KAYENTA_MINUTES} minutes."
        )
    }

    fn rival_row(&mut self, scenario: &Scenario) -> io::Result<()> {
        let policy = Policy {
            at_most: Duration::from_mins(10),
            ..errors_only(WITH_MARGIN)
        };
        let ours = self.runs(scenario, &policy);
        let mut cells = vec![
            format!(
                "{} against {}",
                percent(scenario.canary.bad),
                percent(scenario.baseline.bad)
            ),
            ours.share(End::Worse),
            ours.share(End::Open),
            format!("{:.0}", ours.mean(|run| run.elapsed.as_secs_f64())),
        ];
        let limits = [1, 2, 5, 10];
        let rules = limits
            .map(Threshold::argo)
            .into_iter()
            .chain(limits.map(Threshold::flagger));
        for rule in rules {
            self.cell += 1;
            let back = crew::repeat(self.runs, self.cell, |draws| {
                rule.run(scenario, draws).is_some()
            });
            cells.push(share_of(&back));
        }
        self.cell += 1;
        let high = crew::repeat(self.runs, self.cell, |draws| {
            rivals::kayenta(scenario, draws)
        });
        cells.push(share_of(&high));
        table::row(&mut self.out, &cells)
    }
}

fn share_of(found: &[bool]) -> String {
    let count = found.iter().filter(|found| **found).count();
    format!("{:.1}", 100.0 * count as f64 / found.len() as f64)
}
