//! Reads the sections of a blueprint, and lays environments over them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;

use crate::node::{Node, Table, lay_over};
use crate::reader::{listed, nearest, read, unknown_key};
use crate::{
    Build, Check, Code, Drill, DrillName, Gateway, Problem, Project, Resource, ResourceName,
    RestartOn, Rollout, Route, Service, ServiceKind, Services,
};

/// The sections of a blueprint.
pub(crate) const SECTIONS: [&str; 8] = [
    "project",
    "services",
    "resources",
    "gateway",
    "routes",
    "rollout",
    "environments",
    "drills",
];

/// The sections that an environment may change.
pub(crate) const OVERLAYS: [&str; 6] = [
    "services",
    "resources",
    "gateway",
    "routes",
    "rollout",
    "drills",
];

/// What is written, typed, before an environment is applied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Document {
    pub(crate) services: Services,
    pub(crate) resources: BTreeMap<ResourceName, Resource>,
    pub(crate) gateway: Gateway,
    pub(crate) routes: Vec<Route>,
    pub(crate) rollout: Rollout,
    pub(crate) drills: BTreeMap<DrillName, Drill>,
}

/// A named value with the place of its name.
struct Named<'tree> {
    name: &'tree str,
    place: Range<usize>,
    node: &'tree Node<'tree>,
}

impl Document {
    /// Reads the sections at the top.
    pub(crate) fn read(root: &Table<'_>, problems: &mut Vec<Problem>) -> (Option<Project>, Self) {
        for (key, _) in root.iter() {
            if !SECTIONS.contains(&&*key.text) {
                problems.push(unknown_key(&key.text, &SECTIONS, Some(key.span.clone())));
            }
        }
        let rollout_node = root.get("rollout");
        let rollout = section(root, "rollout", problems).unwrap_or_default();
        let project = section(root, "project", problems);
        if !root.has("project") {
            problems.push(
                Problem::new(Code::MissingKey, "the project has no name", Some(0..0))
                    .label("before anything else")
                    .help("begin with `[project]` and `name = \"…\"`"),
            );
        }
        let mut document = Self {
            gateway: section(root, "gateway", problems).unwrap_or_default(),
            ..Self::default()
        };
        for Named { name, place, node } in entries(root, "services", problems) {
            if let Some(name) = read_name(name, &place, problems)
                && let Some(service) = read_service(node, place, rollout_node, &rollout, problems)
            {
                document.services.insert(name, Arc::new(service));
            }
        }
        for Named { name, place, node } in entries(root, "resources", problems) {
            if let Some(name) = read_name(name, &place, problems)
                && let Some(resource) = read(node, place, problems)
            {
                document.resources.insert(name, resource);
            }
        }
        for Named { name, place, node } in entries(root, "drills", problems) {
            if let Some(name) = read_name(name, &place, problems)
                && let Some(drill) = read(node, place, problems)
            {
                document.drills.insert(name, drill);
            }
        }
        if let Some(routes) = read_routes(root, problems) {
            document.routes = routes;
        }
        document.rollout = rollout;
        (project, document)
    }

