//! Carries rollouts out: observe, decide, save, act, wait.
//!
//! What should be so is decided by [`platform_decide::rollout`]; this loop holds no policy. The state is saved before it is acted
//! upon, each act is safe to repeat, and an operator's word is found in the store, so any run can take any rollout up.

mod ahead;
mod body;
mod document;
mod driver;
mod event;
mod gate;
mod give_up;
mod metric;
mod program;
mod progress;
mod report;
mod smoke;
mod specs;
mod status;
mod way;

pub(crate) use ahead::Ahead;
pub use document::{WORDS, all, damaged, last, say, under_way};
pub(crate) use document::{half_way, settings_kept};
pub use event::RolloutEvent;
pub(crate) use give_up::give_up;
pub(crate) use metric::preflight;
pub use progress::{Evidence, Latency, MemberProgress, Progress, SideProgress};
pub use report::{
    Compared, Latencies, Report, ReportMember, RolloutRecord, last_record, record_key, records,
};
pub use status::{Status, awaited, between, driver_of, status, unfinished};

use platform_blueprint::Rollout;
use platform_decide::plan::{Member, Plan};
use platform_decide::rollout::State;
use platform_port::LogLine;
use tokio_util::sync::CancellationToken;

use crate::apply::{Crew, Means};
use crate::error::Cause;
use document::Document;
use driver::Driver;

/// How a rollout ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The new release serves alone.
    Promoted,
    /// The old release serves alone.
    RolledBack {
        /// Why, in words.
        why: String,
        /// What the new instances last wrote, before they were taken down.
        log: Vec<LogLine>,
        /// It had not ended in the time that the run was given.
        out_of_time: bool,
    },
    /// The run was told to stop; traffic is where it is safest, and the next run goes on.
    Stopped,
}

/// Carries out one rollout of a plan, or goes on with it where an earlier run left it.
///
/// # Errors
///
/// If the target or its store stays away, or the old release does not come up again on the way back.
pub async fn run(
    crew: &Crew,
    plan: &Plan,
    means: Means<'_>,
    members: &[Member],
    policy: &Rollout,
    abandon: &CancellationToken,
) -> Result<Outcome, Cause> {
    let store = crew.target.store();
    let fresh = State::new(
        &plan.release,
        members,
        policy,
        &crew.run,
        crew.clock.millis(),
    );
    let document = Document::find(store, fresh, &crew.run, crew.clock.millis()).await?;
    let specs = specs::Specs::of(store, plan, means.current, &document.state).await?;
    Driver::new(crew, plan, means, specs, document, abandon)
        .drive()
        .await
}
