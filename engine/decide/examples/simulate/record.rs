//! The table of a canary that has all requests, compared with the record of the old release.

use std::io::{self, Write};
use std::time::Duration;

use platform_decide::analysis::{Evidence, Look, Policy, Tally, Verdict};

use crate::crew;
use crate::sections::{Report, WITH_MARGIN, errors_only};
use crate::table::{self, percent};
use crate::traffic::Scenario;

/// How long it is watched.
const BAKE: Duration = Duration::from_mins(10);

/// Pieces in which a record is laid beside the canary's answers.
const PIECES: u64 = 128;

impl<W: Write> Report<W> {
    pub fn record(&mut self) -> io::Result<()> {
        table::begin(
            &mut self.out,
            "A canary with all requests (10 a second) for ten minutes, against the old release's record (margin 0.5 %, regression 1.5 %)",
            &[
                "errors: canary against record; requests of the record",
                "rolled back (%)",
                "canary requests until then, mean",
            ],
        )?;
        let policy = errors_only(WITH_MARGIN);
        for (base, canary) in [
            (0.005, 0.005),
            (0.005, 0.01),
            (0.02, 0.025),
            (0.005, 0.02),
            (0.005, 0.05),
            (0.005, 0.2),
        ] {
            for requests in [500, 3_000, 20_000] {
                let scenario = Scenario {
                    history: requests,
                    ..Scenario::steady(base, canary)
                };
                self.cell += 1;
                let back: Vec<Option<u64>> = crew::repeat(self.runs, self.cell, |draws| {
                    bake(&scenario, &policy, draws)
                });
                let found: Vec<f64> = back.iter().flatten().map(|n| *n as f64).collect();
                let mean = found.iter().sum::<f64>() / found.len().max(1) as f64;
                table::row(
                    &mut self.out,
                    &[
                        format!("{} against {}; {requests}", percent(canary), percent(base)),
                        table::share(found.len(), back.len()),
                        if found.is_empty() {
                            "–".to_owned()
                        } else {
                            format!("{mean:.0}")
                        },
                    ],
                )?;
            }
        }
        Ok(())
    }
}

/// Watches a canary for a while: canary requests until it is found worse.
fn bake(scenario: &Scenario, policy: &Policy, draws: &mut crate::random::Draws) -> Option<u64> {
    let piece = scenario.history.div_ceil(PIECES);
    let pieces: Vec<Tally> = (0..scenario.history / piece)
        .map(|_| Tally {
            requests: piece,
            bad: draws.binomial(piece, scenario.baseline.bad),
            slow: 0,
            left_out: 0,
        })
        .collect();
    let record = pieces
        .iter()
        .fold(Tally::default(), |sum, piece| sum.plus(*piece));
    let mut evidence = Evidence::against_record(policy, Tally::default(), record);
    let (mut left, mut laid) = (pieces.into_iter(), 0);
    let looks = BAKE.as_secs() * scenario.looks_per_second;
    for look in 0..looks {
        let canary = scenario.look(look, draws).canary;
        let answered = evidence.total().canary.requests + canary.requests;
        let mut baseline = Tally::default();
        while laid < answered
            && let Some(piece) = left.next()
        {
            baseline = baseline.plus(piece);
            laid += piece.requests;
        }
        evidence.observe(Look { baseline, canary });
        let elapsed = Duration::from_secs(look + 1) / 2;
        if let Verdict::Worse(finding) = evidence.verdict(policy, elapsed) {
            return Some(finding.canary_requests);
        }
    }
    None
}
