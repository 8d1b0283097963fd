//! The ends of a rollout: old instances go, or new ones do.

use super::super::arrangement::{arrangement, in_place};
use super::super::entry::Note;
use super::super::phase::Phase;
use super::super::words::Why;
use super::{START_SLACK, Step};
use crate::group::GroupId;

/// How long the removal of instances may take.
pub(super) const LONGEST_REMOVAL: u64 = 300_000;

impl Step<'_> {
    /// Groups that should be gone by now and are not.
    fn left_over(&self) -> Vec<GroupId> {
        let wanted = arrangement(&self.state).groups;
        self.state
            .members
            .iter()
            .flat_map(|member| [member.from.clone(), member.baseline(), member.to.clone()])
            .filter(|group| self.seen.has(group) && !wanted.contains_key(group))
            .collect()
    }

    /// Whether nothing is left to remove, or no more waiting helps.
    fn cleared(&mut self) -> bool {
        let groups = self.left_over();
        if groups.is_empty() {
            return true;
        }
        if self.state.clock.phase <= LONGEST_REMOVAL {
            return false;
        }
        self.tell(Note::LeftOver { groups });
        true
    }

    pub(super) fn retiring(&mut self) {
        let placed = in_place(&self.state, self.seen) || self.state.clock.phase > LONGEST_REMOVAL;
        if placed && self.cleared() {
            self.tell(Note::Promoted);
            self.state.enter(Phase::Promoted);
        }
    }

    /// Notes which old groups can take all requests.
    ///
    /// Where instances had been taken down, those that are left would have to carry the load of all, so the others are waited
    /// for: but not longer than one may take to start, and not while nothing else serves. Those that are being taken down may
    /// still look ready, and are about to answer nobody.
    pub(super) fn see_old(&mut self) {
        for member in &mut self.state.members {
            let ready = self.seen.ready(&member.from);
            let leaves = self.seen.leaving.contains(&member.from);
            let waits = member.old_is_short
                && (leaves || ready < member.from_replicas)
                && self.seen.ready(&member.to) > 0
                && self.state.clock.phase <= member.start_within + START_SLACK;
            member.old_serves |= ready > 0 && !waits;
        }
    }

    pub(super) fn going_back(&mut self, why: Why, stage: usize) {
        self.see_old();
        // Nothing new was started, so the old release serves whether or not it is well.
        let untouched = self.state.in_force.is_none()
            && self.state.members.iter().all(|m| !self.seen.has(&m.to));
        let back = self.state.members.iter().all(|member| member.old_serves);
        if untouched || (back && in_place(&self.state, self.seen)) {
            self.tell(Note::Back);
            self.state.enter(Phase::Removing { why });
            return;
        }
        let longest = self
            .state
            .members
            .iter()
            .map(|member| member.start_within)
            .max();
        let at_most = if back {
            LONGEST_REMOVAL // The gateway does not take the shares.
        } else {
            longest.unwrap_or(0) + 2 * START_SLACK
        };
        if self.state.clock.phase > at_most {
            self.tell(Note::Stuck { why: why.clone() });
            self.state.enter(Phase::Stuck { why, stage });
        }
    }

    pub(super) fn removing(&mut self, why: Why) {
        let full = self
            .state
            .members
            .iter()
            .all(|member| self.seen.ready(&member.from) >= member.from_replicas);
        let longest = self
            .state
            .members
            .iter()
            .map(|member| member.start_within)
            .max();
        let waited = self.state.clock.phase > longest.unwrap_or(0) + START_SLACK;
        let placed = in_place(&self.state, self.seen) || self.state.clock.phase > LONGEST_REMOVAL;
        if placed && self.cleared() && (full || waited) {
            self.state.enter(Phase::AfterBack { why });
        }
    }

    pub(super) fn after_back(&mut self, why: Why) {
        if self.agreed() {
            self.tell(Note::RolledBack);
            self.state.enter(Phase::RolledBack { why });
        }
    }
}
