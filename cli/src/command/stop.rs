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
    let lease = deployment::lock(world, &crew).await?;
    let environment = world.environment()?;
    let result = match world.confirm_unless_own(&format!("Stop everything in `{environment}`?")) {
        Ok(true) => crew.target.stop().await.map_err(CliError::from),
        Ok(false) => Err(CliError::new("run::declined", "nothing was stopped")),
        Err(error) => Err(error),
    };
    let released = lease.release().await;
    result?;
    released?;
    world.view.tell(&Told::note(format!(
        "everything in `{environment}` is stopped; `platform deploy` brings it up again"
    )));
    Ok(Exit::Done)
}
