//! What a blueprint must fulfil beyond its form, in each environment.

mod fill;
mod needs;
mod resources;
mod rollouts;
mod routes;
mod services;

use std::ops::Range;

use toml::de::DeTable;

use crate::document::Document;
use crate::node::{Step, place};
use crate::reader::{listed, nearest};
use crate::{Code, Environment, Problem, Project, Resolved, ServiceName};

/// Fills in what an environment decides, and checks the whole.
pub(crate) fn validate(
    document: Document,
    project: Project,
    environment: Environment,
    root: &DeTable<'_>,
    over: Option<&DeTable<'_>>,
    problems: &mut Vec<Problem>,
) -> Resolved {
    let mut resolved = Resolved {
        project,
        environment,
        services: document.services,
        resources: document.resources,
        gateway: document.gateway,
        routes: document.routes,
        rollout: document.rollout,
        drills: document.drills,
    };
    // Some things are told by what is written, before it is filled in.
    let mut check = Check {
        root,
        over,
        problems,
    };
    check.engines(&resolved);
    fill::fill(&mut resolved);
    check.names(&resolved);
    check.needs(&resolved);
    check.services(&resolved);
    check.ports(&resolved);
    check.routes(&resolved);
    check.gateway(&resolved);
    check.rollouts(&resolved);
    check.drills(&resolved);
    resolved
}

/// Looks for problems, and finds their places: in the environment if it says
/// something there, else at the top.
struct Check<'a, 'text> {
    root: &'a DeTable<'text>,
    over: Option<&'a DeTable<'text>>,
    problems: &'a mut Vec<Problem>,
}

impl Check<'_, '_> {
    /// The place of the value at `path`, or of what is nearest above it.
    fn at(&self, path: &[Step<'_>]) -> Option<Range<usize>> {
        let (top, top_steps) = place(self.root, path);
        let (over, over_steps) = self.over.map_or((None, 0), |over| place(over, path));
        if over_steps >= top_steps && over.is_some() {
            over
        } else {
            top
        }
    }

    /// Whether there is a value at `path` as written.
    fn written(&self, path: &[Step<'_>]) -> bool {
        place(self.root, path).1 == path.len()
            || self
                .over
                .is_some_and(|over| place(over, path).1 == path.len())
    }

    /// Notes a problem at a place.
    fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Reports a service that is not there.
    fn known_service(
        &mut self,
        resolved: &Resolved,
        name: &ServiceName,
        path: &[Step<'_>],
    ) -> bool {
        if resolved.services.contains_key(name) {
            return true;
        }
        let names: Vec<_> = resolved.services.keys().map(ServiceName::as_str).collect();
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

/// A path into the tree, of keys and numbers of items.
macro_rules! steps {
    ($($step:expr),+ $(,)?) => {
        &[$(crate::node::Step::from($step)),+]
    };
}
use steps;
