//! `platform stop`: everything down, nothing lost.

use crate::deployment;
use crate::error::CliError;
use crate::exit::Exit;
use crate::view::Told;
use crate::world::World;

/// Stop every service and the gateway; keep data, releases and secrets
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {}

pub(crate) async fn run(_: &StopArgs, world: &World) -> Result<Exit, CliError> {
    let crew = deployment::crew(world, world.target()?, "platform stop");
    let environment = world.environment()?;
    if deployment::is_untouched(crew.target.as_ref()).await? {
        world.view.tell(&Told::note(format!(
            "nothing is deployed in `{environment}`, so there is nothing to stop"
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
