//! `new service`: a folder with a service in it, and its place in the blueprint.

use std::collections::BTreeSet;
use std::path::Path;

use platform_blueprint::{Blueprint, ServiceName, Severity};
use tera::Context;
use toml_edit::{DocumentMut, Item, TableLike};

use crate::error::TemplateError;
use crate::insertion::{Blocks, insert_after};
use crate::placement::{Content, Contents, Placed, place, replace};
use crate::render::render;
use crate::workspace;

/// Where the first service listens; the next ones follow.
const FIRST_PORT: i64 = 8081;

/// What a new service starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceTemplate {
    /// Rust, on axum.
    Axum,
    /// Python, on `FastAPI`.
    Fastapi,
    /// JavaScript, on Express.
    Express,
    /// Files, served by a small program in Rust.
    Static,
}

impl ServiceTemplate {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Axum, Self::Fastapi, Self::Express, Self::Static];

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Axum => "axum",
            Self::Fastapi => "fastapi",
            Self::Express => "express",
            Self::Static => "static",
        }
    }

    /// Whether it is a cargo package, and so a member of the project's workspace.
    fn is_package(self) -> bool {
        matches!(self, Self::Axum | Self::Static)
    }
}

/// A service to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewService {
    /// Its name.
    pub name: ServiceName,
    /// What it starts from.
    pub template: ServiceTemplate,
    /// The path of its route. If none: `/` where nothing has that yet, else its name.
    pub route: Option<String>,
}

/// A service that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Its folder, relative to the blueprint.
    pub folder: String,
    /// The path of its route.
    pub route: String,
    /// Files written and kept.
    pub placed: Placed,
    /// Files that were edited, relative to the blueprint.
    pub edited: Vec<String>,
}

/// What adding a service comes to, before anything is written.
#[derive(Debug)]
pub(crate) struct Addition {
    /// The blueprint's text with the service in it.
    pub(crate) blueprint: String,
    /// The root manifest's text, where that changes.
    pub(crate) manifest: Option<String>,
    /// The service's files, relative to the blueprint.
    pub(crate) files: Contents,
    folder: String,
    route: String,
}

/// Writes a service's folder, and adds it to the blueprint and, if it is a package, to the workspace.
///
/// - `blueprint`: the blueprint's file
///
/// # Errors
///
/// What is in the way or went wrong; then nothing has changed.
pub fn add_service(blueprint: &Path, service: &NewService) -> Result<Added, TemplateError> {
    let project = blueprint.parent().unwrap_or(Path::new("."));
    let read =
        |path: &Path| std::fs::read_to_string(path).map_err(TemplateError::file("read", path));
    let text = read(blueprint)?;
    let manifest_path = project.join("Cargo.toml");
    let manifest = manifest_path
        .exists()
        .then(|| read(&manifest_path))
        .transpose()?;
    let locked = project.join("Cargo.lock").exists();
    let mut addition = addition(blueprint, &text, manifest.as_deref(), locked, service)?;
    let mut edited = Vec::new();
    if manifest.is_none()
        && let Some(manifest) = addition.manifest.take()
    {
        addition
            .files
            .insert("Cargo.toml".to_owned(), Content::text(manifest));
    }
    let placed = place(project, &addition.files, false)?;
    let undo = |error| {
        for path in &placed.written {
            let _ = std::fs::remove_file(project.join(path));
        }
        let folders: BTreeSet<_> = placed
            .written
            .iter()
            .flat_map(|path| Path::new(path).ancestors().skip(1))
            .filter(|folder| !folder.as_os_str().is_empty())
            .collect();
        for folder in folders.into_iter().rev() {
            let _ = std::fs::remove_dir(project.join(folder));
        }
        error
    };
    if let Some(manifest) = &addition.manifest {
        replace(&manifest_path, manifest).map_err(undo)?;
        edited.push("Cargo.toml".to_owned());
    }
    if let Err(error) = replace(blueprint, &addition.blueprint) {
        if let (Some(_), Some(before)) = (&addition.manifest, &manifest) {
            let _ = replace(&manifest_path, before);
        }
        return Err(undo(error));
    }
    let own = blueprint.file_name().unwrap_or_default().to_string_lossy();
    edited.push(own.into_owned());
    Ok(Added {
        folder: addition.folder,
        route: addition.route,
        placed,
        edited,
    })
}

