//! `platform stop`: everything down, nothing lost.

use platform_decide::observed::Observed;
use platform_drive::releases::History;
use platform_port::Target;

use crate::deployment;
use crate::error::CliError;
use crate::exit::Exit;
use crate::view::Told;
use crate::world::World;

/// Stop every service and the gateway; keep data, releases and secrets
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {}

/// Whether nothing was ever deployed: then taking the lock would make what it lies in.
async fn is_untouched(target: &dyn Target) -> Result<bool, CliError> {
    let history = History::read(target.store()).await?;
    Ok(history.head.last.is_none() && target.observe().await? == Observed::default())
}

pub(crate) async fn run(_: &StopArgs, world: &World) -> Result<Exit, CliError> {
    let crew = deployment::crew(world, world.target()?, "platform stop");
    let environment = world.environment()?;
    if is_untouched(crew.target.as_ref()).await? {
        world.view.tell(&Told::note(format!(
            "nothing of `{environment}` is there to be stopped"
        )));
        return Ok(Exit::Done);
    }
    let work = async |_: &_| {
        if !world.confirm_unless_own(&format!("Stop everything in `{environment}`?"))? {
            return Err(CliError::new("run::declined", "nothing was stopped"));
        }
        Ok(crew.target.stop().await?)
    };
    deployment::under_lock(world, &crew, work).await?;
    world.view.tell(&Told::note(format!(
        "everything in `{environment}` is stopped; `platform deploy` brings it up again"
    )));
    Ok(Exit::Done)
}
