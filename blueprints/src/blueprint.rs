//! From text to a blueprint, and from a blueprint to what should run.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::document::{Document, OVERLAYS, Overlay, SECTIONS, read_name};
use crate::node::{Node, Table, Value};
use crate::reader::{listed, nearest, read};
use crate::toml_tree;
use crate::validate::{Scene, check_services, check_whole, fill};
use crate::{
    Code, Environment, EnvironmentName, Problem, Problems, Project, Provider, Resolved, Severity,
};
use miette::NamedSource;

/// A valid blueprint.
#[derive(Debug, Clone)]
pub struct Blueprint {
    source: Arc<NamedSource<String>>,
    project: Project,
    document: Document,
    environments: BTreeMap<EnvironmentName, (Environment, Overlay)>,
}

/// A valid blueprint, and what somebody should look at.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The blueprint.
    pub blueprint: Blueprint,
    /// What somebody should look at; may be empty.
    pub warnings: Problems,
}

/// The environment of a blueprint that writes none, and the first choice of
/// one that writes several.
const LOCAL: &str = "local";

impl Blueprint {
    /// Parses and validates a blueprint, in every environment it has.
    ///
    /// - `name`: what to call the text in messages, such as `platform.toml`
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in the order of the text.
    pub fn parse(text: &str, name: &str) -> Result<Parsed, Problems> {
        let source = Arc::new(NamedSource::new(name, text.to_owned()).with_language("TOML"));
        let mut problems = Vec::new();
        let read = read_all(text, &mut problems);
        let problems = Problems::new(Arc::clone(&source), problems);
        let valid = problems
            .iter()
            .all(|problem| problem.severity == Severity::Warning);
        match read {
            Some(Read {
                project,
                document,
                environments,
            }) if valid => Ok(Parsed {
                blueprint: Self {
                    source,
                    project,
                    document,
                    environments,
                },
                warnings: problems,
            }),
            _ => Err(problems),
        }
    }

    /// Reads from a blueprint with mistakes where it is deployed, for who has to look at that or to take it back meanwhile.
    ///
    /// What does not fit is left out, and so are lines that are no TOML. An environment counts as protected where that may have
    /// been left out, too. What should run is no part of it.
    ///
    /// - returns: `None` where the project or the environment cannot be told for certain
    pub fn whereabouts(text: &str, environment: Option<&EnvironmentName>) -> Option<Resolved> {
        let (readable, whole) = match toml_tree::parse(text) {
            Ok(_) => (text.to_owned(), true),
            Err(_) => (without_what_is_no_toml(text)?, false),
        };
        let Read {
            project,
            document,
            environments,
        } = read_all(&readable, &mut Vec::new())?;
        let written = toml_tree::parse(&readable).ok()?;
        let certain = match written.get("environments").and_then(Node::as_table) {
            // One that could not be read may be the one that is meant.
            Some(table) => environment.is_some() || table.iter().count() <= environments.len(),
            // They may stand under a name that is misspelt.
            None => written
                .iter()
                .all(|(key, _)| SECTIONS.contains(&&*key.text)),
        };
        if !certain {
            return None;
        }
        let source = NamedSource::new("", readable).with_language("TOML");
        let blueprint = Self {
            source: Arc::new(source),
            project,
            document: Document {
                gateway: document.gateway,
                ..Document::default()
            },
            environments,
        };
        let mut resolved = blueprint.resolve(environment).ok()?;
        resolved.environment.protected |= !whole && text.contains("protected");
        resolved.services.clear();
        resolved.resources.clear();
        resolved.routes.clear();
        Some(resolved)
    }

    /// The project.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// Its environments, of which there is at least one.
    pub fn environments(&self) -> impl Iterator<Item = &Environment> {
        self.environments
            .values()
            .map(|(environment, _)| environment)
    }

    /// The text it was parsed from.
    pub fn text(&self) -> &str {
        self.source.inner()
    }

