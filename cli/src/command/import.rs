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
use platform_compose::{Code, Document, Imported, Inputs, Left, dotenv};
use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::error::CliError;
use crate::excerpt::Excerpt;
use crate::exit::Exit;
use crate::file;
use crate::paint::Paint;
use crate::project;
use crate::view::{Shown, Told};
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

/// Write a blueprint from Compose files, and list all that it could not carry
///
/// Files that they include, or whose services they extend, are read along. Variables are taken from the environment and from `.env` beside the file, as Compose does.
///
/// Values that look secret are not written: the blueprint names secrets, for `platform secrets set`.
#[derive(Debug, clap::Args)]
struct ComposeArgs {
    /// The Compose file; of several, each is laid over those before; `-` reads standard input
    #[arg(value_name = "FILE", required = true)]
    compose: Vec<PathBuf>,

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
    let read: Vec<Source> = args
        .compose
        .iter()
        .map(|path| Source::read(path, world))
        .collect::<Result<_, _>>()?;
    let folder = read[0].path.parent().unwrap_or(&world.here).to_owned();
    tell_override(&read, &folder, world);
    let documents: Vec<Document<'_>> = read.iter().map(Source::document).collect();
    let folder_name = fs::canonicalize(&folder).unwrap_or_else(|_| folder.clone());
    let folder_name = folder_name
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let imported = platform_compose::import(&Inputs {
        documents: &documents,
        folder: &folder_name,
        variables: &variables(args, &folder)?,
        profiles: &args.profile.iter().cloned().collect::<BTreeSet<_>>(),
        files: &|path| fs::read_to_string(folder.join(path)).ok(),
    });
    let imported = imported.map_err(|left| {
        let document = documents[left.file.min(documents.len() - 1)];
        let told = diagnostic(&left, document.name, Some(document.text), Severity::Error);
        CliError::many(Exit::Failed, vec![told])
    })?;
    for left in &imported.left {
        let severity = match left.code {
            Code::SecretToSet | Code::Otherwise => Severity::Note,
            _ => Severity::Warning,
        };
        let told = if let Some(document) = documents.get(left.file) {
            diagnostic(left, document.name, Some(document.text), severity)
        } else {
            let name = world.shown(&folder.join(&imported.files[left.file]));
            diagnostic(left, &name, None, severity)
        };
        world.view.diagnose(&told);
    }
    if !is_stream {
        file::put(&out, imported.blueprint.as_bytes(), Some(0o644))?;
    }
    let names: Vec<&str> = documents.iter().map(|document| document.name).collect();
    let shown = Written {
        file: (!is_stream).then(|| world.shown(&out)),
        from: names.join(", "),
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

/// A Compose file that was named.
struct Source {
    path: PathBuf,
    /// As people know it.
    name: String,
    text: String,
}

impl Source {
    fn read(path: &Path, world: &World) -> Result<Self, CliError> {
        if path == Path::new("-") {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| CliError::file("read", path, &error))?;
            return Ok(Self {
                path: world.here.join("compose.yaml"),
                name: "standard input".to_owned(),
                text,
            });
        }
        let path = world.here.join(path);
        let text =
            fs::read_to_string(&path).map_err(|error| CliError::file("read", &path, &error))?;
        let name = world.shown(&path);
        Ok(Self { path, name, text })
    }

    fn document(&self) -> Document<'_> {
        Document {
            name: &self.name,
            text: &self.text,
        }
    }
}

/// Tells of the file that Compose lays over the one that was named where nobody names any.
fn tell_override(read: &[Source], folder: &Path, world: &World) {
    let [only] = read else {
        return;
    };
    let stem = only.path.file_stem().unwrap_or_default().to_string_lossy();
    for kind in ["yml", "yaml"] {
        let beside = folder.join(format!("{stem}.override.{kind}"));
        if beside.is_file() {
            let name = world.shown(&beside);
            world.view.tell(&Told::note(format!(
                "`{name}` lies beside it and is not read; name it after it to have it laid over it"
            )));
        }
    }
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

fn diagnostic(left: &Left, name: &str, text: Option<&str>, severity: Severity) -> Diagnostic {
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
    if let (Code::Syntax, Some(text)) = (left.code, text) {
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
                "file": self.imported.files.get(left.file),
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
