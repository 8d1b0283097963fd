use clap_complete::Shell;
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::error::CliError;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::view::Shown;
use crate::world::World;

/// Write a script that completes commands and flags in a shell
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

struct Script {
    shell: Shell,
    text: String,
}

impl Shown for Script {
    fn kind(&self) -> &'static str {
        "completions"
    }

    fn json(&self) -> Value {
        json!({ "shell": self.shell.to_string(), "script": self.text })
    }

    fn human(&self, _: Paint) -> String {
        self.text.clone()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as every command")]
pub(crate) fn run(args: &CompletionsArgs, world: &World) -> Result<Exit, CliError> {
    let mut bytes = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut Arguments::definition(),
        "platform",
        &mut bytes,
    );
    world.view.show(&Script {
        shell: args.shell,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    });
    Ok(Exit::Done)
}