    /// Applies an environment: the one named, else `local`, else the only one.
    ///
    /// # Errors
    ///
    /// There is no such environment, or it is not clear which is meant.
    pub fn resolve(&self, environment: Option<&EnvironmentName>) -> Result<Resolved, Problems> {
        let wrong = |problem| Problems::new(Arc::clone(&self.source), vec![problem]);
        let names: Vec<_> = self
            .environments
            .keys()
            .map(EnvironmentName::as_str)
            .collect();
        let found = match (environment, self.environments.values().next()) {
            (Some(name), _) => self.environments.get(name).ok_or_else(|| {
                let problem = Problem::new(
                    Code::UnknownEnvironment,
                    format!("the blueprint has no environment `{name}`"),
                    None,
                );
                match nearest(name.as_str(), names.iter().copied()) {
                    Some(name) => problem.help(format!("did you mean `{name}`?")),
                    None => problem.help(format!("there are: {}", listed(&names))),
                }
            }),
            (None, Some(only)) if names.len() == 1 => Ok(only),
            (None, _) => self.environments.get(LOCAL).ok_or_else(|| {
                Problem::new(
                    Code::AmbiguousEnvironment,
                    "the blueprint has several environments and none is `local`",
                    None,
                )
                .help(format!("name one: {}", listed(&names)))
            }),
        };
        let (environment, overlay) = found.map_err(wrong)?;
        let mut document = self.document.clone();
        document.swap(&mut overlay.clone());
        let mut resolved = Resolved {
            project: self.project.clone(),
            environment: environment.clone(),
            services: document.services,
            resources: document.resources,
            gateway: document.gateway,
            routes: document.routes,
            rollout: document.rollout,
            drills: document.drills,
        };
        fill(&mut resolved);
        Ok(resolved)
    }
}

/// A text without its lines that are no TOML; `None` where that would move what follows to another table, or does not help.
fn without_what_is_no_toml(text: &str) -> Option<String> {
    /// A text with more mistakes is no blueprint.
    const MISTAKES: usize = 20;
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    for _ in 0..MISTAKES {
        let text = lines.concat();
        let Err(errors) = toml_tree::parse(&text) else {
            return Some(text);
        };
        let at = errors.iter().find_map(|error| error.span.clone())?.start;
        let mut end = 0;
        let wrong = lines.iter_mut().find(|line| {
            end += line.len();
            at < end
        })?;
        if wrong.trim().is_empty() || wrong.trim_start().starts_with('[') {
            return None;
        }
        *wrong = "\n";
    }
    None
}

/// All that was read.
struct Read {
    project: Project,
    document: Document,
    environments: BTreeMap<EnvironmentName, (Environment, Overlay)>,
}

fn read_all(text: &str, problems: &mut Vec<Problem>) -> Option<Read> {
    let root = match toml_tree::parse(text) {
        Ok(root) => root,
        Err(errors) => {
            problems.extend(errors);
            return None;
        }
    };
    let (project, mut document) = Document::read(&root, problems);
    let misread = !problems.is_empty();
    check_services(&document.services, &root, None, problems);
    let mut environments = BTreeMap::new();
    for Written { environment, over } in read_environments(&root, problems) {
        let changes = over.filter(|over| OVERLAYS.iter().any(|name| over.has(name)));
        let mut overlay = Overlay::default();
        if let Some(over) = changes {
            overlay = document.read_overlay(&root, over, problems);
            check_services(&overlay.services, &root, Some(over), problems);
        }
        // Whatever an environment changes is put in its place while it is checked.
        document.swap(&mut overlay);
        let scene = Scene {
            document: &document,
            environment: &environment,
        };
        check_whole(&scene, &root, over, problems);
        document.swap(&mut overlay);
        environments.insert(environment.name.clone(), (environment, overlay));
    }
    if misread {
        // What could not be read may be what a warning misses.
        problems.retain(|problem| problem.severity == Severity::Error);
    }
    Some(Read {
        project: project?,
        document,
        environments,
    })
}

