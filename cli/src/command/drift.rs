use std::collections::BTreeSet;
use std::fmt::Write as _;

use platform_decide::desired::Desired;
use platform_decide::plan::{Change, ChangeKind, Inputs, Pace, Subject, plan};
use platform_decide::release::{Release, ReleaseNumber};
use platform_drive::releases::History;
use serde_json::{Value, json};

use crate::command::releases::difference_lines;
use crate::error::CliError;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::view::{Line, Shown, Told};
use crate::world::World;

/// Find what runs otherwise than the current release says; changes nothing
#[derive(Debug, clap::Args)]
pub(crate) struct DriftArgs {
    /// Leave out what is at this place, such as `services.orders.*`; `*` stands for anything
    #[arg(long, value_name = "PATH")]
    ignore: Vec<String>,
    /// Exit with 2 where something has drifted
    #[arg(long, env = "PLATFORM_DETAILED_EXITCODE", value_parser = clap::builder::FalseyValueParser::new())]
    detailed_exitcode: bool,
}

struct Drift {
    release: Option<ReleaseNumber>,
    changes: Vec<Change>,
    ignored: usize,
}

/// Where a change is: `services.orders`.
fn place(subject: &Subject) -> String {
    match subject {
        Subject::Service(name) => format!("services.{name}"),
        Subject::Resource(name) => format!("resources.{name}"),
        Subject::Gateway => "gateway".to_owned(),
        Subject::Release(number) => format!("releases.{number}"),
    }
}

/// Whether `pattern` covers `path`, or something it lies in. `*` stands for anything.
fn covers(pattern: &str, path: &str) -> bool {
    fn matches(pattern: &[u8], path: &[u8]) -> bool {
        match pattern.split_first() {
            None => path.is_empty() || path.first() == Some(&b'.'),
            Some((b'*', rest)) => (0..=path.len()).any(|at| matches(rest, &path[at..])),
            Some((letter, rest)) => path
                .split_first()
                .is_some_and(|(first, path)| first == letter && matches(rest, path)),
        }
    }
    matches(pattern.as_bytes(), path.as_bytes())
}

/// Every place of a release: what it has, and each field of that.
fn places(release: &Release) -> Vec<String> {
    let mut found = Vec::new();
    for (name, placed) in &release.services {
        let place = format!("services.{name}");
        fields(&place, &json!(placed.spec.service), &mut found);
        found.push(format!("{place}.build"));
        let secrets = placed.spec.secrets.keys();
        found.extend(secrets.map(|secret| format!("{place}.secret {secret}")));
    }
    for (name, wanted) in &release.resources {
        fields(&format!("resources.{name}"), &json!(wanted), &mut found);
    }
    fields("gateway", &json!(release.ingress), &mut found);
    found
}

fn fields(place: &str, value: &Value, found: &mut Vec<String>) {
    found.push(place.to_owned());
    for (key, below) in value.as_object().into_iter().flatten() {
        fields(&format!("{place}.{key}"), below, found);
    }
}

/// Refuses what would ignore nothing, now or ever.
fn known(ignore: &[String], release: &Release, changes: &[Change]) -> Result<(), CliError> {
    let mut there = places(release);
    for change in changes {
        let place = place(&change.subject);
        let drifted = change.because.iter();
        there.extend(drifted.map(|difference| format!("{place}.{}", difference.path)));
        there.push(place);
    }
    let is_known = |pattern: &str| {
        // An item of a list goes by its name or number, and a variable may have been added.
        let pattern = pattern.split('[').next().unwrap_or_default();
        let variables = pattern.rsplit_once('.').map(|(above, _)| above);
        let variables = variables.filter(|above| above.rsplit('.').next() == Some("env"));
        let covers = |pattern: &str| there.iter().any(|place| covers(pattern, place));
        covers(pattern) || variables.is_some_and(covers)
    };
    let Some(unknown) = ignore.iter().find(|pattern| !is_known(pattern)) else {
        return Ok(());
    };
    let help = neighbours(unknown, &there).unwrap_or_else(|| {
        let whole = |place: &&str| {
            let (area, below) = place.split_once('.').unwrap_or((place, ""));
            area == "gateway" && below.is_empty() || area != "gateway" && !below.contains('.')
        };
        let whole: BTreeSet<&str> = there.iter().map(String::as_str).filter(whole).collect();
        format!("there are {}, and their fields", quoted(&whole))
    });
    let message = format!("`{unknown}` names nothing of release {}", release.number);
    Err(CliError::new("usage::unknown-place", message).help(help))
}

