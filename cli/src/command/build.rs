//! `platform build`: artifacts, without running anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use platform_blueprint::{Build, Resolved, Service, ServiceName, Services};
use platform_decide::group::{Artifact, Place};
use platform_drive::build::{ArtifactStore, BuildEvent, BuildOptions, Builder};
use platform_drive::events::{Event, Events};
use platform_image::ImageStore;
use serde_json::{Value, json};

use crate::deployment::build_failed;
use crate::error::CliError;
use crate::exit::Exit;
use crate::images;
use crate::paint::Paint;
use crate::parties::known_services;
use crate::run_events::RunEvents;
use crate::table::{Cell, Table, Tone};
use crate::view::{Shown, Told};
use crate::world::World;

/// Build what has changed, and nothing else
#[derive(Debug, clap::Args)]
pub(crate) struct BuildArgs {
    /// Only this service; may be given more than once
    #[arg(long, value_name = "NAME")]
    service: Vec<ServiceName>,

    /// Build also what is built already
    #[arg(long)]
    again: bool,

    /// Build nothing; show what would be built, and by which key
    #[arg(long, conflicts_with = "again")]
    dry_run: bool,

    /// Make images, and send them to this registry, such as `ghcr.io/me`
    #[arg(long, value_name = "REGISTRY", conflicts_with = "dry_run")]
    push: Option<String>,

    /// Look up anew which images the blueprint's references stand for, and pin them
    #[arg(long)]
    update_images: bool,

    /// Also write each image into this folder: as an OCI layout, and as a file for `docker load`
    #[arg(long, value_name = "DIR", conflicts_with = "dry_run")]
    save: Option<PathBuf>,

    /// Afterwards remove artifacts that no release of any environment here refers to, but for the newest COUNT
    #[arg(long, value_name = "COUNT")]
    keep: Option<usize>,
}

/// What each build yields.
struct Artifacts {
    rows: Vec<Row>,
}

struct Row {
    service: ServiceName,
    artifact: Artifact,
    state: &'static str,
}

fn place(artifact: &Artifact) -> String {
    match &artifact.place {
        Place::Folder { path } => path.clone(),
        Place::Image { reference } => reference.clone(),
        Place::Installed => String::new(),
    }
}

impl Shown for Artifacts {
    fn kind(&self) -> &'static str {
        "artifacts"
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "service": row.service,
                "key": row.artifact.key,
                "state": row.state,
                "place": row.artifact.place,
            })
        });
        json!({ "artifacts": rows.collect::<Vec<_>>() })
    }

    fn human(&self, paint: Paint) -> String {
        let mut table = Table::new(&["SERVICE", "STATE", "KEY", "PLACE"]);
        for row in &self.rows {
            let tone = match row.state {
                "built" => Tone::Good,
                "to build" => Tone::Warn,
                _ => Tone::Dim,
            };
            table.row(vec![
                row.service.to_string().into(),
                Cell::new(row.state, tone),
                row.artifact.key.short().into(),
                Cell::new(place(&row.artifact), Tone::Dim),
            ]);
        }
        table.render(paint)
    }
}

pub(crate) async fn run(args: &BuildArgs, world: &World) -> Result<Exit, CliError> {
    let resolved = world.resolved()?;
    let services = &resolved.services;
    let named = known_services(resolved, &args.service)?;
    let builder = builder(args, world, resolved)?;
    let wanted: BTreeSet<ServiceName> = if named.is_empty() {
        services.keys().cloned().collect()
    } else {
        named.into_iter().collect()
    };
    let chosen: Services = services
        .iter()
        .filter(|(name, _)| wanted.contains(*name))
        .map(|(name, service)| (name.clone(), service.clone()))
        .collect();
    let before = builder
        .keys(&chosen)
        .map_err(|errors| build_failed(&errors))?;
    let state = |name: &ServiceName, artifact: &Artifact| {
        let service = &chosen[name];
        match (&artifact.place, builder.is_built(name, service, artifact)) {
            (Place::Installed, true) if service.build.is_none() => "installed",
            (Place::Image { .. }, true) if is_given(service) => "given",
            (Place::Image { .. }, false) if is_given(service) => "to pin",
            (_, true) => "unchanged",
            (_, false) => "to build",
        }
    };
    let states: BTreeMap<_, _> = before
        .iter()
        .map(|(name, artifact)| (name.clone(), state(name, artifact)))
        .collect();
    let artifacts = if args.dry_run {
        before
    } else {
        let events = RunEvents::new(&world.view);
        let sink = |event: BuildEvent| events.emit(Event::Build(event));
        let options = BuildOptions {
            parallelism: match world.globals.parallelism {
                0 => BuildOptions::default().parallelism,
                asked => asked,
            },
            again: args.again,
            stop: world.stop.token().clone(),
            ..BuildOptions::default()
        };
        let built = builder.build(services, Some(&wanted), &options, &sink);
        let built = built.await.map_err(|errors| build_failed(&errors))?;
        if args.service.is_empty() {
            let resources = images::of_resources(resolved);
            let pinned = builder.pin(&resources, &options, &sink).await;
            pinned.map_err(|errors| build_failed(&errors))?;
        }
        built
    };
    let rows = artifacts.into_iter().map(|(service, artifact)| {
        let was = states[&service];
        let made = !args.dry_run && (was == "to build" || args.again && was == "unchanged");
        let pinned = was == "to pin"
            && matches!(&artifact.place, Place::Image { reference } if reference.contains('@'));
        Row {
            state: if made {
                "built"
            } else if pinned {
                "pinned"
            } else {
                was
            },
            service,
            artifact,
        }
    });
    let shown = Artifacts {
        rows: rows.collect(),
    };
    if let (Some(folder), Some(store)) = (&args.save, builder.image_store()) {
        save(world, &world.here.join(folder), store, &shown)?;
    }
    if let Some(newest) = args.keep.filter(|_| !args.dry_run) {
        sweep(world, builder.store(), &shown, newest).await?;
    }
    world.view.show(&shown);
    Ok(Exit::Done)
}

