use clap::Subcommand;
use platform_drive::record::{self, Ending, RunRecord};
use serde_json::{Value, json};
use std::fmt::Write as _;

use crate::error::CliError;
use crate::exit::Exit;
use crate::moment;
use crate::paint::Paint;
use crate::table::{Cell, Table, Tone};
use crate::view::Shown;
use crate::world::World;

/// List the runs that changed an environment, and what each did
#[derive(Debug, clap::Args)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    what: Option<What>,
}

/// What stands for the newest run's id.
const NEWEST: &str = "last";

#[derive(Debug, Subcommand)]
enum What {
    /// Show one run's evidence: plan, artifacts, steps, ending
    Show {
        /// The run's id, or how it begins; otherwise the newest
        #[arg(default_value = NEWEST)]
        run: String,
    },
}

fn ending(ending: &Ending) -> (String, Tone) {
    match ending {
        Ending::Done => ("done".to_owned(), Tone::Good),
        Ending::RolledBack { to, .. } => (format!("rolled back to {to}"), Tone::Warn),
        Ending::Failed { code, .. } => (format!("failed: {code}"), Tone::Bad),
        Ending::Stopped => ("stopped".to_owned(), Tone::Warn),
    }
}

struct List {
    runs: Vec<RunRecord>,
    now: u64,
}

impl Shown for List {
    fn kind(&self) -> &'static str {
        "runs"
    }

    fn json(&self) -> Value {
        json!({ "runs": self.runs })
    }

    fn human(&self, paint: Paint) -> String {
        if self.runs.is_empty() {
            return "no run has changed this environment yet\n".to_owned();
        }
        let mut table = Table::new(&["RUN", "COMMAND", "RELEASE", "AGE", "ENDING"]);
        for run in self.runs.iter().rev() {
            let (word, tone) = ending(&run.ending);
            table.row(vec![
                Cell::from(run.run.as_str()),
                Cell::from(run.command.as_str()),
                Cell::from(run.release.to_string()),
                Cell::from(moment::age_of(&run.since, self.now)),
                Cell::new(word, tone),
            ]);
        }
        table.render(paint)
    }
}

struct One(RunRecord);

impl Shown for One {
    fn kind(&self) -> &'static str {
        "run"
    }

    fn json(&self) -> Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }

    fn human(&self, paint: Paint) -> String {
        let run = &self.0;
        let (word, _) = ending(&run.ending);
        let mut text = format!(
            "{} of `{}`\n{word}\nfrom {} until {}\nrelease {}{}\n",
            paint.bold(&format!("run {}", run.run)),
            run.command,
            run.since,
            run.until,
            run.release,
            run.from
                .map(|from| format!(", after {from}"))
                .unwrap_or_default()
        );
        if let Ending::RolledBack { why, .. } | Ending::Failed { why, .. } = &run.ending {
            let _ = writeln!(text, "{}", paint.red(why));
        }
        if !run.changes.is_empty() {
            let _ = writeln!(text, "\n{}", paint.bold("changes"));
            for change in &run.changes {
                let _ = writeln!(text, "  {}", change.summary);
            }
        }
        if !run.steps.is_empty() {
            let mut table = Table::new(&["STEP", "PROGRESS"]);
            for (step, progress) in &run.steps {
                let progress = serde_json::to_value(progress).unwrap_or_default();
                table.row(vec![
                    Cell::from(step.to_string()),
                    Cell::from(progress.as_str().unwrap_or_default()),
                ]);
            }
            text.push('\n');
            text.push_str(&table.render(paint));
        }
        text
    }
}

pub(crate) async fn run(args: &RunsArgs, world: &World) -> Result<Exit, CliError> {
    let target = world.target()?;
    let runs = record::all(target.store()).await?;
    match &args.what {
        None => world.view.show(&List {
            runs,
            now: world.clock.millis(),
        }),
        Some(What::Show { run: id }) if id == NEWEST => {
            // Ids sort by time, and the store lists them sorted.
            let newest = runs.into_iter().next_back().ok_or_else(|| {
                CliError::new("run::unknown", "no run has changed this environment yet")
                    .help("`platform deploy` is the first to")
            })?;
            world.view.show(&One(newest));
        }
        Some(What::Show { run: id }) => {
            let mut matching = runs
                .into_iter()
                .filter(|run| run.run.starts_with(id.as_str()));
            match (matching.next(), matching.next()) {
                (Some(run), None) => world.view.show(&One(run)),
                (None, _) => {
                    return Err(CliError::new(
                        "run::unknown",
                        format!("there is no run `{id}` in this environment"),
                    )
                    .help("run `platform runs` to list them"));
                }
                (Some(_), Some(_)) => {
                    return Err(CliError::new(
                        "run::unknown",
                        format!("several runs begin with `{id}`"),
                    )
                    .help("give more of the run's id"));
                }
            }
        }
    }
    Ok(Exit::Done)
}