    /// Reads what an environment lays over what is written at the top.
    pub(crate) fn read_overlay(
        &self,
        root: &Table<'_>,
        over: &Table<'_>,
        problems: &mut Vec<Problem>,
    ) -> Overlay {
        let mut overlay = Overlay::default();
        let rollout_node = merged_section(root, over, "rollout");
        if over.has("rollout")
            && let Some((place, node)) = &rollout_node
        {
            overlay.rollout = read(node, place.clone(), problems);
        }
        let top_node = rollout_node.as_ref().map(|(_, node)| node);
        if over.has("gateway")
            && let Some((place, node)) = merged_section(root, over, "gateway")
        {
            overlay.gateway = read(&node, place, problems);
        }
        overlay.routes = read_routes(over, problems);
        let top = overlay.rollout.as_ref().unwrap_or(&self.rollout);
        if overlay.rollout.is_some() {
            // Services that take over the policy of the top take over the new one.
            for (name, service) in &self.services {
                let own = child(root, "services", name.as_str())
                    .and_then(|node| node.as_table())
                    .and_then(|service| service.get("rollout"));
                let rollout = match (own, top_node) {
                    (Some(own), Some(top)) => {
                        read(&lay_over(top, own, "", "rollout"), own.span(), problems)
                    }
                    _ => Some(top.clone()),
                };
                let service = Service {
                    rollout: rollout.unwrap_or_default(),
                    ..Service::clone(service)
                };
                overlay.services.insert(name.clone(), Arc::new(service));
            }
        }
        let services = &mut overlay.services;
        overlay_entries(
            root,
            over,
            "services",
            problems,
            |name, place, node, problems| {
                services.extend(
                    read_service(node, place, top_node, top, problems)
                        .map(|it| (name, Arc::new(it))),
                );
            },
        );
        let resources = &mut overlay.resources;
        overlay_entries(
            root,
            over,
            "resources",
            problems,
            |name, place, node, problems| {
                resources.extend(read(node, place, problems).map(|resource| (name, resource)));
            },
        );
        let drills = &mut overlay.drills;
        overlay_entries(
            root,
            over,
            "drills",
            problems,
            |name, place, node, problems| {
                drills.extend(read(node, place, problems).map(|drill| (name, drill)));
            },
        );
        overlay
    }

    /// Puts what differs in an environment in the place of what is written at
    /// the top, and the other way round: doing it twice changes nothing.
    pub(crate) fn swap(&mut self, overlay: &mut Overlay) {
        swap_entries(&mut self.services, &mut overlay.services);
        swap_entries(&mut self.resources, &mut overlay.resources);
        swap_entries(&mut self.drills, &mut overlay.drills);
        if let Some(gateway) = &mut overlay.gateway {
            std::mem::swap(&mut self.gateway, gateway);
        }
        if let Some(routes) = &mut overlay.routes {
            std::mem::swap(&mut self.routes, routes);
        }
        if let Some(rollout) = &mut overlay.rollout {
            std::mem::swap(&mut self.rollout, rollout);
        }
    }
}

/// What differs in an environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overlay {
    pub(crate) services: Services,
    resources: BTreeMap<ResourceName, Resource>,
    gateway: Option<Gateway>,
    routes: Option<Vec<Route>>,
    pub(crate) rollout: Option<Rollout>,
    drills: BTreeMap<DrillName, Drill>,
}

fn swap_entries<N: Ord, T>(top: &mut BTreeMap<N, T>, over: &mut BTreeMap<N, T>) {
    for (name, value) in over {
        // What could not be read at the top has been reported.
        if let Some(top) = top.get_mut(name) {
            std::mem::swap(top, value);
        }
    }
}

/// Reads a service; what its rollout leaves out is that of the top.
fn read_service(
    node: &Node<'_>,
    place: Range<usize>,
    top_node: Option<&Node<'_>>,
    top: &Rollout,
    problems: &mut Vec<Problem>,
) -> Option<Service> {
    let mut service: Service = read(node, place, problems)?;
    let table = node.as_table()?;
    match (table.get("rollout"), top_node) {
        (None, _) => service.rollout = top.clone(),
        (Some(own), Some(top)) => {
            let merged = lay_over(top, own, "", "rollout");
            if let Some(rollout) = read(&merged, own.span(), problems) {
                service.rollout = rollout;
            }
        }
        (Some(_), None) => {}
    }
    if service.health.ready.is_none() && service.port.is_some() {
        service.health.ready = Some(Check::Tcp { tcp: true });
    }
    if service.kind == ServiceKind::Job && service.restart.on == RestartOn::Always {
        service.restart.on = RestartOn::Never;
    }
    if let Some(image) = service.image.take() {
        if service.build.is_some() {
            let place = table.get("image").map(Node::span);
            problems.push(
                Problem::new(
                    Code::Contradiction,
                    "the service has both an image and a build",
                    place,
                )
                .label("its image")
                .also(table.get("build").map(Node::span), "its build")
                .help("keep one; an environment may have the other"),
            );
        }
        service.build = Some(Build::Image(crate::ImageBuild { image }));
    }
    Some(service)
}

