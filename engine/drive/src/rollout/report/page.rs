//! A report as a page of Markdown, and as `JUnit`.

use std::fmt::Write;

use platform_decide::analysis::Tally;
use platform_decide::group::GroupId;
use platform_decide::rollout::plain;

use super::super::progress::Latency;
use super::{Compared, Latencies, Report, ReportMember};

impl Report {
    /// The report as a page of Markdown.
    pub fn markdown(&self) -> String {
        let mut page = String::new();
        let seconds = self.ended_at.saturating_sub(self.began_at) / 1000;
        // Writing to a string does not fail.
        let _ = writeln!(
            page,
            "# Rollout of {}, {}: {}\n",
            self.release,
            self.services(),
            self.ended
        );
        let _ = writeln!(page, "{} in {seconds} s.", self.strategy);
        if let Some(why) = &self.why {
            let _ = writeln!(page, "\nIt went back because {}.", marked(why));
        }
        if let Some(after) = self.decided_after {
            let _ = writeln!(
                page,
                "\nDecided {:.1} s after the stage's traffic began to move; {}.",
                f64::from(u32::try_from(after).unwrap_or(u32::MAX)) / 1000.0,
                self.harm()
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
                let _ = writeln!(page, "\n{}: {}.", member.to, marked(verdict));
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
        self.metric_table(&mut page);
        if !self.stages.is_empty() {
            let _ = writeln!(page, "\n## Stages\n");
            for stage in &self.stages {
                let _ = writeln!(page, "- {}", marked(&stage.to_string()));
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
                marked(&entry.note.to_string())
            );
        }
        page
    }

    /// How many requests met an error of the new release, by whatever way they came to it.
    fn harm(&self) -> String {
        let sum = |bad: fn(&ReportMember) -> u64| self.members.iter().map(bad).sum::<u64>();
        let asked_for = sum(|member| member.new_besides.asked_for.bad);
        let heavy = sum(|member| member.new_besides.heavy.bad);
        let all = sum(|member| member.new.bad) + asked_for + heavy;
        let mut words = format!("{all} requests met an error of the new release");
        let parts = [
            (asked_for, "chose it by a header or a cookie"),
            (heavy, "came from heavy clients"),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(bad, _)| *bad > 0)
            .map(|(bad, how)| format!("{bad} of them {how}"))
            .collect();
        if !parts.is_empty() {
            let _ = write!(words, ", {}", parts.join(" and "));
        }
        words
    }

    /// Extra metrics in each stage, and in the one that it went back from.
    fn metric_table(&self, page: &mut String) {
        let passed = self.stages.iter().flat_map(|stage| {
            let sides = stage.sides.iter().map(|side| (&side.group, &side.metrics));
            sides.map(move |(group, metrics)| (stage.stage.as_str(), group, metrics))
        });
        let open = self.members.iter().filter_map(|member| {
            let compared = member.compared.as_ref()?;
            Some((compared.stage.as_str(), &member.to, &member.metrics))
        });
        // Of a release that serves, the last stage was passed.
        let open = open.filter(|_| self.ended != "promoted");
        let mut rows = passed
            .chain(open)
            .flat_map(|(stage, group, metrics)| {
                metrics.iter().map(move |side| (stage, group, side))
            })
            .peekable();
        if rows.peek().is_none() {
            return;
        }
        let _ = writeln!(
            page,
            "\n## Metrics\n\n| stage | group | metric | | new | old | pairs | worse | verdict |\n\
             | --- | --- | --- | --- | ---: | ---: | ---: | ---: | --- |"
        );
        let value = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        for (stage, group, side) in rows {
            let _ = writeln!(
                page,
                "| {stage} | {group} | {} | {} | {} | {} | {} | {} | {} |",
                marked(&side.metric),
                if side.only_reports {
                    "only reports"
                } else {
                    "judges"
                },
                value(side.new),
                value(side.old),
                side.pairs,
                side.worse_pairs,
                marked(&side.words),
            );
        }
    }

    /// The report as `JUnit`: a test case for each stage, and one for the end.
    pub fn junit(&self) -> String {
        let failed = self.ended != "promoted";
        let services = self.services();
        let mut cases = String::new();
        for stage in &self.stages {
            let _ = writeln!(
                cases,
                "    <testcase classname=\"rollout.{}\" name=\"{services} {}\" time=\"{}.{:03}\"/>",
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
            "    <testcase classname=\"rollout.{}\" name=\"{services} outcome\" time=\"{time}\"{end}",
            self.release
        );
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"rollout {} {services}\" tests=\"{}\" failures=\"{}\" time=\"{time}\">\n{cases}  </testsuite>\n</testsuites>\n",
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
        let sides = [
            (&self.to, self.new, self.latency.new, self.new_besides),
            (&self.from, self.old, self.latency.old, self.old_besides),
        ];
        for (group, tally, latency, besides) in sides {
            row(&group.to_string(), tally, latency);
            for (part, which) in [
                (besides.asked_for, "by a header or a cookie"),
                (besides.heavy, "of heavy clients"),
            ] {
                if part.requests > 0 {
                    row(&format!("{group} besides, {which}"), part, None);
                }
            }
        }
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

/// Text for a line or a cell of Markdown, in which nothing of it is anything but text.
fn marked(text: &str) -> String {
    let mut marked = String::with_capacity(text.len());
    for letter in plain(text).chars() {
        if matches!(letter, '\\' | '|' | '<' | '[' | ']' | '*' | '~') {
            marked.push('\\');
        }
        marked.push(letter);
    }
    marked
}

/// Text for an XML attribute.
fn escaped(text: &str) -> String {
    plain(text)
        .chars()
        .map(|letter| match letter {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}