/// An environment as written, with the table of its overlay.
struct Written<'tree, 'text> {
    environment: Environment,
    over: Option<&'tree Table<'text>>,
}

fn read_environments<'tree, 'text>(
    root: &'tree Table<'text>,
    problems: &mut Vec<Problem>,
) -> Vec<Written<'tree, 'text>> {
    let local = || {
        EnvironmentName::new(LOCAL).ok().map(|name| Environment {
            name,
            protected: false,
            provider: Provider::Process(crate::ProcessSettings::default()),
        })
    };
    let written = root.get("environments");
    let Some(table) = written.and_then(|node| node.as_table()) else {
        if let Some(node) = written {
            problems.push(
                Problem::new(
                    Code::WrongType,
                    "expected a table of environments",
                    Some(node.span()),
                )
                .label("wrong type")
                .help("write `[environments.NAME]` before each of them"),
            );
        }
        return local()
            .map(|environment| Written {
                environment,
                over: None,
            })
            .into_iter()
            .collect();
    };
    let mut environments: Vec<_> = table
        .iter()
        .filter_map(|(key, node)| {
            let name = read_name(&key.text, &key.span, problems);
            let over = node.as_table();
            if over.is_none() {
                problems.push(
                    Problem::new(
                        Code::WrongType,
                        "expected an environment",
                        Some(node.span()),
                    )
                    .label("wrong type")
                    .help("write a table with a `provider`"),
                );
            }
            let environment = read_environment(name?, key.span.clone(), over?, problems)?;
            Some(Written { environment, over })
        })
        .collect();
    if table.is_empty() {
        environments.extend(local().map(|environment| Written {
            environment,
            over: None,
        }));
    }
    environments
}

fn read_environment(
    name: EnvironmentName,
    place: Range<usize>,
    table: &Table<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Environment> {
    const PROVIDERS: [&str; 4] = ["process", "docker", "kubernetes", "terraform"];
    let Some(provider) = table.get("provider") else {
        problems.push(
            Problem::new(Code::MissingKey, "`provider` is missing", Some(place))
                .label("needs `provider`")
                .help(format!("write one of {}", listed(&PROVIDERS))),
        );
        return None;
    };
    let protected = match table.get("protected") {
        Some(node) => read(node, node.span(), problems)?,
        None => false,
    };
    // The settings of the provider are what is left.
    let settings = table.without(&[&["provider", "protected"], &OVERLAYS[..]].concat());
    let settings: Node<'_> = Node::new(place.clone(), Value::Table(settings));
    let settled = problems.len();
    let written: String = read(provider, provider.span(), problems)?;
    let provider = match written.as_str() {
        "process" => read(&settings, place, problems).map(Provider::Process),
        "docker" => read(&settings, place, problems).map(Provider::Docker),
        "kubernetes" => read(&settings, place, problems).map(Provider::Kubernetes),
        "terraform" => read(&settings, place, problems).map(Provider::Terraform),
        other => {
            let problem = Problem::new(
                Code::UnknownProvider,
                format!("`{other}` is not a provider"),
                Some(provider.span()),
            )
            .label("not known");
            problems.push(match nearest(other, PROVIDERS) {
                Some(name) => problem.help(format!("did you mean `{name}`?")),
                None => problem.help(format!("write one of {}", listed(&PROVIDERS))),
            });
            return None;
        }
    };
    // An unknown key may also have been meant as a section of the overlay.
    for problem in &mut problems[settled..] {
        let mut keys = table.iter().map(|(key, _)| key);
        let key = keys.find(|key| Some(&key.span) == problem.span.as_ref());
        let guessed = problem
            .help
            .as_ref()
            .is_some_and(|help| help.starts_with("did you mean"));
        if let Some(key) = key.filter(|_| problem.code == Code::UnknownKey && !guessed)
            && let Some(section) = nearest(&key.text, OVERLAYS)
        {
            problem.help = Some(format!("did you mean `{section}`?"));
        }
    }
    Some(Environment {
        name,
        protected,
        provider: provider?,
    })
}