fn is_given(service: &Service) -> bool {
    matches!(service.build, Some(Build::Image(_)))
}

/// What builds the environment's artifacts: images where it runs those, or where they are asked for.
fn builder(args: &BuildArgs, world: &World, resolved: &Resolved) -> Result<Builder, CliError> {
    let folder = &world.project()?.folder;
    let asked = args.push.is_some() || args.update_images || args.save.is_some();
    let target = match images::target(world, resolved, folder)? {
        None if asked => Some(images::any(world, resolved, folder)?),
        target => target,
    };
    Ok(match target {
        Some(mut target) => {
            if let Some(registry) = &args.push {
                target.registry = Some(registry.clone());
                target.push_again = true;
            }
            target.look_anew = args.update_images;
            Builder::new(folder).with_images(target)
        }
        None => Builder::new(folder),
    })
}

/// Writes the images that were assembled here.
fn save(
    world: &World,
    folder: &Path,
    store: &ImageStore,
    shown: &Artifacts,
) -> Result<(), CliError> {
    for row in &shown.rows {
        let Some(built) = store
            .built(row.artifact.key.as_str())
            .filter(|built| store.holds(&built.id))
        else {
            continue;
        };
        let (image, attachments) = store
            .image(&built)
            .map_err(|error| images::failed(&error))?;
        let layout = folder.join(row.service.as_str());
        image
            .write_layout(Some(row.service.as_str()), &attachments, &layout)
            .map_err(|error| images::failed(&error))?;
        let archive = folder.join(format!("{}.tar", row.service));
        let file = std::fs::File::create(&archive).map_err(|error| {
            let path = world.shown(&archive);
            CliError::new("image::file", format!("cannot write `{path}`")).because(&error)
        })?;
        image
            .write_archive(
                Some(
                    &place(&row.artifact)
                        .replace('@', ":")
                        .replace(":sha256:", ":sha256-"),
                ),
                std::io::BufWriter::new(file),
            )
            .map_err(|error| images::failed(&error))?;
    }
    let path = world.shown(folder);
    world
        .view
        .tell(&Told::note(format!("images are in {path}")));
    Ok(())
}

/// Removes artifacts that nothing refers to: neither a release of an environment here nor what was just built.
async fn sweep(
    world: &World,
    store: &ArtifactStore,
    shown: &Artifacts,
    newest: usize,
) -> Result<(), CliError> {
    let project = world.project()?;
    let mut referred_to: BTreeSet<_> = shown
        .rows
        .iter()
        .map(|row| row.artifact.key.clone())
        .collect();
    for environment in project.environments() {
        let resolved = project.resolve(Some(&environment))?;
        // Elsewhere artifacts are images; those here belong to the process provider.
        if resolved.environment.provider.kind() != platform_blueprint::ProviderKind::Process {
            continue;
        }
        let target = crate::target::of(&resolved, &project.folder)?;
        let releases = platform_drive::releases::all(target.store()).await?;
        let placed = releases
            .iter()
            .flat_map(|release| release.services.values());
        referred_to.extend(placed.map(|placed| placed.spec.artifact.key.clone()));
    }
    let gone = store
        .gc(&referred_to, newest)
        .map_err(|error| build_failed(&error.into()))?;
    let image_store = ImageStore::new(project.folder.join(".platform/images"));
    let kept: BTreeSet<String> = store
        .all()
        .into_iter()
        .map(|(key, _)| key.to_string())
        .collect();
    let referred: BTreeSet<String> = referred_to.iter().map(ToString::to_string).collect();
    image_store
        .gc(|key| kept.contains(key) || referred.contains(key))
        .map_err(|error| images::failed(&error))?;
    if gone > 0 {
        world
            .view
            .tell(&Told::note(format!("removed {gone} old artifacts")));
    }
    Ok(())
}
