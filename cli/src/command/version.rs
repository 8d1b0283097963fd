use serde_json::Value;

use crate::error::CliError;
use crate::exit::Exit;
use crate::globals::Format;
use crate::paint::Paint;
use crate::view::{self, Shown};
use crate::world::World;

/// Say which version this is and what it carries
#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    /// Write one line of JSON: version, commit, target, features
    #[arg(long)]
    json: bool,
}

struct Version {
    json: bool,
}

impl Shown for Version {
    fn kind(&self) -> &'static str {
        "version"
    }

    fn json(&self) -> Value {
        view::header()
    }

    fn human(&self, paint: Paint) -> String {
        let header = view::header();
        if self.json {
            return format!("{header}\n");
        }
        let text = |key: &str| header[key].as_str().unwrap_or("unknown").to_owned();
        let features: Vec<&str> = header["features"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        format!(
            "{}\ncommit   {}\ntarget   {}\ncarries  {}\n",
            paint.bold(&format!("platform {}", text("version"))),
            text("commit"),
            text("target"),
            features.join(", ")
        )
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as every command")]
pub(crate) fn run(args: &VersionArgs, world: &World) -> Result<Exit, CliError> {
    // The stream of JSON lines begins with this very line.
    if world.globals.format == Format::Human {
        world.view.show(&Version { json: args.json });
    }
    Ok(Exit::Done)
}
