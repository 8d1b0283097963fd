//! Verdicts in words.

use std::time::Duration;

use super::evidence::number;
use super::verdict::{Basis, Finding, Measure, MeasureFinding, Verdict};

impl Verdict {
    /// The verdict in a sentence with its numbers.
    pub fn explain(&self) -> String {
        let mut text = self.shows();
        let finding = self.finding();
        if matters(finding) || matches!(self, Self::TooQuiet(_)) {
            text.push_str(&left_out(finding));
        }
        text
    }

    fn shows(&self) -> String {
        let finding = self.finding();
        match self {
            Self::Worse(_) => worse(finding),
            Self::BetterOrEqual(_) => format!(
                "the new release is better or equal within the margin: {}; {}",
                each(finding),
                match finding.basis {
                    Basis::FinalTest => format!(
                        "the final test after {} canary requests found no regression",
                        finding.canary_requests
                    ),
                    _ => format!(
                        "a regression of the stated size would show this less than one time in {}",
                        odds(lowest(finding))
                    ),
                }
            ),
            Self::CannotTellYet(_) if finding.basis == Basis::Expired => format!(
                "cannot tell after {} and {} canary requests: {}",
                seconds(finding.elapsed),
                finding.canary_requests,
                each(finding)
            ),
            Self::CannotTellYet(_) if finding.canary_requests == 0 => {
                "cannot tell yet: the new release has answered no requests so far".to_owned()
            }
            Self::CannotTellYet(_) => format!(
                "cannot tell yet: {}; evidence {:.0} % towards worse, {:.0} % towards better or equal{}",
                each(finding),
                finding.towards_worse * 100.0,
                finding.towards_better * 100.0,
                lacks(finding)
            ),
            Self::TooQuiet(_) => format!(
                "too quiet: {} canary and {} baseline requests in {} are no evidence",
                finding.canary_requests,
                finding.baseline_requests,
                seconds(finding.elapsed)
            ),
        }
    }
}

/// What keeps evidence that suffices from being called better or equal.
fn lacks(finding: &Finding) -> String {
    if finding.towards_better < 1.0 {
        return String::new();
    }
    let fewest = finding.canary_requests.min(finding.baseline_requests);
    if fewest < finding.samples_at_least {
        format!(
            ", which takes at least {} requests of each side",
            finding.samples_at_least
        )
    } else if finding.elapsed < finding.at_least {
        format!(", which takes at least {}", seconds(finding.at_least))
    } else {
        String::new()
    }
}

/// Whether a twentieth of a side's requests or more is left out.
fn matters(finding: &Finding) -> bool {
    let much =
        |left_out: u64, compared: u64| left_out > 0 && left_out.saturating_mul(19) >= compared;
    much(finding.canary_left_out, finding.canary_requests)
        || much(finding.baseline_left_out, finding.baseline_requests)
}

fn left_out(finding: &Finding) -> String {
    match (finding.canary_left_out, finding.baseline_left_out) {
        (0, 0) => String::new(),
        (canary, baseline) => format!(
            "; {canary} more canary and {baseline} more baseline requests are left out, as they come from clients that stay \
             with one side and make far more requests than others"
        ),
    }
}

fn worse(finding: &Finding) -> String {
    let Some(deciding) = finding
        .measures
        .iter()
        .find(|measure| Some(measure.measure) == finding.deciding)
    else {
        return "the new release is worse".to_owned();
    };
    let ground = match finding.basis {
        Basis::FinalTest => "by the final test when the samples were used up".to_owned(),
        _ => format!(
            "a release within the margin of {} would show this less than one time in {}",
            percent(deciding.margin.allowed),
            odds(deciding.odds_worse / number(finding.measures.len() as u64))
        ),
    };
    format!(
        "the new release is worse: {}; {ground}",
        sides(deciding, finding)
    )
}

fn each(finding: &Finding) -> String {
    if finding.measures.is_empty() {
        return "nothing is judged".to_owned();
    }
    let parts: Vec<_> = finding
        .measures
        .iter()
        .map(|measure| sides(measure, finding))
        .collect();
    parts.join(", ")
}

fn sides(measure: &MeasureFinding, finding: &Finding) -> String {
    let word = match measure.measure {
        Measure::Errors => "bad",
        Measure::Slow => "slow",
    };
    format!(
        "{} {word} ({} of {}) against {} ({} of {})",
        percent(measure.canary_share),
        measure.canary,
        finding.canary_requests,
        percent(measure.baseline_share),
        measure.baseline,
        finding.baseline_requests
    )
}

fn lowest(finding: &Finding) -> f64 {
    finding
        .measures
        .iter()
        .map(|measure| measure.odds_better)
        .fold(f64::INFINITY, f64::min)
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 1.0 {
        format!("{percent:.2} %")
    } else {
        format!("{percent:.1} %")
    }
}

fn odds(odds: f64) -> String {
    match odds {
        odds if odds >= 1e6 => "a million".to_owned(),
        odds => format!("{:.0}", odds.floor()),
    }
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Evidence, Look, Policy, Tally};

    fn said(requests: u64, left_out: u64) -> String {
        let policy = Policy::default();
        let tally = Tally {
            requests,
            left_out,
            ..Tally::default()
        };
        let mut evidence = Evidence::new(&policy);
        evidence.observe(Look {
            baseline: tally,
            canary: tally,
        });
        evidence.verdict(&policy, policy.at_most).explain()
    }

    #[test]
    fn what_good_evidence_still_lacks_is_said() {
        let said = |policy: &Policy, requests: u64, elapsed: u64| {
            let tally = Tally {
                requests,
                ..Tally::default()
            };
            let mut evidence = Evidence::new(policy);
            for _ in 0..20 {
                evidence.observe(Look {
                    baseline: tally,
                    canary: tally,
                });
            }
            let elapsed = Duration::from_secs(elapsed);
            evidence.verdict(policy, elapsed).explain()
        };
        let policy = Policy {
            min_samples: 5_000,
            at_least: Duration::from_mins(1),
            ..Policy::default()
        };
        let few = said(&policy, 200, 30);
        assert!(
            few.ends_with(
                "100 % towards better or equal, which takes at least 5000 requests of each side"
            ),
            "{few}"
        );
        let early = said(&policy, 250, 30);
        assert!(early.ends_with(", which takes at least 1 min"), "{early}");
        let open = said(&policy, 1, 30);
        assert!(!open.contains("which takes"), "{open}");
    }

    #[test]
    fn what_was_left_out_is_said_where_it_matters() {
        assert!(!said(1_000, 0).contains("left out"));
        assert!(!said(1_000, 40).contains("left out"));
        let much = said(1_000, 60);
        assert!(
            much.contains("60 more canary and 60 more baseline requests are left out"),
            "{much}"
        );
        let quiet = said(40, 1);
        assert!(
            quiet.starts_with("too quiet: 40 canary and 40 baseline requests")
                && quiet.contains("1 more canary"),
            "{quiet}"
        );
        assert!(!said(0, 0).contains("left out"));
    }
}
