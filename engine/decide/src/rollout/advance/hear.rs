//! What gates and operators say.

use platform_blueprint::GateWhen;

use super::super::entry::Note;
use super::super::gates;
use super::super::phase::Phase;
use super::super::seen::GateAnswer;
use super::super::state::Paused;
use super::super::words::{Order, Why, Word};
use super::{Step, held_for};

impl Step<'_> {
    pub(super) fn hear_gates(&mut self) {
        let calls = gates::all(&self.state);
        for call in calls {
            let Some(answer) = self.seen.gates.get(&call.key) else {
                continue;
            };
            let refused = match answer {
                GateAnswer::Agrees => None,
                GateAnswer::Refuses(said) => Some(said.clone()),
            };
            let news = self.state.gates.insert(call.key, answer.clone()).is_none();
            if news {
                self.tell(Note::Gate {
                    gate: call.name.clone(),
                    refused: refused.clone(),
                });
            }
            if let Some(answer) = refused
                && call.when != GateWhen::AfterRollback
                && self.state.phase.is_forward()
            {
                self.go_back(Why::Gate {
                    gate: call.name,
                    answer,
                });
                return;
            }
        }
    }

    /// Hears the next word; one at a look, as each may enter a phase.
    pub(super) fn hear_word(&mut self) {
        let ours =
            |word: &&Word| word.number >= self.state.words_to && word.release == self.state.release;
        let Some(word) = self.seen.words.iter().find(ours).cloned() else {
            return;
        };
        self.state.words_to = word.number.saturating_add(1);
        let by = word.by;
        let not_now = |because: &str| Note::NotNow {
            word: word.order.as_str().to_owned(),
            because: because.to_owned(),
        };
        let forward = self.state.phase.is_forward();
        match word.order {
            Order::Abort if forward || self.state.phase == Phase::Retiring => {
                self.go_back(Why::Operator { by });
            }
            Order::Abort => self.tell(not_now("it goes back already")),
            _ if !forward => self.tell(not_now("it is on its last way already")),
            Order::Pause if self.state.paused.is_some() => {
                self.tell(not_now("it is paused already"));
            }
            Order::Pause => {
                let paused = Paused {
                    by: by.clone(),
                    at: self.now,
                };
                self.state.paused = Some(paused);
                self.tell(Note::Paused { by });
            }
            Order::Resume => match self.state.paused.take() {
                Some(_) => self.tell(Note::Resumed { by }),
                None => self.tell(not_now("it is not paused")),
            },
            Order::Next => match self.state.phase {
                Phase::Serving { stage } => {
                    self.state.paused = None;
                    self.tell(Note::SentOn {
                        by,
                        to_the_end: false,
                    });
                    self.leave(stage);
                }
                Phase::Starting { .. } if self.state.paused.take().is_some() => {
                    self.tell(Note::Resumed { by });
                }
                Phase::Starting { .. } if !self.shown() => {
                    // A gate that has not answered is waited for all the same.
                    self.state.clock.up = held_for(&self.state).unwrap_or(self.state.clock.up);
                    self.tell(Note::SentOn {
                        by,
                        to_the_end: false,
                    });
                }
                Phase::Starting { .. } if self.state.up => {
                    self.tell(not_now("a gate is waited for"));
                }
                Phase::BeforeStart if !gates::all(&self.state).is_empty() => {
                    self.tell(not_now("a gate is waited for before anything starts"));
                }
                _ => self.tell(not_now("instances are still coming up")),
            },
            Order::Promote if self.state.forced => {
                self.tell(not_now("it is on its way to the end already"));
            }
            Order::Promote => {
                self.state.paused = None;
                self.state.forced = true;
                self.tell(Note::SentOn {
                    by,
                    to_the_end: true,
                });
                let last = self.last();
                match self.state.phase {
                    Phase::Serving { stage } | Phase::Starting { stage } if stage == last => {}
                    _ => self.enter_starting(last),
                }
            }
        }
    }
}
