//! A rollout on a small screen: a row for each side with its numbers first, and both bars of a service in one line.

use std::fmt::Write as _;
use std::time::Duration;

use platform_drive::rollout::{Evidence, MemberProgress, SideProgress};

use super::{RolloutShown, bar, bars, percent, table, tone_of};
use crate::moment;
use crate::paint::Paint;
use crate::table::{Cell, Table};
use crate::view::Shown;

/// Cells of a bar.
const SHORT_BAR: usize = 6;

/// Rows that are left to what else is shown.
const SPARE: usize = 1;

impl RolloutShown {
    /// As it is shown within so many columns and rows: in full where there is room for its numbers and bars.
    pub(super) fn within(&self, paint: Paint, (columns, rows): (u16, u16)) -> String {
        let (columns, rows) = (usize::from(columns), usize::from(rows));
        let wide = self.human(paint);
        let width = |text: &str| {
            text.lines()
                .map(|line| line.chars().count())
                .max()
                .unwrap_or(0)
        };
        let bars = self.progress.members.iter().filter_map(|member| {
            // What the verdict says may be cut.
            let bars = bars(&member.service, member.evidence.as_ref()?, Paint::NONE);
            Some(width(bars.lines().next()?))
        });
        let widest =
            width(&table(&self.progress.members, Paint::NONE)).max(bars.max().unwrap_or(0));
        if widest < columns && wide.lines().count() + SPARE <= rows {
            return wide;
        }
        let narrow = self.narrow(paint);
        let lines = narrow.lines().take(rows.saturating_sub(SPARE));
        lines.flat_map(|line| [line, "\n"]).collect()
    }

    fn narrow(&self, paint: Paint) -> String {
        let progress = &self.progress;
        let mut text = format!(
            "{} {}, {}",
            paint.bold(&progress.release.to_string()),
            progress.stage,
            progress.phase
        );
        if !self.over {
            let span = moment::span(Duration::from_millis(progress.phase_millis));
            let _ = write!(
                text,
                ", {} of {}, {span}",
                progress.stage_number, progress.stages
            );
        }
        text.push('\n');
        text.push_str(&self.matters(paint));
        let mut table = Table::new(&["SHARE", "REQ", "BAD", "SLOW", "GROUP"]);
        for member in &progress.members {
            table.row(side(&member.new));
            table.row(side(compared(member)));
        }
        text.push_str(&table.render(paint));
        for member in &progress.members {
            if let Some(evidence) = &member.evidence {
                text.push_str(&short_bars(&member.service, evidence, paint));
            }
            for metric in &member.metrics {
                let _ = writeln!(
                    text,
                    "{} worse {}/{} {}",
                    metric.metric, metric.worse_pairs, metric.pairs, member.service
                );
            }
        }
        text
    }
}

/// What the new release is compared with.
fn compared(member: &MemberProgress) -> &SideProgress {
    member.fresh.as_ref().unwrap_or(&member.old)
}

fn side(side: &SideProgress) -> Vec<Cell> {
    let copies = if side.copied > 0 { "copies " } else { "" };
    let share = side.share.max(side.copied);
    vec![
        Cell::from(format!("{copies}{}", percent(share))),
        Cell::from(side.answered.requests.to_string()),
        Cell::new(side.answered.bad.to_string(), tone_of(side)),
        Cell::from(side.answered.slow.to_string()),
        Cell::from(side.group.to_string()),
    ]
}

fn short_bars(service: &str, evidence: &Evidence, paint: Paint) -> String {
    let (worse, worse_percent) = bar(evidence.towards_worse, SHORT_BAR);
    let (fine, fine_percent) = bar(evidence.towards_better, SHORT_BAR);
    format!(
        "worse {} {worse_percent:.0} % fine {} {fine_percent:.0} % {service}\n",
        paint.red(&worse),
        paint.green(&fine)
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::shown;
    use super::*;

    /// A rollout of three services.
    fn three() -> RolloutShown {
        let mut shown = shown();
        for service in ["web", "api"] {
            let mut member = shown.progress.members[0].clone();
            member.service = service.to_owned();
            member.metrics.clear();
            let sides = [
                Some(&mut member.new),
                member.fresh.as_mut(),
                Some(&mut member.old),
            ];
            for side in sides.into_iter().flatten() {
                side.group.service = service.parse().unwrap();
            }
            shown.progress.members.push(member);
        }
        shown.progress.members[0].metrics.clear();
        shown.own = true;
        shown
    }

    #[test]
    fn a_small_screen_has_all_numbers_and_bars() {
        insta::assert_snapshot!(three().within(Paint::NONE, (40, 12)), @r"
        r7 5 %, serving, 2 of 5, 12.0 s
        SHARE  REQ  BAD  SLOW  GROUP
        5.0 %  40   2    0     orders@r7
        5.0 %  42   0    0     orders@r5-baseline
        5.0 %  40   2    0     web@r7
        5.0 %  42   0    0     web@r5-baseline
        5.0 %  40   2    0     api@r7
        5.0 %  42   0    0     api@r5-baseline
        worse ███░░░ 50 % fine ░░░░░░ 0 % orders
        worse ███░░░ 50 % fine ░░░░░░ 0 % web
        worse ███░░░ 50 % fine ░░░░░░ 0 % api
        ");
    }

    #[test]
    fn where_there_is_room_it_is_shown_in_full() {
        let shown = three();
        let wide = shown.human(Paint::NONE);
        assert_eq!(shown.within(Paint::NONE, (120, 60)), wide);
        for room in [(40, 60), (120, 12)] {
            assert_ne!(shown.within(Paint::NONE, room), wide);
        }
        assert_eq!(shown.within(Paint::NONE, (40, 4)).lines().count(), 3);
    }
}
