//! `platform destroy`: everything of the environment's goes.

use crate::deployment;
use crate::error::CliError;
use crate::exit::Exit;
use crate::view::Told;
use crate::world::World;

/// Remove everything that carries the project's and environment's labels, and nothing else
#[derive(Debug, clap::Args)]
pub(crate) struct DestroyArgs {
    /// Remove the data of resources too; there is no way back
    #[arg(long)]
    data: bool,
}

pub(crate) async fn run(args: &DestroyArgs, world: &World) -> Result<Exit, CliError> {
    let crew = deployment::crew(world, world.target()?, "platform destroy");
    let environment = world.environment()?;
    // Before the lock, which is made where there is nothing yet: who declines leaves everything as it was.
    agreed(args, world, &crew).await?;
    // The lock is a document of the environment's, so it goes with the rest; giving it back again does no harm.
    let work = async |_: &_| Ok(crew.target.destroy(args.data).await?);
    deployment::under_lock(world, &crew, work).await?;
    let data = if args.data {
        "with its data"
    } else {
        "its data is kept"
    };
    world
        .view
        .tell(&Told::note(format!("`{environment}` is destroyed, {data}")));
    Ok(Exit::Done)
}

async fn agreed(
    args: &DestroyArgs,
    world: &World,
    crew: &platform_drive::apply::Crew,
) -> Result<(), CliError> {
    // What cannot be looked at is not destroyed: nothing found is not the same as nothing there.
    let seen = crew.target.observe().await?;
    let environment = world.environment()?;
    let data = if args.data { " and all its data" } else { "" };
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    };
    let question = format!(
        "Destroy `{environment}`{data}: {}, {}?",
        count(seen.groups.len(), "group"),
        count(seen.resources.len(), "resource")
    );
    if !world.confirm(&question)? {
        return Err(CliError::new("run::declined", "nothing was destroyed"));
    }
    Ok(())
}
