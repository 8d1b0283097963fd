//! Whether requests go where they should.

use super::super::arrangement::arrangement;
use super::super::entry::Note;
use super::super::phase::Phase;
use super::Step;
use crate::traffic::Share;

impl Step<'_> {
    /// Tells, once in a stage, of an old release that is down, also where it only stays for the way back, and of a side that gets hardly any of its requests. Neither is the
    /// new release's fault, so it does not go back; but there may never be a verdict.
    pub(super) fn tell_astray(&mut self) {
        let stage = match self.state.phase {
            Phase::Serving { stage } => Some(stage),
            Phase::Starting { .. } => self.state.in_force,
            _ => None,
        };
        let Some(stage) = stage else {
            return;
        };
        let sides = self.state.stages()[stage].sides.clone();
        let wanted = arrangement(&self.state).groups;
        for (index, side) in sides.iter().enumerate() {
            let member = &self.state.members[index];
            if !member.routed {
                continue;
            }
            let (from, to) = (member.from.clone(), member.to.clone());
            let both = side.new_share > Share::NONE && side.new_share < Share::FULL;
            let serving = matches!(self.state.phase, Phase::Serving { .. });
            let up = self.seen.ready(&from) + self.seen.ready(&member.baseline());
            if serving && up == 0 && self.seen.ready(&to) > 0 && wanted.contains_key(&from) {
                let (group, reason) = (from.clone(), self.seen.reason(&from));
                let note = if both {
                    Note::OldIsDown { group, to, reason }
                } else {
                    Note::WayBackIsDown { group, reason }
                };
                self.tell_once(format!("down {from}"), note);
                continue;
            }
            let Some(starved) = member.comparison.shares.starved() else {
                continue;
            };
            let group = if starved.new { to } else { from };
            let besides = if starved.new {
                member.comparison.new_besides
            } else {
                member.comparison.old_besides
            };
            let note = Note::Starved {
                ready: self.seen.ready(&group),
                group: group.clone(),
                requests: starved.got,
                of: starved.of,
                share: starved.share.get(),
                bad_besides: besides.asked_for.bad + besides.heavy.bad,
            };
            self.tell_once(format!("starved {group}"), note);
        }
    }
}
