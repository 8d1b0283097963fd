use std::time::Duration;

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
