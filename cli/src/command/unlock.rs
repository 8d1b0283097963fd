use platform_drive::lease::{self, Holder};
use serde_json::{Value, json};

use crate::error::CliError;
use crate::exit::Exit;
use crate::moment;
use crate::paint::Paint;
use crate::view::{Shown, Told};
use crate::world::World;

/// Take the environment's lock away from a run that is gone
#[derive(Debug, clap::Args)]
pub(crate) struct UnlockArgs {
    /// Also from a run that is alive on this machine
    #[arg(long)]
    force: bool,
}

struct Lock {
    holder: Option<Holder>,
    now: u64,
}

impl Shown for Lock {
    fn kind(&self) -> &'static str {
        "lock"
    }

    fn json(&self) -> Value {
        let lives = self.holder.as_ref().and_then(|holder| holder.owner.lives());
        json!({ "holder": self.holder, "alive": lives })
    }

    fn human(&self, paint: Paint) -> String {
        let Some(holder) = &self.holder else {
            return "nobody holds the lock\n".to_owned();
        };
        let state = match holder.owner.lives() {
            Some(true) => paint.yellow("and is alive"),
            Some(false) => paint.green("and has ended"),
            None => "on another machine".to_owned(),
        };
        format!(
            "`{}` of {} holds the lock since {} {state} (run {})\n",
            holder.command,
            holder.owner,
            moment::age_of(&holder.since, self.now),
            holder.run
        )
    }
}

pub(crate) async fn run(args: &UnlockArgs, world: &World) -> Result<Exit, CliError> {
    let target = world.target()?;
    let store = target.store();
    let lock = Lock {
        holder: lease::holder(store).await?,
        now: world.clock.millis(),
    };
    world.view.show(&lock);
    let Some(holder) = &lock.holder else {
        return Ok(Exit::Done);
    };
    if holder.owner.lives() == Some(true) && !args.force {
        return Err(CliError::new(
            "lock::alive",
            format!(
                "`{}` ({}) is alive and may be in the middle of a step",
                holder.command, holder.owner
            ),
        )
        .help("stop it with Ctrl-C where it runs, or take the lock away with `--force`"));
    }
    if !world.confirm("take the lock away?")? {
        world.view.tell(&Told::important("left as it is"));
        return Ok(Exit::Failed);
    }
    lease::force_release(store).await?;
    world.view.tell(&Told::note("the lock is free"));
    Ok(Exit::Done)
}