/// Where a field is not there and what it would be of is: the fields that are.
fn neighbours(unknown: &str, there: &[String]) -> Option<String> {
    let (above, _) = unknown.rsplit_once('.')?;
    let depth = |place: &str| place.matches('.').count();
    let above = there
        .iter()
        .find(|place| depth(place) == depth(above) && covers(above, place))?;
    let fields = there
        .iter()
        .filter_map(|place| place.strip_prefix(above)?.strip_prefix('.'))
        .filter(|field| !field.contains('.'));
    Some(format!("`{above}` has {}", quoted(&fields.collect())))
}

fn quoted(names: &BTreeSet<&str>) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// Takes out what is to be ignored; `None` where nothing is left.
fn left(mut change: Change, ignore: &[String]) -> Option<Change> {
    let place = place(&change.subject);
    let ignored = |path: &str| ignore.iter().any(|pattern| covers(pattern, path));
    if ignored(&place) {
        return None;
    }
    let before = change.because.len();
    change
        .because
        .retain(|difference| !ignored(&format!("{place}.{}", difference.path)));
    (before == 0 || !change.because.is_empty()).then_some(change)
}

impl Shown for Drift {
    fn kind(&self) -> &'static str {
        "change_summary"
    }

    fn json(&self) -> Value {
        json!({
            "release": self.release,
            "drifted": self.changes.len(),
            "ignored": self.ignored,
        })
    }

    fn human(&self, paint: Paint) -> String {
        let Some(release) = self.release else {
            return "nothing is deployed, so nothing can drift\n".to_owned();
        };
        let ignored = match self.ignored {
            0 => String::new(),
            ignored => format!(" ({ignored} ignored)"),
        };
        if self.changes.is_empty() {
            return format!("all runs as release {release} says{ignored}\n");
        }
        let mut text = String::new();
        for change in &self.changes {
            let mark = match change.kind {
                ChangeKind::Create => paint.red("missing"),
                ChangeKind::Remove => paint.yellow("strange"),
                _ => paint.yellow("changed"),
            };
            let _ = writeln!(
                text,
                "{mark} {}: {}",
                paint.bold(&place(&change.subject)),
                change.summary
            );
            text.push_str(&difference_lines(&change.because, paint));
        }
        let _ = writeln!(
            text,
            "\n{} drifted from release {release}{ignored}; `platform deploy` puts it right",
            self.changes.len()
        );
        text
    }
}

pub(crate) async fn run(args: &DriftArgs, world: &World) -> Result<Exit, CliError> {
    let target = world.target()?;
    let history = History::read(target.store()).await?;
    let Some(current) = &history.current else {
        world.view.show(&Drift {
            release: None,
            changes: Vec::new(),
            ignored: 0,
        });
        return Ok(Exit::Done);
    };
    let observed = target.observe().await?;
    let plan = plan(Inputs {
        desired: &Desired::of_release(current),
        observed: &observed,
        current: Some(current),
        unfinished: history.unfinished.as_ref(),
        half_way: &[],
        back_to: None,
        last: history.head.last,
        unbuilt: &BTreeSet::new(),
        pace: Pace::ByPolicy,
    });
    known(&args.ignore, current, &plan.changes)?;
    let found = plan.changes.len();
    let changes: Vec<Change> = plan
        .changes
        .into_iter()
        .filter_map(|change| left(change, &args.ignore))
        .collect();
    for change in &changes {
        world
            .view
            .tell(&Told::new("resource_drift", change, Line::Nothing));
    }
    let drifted = !changes.is_empty();
    world
        .view
        .output("drifted", if drifted { "true" } else { "false" });
    world.view.show(&Drift {
        release: Some(current.number),
        ignored: found - changes.len(),
        changes,
    });
    Ok(if drifted && args.detailed_exitcode {
        Exit::Changes
    } else {
        Exit::Done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_lies_in_it() {
        for (pattern, path) in [
            ("services.orders", "services.orders"),
            ("services.orders", "services.orders.env.LOG"),
            ("services.*", "services.web.replicas"),
            ("*.env.LOG", "services.orders.env.LOG"),
            ("services.*.replicas", "services.web.replicas"),
        ] {
            assert!(covers(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("services.order", "services.orders"),
            ("services.orders.env", "services.orders"),
            ("gateway", "services.gateway"),
        ] {
            assert!(!covers(pattern, path), "{pattern} {path}");
        }
    }
}
