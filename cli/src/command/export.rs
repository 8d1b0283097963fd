//! `platform export`: an environment in the form of another tool.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use platform_blueprint::{Build, ProviderKind, SecretName, Service};
use platform_decide::desired::Desired;
use platform_docker::{ExportAsked, Exported};
use platform_port::SecretValues;
use platform_secrets::Keyring;
use serde_json::{Value, json};

use crate::deployment::{self, Asked};
use crate::diagnostic::{Diagnostic, Severity};
use crate::error::CliError;
use crate::exit::Exit;
use crate::file;
use crate::paint::Paint;
use crate::view::{Shown, Told};
use crate::world::World;

/// The first line of every file that we write, by which we know that it is ours to write again.
const MARK: &str = "Written by `platform export compose`";
/// The credentials of resources, in the folder beside a Compose file.
const CREDENTIALS: &str = "credentials.json";

/// Write an environment in the form of another tool
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    form: Form,
}

#[derive(Debug, Subcommand)]
enum Form {
    Compose(ComposeArgs),
}

/// Write a Compose file that runs the same system
///
/// What is secret, and the gateway's configuration, lie in a folder beside it. Images that no registry has are brought to the
/// engine; nothing is started.
#[derive(Debug, clap::Args)]
struct ComposeArgs {
    /// The file to write; `-` writes it to standard output
    #[arg(short, long, value_name = "FILE", default_value = "compose.yaml")]
    out: PathBuf,

    /// Write over a file that was not written by this command
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(args: &ExportArgs, world: &World) -> Result<Exit, CliError> {
    match &args.form {
        Form::Compose(args) => compose(args, world).await,
    }
}

async fn compose(args: &ComposeArgs, world: &World) -> Result<Exit, CliError> {
    let resolved = world.resolved()?;
    if resolved.environment.provider.kind() == ProviderKind::Process {
        return Err(CliError::new(
            "export::not-containers",
            format!(
                "environment `{}` runs local processes, and a Compose file runs containers",
                resolved.environment.name
            ),
        )
        .help("name an environment on another provider with `-e`"));
    }
    let place = Place::of(&args.out, world);
    if let Some(file) = place.file.as_deref().filter(|_| !args.force) {
        is_ours(file, world)?;
    }
    let mut asked = Asked::of(world)?;
    deployment::judge(world, &platform_docker::refused(&asked.desired))?;
    // What is given by reference is had by whoever starts it.
    let given = |service: &Service| matches!(service.build, Some(Build::Image(_)));
    let built = resolved
        .services
        .iter()
        .filter(|(_, service)| !given(service));
    let built: BTreeSet<_> = built.map(|(name, _)| name.clone()).collect();
    if !built.is_empty() {
        asked.build(world, &built, &BTreeSet::new()).await?;
    }
    let secrets = secrets(world, &asked.desired)?;
    let credentials = place.credentials()?;
    let target = crate::target::containers(resolved, &world.project()?.folder)?;
    let mut exported = target
        .export(&ExportAsked {
            desired: &asked.desired,
            secrets: &secrets,
            credentials: &credentials,
            folder: &place.name,
        })
        .await?;
    for image in &exported.unknown {
        let warning = Diagnostic::error(
            "export::image-unknown",
            format!(
                "image `{image}` is not on the engine, so its user and its own command are not known and stay as they are"
            ),
        );
        let help = format!(
            "run `docker pull {image}` and export again, and it runs as a deploy would have it"
        );
        let warning = warning.severity(Severity::Warning).help(help);
        world.view.diagnose(&warning);
    }
    let environment = resolved.environment.name.as_str();
    exported
        .file
        .note(world.project()?.blueprint.text(), environment);
    let text = text(&exported, &resolved.environment.name, &place.name)?;
    place.write(&exported)?;
    let shown = match &place.file {
        Some(file) => {
            put(file, text.as_bytes(), 0o644)?;
            Written {
                file: Some(world.shown(file)),
                folder: world.shown(&place.folder),
                exported: &exported,
                text,
            }
        }
        None => Written {
            file: None,
            folder: world.shown(&place.folder),
            exported: &exported,
            text,
        },
    };
    match shown.file {
        Some(_) => world.view.accompany(&shown),
        None => world.view.show(&shown),
    }
    if place.file.is_none() {
        let note = format!("what it refers to is in {}", shown.folder);
        world.view.tell(&Told::note(note));
    }
    Ok(Exit::Done)
}

/// The Compose file's text.
fn text(
    exported: &Exported,
    environment: &platform_blueprint::EnvironmentName,
    folder: &str,
) -> Result<String, CliError> {
    let lines = [
        &format!("{MARK} from environment `{environment}`; export again rather than change it.")[..],
        "",
        "  docker-compose up --detach       starts it",
        "  docker-compose down --volumes    takes it down, with its data",
        "",
        &format!(
            "Secrets and the gateway's configuration are in {folder}, which is not for a repository."
        ),
    ];
    exported.file.to_yaml(&lines).map_err(|error| {
        CliError::new("bug::compose", "cannot write a Compose file").because(&error)
    })
}

/// The values of every secret that services and the gateway are handed.
fn secrets(world: &World, desired: &Desired) -> Result<SecretValues, CliError> {
    let of_services = desired.services.values();
    let of_services = of_services.flat_map(|service| service.spec.secrets.keys());
    let of_resources = desired.resources.values();
    let of_resources = of_resources
        .filter_map(|wanted| wanted.resource.external.as_ref())
        .map(|external| &external.secret);
    let names: BTreeSet<&SecretName> = of_services
        .chain(desired.ingress.secrets.keys())
        .chain(of_resources)
        .collect();
    Ok(world.secrets()?.values(names, Keyring::load_or_create)?)
}

/// Refuses to write over what somebody else wrote.
fn is_ours(file: &Path, world: &World) -> Result<(), CliError> {
    match fs::read_to_string(file) {
        Ok(text) if text.starts_with(&format!("# {MARK}")) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(CliError::file("read", file, &error)),
        Ok(_) => Err(CliError::new(
            "export::file-exists",
            format!(
                "`{}` is there, and was not written by this command",
                world.shown(file)
            ),
        )
        .help("name another file with `--out`, or write over it with `--force`")),
    }
}

/// Where an export goes.
struct Place {
    /// The Compose file; `None` for standard output.
    file: Option<PathBuf>,
    /// The folder beside it.
    folder: PathBuf,
    /// The same as the Compose file names it.
    name: String,
}

impl Place {
    fn of(out: &Path, world: &World) -> Self {
        let is_stream = out == Path::new("-");
        let path = if is_stream {
            world.here.join("compose.yaml")
        } else {
            world.here.join(out)
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        // Where no build of an image looks.
        let name = format!(".platform/{stem}.files");
        Self {
            folder: path.with_file_name(&name),
            name: format!("./{name}"),
            file: (!is_stream).then_some(path),
        }
    }

    /// The credentials that an earlier export made.
    fn credentials(&self) -> Result<BTreeMap<String, String>, CliError> {
        let path = self.folder.join(CREDENTIALS);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(CliError::file("read", &path, &error)),
        };
        serde_json::from_slice(&text).map_err(|_| {
            CliError::new(
                "export::bad-credentials",
                format!(
                    "`{}` does not hold the credentials of an export",
                    path.display()
                ),
            )
            .help("put it back as it was, or remove it together with the volumes of the resources")
        })
    }

