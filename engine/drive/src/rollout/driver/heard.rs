//! What is asked beside the loop, heard of that, and told.

use std::error::Error;
use std::sync::Arc;

use platform_decide::group::GroupId;
use platform_decide::observed::Observed;
use platform_decide::rollout::{GateAnswer, GateKey, Note, Reading, Unread, due, plain};
use platform_port::{Tallies, TargetError};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{Driver, TELL_EVERY};
use crate::error::in_words;
use crate::events::Event;
use crate::rollout::event::RolloutEvent;
use crate::rollout::gate::{self, Surroundings};
use crate::rollout::metric;
use crate::rollout::progress::Progress;

/// What a task found out while the loop went on.
#[derive(Debug)]
pub(in crate::rollout) enum Told {
    Gate(GateKey, GateAnswer),
    Reading(Reading),
    Unread(Unread),
    /// A group's instances were taken down, or not.
    Down(GroupId, Result<(), TargetError>),
}

impl Driver<'_> {
    /// Asks the gates whose moment it is, and none else.
    pub(super) fn ask(&mut self, observed: &Observed) {
        let due = due(&self.document.state);
        self.asked
            .retain(|key, _| due.iter().any(|call| call.key == *key));
        for call in due {
            if self.asked.contains_key(&call.key) || self.gates.contains_key(&call.key) {
                continue;
            }
            let of = (self.plan, self.means.current);
            let surroundings = Surroundings::of(self.crew, of, &self.document.state, observed);
            let telling = self.telling.clone();
            let target = Arc::clone(&self.crew.target);
            let key = call.key.clone();
            let headers = gate::headers(&call, self.means.secrets);
            let asking = tokio::spawn(async move {
                let key = call.key.clone();
                let answer = gate::ask(call, headers, surroundings, target).await;
                // The loop may be over.
                let _ = telling.send(Told::Gate(key, answer));
            });
            self.asked.insert(key, AbortOnDropHandle::new(asking));
        }
    }

    /// Reads extra metrics of the sides that have requests.
    pub(super) fn measure(&mut self) {
        let state = &self.document.state;
        let answering = metric::answering(state);
        if answering != self.measured {
            let with = (self.means.secrets, self.crew.root.as_path());
            let readers = metric::readers(state, &answering, with, &self.telling);
            self.metrics = readers
                .into_iter()
                .map(|reader| AbortOnDropHandle::new(tokio::spawn(reader)))
                .collect();
            self.measured = answering;
        }
    }

    pub(super) fn hear_all(&mut self) {
        while let Ok(told) = self.told.try_recv() {
            self.hear(told);
        }
    }

    pub(super) fn hear(&mut self, told: Told) {
        match told {
            Told::Gate(key, answer) => {
                self.gates.insert(key, answer);
            }
            Told::Reading(reading) => {
                let of = (reading.service.clone(), reading.metric.clone());
                self.told_unread.remove(&of);
                self.readings.push(reading);
            }
            Told::Unread(unread) => {
                let of = (unread.service.clone(), unread.metric.clone());
                let before = self.told_unread.insert(of, unread.why.clone());
                if before.is_none_or(|why| why != unread.why) {
                    self.tell_trouble(&format!(
                        "cannot read metric `{}` of {}: {}",
                        unread.metric, unread.service, unread.why
                    ));
                }
                self.unread.push(unread);
            }
            Told::Down(group, done) => {
                self.leaving.remove(&group);
                if let Err(error) = done {
                    self.refuse(&error);
                    self.rests = true;
                }
            }
        }
    }

    pub(super) fn tell(&self, what: Note) {
        self.crew.events.emit(Event::Rollout(RolloutEvent::Step {
            release: self.document.state.release,
            services: self
                .document
                .state
                .members
                .iter()
                .map(|member| member.service().to_string())
                .collect(),
            at: self.crew.clock.millis(),
            text: what.to_string(),
            what,
        }));
    }

    pub(super) fn trouble(&self, error: &(dyn Error + 'static)) {
        self.tell_trouble(&in_words(error));
    }

    pub(super) fn tell_trouble(&self, text: &str) {
        self.crew.events.emit(Event::Rollout(RolloutEvent::Trouble {
            release: self.document.state.release,
            text: plain(text),
        }));
    }

    pub(super) fn progress(&mut self, observed: &Observed, tallies: Option<&Tallies>) {
        if self
            .progress_told
            .is_some_and(|told| told.elapsed() < TELL_EVERY)
        {
            return;
        }
        self.progress_told = Some(Instant::now());
        let progress = Progress::of(&self.document.state, Some(observed), tallies);
        let event = RolloutEvent::Progress(Box::new(progress));
        self.crew.events.emit(Event::Rollout(event));
    }
}
