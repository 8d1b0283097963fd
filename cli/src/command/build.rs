//! `platform build`: artifacts, without running anything.

use std::collections::{BTreeMap, BTreeSet};

use platform_blueprint::{Service, ServiceName};
use platform_decide::group::{Artifact, Place};
use platform_drive::build::{ArtifactStore, BuildEvent, BuildOptions, Builder};
use platform_drive::events::{Event, Events};
use serde_json::{Value, json};

use crate::deployment::build_failed;
use crate::error::CliError;
use crate::exit::Exit;
use crate::paint::Paint;
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
    if let Some(unknown) = args
        .service
        .iter()
        .find(|name| !services.contains_key(*name))
    {
        let known: Vec<&str> = services.keys().map(ServiceName::as_str).collect();
        return Err(CliError::new(
            "usage::unknown-service",
            format!("the blueprint has no service `{unknown}`"),
        )
        .help(format!("it has {}", known.join(", "))));
    }
    let builder = Builder::new(&world.project()?.folder);
    let wanted: BTreeSet<ServiceName> = if args.service.is_empty() {
        services.keys().cloned().collect()
    } else {
        args.service.iter().cloned().collect()
    };
    let chosen: BTreeMap<ServiceName, Service> = services
        .iter()
        .filter(|(name, _)| wanted.contains(*name))
        .map(|(name, service)| (name.clone(), service.clone()))
        .collect();
    let before = builder
        .keys(&chosen)
        .map_err(|errors| build_failed(&errors))?;
    let state = |name: &ServiceName, artifact: &Artifact| {
        let service = &chosen[name];
        match (&artifact.place, builder.is_built(service, artifact)) {
            (Place::Installed, true) if service.build.is_none() => "installed",
            (Place::Image { .. }, true) => "given",
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
        built.await.map_err(|errors| build_failed(&errors))?
    };
    let rows = artifacts.into_iter().map(|(service, artifact)| {
        let was = states[&service];
        let made = !args.dry_run && (was == "to build" || args.again && was == "unchanged");
        Row {
            state: if made { "built" } else { was },
            service,
            artifact,
        }
    });
    let shown = Artifacts {
        rows: rows.collect(),
    };
    if let Some(newest) = args.keep.filter(|_| !args.dry_run) {
        sweep(world, builder.store(), &shown, newest).await?;
    }
    world.view.show(&shown);
    Ok(Exit::Done)
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
    if gone > 0 {
        world
            .view
            .tell(&Told::note(format!("removed {gone} old artifacts")));
    }
    Ok(())
}
