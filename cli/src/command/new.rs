//! `platform new`: another part of a project.

use clap::Subcommand;
use platform_blueprint::ServiceName;
use platform_templates::{Added, NewService, ServiceTemplate};
use serde_json::{Value, json};

use super::init::failed;
use crate::error::CliError;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::project::Project;
use crate::view::Shown;
use crate::world::World;

/// Add a part to the project: its files, and its place in the blueprint
#[derive(Debug, clap::Args)]
pub(crate) struct NewArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Add a service from a template, with a route that leads to it
    Service {
        /// Name of the service
        name: ServiceName,

        /// What to start from
        #[arg(long, value_enum)]
        template: Template,

        /// Path of its route; `/NAME` otherwise, or `/` where nothing is there yet
        #[arg(long, value_name = "PATH", value_parser = route)]
        route: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Template {
    /// Rust, on axum
    Axum,
    /// Python, on `FastAPI`
    Fastapi,
    /// JavaScript, on Express
    Express,
    /// Files, served by a small program in Rust that carries them
    Static,
}

fn route(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    if text.starts_with('/') && text.chars().all(plain) && !text.contains("//") {
        Ok(text.to_owned())
    } else {
        Err("write a path such as `/api/v1/things`".to_owned())
    }
}

struct Written<'a> {
    service: &'a NewService,
    added: &'a Added,
}

impl Shown for Written<'_> {
    fn kind(&self) -> &'static str {
        "service_added"
    }

    fn json(&self) -> Value {
        json!({
            "service": self.service.name,
            "template": self.service.template.as_str(),
            "folder": self.added.folder,
            "route": self.added.route,
            "written": self.added.placed.written,
            "edited": self.added.edited,
        })
    }

    fn human(&self, paint: Paint) -> String {
        format!(
            "{} service {} in {}, routed at {}; edited {}\nnext:\n  platform deploy\n",
            paint.green("added"),
            paint.bold(self.service.name.as_str()),
            self.added.folder,
            self.added.route,
            self.added.edited.join(", "),
        )
    }
}

pub(crate) fn run(args: &NewArgs, world: &World) -> Result<Exit, CliError> {
    let What::Service {
        name,
        template,
        route,
    } = &args.what;
    let path = world.blueprint_path()?;
    // A blueprint with problems is not made worse.
    Project::open(&world.here, &path)?;
    let service = NewService {
        name: name.clone(),
        template: match template {
            Template::Axum => ServiceTemplate::Axum,
            Template::Fastapi => ServiceTemplate::Fastapi,
            Template::Express => ServiceTemplate::Express,
            Template::Static => ServiceTemplate::Static,
        },
        route: route.clone(),
    };
    let added = platform_templates::add_service(&path, &service).map_err(|error| failed(&error))?;
    world.view.accompany(&Written {
        service: &service,
        added: &added,
    });
    Ok(Exit::Done)
}
