//! `init`: a project that stands alone.

use std::path::Path;

use platform_blueprint::ProjectName;
use tera::Context;
use toml_edit::{DocumentMut, Item, TableLike};

use crate::embedded;
use crate::error::TemplateError;
use crate::placement::{Content, Contents, Placed, place};
use crate::render::render;
use crate::service::{NewService, ServiceTemplate, addition};
use crate::workspace;

/// What a new project starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectTemplate {
    /// The reference project: a storefront and its orders.
    Shop,
    /// One small service.
    Minimal,
}

impl ProjectTemplate {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Shop, Self::Minimal];

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shop => "shop",
            Self::Minimal => "minimal",
        }
    }
}

/// A project that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initialized {
    /// Its name.
    pub name: ProjectName,
    /// Files written and kept.
    pub placed: Placed,
    /// Whether a git repository was made for it.
    pub repository: bool,
}

/// Writes a project into a folder, empty or not, and overwrites nothing.
///
/// - `name`: the project's name; the folder's if none, as far as that can be one
/// - `keep`: leave files that are in the way as they are, rather than refuse
/// - `repository`: make a git repository unless the folder is in one
///
/// # Errors
///
/// What is in the way or went wrong; then nothing has changed.
pub fn init(
    folder: &Path,
    template: ProjectTemplate,
    name: Option<&str>,
    keep: bool,
    repository: bool,
) -> Result<Initialized, TemplateError> {
    let name = match name {
        Some(name) => ProjectName::new(name)?,
        None => name_of(folder, template),
    };
    let contents = contents(template, &name)?;
    // A killed `init` leaves no blueprint, for that comes last; another one may complete it.
    let blueprint = folder.join("platform.toml");
    if blueprint.exists()
        && std::fs::read(&blueprint).ok().as_ref()
            != contents.get("platform.toml").map(|own| &own.bytes)
    {
        return Err(TemplateError::ProjectExists {
            folder: folder.to_owned(),
        });
    }
    let mut rest = contents;
    let last: Contents = rest.remove_entry("platform.toml").into_iter().collect();
    let mut placed = place(folder, &rest, keep)?;
    match place(folder, &last, keep) {
        Ok(blueprint) => {
            placed.written.extend(blueprint.written);
            placed.kept.extend(blueprint.kept);
        }
        Err(error) => {
            for path in &placed.written {
                let _ = std::fs::remove_file(folder.join(path));
            }
            return Err(error);
        }
    }
    let made = repository && make_repository(folder)?;
    Ok(Initialized {
        name,
        placed,
        repository: made,
    })
}

/// The folder's name as a project's, or else the template's.
fn name_of(folder: &Path, template: ProjectTemplate) -> ProjectName {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let text: String = folder
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase())
        .unwrap_or_default()
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .collect();
    let text = text
        .split('-')
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-");
    let usual = || template.as_str().parse();
    match text.parse().or_else(|_| usual()) {
        Ok(name) => name,
        Err(error) => unreachable!("a template's name is one: {error}"),
    }
}

fn contents(template: ProjectTemplate, name: &ProjectName) -> Result<Contents, TemplateError> {
    let mut context = Context::new();
    context.insert("name", name.as_str());
    let mut contents = render(template.as_str(), &context)?;
    match template {
        ProjectTemplate::Shop => {
            for package in workspace::packages() {
                for (within, file) in embedded::below(package) {
                    contents.insert(
                        format!("{package}/{within}"),
                        Content {
                            bytes: file.content.to_vec(),
                            executable: file.executable,
                        },
                    );
                }
            }
            let packages = workspace::packages();
            let blueprint = blueprint(embedded::text("blueprints/shop/platform.toml"), name);
            for (path, text) in [
                ("Cargo.toml", workspace::manifest(&packages)),
                ("Cargo.lock", workspace::lock(&packages)),
                ("clippy.toml", embedded::text("clippy.toml").to_owned()),
                ("platform.toml", blueprint),
            ] {
                contents.insert(path.to_owned(), Content::text(text));
            }
        }
        ProjectTemplate::Minimal => {
            let text = |content: &Content| String::from_utf8_lossy(&content.bytes).into_owned();
            let base = contents.get("platform.toml").map(text).unwrap_or_default();
            let service = NewService {
                name: "hello".parse()?,
                template: ServiceTemplate::Axum,
                route: None,
            };
            let addition = addition(Path::new("platform.toml"), &base, None, false, &service)?;
            contents.insert(
                "platform.toml".to_owned(),
                Content::text(addition.blueprint),
            );
            if let Some(manifest) = addition.manifest {
                contents.insert("Cargo.toml".to_owned(), Content::text(manifest));
            }
            contents.extend(addition.files);
        }
    }
    Ok(contents)
}

