//! A report as a page, and for CI.

use std::fmt::Write;

use platform_decide::analysis::Tally;
use platform_decide::group::GroupId;

use super::{Compared, Latencies, Report, ReportMember};
use crate::rollout::progress::Latency;

impl Report {
    /// The report as a page of Markdown.
    pub fn markdown(&self) -> String {
        let mut page = String::new();
        let seconds = self.ended_at.saturating_sub(self.began_at) / 1000;
        // Writing to a string does not fail.
        let _ = writeln!(page, "# Rollout of {}: {}\n", self.release, self.ended);
        let _ = writeln!(page, "{} in {seconds} s.", self.strategy);
        if let Some(why) = &self.why {
            let _ = writeln!(page, "\nIt went back because {why}.");
        }
        if let Some(after) = self.decided_after {
            let bad: u64 = self.members.iter().map(|member| member.new.bad).sum();
            let _ = writeln!(
                page,
                "\nDecided {:.1} s after the stage's traffic began to move; {bad} requests met an error of the new release.",
                f64::from(u32::try_from(after).unwrap_or(u32::MAX)) / 1000.0
            );
        }
        let _ = writeln!(
            page,
            "\n| group | requests | bad | slow | mean | p99 |\n| --- | ---: | ---: | ---: | ---: | ---: |"
        );
        for member in &self.members {
            member.rows(&mut page);
        }
        let timed = |member: &ReportMember| member.latency != Latencies::default();
        if self.members.iter().any(timed) {
            let _ = writeln!(
                page,
                "\nTimes are of all that a group answered since the gateway started."
            );
        }
        for member in &self.members {
            let (new, old) = (member.new.left_out, member.old.left_out);
            if new > 0 || old > 0 {
                let _ = writeln!(
                    page,
                    "\n{}: {new} more requests of the new release and {old} of the old one are in no comparison, as they come from \
                     clients that stay with one side and make far more requests than others.",
                    member.to.service
                );
            }
            if let Some(verdict) = &member.verdict {
                let _ = writeln!(page, "\n{}: {verdict}.", member.to);
            }
            if let Some(evidence) = &member.evidence {
                let _ = writeln!(
                    page,
                    "\n{}: evidence at the end {:.0} % towards worse, {:.0} % towards better or equal.",
                    member.to.service,
                    evidence.towards_worse * 100.0,
                    evidence.towards_better * 100.0
                );
            }
        }
        if !self.stages.is_empty() {
            let _ = writeln!(page, "\n## Stages\n");
            for stage in &self.stages {
                let _ = writeln!(page, "- {stage}");
            }
        }
        let _ = writeln!(page, "\n## What happened\n");
        for entry in &self.log {
            let after = entry.at.saturating_sub(self.began_at);
            let _ = writeln!(
                page,
                "- {}.{:01} s: {}",
                after / 1000,
                after % 1000 / 100,
                entry.note
            );
        }
        page
    }

    /// The report as `JUnit`: a test case for each stage, and one for the end.
    pub fn junit(&self) -> String {
        let failed = self.ended != "promoted";
        let mut cases = String::new();
        for stage in &self.stages {
            let _ = writeln!(
                cases,
                "    <testcase classname=\"rollout.{}\" name=\"{}\" time=\"{}.{:03}\"/>",
                self.release,
                escaped(&stage.stage),
                stage.lasted / 1000,
                stage.lasted % 1000
            );
        }
        let time = self.ended_at.saturating_sub(self.began_at);
        let time = format!("{}.{:03}", time / 1000, time % 1000);
        let end = if failed {
            let why = escaped(self.why.as_deref().unwrap_or(&self.ended));
            format!(
                "><failure message=\"{why}\" type=\"{}\"/></testcase>",
                self.ended
            )
        } else {
            "/>".to_owned()
        };
        let _ = writeln!(
            cases,
            "    <testcase classname=\"rollout.{}\" name=\"outcome\" time=\"{time}\"{end}",
            self.release
        );
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"rollout {}\" tests=\"{}\" failures=\"{}\" time=\"{time}\">\n{cases}  </testsuite>\n</testsuites>\n",
            self.release,
            self.stages.len() + 1,
            u8::from(failed),
        )
    }
}

