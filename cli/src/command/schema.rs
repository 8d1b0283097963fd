use serde_json::{Value, json};

use crate::error::CliError;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::view::Shown;
use crate::world::World;

/// Write the JSON Schema of the blueprint, for editors
#[derive(Debug, clap::Args)]
pub(crate) struct SchemaArgs {}

struct Schema(Value);

impl Shown for Schema {
    fn kind(&self) -> &'static str {
        "schema"
    }

    fn json(&self) -> Value {
        json!({ "schema": self.0 })
    }

    fn human(&self, _: Paint) -> String {
        format!("{:#}\n", self.0)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as every command")]
pub(crate) fn run(_: &SchemaArgs, world: &World) -> Result<Exit, CliError> {
    world.view.show(&Schema(platform_blueprint::schema()));
    Ok(Exit::Done)
}
