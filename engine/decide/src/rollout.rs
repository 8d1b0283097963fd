//! Rollouts: how traffic and instances move from one release to the next, as a state machine of values.
//!
//! [`arrangement`] says what should be so in a [`State`]: which groups with how many instances, and how requests are
//! shared out. [`advance`] takes what was seen and returns the next state. [`moves`] is the difference between the
//! arrangement and what is observed, in the order in which it may be carried out: instances up and ready before traffic
//! moves to them, traffic away before instances go. Nothing here waits, looks or acts, so a driver that was killed loads
//! the state, looks, and goes on as if nothing had happened.
//!
//! ```text
//! BeforeStart → Starting(0) → Serving(0) → Starting(1) → … → Serving(last) → Retiring → Promoted
//!       └──────────┴─────────────┴────────────┴─────────────────┤             (forward only,
//!                                                         GoingBack            unless told to)
//!                                                               └→ Removing → AfterBack → RolledBack
//! ```
//!
//! Every strategy is a list of [`Stage`]s: the steps of a canary, the batches of a rolling update, the one switch of
//! blue-green; before the first of the steps and the switch there may be one in which the new release gets copies of requests. The last stage has all traffic on the new release, and serving it is the bake time.

mod advance;
mod arrangement;
mod besides;
mod comparison;
mod entry;
mod gates;
mod guardrail;
mod metric_side;
mod phase;
mod plain;
mod record;
mod seen;
mod stage;
mod state;
mod words;

pub use advance::{advance, held_for, watched_for};
pub use arrangement::{Arrangement, Move, arrangement, moves};
pub use besides::Besides;
pub use comparison::{Comparison, Increment, comparison_policy};
pub use entry::{Entry, Note, StageResult, StageSide};
pub use gates::{Ask, GateCall, GateKey, due};
pub use metric_side::MetricSide;
pub use phase::Phase;
pub use plain::plain;
pub use seen::{Counts, GateAnswer, Reading, Seen, Unread};
pub use stage::{Side, Stage, ahead, stages};
pub use state::{Clock, MemberState, Paused, State};
pub use words::{Order, Why, Word};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
