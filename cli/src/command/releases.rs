use clap::Subcommand;
use platform_decide::difference::{Difference, differences};
use platform_decide::release::{Release, ReleaseNumber, ReleaseStatus};
use platform_drive::releases::{self, History};
use serde_json::{Value, json};
use std::fmt::Write as _;

use crate::error::CliError;
use crate::exit::Exit;
use crate::moment;
use crate::paint::Paint;
use crate::table::{Cell, Table, Tone};
use crate::view::Shown;
use crate::world::World;

/// List what an environment was asked to run, release by release
#[derive(Debug, clap::Args)]
pub(crate) struct ReleasesArgs {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show one release, and how it differs from the one before
    Show {
        /// The release, such as `r12`
        release: ReleaseNumber,
    },
}

fn status_word(status: ReleaseStatus) -> (&'static str, Tone) {
    match status {
        ReleaseStatus::Deploying => ("deploying", Tone::Warn),
        ReleaseStatus::Active => ("active", Tone::Good),
        ReleaseStatus::Superseded => ("superseded", Tone::Dim),
        ReleaseStatus::RolledBack => ("rolled back", Tone::Warn),
        ReleaseStatus::Failed => ("failed", Tone::Bad),
    }
}

struct List {
    releases: Vec<Release>,
    current: Option<ReleaseNumber>,
    now: u64,
}

impl List {
    /// The services a release introduced.
    fn changed(release: &Release) -> Vec<&str> {
        release
            .services
            .iter()
            .filter(|(_, placed)| placed.version == release.number)
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

impl Shown for List {
    fn kind(&self) -> &'static str {
        "releases"
    }

    fn json(&self) -> Value {
        let releases: Vec<Value> = self
            .releases
            .iter()
            .map(|release| {
                json!({
                    "number": release.number,
                    "status": release.status,
                    "created_at": release.created_at,
                    "commit": release.commit,
                    "run": release.run,
                    "rollback_of": release.rollback_of,
                    "digest": release.digest,
                    "changed": Self::changed(release),
                })
            })
            .collect();
        json!({ "current": self.current, "releases": releases })
    }

    fn human(&self, paint: Paint) -> String {
        if self.releases.is_empty() {
            return "nothing was deployed yet\n".to_owned();
        }
        let mut table = Table::new(&["RELEASE", "STATUS", "AGE", "COMMIT", "CHANGED"]);
        for release in self.releases.iter().rev() {
            let (word, tone) = status_word(release.status);
            let changed = match release.rollback_of {
                Some(of) => format!("back to {of}"),
                None => Self::changed(release).join(", "),
            };
            let commit: String = release
                .commit
                .iter()
                .flat_map(|commit| commit.chars().take(12))
                .collect();
            let age = if release.created_at.is_empty() {
                String::new()
            } else {
                moment::age_of(&release.created_at, self.now)
            };
            table.row(vec![
                Cell::from(release.number.to_string()),
                Cell::new(word, tone),
                Cell::from(age),
                Cell::from(commit),
                Cell::from(changed),
            ]);
        }
        table.render(paint)
    }
}

struct One {
    release: Release,
    before: Option<ReleaseNumber>,
    differences: Vec<Difference>,
    now: u64,
}

/// What a release runs, in the blueprint's words.
fn content(release: &Release) -> Value {
    let services: serde_json::Map<String, Value> = release
        .services
        .iter()
        .map(|(name, placed)| {
            let mut service = serde_json::to_value(&placed.spec.service).unwrap_or_default();
            service["replicas"] = placed.replicas.into();
            service["artifact"] = placed.spec.artifact.key.short().into();
            service["secrets"] = json!(placed.spec.secrets);
            (name.to_string(), service)
        })
        .collect();
    let resources: serde_json::Map<String, Value> = release
        .resources
        .iter()
        .map(|(name, desired)| (name.to_string(), json!(desired.resource)))
        .collect();
    json!({
        "services": services,
        "resources": resources,
        "gateway": release.ingress.gateway,
        "routes": release.ingress.routes,
    })
}

/// Writes differences: what goes, what comes, what becomes something else.
pub(crate) fn difference_lines(differences: &[Difference], paint: Paint) -> String {
    let mut text = String::new();
    for difference in differences {
        let path = &difference.path;
        let line = match (&difference.before, &difference.after) {
            (Some(before), Some(after)) => paint.yellow(&format!("~ {path}: {before} -> {after}")),
            (Some(before), None) => paint.red(&format!("- {path}: {before}")),
            (None, Some(after)) => paint.green(&format!("+ {path}: {after}")),
            (None, None) => continue,
        };
        let _ = writeln!(text, "  {line}");
    }
    text
}

impl Shown for One {
    fn kind(&self) -> &'static str {
        "release"
    }

    fn json(&self) -> Value {
        let mut line = serde_json::to_value(&self.release).unwrap_or_default();
        line["before"] = json!(self.before);
        line["differences"] = json!(self.differences);
        line
    }

    fn human(&self, paint: Paint) -> String {
        let release = &self.release;
        let (word, _) = status_word(release.status);
        let mut text = format!(
            "{} {word}, made {} ago by run {}\n",
            paint.bold(&format!("release {}", release.number)),
            moment::age_of(&release.created_at, self.now),
            release.run
        );
        if let Some(commit) = &release.commit {
            let _ = writeln!(text, "commit {commit}");
        }
        if let Some(of) = release.rollback_of {
            let _ = writeln!(text, "repeats {of}");
        }
        let mut table = Table::new(&["SERVICE", "VERSION", "REPLICAS", "ARTIFACT"]);
        for (name, placed) in &release.services {
            table.row(vec![
                Cell::from(name.as_str()),
                Cell::from(placed.version.to_string()),
                Cell::from(placed.replicas.to_string()),
                Cell::new(placed.spec.artifact.key.short(), Tone::Dim),
            ]);
        }
        text.push('\n');
        text.push_str(&table.render(paint));
        if let Some(before) = self.before {
            let _ = writeln!(text, "\n{}", paint.bold(&format!("since {before}")));
            if self.differences.is_empty() {
                text.push_str("  nothing differs\n");
            }
            text.push_str(&difference_lines(&self.differences, paint));
        }
        text
    }
}

pub(crate) async fn run(args: &ReleasesArgs, world: &World) -> Result<Exit, CliError> {
    let target = world.target()?;
    let store = target.store();
    let all = releases::all(store).await?;
    let now = world.clock.millis();
    match &args.what {
        None => {
            let current = History::read(store).await?.head.current;
            world.view.show(&List {
                releases: all,
                current,
                now,
            });
        }
        Some(What::Show { release: number }) => {
            let at = all
                .iter()
                .position(|release| release.number == *number)
                .ok_or_else(|| {
                    CliError::new(
                        "release::unknown",
                        format!("there is no release {number} in this environment"),
                    )
                    .help("run `platform releases` to list them")
                })?;
            let release = all[at].clone();
            let before = at.checked_sub(1).map(|before| &all[before]);
            world.view.show(&One {
                differences: before
                    .map(|before| differences(&content(before), &content(&release)))
                    .unwrap_or_default(),
                before: before.map(|before| before.number),
                release,
                now,
            });
        }
    }
    Ok(Exit::Done)
}