fn read_routes(root: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Vec<Route>> {
    let node = root.get("routes")?;
    let Some(list) = node.as_list() else {
        problems.push(
            Problem::new(
                Code::WrongType,
                "expected a list of routes",
                Some(node.span()),
            )
            .label("wrong type")
            .help("write `[[routes]]` before each of them"),
        );
        return None;
    };
    // One that does not fit keeps its place, so that the rest keep theirs.
    let routes = list
        .iter()
        .map(|route| read(route, route.span(), problems).unwrap_or_default());
    Some(routes.collect())
}

/// Reads a table at the top, if it is there.
fn section<'tree, T: Deserialize<'tree>>(
    root: &'tree Table<'tree>,
    name: &str,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let (key, node) = root.entry(name)?;
    read(node, key.span.clone(), problems)
}

/// The table of the top with that of the environment laid over it.
fn merged_section<'text>(
    root: &Table<'text>,
    over: &Table<'text>,
    name: &str,
) -> Option<(Range<usize>, Node<'text>)> {
    match (root.entry(name), over.entry(name)) {
        (Some((_, base)), Some((key, over))) => {
            Some((key.span.clone(), lay_over(base, over, "", name)))
        }
        (Some((key, node)), None) | (None, Some((key, node))) => {
            Some((key.span.clone(), node.clone()))
        }
        (None, None) => None,
    }
}

/// The entries of a table of named things.
fn entries<'tree>(
    root: &'tree Table<'tree>,
    section: &str,
    problems: &mut Vec<Problem>,
) -> Vec<Named<'tree>> {
    let Some((key, node)) = root.entry(section) else {
        return Vec::new();
    };
    let Some(table) = node.as_table() else {
        problems.push(
            Problem::new(
                Code::WrongType,
                "expected a table of named things",
                Some(node.span()),
            )
            .label("wrong type")
            .help(format!(
                "write `[{section}.NAME]` before each of them",
                section = key.text
            )),
        );
        return Vec::new();
    };
    table
        .iter()
        .map(|(key, node)| Named {
            name: &key.text,
            place: key.span.clone(),
            node,
        })
        .collect()
}

fn child<'tree, 'text>(
    root: &'tree Table<'text>,
    section: &str,
    name: &str,
) -> Option<&'tree Node<'text>> {
    root.get(section)?.as_table()?.get(name)
}

pub(crate) fn read_name<N>(
    name: &str,
    place: &Range<usize>,
    problems: &mut Vec<Problem>,
) -> Option<N>
where
    N: FromStr<Err: Display>,
{
    name.parse()
        .map_err(|error: N::Err| {
            let error = error.to_string();
            let (message, help) = error
                .split_once("; ")
                .unwrap_or((&error, "write another name"));
            problems.push(
                Problem::new(Code::BadValue, message, Some(place.clone()))
                    .label("not a name")
                    .help(help),
            );
        })
        .ok()
}

/// Lays each entry of an environment's section over that of the top.
fn overlay_entries<N>(
    root: &Table<'_>,
    over: &Table<'_>,
    section: &str,
    problems: &mut Vec<Problem>,
    mut take: impl FnMut(N, Range<usize>, &Node<'_>, &mut Vec<Problem>),
) where
    N: FromStr<Err: Display>,
{
    for Named { name, place, node } in entries(over, section, problems) {
        let Some(base) = child(root, section, name) else {
            let known: Vec<&str> = root
                .get(section)
                .and_then(|node| node.as_table())
                .into_iter()
                .flat_map(Table::keys)
                .collect();
            let problem = Problem::new(
                Code::UnknownInOverlay,
                format!("the environment changes `{name}`, which is not in `[{section}]`"),
                Some(place),
            )
            .label("not there");
            problems.push(match nearest(name, known.iter().copied()) {
                Some(name) => problem.help(format!("did you mean `{name}`?")),
                None if known.is_empty() => problem.help(format!("add `[{section}.{name}]` first")),
                None => problem.help(format!("there are: {}", listed(&known))),
            });
            continue;
        };
        let merged = lay_over(base, node, section, name);
        // A name that is none has been reported where it is written first.
        if let Ok(name) = name.parse() {
            take(name, place, &merged, problems);
        }
    }
}
