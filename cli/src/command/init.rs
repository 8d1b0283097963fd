//! `platform init`: a project to start from.

use std::fmt::Write as _;
use std::path::PathBuf;

use platform_templates::{Initialized, ProjectTemplate, TemplateError};
use serde_json::{Value, json};

use crate::diagnostic::Diagnostic;
use crate::error::CliError;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::view::Shown;
use crate::world::World;

/// Write a project to start from: blueprint, services, workspace, CI
///
/// Files that are there are never overwritten.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Folder to write to, made if need be; the one you are in otherwise
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,

    /// What to start from
    #[arg(long, value_enum, default_value_t = Template::Shop)]
    template: Template,

    /// Name of the project; the folder's otherwise
    #[arg(long)]
    name: Option<String>,

    /// Leave files that are in the way as they are and write the rest
    #[arg(long)]
    keep: bool,

    /// Make no git repository
    #[arg(long)]
    no_git: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Template {
    /// The reference project: a storefront and its orders
    Shop,
    /// One small service in Rust
    Minimal,
}

struct Written<'a> {
    folder: String,
    template: ProjectTemplate,
    made: &'a Initialized,
    /// Whether the folder is another than the one we are in.
    elsewhere: bool,
}

impl Shown for Written<'_> {
    fn kind(&self) -> &'static str {
        "initialized"
    }

    fn json(&self) -> Value {
        json!({
            "folder": self.folder,
            "project": self.made.name,
            "template": self.template.as_str(),
            "repository": self.made.repository,
            "written": self.made.placed.written,
            "kept": self.made.placed.kept,
        })
    }

    fn human(&self, paint: Paint) -> String {
        let placed = &self.made.placed;
        let mut text = format!(
            "{} {} files for project {} in {}\n",
            paint.green("wrote"),
            placed.written.len(),
            paint.bold(self.made.name.as_str()),
            self.folder,
        );
        if !placed.kept.is_empty() {
            let _ = writeln!(text, "kept  {}", placed.kept.join(", "));
        }
        text.push_str("next:\n");
        if self.elsewhere {
            let _ = writeln!(text, "  cd {}", quoted(&self.folder));
        }
        text.push_str("  platform deploy\n");
        text
    }
}

/// A path as it is typed in a shell.
fn quoted(path: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+".contains(letter);
    if path.chars().all(plain) && !path.starts_with('-') {
        return path.to_owned();
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

pub(crate) fn run(args: &InitArgs, world: &World) -> Result<Exit, CliError> {
    let folder = match &args.folder {
        Some(folder) => world.here.join(folder),
        None => world.here.clone(),
    };
    let template = match args.template {
        Template::Shop => ProjectTemplate::Shop,
        Template::Minimal => ProjectTemplate::Minimal,
    };
    let made = platform_templates::init(
        &folder,
        template,
        args.name.as_deref(),
        args.keep,
        !args.no_git,
    )
    .map_err(|error| failed(&error))?;
    let shown = world.shown(&folder);
    world.view.accompany(&Written {
        folder: if shown.is_empty() {
            ".".to_owned()
        } else {
            shown
        },
        template,
        made: &made,
        elsewhere: folder != world.here,
    });
    Ok(Exit::Done)
}

/// Why nothing was written.
pub(super) fn failed(error: &TemplateError) -> CliError {
    Diagnostic::error(error.code(), error.to_string())
        .behind(error)
        .maybe_help(error.help().map(str::to_owned))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_a_shell_reads_them() {
        for (path, expected) in [
            ("shop", "shop"),
            ("../a/shop-1", "../a/shop-1"),
            ("my shop é", "'my shop é'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quoted(path), expected);
        }
    }
}
