//! What is planned and agreed to before the lock is taken.

use platform_decide::digest::Digest;
use platform_decide::plan::Change;
use platform_decide::release::ReleaseNumber;
use platform_drive::apply::Crew;
use platform_drive::deploy::Prepared;
use platform_drive::error::DriveError;
use platform_drive::releases::History;
use platform_drive::rollout::Status;
use platform_port::Finding;

use super::{DeployArgs, asked, build_saved, certificates_fit, fresh, to_deploy};
use crate::deployment::{self, Asked};
use crate::error::CliError;
use crate::saved_plan;
use crate::shown_plan::{Asking, ShownPlan, agreed};
use crate::under_way;
use crate::world::World;

/// What was said to a plan before the lock is taken, which is the first thing that is made in an environment.
pub(super) enum Before<'a> {
    /// Nothing: there is an environment already, or nobody has to be asked.
    Unasked,
    /// Yes to this, planned in an environment of which nothing is there.
    Planned(Box<(Asked<'a>, Prepared)>),
    /// Yes to what another plan comes to.
    Agreed(Agreement),
}

impl<'a> Before<'a> {
    /// Asks in an environment of which nothing is there, so that who declines, or cannot be asked, leaves nothing behind.
    ///
    /// - returns: `None` where it was declined
    pub(super) async fn anything_is_made(
        args: &DeployArgs,
        world: &'a World,
        crew: &Crew,
    ) -> Result<Option<Self>, CliError> {
        let asks = args.plan.is_none() && world.would_ask_unless_own()?;
        if !asks || !deployment::is_untouched(crew.target.as_ref()).await? {
            return Ok(Some(Self::Unasked));
        }
        let planned = fresh(args, world, crew).await?;
        let agreed = agreed(world, &planned.1, &to_deploy(world)?)?;
        Ok(agreed.then(|| Self::Planned(Box::new(planned))))
    }

    /// Plans, asks and builds while another run's rollout goes on, so that what cannot be deployed takes nothing back.
    ///
    /// - returns: `None` where it was declined
    pub(super) async fn it_is_taken_back(
        args: &DeployArgs,
        world: &World,
        crew: &Crew,
        rollout: &Status,
    ) -> Result<Option<Self>, CliError> {
        if let Some(path) = &args.plan {
            let mut saved = saved_plan::load(path, world)?;
            let history = History::read(crew.target.store()).await?;
            if history.current.map(|current| current.number) != saved.from {
                return Err(DriveError::Stale.into());
            }
            build_saved(world, &mut saved).await?;
            return Ok(Some(Self::Unasked));
        }
        let rollout = under_way::described(rollout);
        let environment = world.environment()?;
        let question = format!("Take back {rollout} and deploy this to `{environment}`?");
        let asking = Asking::UnlessOwn(question.clone());
        let Some(prepared) = asked(args, world, crew, None, &asking).await? else {
            return Ok(None);
        };
        certificates_fit(world, &prepared)?;
        // Nothing of the rollout may be there yet, and it is taken back all the same.
        if prepared.plan.is_empty() && !world.confirm_unless_own(&question)? {
            return Ok(None);
        }
        Ok(Some(Self::Agreed(Agreement::to(prepared))))
    }

    /// What of it holds under the lock: a plan only where one made now would come to the same.
    pub(super) async fn still(self, world: &World, crew: &Crew) -> Result<Self, CliError> {
        let Self::Planned(planned) = self else {
            return Ok(self);
        };
        let holds =
            planned.0.is_current(world)? && deployment::is_untouched(crew.target.as_ref()).await?;
        Ok(if holds {
            Self::Planned(planned)
        } else {
            Self::Agreed(Agreement::to(planned.1))
        })
    }
}

/// What somebody agreed to: from which release to what.
///
/// By which steps is not said, as taking a rollout back changes those and nothing of where they lead.
pub(super) struct Agreement {
    from: Option<ReleaseNumber>,
    to: Digest,
    /// The changes that were shown.
    shown: Vec<Change>,
    /// What preflight found by then.
    told: Vec<Finding>,
}

impl Agreement {
    fn to(prepared: Prepared) -> Self {
        Self {
            from: prepared.plan.from,
            to: prepared.plan.release.digest,
            shown: prepared.plan.changes,
            told: prepared.findings,
        }
    }

    /// Whether this plan is what was agreed to.
    pub(super) fn is_to(&self, prepared: &Prepared) -> bool {
        self.from == prepared.plan.from && self.to == prepared.plan.release.digest
    }

    /// Shows what of it has not been shown, and ends the run where something would fail that was not found before.
    pub(super) fn tell_rest(&self, world: &World, prepared: &Prepared) -> Result<(), CliError> {
        if self.shown != prepared.plan.changes {
            let shown = ShownPlan::new(world, &prepared.plan)?;
            world.view.accompany(&shown);
        }
        let found = prepared.findings.iter();
        let found = found.filter(|finding| !self.told.contains(finding));
        deployment::judge(world, &found.cloned().collect::<Vec<_>>())
    }
}
