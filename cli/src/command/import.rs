//! `platform import`: a blueprint from what another tool runs.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use miette::LabeledSpan;
use platform_blueprint::Blueprint;
use platform_compose::{Code, Imported, Inputs, Left, dotenv};
use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::error::CliError;
use crate::excerpt::Excerpt;
use crate::exit::Exit;
use crate::file;
use crate::paint::Paint;
use crate::project;
use crate::view::Shown;
use crate::world::World;

/// Write a blueprint from what another tool runs
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    form: Form,
}

#[derive(Debug, Subcommand)]
enum Form {
    Compose(ComposeArgs),
}

/// Write a blueprint from a Compose file, and list all that it could not carry
///
/// Variables are taken from the environment and from `.env` beside the file, as Compose does.
///
/// Values that look secret are not written: the blueprint names secrets, for `platform secrets set`.
#[derive(Debug, clap::Args)]
struct ComposeArgs {
    /// The Compose file; `-` reads standard input
    #[arg(value_name = "FILE")]
    compose: PathBuf,

    /// The blueprint to write; `-` writes it to standard output
    #[arg(short, long, value_name = "FILE", default_value = project::BLUEPRINT)]
    out: PathBuf,

    /// Write over a file that is there
    #[arg(long)]
    force: bool,

    /// A file with variables, in place of `.env` beside the Compose file
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,

    /// Take in services of this profile, too; may be given more than once
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
}

pub(crate) fn run(args: &ImportArgs, world: &World) -> Result<Exit, CliError> {
    match &args.form {
        Form::Compose(args) => compose(args, world),
    }
}

fn compose(args: &ComposeArgs, world: &World) -> Result<Exit, CliError> {
    let is_stream = args.out == Path::new("-");
    let out = world.here.join(&args.out);
    if !is_stream && !args.force && out.exists() {
        return Err(CliError::new(
            "import::file-exists",
            format!("`{}` is there already", world.shown(&out)),
        )
        .help("name another file with `--out`, or write over it with `--force`"));
    }
    let (path, text) = read(&args.compose, world)?;
    let folder = path.parent().unwrap_or(&world.here).to_owned();
    let name = if args.compose == Path::new("-") {
        "standard input".to_owned()
    } else {
        world.shown(&path)
    };
    let folder_name = fs::canonicalize(&folder).unwrap_or_else(|_| folder.clone());
    let folder_name = folder_name
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let imported = platform_compose::import(&Inputs {
        name: &name,
        folder: &folder_name,
        text: &text,
        variables: &variables(args, &folder)?,
        profiles: &args.profile.iter().cloned().collect::<BTreeSet<_>>(),
        files: &|path| fs::read_to_string(folder.join(path)).ok(),
    });
    let imported = imported.map_err(|left| {
        CliError::many(
            Exit::Failed,
            vec![diagnostic(&left, &name, &text, Severity::Error)],
        )
    })?;
    for left in &imported.left {
        let severity = match left.code {
            Code::SecretToSet | Code::Otherwise => Severity::Note,
            _ => Severity::Warning,
        };
        world
            .view
            .diagnose(&diagnostic(left, &name, &text, severity));
    }
    if !is_stream {
        file::put(&out, imported.blueprint.as_bytes(), Some(0o644))?;
    }
    let shown = Written {
        file: (!is_stream).then(|| world.shown(&out)),
        from: name,
        imported: &imported,
    };
    match shown.file {
        Some(_) => world.view.accompany(&shown),
        None => world.view.show(&shown),
    }
    // What was written stays, for whoever is to mend it.
    let checked = Blueprint::parse(&imported.blueprint, shown.file.as_deref().unwrap_or("-"));
    checked.map_err(|found| project::problems(&found))?;
    Ok(Exit::Done)
}

/// The Compose file and its text.
fn read(path: &Path, world: &World) -> Result<(PathBuf, String), CliError> {
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| CliError::file("read", path, &error))?;
        return Ok((world.here.join("compose.yaml"), text));
    }
    let path = world.here.join(path);
    let text = fs::read_to_string(&path).map_err(|error| CliError::file("read", &path, &error))?;
    Ok((path, text))
}

/// Variables as Compose has them: those of the environment, and those of the file.
fn variables(args: &ComposeArgs, folder: &Path) -> Result<BTreeMap<String, String>, CliError> {
    let own: BTreeMap<String, String> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let path = match &args.env_file {
        Some(path) => path.clone(),
        None => folder.join(".env"),
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if args.env_file.is_none() && error.kind() == io::ErrorKind::NotFound => {
            return Ok(own);
        }
        Err(error) => return Err(CliError::file("read", &path, &error)),
    };
    let mut all = dotenv(&text, &own);
    all.extend(own);
    Ok(all)
}

fn diagnostic(left: &Left, name: &str, text: &str, severity: Severity) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(left.code.as_str(), left.to_string())
        .severity(severity)
        .maybe_help(left.help.clone());
    if left.code == Code::SecretToSet {
        return diagnostic;
    }
    diagnostic.place = Some(Place {
        file: name.to_owned(),
        line: left.line,
        column: left.column,
    });
    // The value itself may be a secret, so only mistakes show the text around them.
    if matches!(left.code, Code::Syntax) {
        let lines = text.split_inclusive('\n').take(left.line.saturating_sub(1));
        let begin = lines.map(str::len).sum::<usize>() + left.column.saturating_sub(1);
        let label = LabeledSpan::new_primary_with_span(
            Some("here".to_owned()),
            begin.min(text.len())..begin.min(text.len()),
        );
        diagnostic.excerpt = Some(Excerpt::new(name, text, vec![label]));
    }
    diagnostic
}

/// What was written.
struct Written<'a> {
    file: Option<String>,
    from: String,
    imported: &'a Imported,
}

impl Shown for Written<'_> {
    fn kind(&self) -> &'static str {
        "imported"
    }

    fn json(&self) -> Value {
        let left = self.imported.left.iter().map(|left| {
            json!({
                "code": left.code.as_str(),
                "place": left.place,
                "line": left.line,
                "why": left.why,
                "help": left.help,
            })
        });
        json!({
            "file": self.file,
            "left": left.collect::<Vec<_>>(),
            "secrets": self.imported.secrets,
            "text": self.file.is_none().then_some(&self.imported.blueprint),
        })
    }

    fn human(&self, paint: Paint) -> String {
        let Some(file) = &self.file else {
            return self.imported.blueprint.clone();
        };
        let [services, resources, routes] = self.imported.counts;
        let mut text = format!(
            "{} {} from {}: services {services}, resources {resources}, routes {routes}; {} not carried or carried otherwise, listed at its top\nnext:\n",
            paint.green("wrote"),
            paint.bold(file),
            self.from,
            match self.imported.left.len() {
                1 => "1 thing is".to_owned(),
                count => format!("{count} things are"),
            },
        );
        for secret in &self.imported.secrets {
            let _ = writeln!(text, "  platform secrets set {secret}");
        }
        text.push_str("  platform validate\n");
        text
    }
}