impl ReportMember {
    /// Its rows of the table.
    fn rows(&self, page: &mut String) {
        let mut row = |group: &str, tally: Tally, latency: Option<Latency>| {
            let mean = latency.map(|latency| in_millis(latency.mean_micros));
            let p99 = latency.and_then(|latency| latency.p99_micros);
            let _ = writeln!(
                page,
                "| {group} | {} | {} | {} | {} | {} |",
                tally.requests,
                tally.bad,
                tally.slow,
                mean.unwrap_or_default(),
                p99.map(in_millis).unwrap_or_default()
            );
        };
        if self.copies.requests > 0 {
            let copies = format!("{}, copies that nobody got", self.to);
            row(&copies, self.copies, None);
        }
        row(&self.to.to_string(), self.new, self.latency.new);
        row(&self.from.to_string(), self.old, self.latency.old);
        if self.baseline.requests > 0 {
            let baseline = GroupId::baseline(self.from.service.clone(), self.from.version);
            let part = format!("of that {baseline}");
            row(&part, self.baseline, self.latency.baseline);
        }
        if let Some(compared) = &self.compared {
            let Compared { stage, new, old } = compared;
            row(&format!("{}, compared in {stage}", self.to), *new, None);
            row(&format!("the old release, compared in {stage}"), *old, None);
        }
    }
}

/// A time in milliseconds, with a tenth.
fn in_millis(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

/// Text for an XML attribute.
fn escaped(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .map(|letter| match letter {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use platform_decide::release::ReleaseNumber;
    use platform_decide::rollout::{Entry, Note, Why};

    use super::*;
    use crate::rollout::progress::Evidence;

    fn report() -> Report {
        Report {
            release: ReleaseNumber(2),
            strategy: "canary".to_owned(),
            ended: "rolled-back".to_owned(),
            why: Some("orders@r2: 20 % bad & \"slow\"".to_owned()),
            began_at: 1_000,
            ended_at: 9_500,
            decided_after: Some(1_200),
            members: vec![ReportMember {
                from: "orders@r1".parse().unwrap(),
                to: "orders@r2".parse().unwrap(),
                new: Tally {
                    requests: 90,
                    bad: 18,
                    slow: 0,
                    left_out: 31,
                },
                copies: Tally {
                    requests: 70,
                    bad: 2,
                    slow: 1,
                    left_out: 0,
                },
                old: Tally {
                    requests: 900,
                    bad: 1,
                    slow: 0,
                    left_out: 0,
                },
                baseline: Tally {
                    requests: 92,
                    bad: 0,
                    slow: 0,
                    left_out: 0,
                },
                compared: Some(Compared {
                    stage: "25 %".to_owned(),
                    new: Tally {
                        requests: 89,
                        bad: 18,
                        slow: 0,
                        left_out: 0,
                    },
                    old: Tally {
                        requests: 91,
                        bad: 0,
                        slow: 0,
                        left_out: 0,
                    },
                }),
                latency: Latencies {
                    new: Some(Latency {
                        mean_micros: 3_140,
                        p99_micros: Some(12_000),
                    }),
                    baseline: None,
                    old: Some(Latency {
                        mean_micros: 2_990,
                        p99_micros: None,
                    }),
                },
                evidence: Some(Evidence {
                    towards_worse: 1.0,
                    towards_better: 0.0,
                    verdict: "the new release is worse".to_owned(),
                }),
                verdict: None,
            }],
            stages: Vec::new(),
            log: vec![Entry {
                at: 3_200,
                note: Note::GoingBack {
                    why: Why::Operator {
                        by: "ada".to_owned(),
                    },
                },
            }],
        }
    }

    #[test]
    fn a_page_says_how_it_ended_and_why() {
        let page = report().markdown();
        assert!(page.starts_with("# Rollout of r2: rolled-back\n"), "{page}");
        assert!(
            page.contains("18 requests met an error of the new release"),
            "{page}"
        );
        assert!(page.contains("| orders@r2 | 90 | 18 | 0 |"), "{page}");
        assert!(
            page.contains("| orders@r2, copies that nobody got | 70 | 2 | 1 |"),
            "{page}"
        );
        for row in [
            "| orders@r2 | 90 | 18 | 0 | 3.1 ms | 12.0 ms |",
            "| orders@r1 | 900 | 1 | 0 | 2.9 ms |  |",
            "| of that orders@r1-baseline | 92 | 0 | 0 |  |  |",
            "| orders@r2, compared in 25 % | 89 | 18 | 0 |  |  |",
            "| the old release, compared in 25 % | 91 | 0 | 0 |  |  |",
            "orders: evidence at the end 100 % towards worse, 0 % towards better or equal.",
        ] {
            assert!(page.contains(row), "`{row}` in {page}");
        }
        assert!(
            page.contains("orders: 31 more requests of the new release and 0 of the old one are in no comparison"),
            "{page}"
        );
        assert!(
            page.contains("- 2.2 s: goes back: ada asked for it"),
            "{page}"
        );
    }

    #[test]
    fn junit_is_xml_and_counts_the_failure() {
        let text = report().junit();
        assert!(text.contains("tests=\"1\" failures=\"1\""), "{text}");
        assert!(text.contains("20 % bad &amp; &quot;slow&quot;"), "{text}");
        assert!(text.contains("name=\"outcome\""), "{text}");
    }
}
