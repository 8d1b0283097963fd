//! A plan before it is carried out: shown, and agreed to.

use std::fmt::Write as _;

use platform_decide::plan::{ChangeKind, Plan, Subject};
use platform_drive::deploy::Prepared;
use serde_json::{Value, json};

use crate::deployment;
use crate::error::CliError;
use crate::paint::Paint;
use crate::view::Shown;
use crate::world::World;

/// A plan as people and programs read it.
pub(crate) struct ShownPlan<'a> {
    plan: &'a Plan,
    place: String,
}

impl<'a> ShownPlan<'a> {
    /// A plan for the environment that is meant.
    pub(crate) fn new(world: &World, plan: &'a Plan) -> Result<Self, CliError> {
        let resolved = world.resolved()?;
        Ok(Self {
            plan,
            place: format!(
                "{} → {} ({})",
                resolved.project.name,
                resolved.environment.name,
                resolved.environment.provider.kind().as_str()
            ),
        })
    }
}

impl Shown for ShownPlan<'_> {
    fn kind(&self) -> &'static str {
        "plan"
    }

    fn json(&self) -> Value {
        json!({
            "from": self.plan.from,
            "release": self.plan.release.number,
            "observed": self.plan.observed,
            "changes": self.plan.changes,
            "steps": self.plan.steps,
        })
    }

    fn human(&self, paint: Paint) -> String {
        let plan = self.plan;
        if plan.is_empty() {
            let serves = plan
                .from
                .map_or_else(String::new, |from| format!(", {from} serves"));
            return format!("{}: nothing to do{serves}\n", self.place);
        }
        let way = match plan.from {
            Some(from) if from != plan.release.number => {
                format!("{from} → {}", plan.release.number)
            }
            _ => plan.release.number.to_string(),
        };
        let mut text = format!("{}, {way}\n\n", paint.bold(&self.place));
        let name = |subject: &Subject| match subject {
            Subject::Service(name) => name.to_string(),
            Subject::Resource(name) => name.to_string(),
            Subject::Gateway => "gateway".to_owned(),
            Subject::Release(number) => number.to_string(),
        };
        let width = plan
            .changes
            .iter()
            .map(|c| name(&c.subject).len())
            .max()
            .unwrap_or(0);
        for change in &plan.changes {
            let mark = match change.kind {
                ChangeKind::Create => paint.green("+"),
                ChangeKind::Remove => paint.red("-"),
                ChangeKind::Repair => paint.yellow("!"),
                ChangeKind::Finish => paint.yellow("…"),
                ChangeKind::Replace | ChangeKind::Scale | ChangeKind::Update => paint.yellow("~"),
            };
            let subject = format!("{:width$}", name(&change.subject));
            let _ = writeln!(
                text,
                "  {mark} {}  {}",
                paint.bold(&subject),
                change.summary
            );
            let paths = change.because.iter().map(|d| d.path.chars().count());
            let pad = paths.max().unwrap_or(0);
            for d in &change.because {
                let side =
                    |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
                let _ = writeln!(
                    text,
                    "      {:pad$}  {} → {}",
                    d.path,
                    paint.dim(&side(&d.before)),
                    side(&d.after)
                );
            }
        }
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let _ = writeln!(
            text,
            "\n{}, {}",
            count(plan.changes.len(), "change"),
            count(plan.steps.len(), "step")
        );
        text
    }
}

/// Whether what a plan changes is asked about before it is changed.
#[derive(Debug)]
pub(crate) enum Asking {
    /// It was said in so many words already.
    Never,
    /// With this question, but on one's own machine.
    UnlessOwn(String),
    /// With this question, wherever that is.
    Always(String),
}

/// Shows a plan, with what preflight found, and asks.
pub(crate) fn agreed(
    world: &World,
    prepared: &Prepared,
    asking: &Asking,
) -> Result<bool, CliError> {
    let shown = ShownPlan::new(world, &prepared.plan)?;
    let asks = match asking {
        Asking::Never => false,
        Asking::UnlessOwn(_) => world.would_ask_unless_own()?,
        Asking::Always(_) => !world.globals.yes,
    };
    // Who is asked has to see what for.
    if asks {
        world.view.show(&shown);
    } else {
        world.view.accompany(&shown);
    }
    deployment::judge(world, &prepared.findings)?;
    if prepared.plan.is_empty() {
        return Ok(true);
    }
    match asking {
        Asking::Never => Ok(true),
        Asking::UnlessOwn(question) => world.confirm_unless_own(question),
        Asking::Always(question) => world.confirm(question),
    }
}
