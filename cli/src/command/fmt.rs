use std::io::{self, Read};
use std::path::{Path, PathBuf};

use platform_blueprint::Blueprint;
use serde_json::{Value, json};
use similar::TextDiff;

use crate::error::CliError;
use crate::exit::Exit;
use crate::file;
use crate::paint::Paint;
use crate::project::{self, BLUEPRINT};
use crate::view::{Shown, Told};
use crate::world::World;

/// Write a blueprint the usual way, keeping its comments
#[derive(Debug, clap::Args)]
pub(crate) struct FmtArgs {
    /// The blueprint or its folder, or `-` to read standard input and write standard output
    path: Option<PathBuf>,
    /// Change nothing; show what would change and fail if anything would
    #[arg(long)]
    check: bool,
}

/// What formatting came to.
struct Formatted<'a> {
    file: &'a str,
    changed: bool,
    /// What to write for people: the text itself, a difference, or nothing.
    shown: Body,
}

enum Body {
    Nothing,
    Text(String),
    Difference(String),
}

impl Shown for Formatted<'_> {
    fn kind(&self) -> &'static str {
        "formatted"
    }

    fn json(&self) -> Value {
        let mut line = json!({ "file": self.file, "changed": self.changed });
        match &self.shown {
            Body::Nothing => {}
            Body::Text(text) => line["text"] = text.as_str().into(),
            Body::Difference(text) => line["difference"] = text.as_str().into(),
        }
        line
    }

    fn human(&self, paint: Paint) -> String {
        match &self.shown {
            Body::Nothing => String::new(),
            Body::Text(text) => text.clone(),
            Body::Difference(text) => text
                .split_inclusive('\n')
                .map(|line| match line.as_bytes().first() {
                    Some(b'+') => paint.green(line),
                    Some(b'-') => paint.red(line),
                    Some(b'@') => paint.dim(line),
                    _ => line.to_owned(),
                })
                .collect(),
        }
    }
}

pub(crate) fn run(args: &FmtArgs, world: &World) -> Result<Exit, CliError> {
    let piped = args.path.as_deref() == Some(Path::new("-"));
    let path = match &args.path {
        _ if piped => PathBuf::from("-"),
        Some(path) if world.here.join(path).is_dir() => world.here.join(path).join(BLUEPRINT),
        Some(path) => world.here.join(path),
        None => world.blueprint_path()?,
    };
    let shown = if piped {
        "standard input".to_owned()
    } else {
        world.shown(&path)
    };
    let before = if piped {
        let mut text = String::new();
        io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| CliError::file("read", Path::new("standard input"), &error))?;
        text
    } else {
        project::read(&path, &shown)?
    };
    let after = formatted(&before, &shown)?;
    let changed = before != after;
    let result = |shown_body| Formatted {
        file: &shown,
        changed,
        shown: shown_body,
    };
    if args.check {
        if !changed {
            world.view.accompany(&result(Body::Nothing));
            return Ok(Exit::Done);
        }
        let difference = TextDiff::from_lines(&before, &after)
            .unified_diff()
            .header(&shown, &format!("{shown} (formatted)"))
            .to_string();
        world.view.show(&result(Body::Difference(difference)));
        return Err(CliError::new(
            "fmt::not-formatted",
            format!("`{shown}` is not written the usual way"),
        )
        .help("run `platform fmt`"));
    }
    if piped {
        world.view.show(&result(Body::Text(after)));
        return Ok(Exit::Done);
    }
    if changed {
        file::put(&path, after.as_bytes(), None)?;
        world.view.tell(&Told::note(format!("wrote `{shown}`")));
    }
    world.view.accompany(&result(Body::Nothing));
    Ok(Exit::Done)
}

/// The text written the usual way; a text that is not TOML has none.
fn formatted(text: &str, shown: &str) -> Result<String, CliError> {
    platform_blueprint::format(text).ok_or_else(|| match Blueprint::parse(text, shown) {
        Err(found) => project::problems(&found),
        Ok(_) => CliError::new("fmt::cannot-format", format!("cannot format `{shown}`")),
    })
}
