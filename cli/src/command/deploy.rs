//! `platform deploy`: from the blueprint to a release that serves.

mod before;

use std::collections::BTreeSet;
use std::path::PathBuf;

use platform_blueprint::{Period, ServiceName};
use platform_decide::desired::Desired;
use platform_decide::plan::{Pace, Plan, Subject};
use platform_drive::apply::Crew;
use platform_drive::deploy::{Prepared, Request, prepare, prepare_saved};
use platform_drive::lease::Lease;
use platform_drive::releases::History;

use self::before::Before;
use crate::certificates;
use crate::deployment::{self, Asked, Change};
use crate::error::CliError;
use crate::exit::Exit;
use crate::saved_plan;
use crate::shown_plan::{Asking, ShownPlan, agreed};
use crate::status;
use crate::strategy::Strategy;
use crate::under_way::{self, Meanwhile, Met};
use crate::view::Told;
use crate::world::World;

/// Bring the environment to what the blueprint says, without dropping a request
#[derive(Debug, clap::Args)]
pub(crate) struct DeployArgs {
    /// Only this service; may be given more than once
    #[arg(long, value_name = "NAME", conflicts_with = "plan")]
    service: Vec<ServiceName>,

    /// Apply this saved plan, or refuse if the target has changed since
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,

    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Take back what has not been rolled out in this time, such as `30m`, and end with 13
    #[arg(long, value_name = "TIME", value_parser = some_time, help_heading = "Rollout")]
    timeout: Option<Period>,

    #[command(flatten)]
    strategy: Strategy,

    #[command(flatten)]
    meanwhile: Meanwhile,
}

/// A length of time in which something can happen.
fn some_time(text: &str) -> Result<Period, String> {
    let time: Period = text
        .parse()
        .map_err(|error: platform_blueprint::BadQuantity| error.to_string())?;
    if time.duration().is_zero() {
        return Err("no rollout ends within no time; write one such as `30m`".to_owned());
    }
    Ok(time)
}

pub(crate) async fn run(args: &DeployArgs, world: &World) -> Result<Exit, CliError> {
    let crew = deployment::crew(world, world.target()?, "platform deploy");
    if args.dry_run {
        return dry_run(args, world, &crew).await;
    }
    let met = args.meanwhile.met(world, crew.target.as_ref());
    let Met { patience, replaces } = world.until_stopped(met).await?;
    let before = match &replaces {
        Some(rollout) => Box::pin(Before::it_is_taken_back(args, world, &crew, rollout)).await?,
        None => Before::anything_is_made(args, world, &crew).await?,
    };
    let Some(before) = before else {
        return Ok(Exit::Failed);
    };
    if let Some(rollout) = &replaces {
        // What a run that is gone left half-way is deployed over, as ever.
        under_way::take_back(world, crew.target.as_ref(), rollout).await?;
    }
    let work = async |lease: &Lease| Box::pin(locked(args, world, &crew, lease, before)).await;
    let exit = deployment::under_lock_within(patience, &crew, work).await?;
    if exit == Exit::Done {
        status::show(world, crew.target.as_ref()).await?;
    }
    Ok(exit)
}

async fn dry_run(args: &DeployArgs, world: &World, crew: &Crew) -> Result<Exit, CliError> {
    let prepared = match &args.plan {
        Some(path) => prepare_saved(crew, saved_plan::load(path, world)?).await?,
        None => fresh(args, world, crew).await?.1,
    };
    world.view.show(&ShownPlan::new(world, &prepared.plan)?);
    deployment::judge(world, &prepared.findings)?;
    Ok(Exit::Done)
}

async fn locked(
    args: &DeployArgs,
    world: &World,
    crew: &Crew,
    lease: &Lease,
    before: Before<'_>,
) -> Result<Exit, CliError> {
    let prepared = match &args.plan {
        Some(path) => saved(world, crew, saved_plan::load(path, world)?).await?,
        None => match asked(args, world, crew, Some(before), &to_deploy(world)?).await? {
            Some(prepared) => prepared,
            None => return Ok(Exit::Failed),
        },
    };
    certificates_fit(world, &prepared)?;
    let within = args.timeout.map(Period::duration);
    deployment::carry_out(world, crew, lease, prepared, within).await
}

fn certificates_fit(world: &World, prepared: &Prepared) -> Result<(), CliError> {
    let unfit = certificates::unfit(world, prepared)?;
    if unfit.is_empty() {
        Ok(())
    } else {
        Err(CliError::many(Exit::Failed, unfit))
    }
}

