//! Resources and drills.

use super::{Check, Scene, steps};
use crate::reader::{listed, nearest};
use crate::{Code, Drill, DrillName, Engine, Fault, Need, Problem, ProviderKind, ResourceName};

impl Check<'_, '_> {
    /// Engines as written, before they are filled in.
    pub(super) fn engines(&mut self, scene: &Scene<'_>) {
        let process = scene.environment.provider.kind() == ProviderKind::Process;
        for (name, resource) in &scene.resources {
            let engines = resource.kind.engines();
            let place = steps!["resources", name.as_str(), "engine"];
            if resource.engine != Engine::Auto && !engines.contains(&resource.engine) {
                let engines: Vec<_> = engines.iter().map(|engine| engine.as_str()).collect();
                let problem = Problem::new(
                    Code::EngineMisfit,
                    format!(
                        "`{}` cannot stand behind a `{}`",
                        resource.engine.as_str(),
                        resource.kind.as_str()
                    ),
                    self.at(place),
                )
                .help(format!(
                    "write one of {}, or leave it out",
                    listed(&engines)
                ));
                self.report(problem);
            }
            if resource.engine == Engine::Embedded {
                self.embedded(scene, name, process);
            }
            if resource.synchronous && resource.standbys == 0 {
                let problem = Problem::new(
                    Code::MissingSetting,
                    format!("writes to `{name}` wait for a standby, and there is none"),
                    self.at(steps!["resources", name.as_str(), "synchronous"]),
                )
                .help("add `standbys = 1`");
                self.report(problem);
            }
            if resource
                .backup
                .as_ref()
                .is_some_and(|backup| backup.every.is_zero())
            {
                let problem = Problem::new(
                    Code::BadValue,
                    format!("`{name}` cannot be backed up all the time"),
                    self.at(steps!["resources", name.as_str(), "backup", "every"]),
                )
                .help("write how much time there is between two backups, such as `15m`");
                self.report(problem);
            }
        }
    }

    fn embedded(&mut self, scene: &Scene<'_>, name: &ResourceName, process: bool) {
        let environment = &scene.environment.name;
        let place = steps!["resources", name.as_str(), "engine"];
        if !process {
            let problem = Problem::new(
                Code::EngineMisfit,
                format!("`{name}` is embedded, which `{environment}` cannot have"),
                self.at(place),
            )
            .label("embedded engines run with local processes only")
            .help(format!(
                "leave `engine` out, or write it in an environment on local processes, not in \
                 `{environment}`"
            ));
            self.report(problem);
        } else if scene.resources[name].standbys > 0 {
            let problem = Problem::new(
                Code::EngineMisfit,
                format!("`{name}` is embedded, which has no standbys"),
                self.at(steps!["resources", name.as_str(), "standbys"]),
            )
            .also(self.at(place), "embedded")
            .help("take out `standbys`, or name a real engine");
            self.report(problem);
        }
    }

    pub(super) fn drills(&mut self, scene: &Scene<'_>) {
        for (name, drill) in &scene.drills {
            if let Some(target) = scene.need(&drill.target) {
                self.fault(name, drill, target);
            } else if !self.there(drill.target.as_str()) {
                let names = scene.names();
                let problem = Problem::new(
                    Code::UnknownTarget,
                    format!("there is no service or resource `{}`", drill.target),
                    self.at(steps!["drills", name.as_str(), "target"]),
                )
                .label("not there");
                let help = match nearest(drill.target.as_str(), names) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => "name a service or a resource".to_owned(),
                };
                self.report(problem.help(help));
            }
            let route = drill.steady.route.as_deref();
            let known = || scene.routes.iter().map(|route| route.path.as_str());
            match route {
                Some(route) if known().any(|path| path == route) => {}
                Some(route) if known().any(|path| below(path, route)) => {}
                Some(route) => {
                    let problem = Problem::new(
                        Code::UnknownTarget,
                        format!("no route takes `{route}`"),
                        self.at(steps!["drills", name.as_str(), "steady", "route"]),
                    )
                    .label("not routed");
                    let help = match nearest(route, known()) {
                        Some(path) => format!("did you mean `{path}`?"),
                        None => "name the path of a route".to_owned(),
                    };
                    self.report(problem.help(help));
                }
                None if !scene.routes.is_empty() => {}
                None => {
                    let problem = Problem::new(
                        Code::MissingSetting,
                        format!(
                            "the drill `{name}` needs a route to see through, and there is none"
                        ),
                        self.at(steps!["drills", name.as_str()]),
                    )
                    .help("add `[[routes]]`");
                    self.report(problem);
                }
            }
        }
    }

    fn fault(&mut self, name: &DrillName, drill: &Drill, target: Need<'_>) {
        let of_resources = matches!(
            drill.fault,
            Fault::KillPrimary | Fault::KillStandby | Fault::LoseData
        );
        let of_services = matches!(drill.fault, Fault::KillInstance | Fault::KillAll);
        let place = self.at(steps!["drills", name.as_str(), "fault"]);
        let fault = drill.fault.as_str();
        let problem = match target {
            Need::Service(target, _) if of_resources => Problem::new(
                Code::FaultMisfit,
                format!("`{fault}` is for resources, and `{target}` is a service"),
                place,
            )
            .help("write `kill-instance` or `kill-all`"),
            Need::Resource(target, _) if of_services => Problem::new(
                Code::FaultMisfit,
                format!("`{fault}` is for services, and `{target}` is a resource"),
                place,
            )
            .help("write `kill-primary`"),
            Need::Resource(target, resource)
                if drill.fault == Fault::LoseData && resource.backup.is_none() =>
            {
                Problem::new(
                    Code::FaultMisfit,
                    format!("`{target}` is not backed up, so what is lost cannot come back"),
                    place,
                )
                .help(format!("add `backup` to `[resources.{target}]`"))
            }
            _ => return,
        };
        self.report(problem);
    }
}

/// Whether `path` is below the prefix of a route.
fn below(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
