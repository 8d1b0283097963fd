use std::time::Duration;

use platform_port::Target;

use crate::error::CliError;
use crate::exit::Exit;
use crate::status::{self, Status};
use crate::world::World;

/// Show what runs and how it is: services, resources, gateway, release
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits 0 whatever it sees; with --detailed-exitcode 2 where something is not ready."
)]
pub(crate) struct StatusArgs {
    /// Go on showing what changes until stopped
    #[arg(short, long)]
    watch: bool,
    /// Exit with 2 where something is not ready
    #[arg(long, env = "PLATFORM_DETAILED_EXITCODE", value_parser = clap::builder::FalseyValueParser::new())]
    detailed_exitcode: bool,
}

/// Looks at an environment and shows what was seen, as at the end of a run.
pub(crate) async fn show(world: &World, target: &dyn Target) -> Result<(), CliError> {
    let status = status::look(world, world.resolved()?, target).await?;
    world.view.accompany(&status);
    if let Some(url) = status.url() {
        world.view.output("url", url);
    }
    world.view.summary(&status.markdown());
    Ok(())
}

pub(crate) async fn run(args: &StatusArgs, world: &World) -> Result<Exit, CliError> {
    world.tolerate().await?;
    let resolved = world.resolved()?;
    let target = world.target()?;
    let mut status = status::look(world, resolved, target.as_ref()).await?;
    if !args.watch {
        world.view.show(&status);
        return Ok(exit(args, &status));
    }
    loop {
        world.view.redraw(&status);
        tokio::select! {
            () = target.changed(Duration::from_secs(2)) => {}
            () = world.stop.token().cancelled() => return Ok(exit(args, &status)),
        }
        if world.view.closed() {
            return Ok(exit(args, &status));
        }
        status = tokio::select! {
            status = status::look(world, resolved, target.as_ref()) => status?,
            () = world.stop.token().cancelled() => return Ok(exit(args, &status)),
        };
    }
}

fn exit(args: &StatusArgs, status: &Status) -> Exit {
    if args.detailed_exitcode && !status.ready {
        Exit::Changes
    } else {
        Exit::Done
    }
}