/// The reference blueprint as a project's own: its name, and packages found in its own workspace.
fn blueprint(text: &str, name: &ProjectName) -> String {
    let Ok(mut blueprint) = text.parse::<DocumentMut>() else {
        return text.to_owned(); // Checked by a test: it was built into this program.
    };
    if let Some(item) = blueprint
        .get_mut("project")
        .and_then(|project| project.get_mut("name"))
    {
        let decor = item.as_value().map(|value| value.decor().clone());
        *item = toml_edit::value(name.as_str());
        if let (Some(decor), Some(value)) = (decor, item.as_value_mut()) {
            *value.decor_mut() = decor;
        }
    }
    let services = blueprint
        .get_mut("services")
        .and_then(Item::as_table_like_mut);
    for (_, service) in services.into_iter().flat_map(TableLike::iter_mut) {
        let build = service.get_mut("build").and_then(Item::as_table_like_mut);
        if let Some(build) = build
            && build.contains_key("cargo")
        {
            build.remove("folder");
        }
        let inline = service.get_mut("build").and_then(Item::as_inline_table_mut);
        if let Some(inline) = inline {
            inline.fmt();
        }
    }
    blueprint.to_string()
}

/// Makes a git repository, unless the folder is in one.
fn make_repository(folder: &Path) -> Result<bool, TemplateError> {
    if git2::Repository::discover(folder).is_ok() {
        return Ok(false);
    }
    let mut options = git2::RepositoryInitOptions::new();
    options.initial_head("main").no_reinit(true);
    git2::Repository::init_opts(folder, &options).map_err(|source| TemplateError::Git {
        folder: folder.to_owned(),
        source,
    })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_reference_project_stands_alone() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("My Shop");
        let made = init(&folder, ProjectTemplate::Shop, None, false, true).unwrap();
        assert_eq!(made.name.as_str(), "my-shop");
        assert!(made.repository && folder.join(".git").is_dir());
        let blueprint = fs::read_to_string(folder.join("platform.toml")).unwrap();
        assert!(blueprint.contains("name = \"my-shop\""));
        assert!(!blueprint.contains("../.."), "{blueprint}");
        assert!(
            blueprint.starts_with("# The reference project"),
            "comments are kept"
        );
        for path in [
            "Cargo.toml",
            "Cargo.lock",
            ".gitignore",
            "README.md",
            ".github/workflows/platform.yml",
            "services/orders/src/main.rs",
            "services/kit/Cargo.toml",
        ] {
            assert!(folder.join(path).is_file(), "{path}");
        }
        let workflow = fs::read_to_string(folder.join(".github/workflows/platform.yml")).unwrap();
        assert!(workflow.contains("${{ github.ref }}"), "{workflow}");
        let error = init(&folder, ProjectTemplate::Minimal, None, true, false).unwrap_err();
        assert_eq!(error.code(), "template::project-exists");
    }

    #[test]
    fn the_smallest_project_has_one_service() {
        let temp = tempfile::tempdir().unwrap();
        let made = init(
            temp.path(),
            ProjectTemplate::Minimal,
            Some("tiny"),
            false,
            false,
        )
        .unwrap();
        assert!(!made.repository);
        let blueprint = fs::read_to_string(temp.path().join("platform.toml")).unwrap();
        assert!(blueprint.contains("[services.hello]") && blueprint.contains("path = \"/\""));
        assert!(temp.path().join("services/hello/src/main.rs").is_file());
        let manifest = fs::read_to_string(temp.path().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("\"services/hello\""));
    }

    #[test]
    fn a_folder_with_files_in_the_way_is_left_as_it_is() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("README.md"), "mine").unwrap();
        let name = Some("x");
        let error = init(temp.path(), ProjectTemplate::Shop, name, false, true).unwrap_err();
        assert_eq!(error.code(), "template::in-the-way");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        let made = init(temp.path(), ProjectTemplate::Shop, name, true, false).unwrap();
        assert_eq!(made.placed.kept, ["README.md"]);
    }

    #[test]
    fn a_repository_around_the_project_is_enough() {
        let temp = tempfile::tempdir().unwrap();
        git2::Repository::init(temp.path()).unwrap();
        let made = init(
            &temp.path().join("a"),
            ProjectTemplate::Minimal,
            None,
            false,
            true,
        )
        .unwrap();
        assert!(!made.repository);
        assert_eq!(made.name.as_str(), "a");
    }
}
