//! Needs and names.

use super::{Check, Scene, steps};
use crate::node::Step;
use crate::reader::nearest;
use crate::service_order::Needs;
use crate::{Code, Need, Problem, ServiceKind};

/// More circles than this help nobody.
const CIRCLES: usize = 20;

impl Check<'_, '_> {
    pub(super) fn names(&mut self, scene: &Scene<'_>) {
        for name in scene.resources.keys() {
            if scene.services.contains_key(name.as_str()) {
                let problem = Problem::new(
                    Code::NameClash,
                    format!("`{name}` is both a service and a resource"),
                    self.at(steps!["resources", name.as_str()]),
                )
                .label("the resource")
                .also(self.at(steps!["services", name.as_str()]), "the service")
                .help(format!(
                    "rename one, for instance the resource to `{name}-db`"
                ));
                self.report(problem);
            }
        }
    }

    pub(super) fn needs(&mut self, scene: &Scene<'_>) {
        for (name, service) in &scene.services {
            for (number, need) in service.needs.iter().enumerate() {
                let place = [
                    Step::from("services"),
                    name.as_str().into(),
                    "needs".into(),
                    Step::Text(need.as_str()),
                ];
                match scene.need(need) {
                    // What is written and could not be read has been reported.
                    None if self.there(need.as_str()) => {}
                    None => {
                        let names = scene.names();
                        let problem = Problem::new(
                            Code::DanglingNeed,
                            format!("`{name}` needs `{need}`, which is not there"),
                            self.at(&place),
                        )
                        .label("neither a service nor a resource");
                        let help = match nearest(need.as_str(), names) {
                            Some(name) => format!("did you mean `{name}`?"),
                            None => format!("add `[resources.{need}]` or `[services.{need}]`"),
                        };
                        self.report(problem.help(help));
                    }
                    Some(Need::Service(called, needed))
                        if needed.port.is_none()
                            && needed.kind != ServiceKind::Job
                            && !self.writes(called, &["port"]) =>
                    {
                        let problem = Problem::new(
                            Code::NoPort,
                            format!("`{name}` needs `{need}`, which has no port to be called at"),
                            self.at(&place),
                        )
                        .also(self.at(steps!["services", need.as_str()]), "has no port")
                        .help(format!("add `port` to `[services.{need}]`"));
                        self.report(problem);
                    }
                    Some(_) => {}
                }
                if service.needs[..number].contains(need) {
                    let problem = Problem::new(
                        Code::UnusedKey,
                        format!("`{name}` needs `{need}` twice"),
                        self.at(&place),
                    )
                    .warning()
                    .help("keep one");
                    self.report(problem);
                }
            }
        }
        for circle in Needs::of(&scene.services).circles(CIRCLES) {
            let Some((first, last)) = circle.first().zip(circle.last()) else {
                continue;
            };
            let second = circle.get(1).unwrap_or(first);
            let mut way: Vec<_> = circle.iter().map(|name| format!("`{name}`")).collect();
            way.push(format!("`{first}`"));
            let need = |from: &str, to: &str| {
                self.at(&[
                    "services".into(),
                    from.into(),
                    "needs".into(),
                    Step::Text(to),
                ])
            };
            let mut problem = Problem::new(
                Code::CyclicNeed,
                format!("services need each other in a circle: {}", way.join(" → ")),
                need(first.as_str(), second.as_str()),
            )
            .label("the circle begins here")
            .help("none of them could start first; take one of these needs out");
            if circle.len() > 1 {
                problem = problem.also(need(last.as_str(), first.as_str()), "and ends here");
            }
            self.report(problem);
        }
    }
}
