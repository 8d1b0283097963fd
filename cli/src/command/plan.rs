//! `platform plan`: what a deploy would do.

use std::path::PathBuf;

use platform_decide::plan::Pace;
use platform_drive::deploy::{self, Request};

use crate::deployment::{self, Asked};
use crate::error::CliError;
use crate::exit::Exit;
use crate::saved_plan;
use crate::shown_plan::ShownPlan;
use crate::strategy::Strategy;
use crate::world::World;

/// Show what a deploy would change, and why; change nothing
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// Save the plan, for `platform deploy --plan FILE` to apply exactly
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// End with 2 if there are changes
    #[arg(long)]
    detailed_exitcode: bool,

    /// Only this service; may be given more than once
    #[arg(long, value_name = "NAME")]
    service: Vec<platform_blueprint::ServiceName>,

    #[command(flatten)]
    strategy: Strategy,
}

pub(crate) async fn run(args: &PlanArgs, world: &World) -> Result<Exit, CliError> {
    let target = world.target()?;
    let crew = deployment::crew(world, target, "platform plan");
    let mut asked = Asked::of(world)?;
    let current = platform_drive::releases::History::read(crew.target.store())
        .await?
        .current;
    asked.narrow(&args.service, current.as_ref())?;
    args.strategy.apply(&mut asked.desired)?;
    let prepared = deploy::prepare(
        &crew,
        Request {
            desired: &asked.desired,
            back_to: None,
            unbuilt: &asked.unbuilt,
            pace: Pace::ByPolicy,
        },
    )
    .await?;
    deployment::tell_left(&crew, &prepared);
    world.view.show(&ShownPlan::new(world, &prepared.plan)?);
    world
        .view
        .output("changes", &prepared.plan.changes.len().to_string());
    deployment::judge(world, &prepared.findings)?;
    if let Some(path) = &args.out {
        saved_plan::save(&prepared.plan, path, world)?;
    }
    if args.detailed_exitcode && !prepared.plan.is_empty() {
        return Ok(Exit::Changes);
    }
    Ok(Exit::Done)
}