/// What the blueprint asks for now, planned, shown, agreed to and built; `None` where it was not agreed to.
///
/// - `before`: what was said before the lock was taken; `None` where this is before it
async fn asked(
    args: &DeployArgs,
    world: &World,
    crew: &Crew,
    before: Option<Before<'_>>,
    asking: &Asking,
) -> Result<Option<Prepared>, CliError> {
    let planned = if let Some(before) = before {
        under_lock(args, world, crew, before, asking).await?
    } else {
        let planned = fresh(args, world, crew).await?;
        agreed(world, &planned.1, asking)?.then_some(planned)
    };
    let Some((mut asked, mut prepared)) = planned else {
        return Ok(None);
    };
    let wanted = prepared
        .plan
        .release
        .services
        .keys()
        .filter(|name| asked.unbuilt.contains(*name) || asked.is_changed(name, &prepared.plan))
        .cloned()
        .collect();
    let changes = prepared.plan.changes.iter();
    let resources = changes
        .filter_map(|change| match &change.subject {
            Subject::Resource(name) => Some(name.clone()),
            _ => None,
        })
        .collect();
    let change = asked.build(world, &wanted, &resources).await?;
    if change > Change::None {
        if change == Change::Sources {
            world.view.tell(&Told::note(
                "sources changed during the build; planning again",
            ));
        }
        asked.narrow(&args.service, prepared.current())?;
        args.strategy.apply(&mut asked.desired)?;
        let told = prepared.findings;
        prepared = prepare(crew, request(&asked)).await?;
        prepared.findings.retain(|finding| !told.contains(finding));
        if change == Change::Sources {
            if !agreed(world, &prepared, asking)? {
                return Ok(None);
            }
        } else {
            deployment::judge(world, &prepared.findings)?;
        }
    }
    Ok(Some(prepared))
}

/// The plan under the lock, agreed to then or before; `None` where it was not.
async fn under_lock<'a>(
    args: &DeployArgs,
    world: &'a World,
    crew: &Crew,
    before: Before<'a>,
    asking: &Asking,
) -> Result<Option<(Asked<'a>, Prepared)>, CliError> {
    let before = before.still(world, crew).await?;
    if let Before::Planned(planned) = before {
        return Ok(Some(*planned));
    }
    let (asked, prepared) = fresh(args, world, crew).await?;
    deployment::tell_left(crew, &prepared);
    let is_agreed = match before {
        Before::Agreed(agreement) if agreement.is_to(&prepared) => {
            agreement.tell_rest(world, &prepared)?;
            true
        }
        _ => agreed(world, &prepared, asking)?,
    };
    Ok(is_agreed.then_some((asked, prepared)))
}

async fn fresh<'a>(
    args: &DeployArgs,
    world: &'a World,
    crew: &Crew,
) -> Result<(Asked<'a>, Prepared), CliError> {
    let mut asked = Asked::of(world)?;
    if !args.service.is_empty() {
        let history = History::read(crew.target.store()).await?;
        asked.narrow(&args.service, history.current.as_ref())?;
    }
    args.strategy.apply(&mut asked.desired)?;
    let prepared = prepare(crew, request(&asked)).await?;
    Ok((asked, prepared))
}

fn request<'a>(asked: &'a Asked<'_>) -> Request<'a> {
    Request {
        desired: &asked.desired,
        back_to: None,
        unbuilt: &asked.unbuilt,
        pace: Pace::ByPolicy,
    }
}

/// A saved plan whose artifacts are built from the same inputs as when it was made.
async fn saved(world: &World, crew: &Crew, mut saved: Plan) -> Result<Prepared, CliError> {
    build_saved(world, &mut saved).await?;
    let prepared = prepare_saved(crew, saved).await?;
    world
        .view
        .accompany(&ShownPlan::new(world, &prepared.plan)?);
    deployment::judge(world, &prepared.findings)?;
    Ok(prepared)
}

/// Builds what a saved plan runs, and names in it what has a name only now.
async fn build_saved(world: &World, saved: &mut Plan) -> Result<(), CliError> {
    let mut asked = Asked::of(world)?;
    let wanted = asked.unbuilt.clone();
    asked.build(world, &wanted, &BTreeSet::new()).await?;
    let key = |desired: &Desired, name: &ServiceName| {
        let service = desired.services.get(name)?;
        Some(service.spec.artifact.key.clone())
    };
    let built = saved.release.services.iter().all(|(name, placed)| {
        key(&asked.desired, name).as_ref() == Some(&placed.spec.artifact.key)
            || asked.is_kept(name, &placed.spec)
    });
    if !built {
        return Err(CliError::new(
            "plan::stale",
            "the sources have changed since the plan was made",
        )
        .help("make a new plan with `platform plan --out FILE`"));
    }
    for (name, placed) in &mut saved.release.services {
        // Images have names once they are built; which they are the plan knew.
        if let Some(service) = asked.desired.services.get(name)
            && service.spec.artifact.key == placed.spec.artifact.key
        {
            placed.spec.artifact.place = service.spec.artifact.place.clone();
        }
    }
    Ok(())
}

fn to_deploy(world: &World) -> Result<Asking, CliError> {
    let environment = world.environment()?;
    Ok(Asking::UnlessOwn(format!(
        "Deploy this to `{environment}`?"
    )))
}
