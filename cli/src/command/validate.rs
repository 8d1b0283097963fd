use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use crate::diagnostic::{Diagnostic, Severity};
use crate::error::CliError;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::project::Project;
use crate::view::{Case, Shown, Verdict};
use crate::world::World;

/// Check the blueprint, in every environment or the one that is named
#[derive(Debug, clap::Args)]
pub(crate) struct ValidateArgs {}

#[derive(Serialize)]
struct Checked {
    name: String,
    provider: &'static str,
    services: usize,
    resources: usize,
    routes: usize,
}

#[derive(Serialize)]
struct Validation {
    blueprint: String,
    valid: bool,
    errors: usize,
    warnings: usize,
    environments: Vec<Checked>,
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

impl Shown for Validation {
    fn kind(&self) -> &'static str {
        "validation"
    }

    fn json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn human(&self, paint: Paint) -> String {
        let Self {
            blueprint,
            errors,
            warnings,
            ..
        } = self;
        let warned = if *warnings == 0 {
            String::new()
        } else {
            format!(", {}", count(*warnings, "warning"))
        };
        if !self.valid {
            let found = format!("{blueprint}: {}{warned}", count(*errors, "problem"));
            return format!("{}\n", paint.red(&found));
        }
        let mut text = format!("{}\n", paint.green(&format!("{blueprint}: valid{warned}")));
        for checked in &self.environments {
            let _ = writeln!(
                text,
                "  {} ({}): {}, {}, {}",
                paint.bold(&checked.name),
                checked.provider,
                count(checked.services, "service"),
                count(checked.resources, "resource"),
                count(checked.routes, "route")
            );
        }
        text
    }
}

pub(crate) fn run(_: &ValidateArgs, world: &World) -> Result<Exit, CliError> {
    let path = world.blueprint_path()?;
    let blueprint = world.shown(&path);
    let mut found = Vec::new();
    let mut environments = Vec::new();
    match Project::open(&world.here, &path) {
        Ok(project) => {
            let names = match &world.globals.env {
                Some(name) => vec![name.clone()],
                None => project.environments(),
            };
            found.extend(project.warnings.iter().cloned());
            for name in names {
                match project.resolve(Some(&name)) {
                    Ok(resolved) => environments.push(Checked {
                        name: name.to_string(),
                        provider: resolved.environment.provider.kind().as_str(),
                        services: resolved.services.len(),
                        resources: resolved.resources.len(),
                        routes: resolved.routes.len(),
                    }),
                    Err(error) => return Err(error),
                }
            }
        }
        Err(error) => found.extend(error.diagnostics().iter().cloned()),
    }
    let found = once(found);
    for diagnostic in &found {
        world.view.diagnose(diagnostic);
    }
    let errors = found
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .count();
    let case = |name: String, verdict| Case {
        suite: "validate".to_owned(),
        name,
        verdict,
    };
    if errors == 0 {
        world.view.case(case(blueprint.clone(), Verdict::Passed));
    }
    for problem in found.iter().filter(|d| d.severity == Severity::Error) {
        let name = match &problem.place {
            Some(place) => format!("{}:{}:{}", place.file, place.line, place.column),
            None => blueprint.clone(),
        };
        let why = format!("{}: {}", problem.code, problem.message);
        world.view.case(case(name, Verdict::Failed(why)));
    }
    world.view.accompany(&Validation {
        blueprint,
        valid: errors == 0,
        errors,
        warnings: found.len() - errors,
        environments,
    });
    Ok(if errors == 0 {
        Exit::Done
    } else {
        Exit::BadBlueprint
    })
}

/// A problem of the blueprint's own part shows in every environment, and is told once.
fn once(found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = BTreeSet::new();
    found
        .into_iter()
        .filter(|d| {
            let place = d.place.as_ref().map(|place| (place.line, place.column));
            seen.insert((d.code.clone(), d.message.clone(), place))
        })
        .collect()
}
