//! What a blueprint must fulfil beyond its form, in each environment.

mod fill;
mod needs;
mod resources;
mod rollouts;
mod routes;
mod services;
mod slips;
mod texts;
mod zones;

use std::ops::{Deref, Range};

pub(crate) use fill::fill;

use crate::document::Document;
use crate::node::{Step, Table, place};
use crate::reader::{listed, nearest};
use crate::{Code, Environment, NeedName, Problem, ResourceName, ServiceName, Services, Severity};

/// A path into the tree, of keys and numbers of items.
macro_rules! steps {
    ($($step:expr),+ $(,)?) => {
        &[$(crate::node::Step::from($step)),+]
    };
}
use steps;

/// Checks what is true of a service in every environment that does not change it.
pub(crate) fn check_services(
    services: &Services,
    root: &Table<'_>,
    over: Option<&Table<'_>>,
    problems: &mut Vec<Problem>,
) {
    let mut check = Check {
        root,
        over,
        problems,
    };
    for (name, service) in services {
        check.service(name, service);
        check.own_rollout(name, service);
    }
}

/// Checks the whole, as it is in one environment.
pub(crate) fn check_whole(
    scene: &Scene<'_>,
    root: &Table<'_>,
    over: Option<&Table<'_>>,
    problems: &mut Vec<Problem>,
) {
    let mut check = Check {
        root,
        over,
        problems,
    };
    check.names(scene);
    check.needs(scene);
    check.something_to_run(scene);
    check.secret_words(scene);
    check.ports(scene);
    check.engines(scene);
    check.routes(scene);
    check.gateway(scene);
    check.rollout_of_all(scene);
    check.drills(scene);
}

/// A blueprint in one environment.
pub(crate) struct Scene<'a> {
    pub(crate) document: &'a Document,
    pub(crate) environment: &'a Environment,
}

impl Deref for Scene<'_> {
    type Target = Document;
    fn deref(&self) -> &Document {
        self.document
    }
}

impl Scene<'_> {
    /// What a name stands for.
    fn need(&self, name: &NeedName) -> Option<crate::Need<'_>> {
        crate::resolved::need(&self.services, &self.resources, name)
    }

    /// The names of services and resources.
    fn names(&self) -> impl Iterator<Item = &str> {
        let resources = self.resources.keys().map(ResourceName::as_str);
        self.services
            .keys()
            .map(ServiceName::as_str)
            .chain(resources)
    }
}

/// The place of the value at `path`, or of what is nearest above it: in the environment if it says something there.
pub(crate) fn nearest_place(
    root: &Table<'_>,
    over: Option<&Table<'_>>,
    path: &[Step<'_>],
) -> Option<Range<usize>> {
    let (top, top_steps) = place(root, path);
    let (over, over_steps) = over.map_or((None, 0), |over| place(over, path));
    if over_steps >= top_steps && over.is_some() {
        over
    } else {
        top
    }
}

/// Looks for problems, and finds their places: in the environment if it says
/// something there, else at the top.
struct Check<'a, 'text> {
    root: &'a Table<'text>,
    over: Option<&'a Table<'text>>,
    problems: &'a mut Vec<Problem>,
}

impl Check<'_, '_> {
    /// The place of the value at `path`, or of what is nearest above it.
    fn at(&self, path: &[Step<'_>]) -> Option<Range<usize>> {
        nearest_place(self.root, self.over, path)
    }

    /// Whether there is a value at `path` as written.
    fn written(&self, path: &[Step<'_>]) -> bool {
        place(self.root, path).1 == path.len()
            || self
                .over
                .is_some_and(|over| place(over, path).1 == path.len())
    }

    /// Whether an error with the very value at `path` has been reported.
    fn misread(&self, path: &[Step<'_>]) -> bool {
        let place = self.at(path);
        self.written(path)
            && self
                .problems
                .iter()
                .filter(|problem| problem.severity == Severity::Error)
                .any(|problem| place.is_some() && problem.span == place)
    }

    /// Whether a service or resource of this name is written.
    fn there(&self, name: &str) -> bool {
        self.written(steps!["services", name]) || self.written(steps!["resources", name])
    }

    /// Notes a problem at a place.
    fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Reports a service that is not there.
    fn known_service(&mut self, scene: &Scene<'_>, name: &ServiceName, path: &[Step<'_>]) -> bool {
        if scene.services.contains_key(name) {
            return true;
        }
        if self.there(name.as_str()) {
            return false; // It could not be read, which has been reported.
        }
        let names: Vec<_> = scene.services.keys().map(ServiceName::as_str).collect();
        let problem = Problem::new(
            Code::UnknownService,
            format!("there is no service `{name}`"),
            self.at(path),
        )
        .label("not there");
        self.report(match nearest(name.as_str(), names.iter().copied()) {
            Some(name) => problem.help(format!("did you mean `{name}`?")),
            None if names.is_empty() => problem.help(format!("add `[services.{name}]`")),
            None if names.len() > 12 => problem.help(format!("add `[services.{name}]`")),
            None => problem.help(format!("there are: {}", listed(&names))),
        });
        false
    }
}