/// Works out what adding a service comes to.
///
/// - `path`: the blueprint's file, for messages
/// - `text`: what is in it
/// - `manifest`: the root manifest, where there is one
/// - `locked`: whether there is a lock file
pub(crate) fn addition(
    path: &Path,
    text: &str,
    manifest: Option<&str>,
    locked: bool,
    service: &NewService,
) -> Result<Addition, TemplateError> {
    let bad = |source: toml_edit::TomlError| TemplateError::BadBlueprint {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let blueprint: DocumentMut = text.parse().map_err(bad)?;
    let services = blueprint.get("services").and_then(Item::as_table_like);
    if services.is_some_and(|services| services.contains_key(service.name.as_str())) {
        return Err(TemplateError::ServiceExists(service.name.to_string()));
    }
    let port = free_port(&blueprint);
    let route = service.route.clone().unwrap_or_else(|| {
        if routes(&blueprint).contains("/") {
            format!("/{}", service.name)
        } else {
            "/".to_owned()
        }
    });
    let folder = format!("services/{}", service.name);
    let context = context(service, &folder, port);
    let mut rendered = render(service.template.as_str(), &context)?;
    let fragment = rendered
        .remove("platform.toml")
        .unwrap_or_else(|| Content::text(""));
    let fragment = String::from_utf8_lossy(&fragment.bytes).into_owned();
    let fragment = platform_blueprint::format(&fragment).unwrap_or(fragment);
    let mut files: Contents = rendered
        .into_iter()
        .map(|(within, content)| (format!("{folder}/{within}"), content))
        .collect();
    let mut new_manifest = None;
    if service.template.is_package() {
        let fresh = "[workspace]\nresolver = \"3\"\n";
        new_manifest =
            workspace::with_member(manifest.unwrap_or(fresh), &folder).map_err(|source| {
                TemplateError::BadBlueprint {
                    path: path.with_file_name("Cargo.toml"),
                    source: Box::new(source),
                }
            })?;
        if !locked {
            let package = files.get(&format!("{folder}/Cargo.toml"));
            let package = package.map(|content| String::from_utf8_lossy(&content.bytes));
            let lock = workspace::lock_for(&package.unwrap_or_default());
            files.insert("Cargo.lock".to_owned(), Content::text(lock));
        }
    }
    let with_service = insert_after(text, Blocks::Services, &fragment);
    let blueprint = insert_after(&with_service, Blocks::Routes, &route_text(service, &route));
    if let Err(problems) = Blueprint::parse(&blueprint, &path.to_string_lossy()) {
        let of_ours = problems
            .iter()
            .find(|problem| problem.severity == Severity::Error);
        return Err(TemplateError::Unfit {
            service: service.name.to_string(),
            problem: of_ours.map_or_else(String::new, ToString::to_string),
        });
    }
    Ok(Addition {
        blueprint,
        manifest: new_manifest,
        files,
        folder,
        route,
    })
}

fn context(service: &NewService, folder: &str, port: i64) -> Context {
    let versions: std::collections::BTreeMap<&str, String> = [
        "axum",
        "http-body-util",
        "include_dir",
        "serde",
        "serde_json",
        "sha2",
        "tokio",
        "tower",
        "tower-http",
        "tracing",
        "tracing-subscriber",
    ]
    .iter()
    .map(|name| (*name, workspace::requirement(name)))
    .collect();
    let mut versions: std::collections::BTreeMap<String, String> = versions
        .into_iter()
        .map(|(name, version)| (name.replace('-', "_"), version))
        .collect();
    versions.insert("rust".to_owned(), workspace::rust_version());
    let mut context = Context::new();
    context.insert("name", service.name.as_str());
    context.insert("folder", folder);
    context.insert("port", &port);
    context.insert("versions", &versions);
    context
}

/// The route's lines. Below a path of its own, the service sees its paths as if it were at the root.
fn route_text(service: &NewService, route: &str) -> String {
    let rewrite = if route == "/" {
        ""
    } else {
        "rewrite = { path = \"/\" }\n"
    };
    format!(
        "[[routes]]\npath = \"{route}\"\nservice = \"{}\"\n{rewrite}timeout = \"5s\"\n",
        service.name
    )
}

/// The first port after those of all services.
fn free_port(blueprint: &DocumentMut) -> i64 {
    let services = blueprint.get("services").and_then(Item::as_table_like);
    let gateway = blueprint
        .get("gateway")
        .and_then(|gateway| gateway.get("port"));
    services
        .into_iter()
        .flat_map(TableLike::iter)
        .filter_map(|(_, service)| service.get("port")?.as_integer())
        .chain(gateway.and_then(Item::as_integer))
        .map(|port| port + 1)
        .fold(FIRST_PORT, i64::max)
}

fn routes(blueprint: &DocumentMut) -> BTreeSet<String> {
    let routes = blueprint.get("routes").and_then(Item::as_array_of_tables);
    routes
        .into_iter()
        .flatten()
        .filter_map(|route| Some(route.get("path")?.as_str()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const BLUEPRINT: &str = "# Mine.\n[project]\nname = \"x\"\n\n[services.a] # the first\ncommand = [\"a\"]\nport = 9000\n\n\
        # Routes follow.\n[[routes]]\npath = \"/\"\nservice = \"a\"\n\n[environments.local]\nprovider = \"process\"\n";

    fn service(name: &str, template: ServiceTemplate) -> NewService {
        NewService {
            name: name.parse().unwrap(),
            template,
            route: None,
        }
    }

    #[test]
    fn a_route_that_is_taken_is_refused_and_nothing_written() {
        let temp = tempfile::tempdir().unwrap();
        let blueprint = temp.path().join("platform.toml");
        fs::write(&blueprint, BLUEPRINT).unwrap();
        let taken = NewService {
            route: Some("/".to_owned()),
            ..service("b", ServiceTemplate::Static)
        };
        let error = add_service(&blueprint, &taken).unwrap_err();
        assert_eq!(error.code(), "template::unfit");
        assert!(
            error
                .to_string()
                .ends_with("two routes take the same requests, `/`"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&blueprint).unwrap(), BLUEPRINT);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_service_takes_its_place_among_the_others() {
        for template in ServiceTemplate::ALL {
            let temp = tempfile::tempdir().unwrap();
            let blueprint = temp.path().join("platform.toml");
            fs::write(&blueprint, BLUEPRINT).unwrap();
            let added = add_service(&blueprint, &service("b", template)).unwrap();
            assert_eq!(
                (added.folder.as_str(), added.route.as_str()),
                ("services/b", "/b")
            );
            let text = fs::read_to_string(&blueprint).unwrap();
            let places: Vec<_> = [
                "# Mine.",
                "[services.a] # the first",
                "[services.b]",
                "port = 9001",
                "# Routes follow.",
                "path = \"/b\"",
                "[environments.local]",
            ]
            .map(|line| {
                text.find(line)
                    .unwrap_or_else(|| panic!("no {line} in {text}"))
            })
            .to_vec();
            assert!(places.is_sorted(), "{text}");
            assert_eq!(
                temp.path().join("Cargo.lock").exists(),
                template.is_package()
            );
            for path in &added.placed.written {
                let text = fs::read_to_string(temp.path().join(path)).unwrap();
                assert!(
                    !text.contains("{{ ") && !text.contains("{% "),
                    "{path}: {text}"
                );
                let unknown = path.ends_with("Cargo.toml") && text.contains("\"*\"");
                assert!(!unknown, "{path} wants a version: {text}");
            }
            let error = add_service(&blueprint, &service("b", template)).unwrap_err();
            assert_eq!(error.code(), "template::service-exists");
        }
    }

    #[test]
    fn a_service_that_cannot_be_added_leaves_no_trace() {
        let temp = tempfile::tempdir().unwrap();
        let blueprint = temp.path().join("platform.toml");
        fs::write(&blueprint, BLUEPRINT).unwrap();
        let in_the_way = temp.path().join("services/b/Cargo.toml");
        fs::create_dir_all(in_the_way.parent().unwrap()).unwrap();
        fs::write(&in_the_way, "mine").unwrap();
        let error = add_service(&blueprint, &service("b", ServiceTemplate::Axum)).unwrap_err();
        assert_eq!(error.code(), "template::in-the-way");
        assert_eq!(fs::read_to_string(&blueprint).unwrap(), BLUEPRINT);
        assert!(!temp.path().join("Cargo.toml").exists());
        assert_eq!(
            fs::read_dir(temp.path().join("services/b"))
                .unwrap()
                .count(),
            1
        );
    }
}