    /// Writes what the Compose file refers to. The folder is for its owner alone, the files in it are for whatever user a
    /// container has: Compose mounts them with the rights that they have here.
    fn write(&self, exported: &Exported) -> Result<(), CliError> {
        let secrets = self.folder.join("secrets");
        for folder in [&self.folder, &secrets] {
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder);
            let made =
                made.and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o700)));
            made.map_err(|error| CliError::file("write", folder, &error))?;
        }
        put(&self.folder.join(".gitignore"), b"*\n", 0o644)?;
        let kept = serde_json::to_vec_pretty(&exported.credentials).unwrap_or_default();
        put(&self.folder.join(CREDENTIALS), &kept, 0o600)?;
        for (path, file) in &exported.files {
            put(&self.folder.join(path), &file.0, 0o444)?;
        }
        // What nothing refers to any more.
        let left = fs::read_dir(&secrets).into_iter().flatten().flatten();
        for entry in left {
            let path = format!("secrets/{}", entry.file_name().to_string_lossy());
            if !exported.files.contains_key(&path) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

/// Writes a file whole or not at all; what is as it should be stays, for a container may have it open.
fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CliError> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        let rights = fs::Permissions::from_mode(mode);
        return fs::set_permissions(path, rights)
            .map_err(|error| CliError::file("write", path, &error));
    }
    file::put(path, bytes, Some(mode))
}

/// What was written.
struct Written<'a> {
    file: Option<String>,
    folder: String,
    exported: &'a Exported,
    text: String,
}

impl Shown for Written<'_> {
    fn kind(&self) -> &'static str {
        "exported"
    }

    fn json(&self) -> Value {
        json!({
            "file": self.file,
            "folder": self.folder,
            "services": self.exported.file.services.keys().collect::<Vec<_>>(),
            "volumes": self.exported.file.volumes.keys().collect::<Vec<_>>(),
            "text": self.file.is_none().then_some(&self.text),
        })
    }

    fn human(&self, paint: Paint) -> String {
        let Some(file) = &self.file else {
            return self.text.clone();
        };
        let count = self.exported.file.services.len();
        let option = if file == "compose.yaml" {
            String::new()
        } else {
            format!(" --file {file}")
        };
        format!(
            "{} {} with {count} services; secrets and the gateway's configuration are in {}\nnext:\n  docker-compose{option} up --detach\n",
            paint.green("wrote"),
            paint.bold(file),
            self.folder,
        )
    }
}
