//! `platform plan`: what a deploy would do.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use platform_decide::plan::{ChangeKind, Pace, Plan, Subject};
use platform_drive::deploy::{self, Request};
use serde_json::{Value, json};

use super::deploy::Strategy;
use crate::deployment::{self, Asked};
use crate::error::CliError;
use crate::exit::Exit;
use crate::file;
use crate::paint::Paint;
use crate::view::Shown;
use crate::world::World;

/// Show what a deploy would change, and why; change nothing
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// Save the plan, for `platform deploy --plan FILE` to apply exactly
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// End with 2 if there are changes
    #[arg(long)]
    detailed_exitcode: bool,

    /// Only this service; may be given more than once
    #[arg(long, value_name = "NAME")]
    service: Vec<platform_blueprint::ServiceName>,

    #[command(flatten)]
    strategy: Strategy,
}

pub(crate) async fn run(args: &PlanArgs, world: &World) -> Result<Exit, CliError> {
    let target = world.target()?;
    let crew = deployment::crew(world, target, "platform plan");
    let mut asked = Asked::of(world)?;
    let current = platform_drive::releases::History::read(crew.target.store())
        .await?
        .current;
    asked.narrow(&args.service, current.as_ref())?;
    args.strategy.apply(&mut asked.desired)?;
    let prepared = deploy::prepare(
        &crew,
        Request {
            desired: &asked.desired,
            back_to: None,
            unbuilt: &asked.unbuilt,
            pace: Pace::ByPolicy,
        },
    )
    .await?;
    deployment::tell_left(&crew, &prepared);
    world.view.show(&ShownPlan::new(world, &prepared.plan)?);
    world
        .view
        .output("changes", &prepared.plan.changes.len().to_string());
    deployment::judge(world, &prepared.findings)?;
    if let Some(path) = &args.out {
        save(&prepared.plan, path, world)?;
    }
    if args.detailed_exitcode && !prepared.plan.is_empty() {
        return Ok(Exit::Changes);
    }
    Ok(Exit::Done)
}

/// Writes a plan whole or not at all.
fn save(plan: &Plan, path: &PathBuf, world: &World) -> Result<(), CliError> {
    let text = serde_json::to_vec_pretty(&json!({ "version": PLAN_VERSION, "plan": plan }))
        .unwrap_or_default();
    file::put(&world.here.join(path), &text, Some(0o600))
}

/// The version of a saved plan's form.
const PLAN_VERSION: u32 = 1;

/// Reads a plan that [`run`] saved.
pub(super) fn load(path: &PathBuf, world: &World) -> Result<Plan, CliError> {
    let path = world.here.join(path);
    let bytes = fs::read(&path).map_err(|error| CliError::file("read", &path, &error))?;
    let bad = |error: &dyn std::error::Error| {
        CliError::new(
            "plan::unreadable",
            format!("`{}` is not a saved plan", path.display()),
        )
        .because(error)
        .help("make one with `platform plan --out FILE`")
    };
    let mut value: Value = serde_json::from_slice(&bytes).map_err(|error| bad(&error))?;
    if value["version"] != json!(PLAN_VERSION) {
        return Err(CliError::new(
            "plan::unreadable",
            format!(
                "`{}` was saved by another version of `platform`",
                path.display()
            ),
        )
        .help("make a new one with `platform plan --out FILE`"));
    }
    serde_json::from_value(value["plan"].take()).map_err(|error| bad(&error))
}

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
