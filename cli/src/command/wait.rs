use std::time::Duration;

use futures::StreamExt as _;
use platform_blueprint::Period;
use platform_port::{LogLine, LogQuery, Target};
use serde_json::json;
use tokio::time::Instant;

use crate::diagnostic::Diagnostic;
use crate::error::CliError;
use crate::exit::Exit;
use crate::moment;
use crate::parties::known_services;
use crate::status::{self, Status};
use crate::view::{Case, Line, Told, Verdict};
use crate::world::World;

/// Wait until services and resources are ready, which means that the gateway reaches them
#[derive(Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// Services; all where none is named
    services: Vec<String>,
    /// How long to wait
    #[arg(
        long,
        env = "PLATFORM_TIMEOUT",
        default_value = "5m",
        value_name = "TIME"
    )]
    timeout: Period,
}

/// Log lines shown of what did not become ready.
const LINES: usize = 20;
/// How long a look that is under way when time is up may still take, so that it can be told what is not ready.
const LAST_LOOK: Duration = Duration::from_secs(8);

pub(crate) async fn run(args: &WaitArgs, world: &World) -> Result<Exit, CliError> {
    let resolved = world.resolved()?;
    let services = known_services(resolved, &args.services)?;
    let services: Vec<String> = services.iter().map(ToString::to_string).collect();
    let target = world.target()?;
    let began = Instant::now();
    let until = began + args.timeout.duration();
    let mut told = String::new();
    world.view.tell(&Told::new(
        "wait_start",
        &json!({ "services": services }),
        Line::Begin("wait".to_owned(), "waiting until all is ready".to_owned()),
    ));
    world.stop.stands("waiting changes nothing");
    let mut last = None;
    loop {
        let look = status::look(world, resolved, target.as_ref());
        let status = match tokio::time::timeout_at(until + LAST_LOOK, look).await {
            Ok(status) => status?.only(&services),
            Err(_) => return Err(unseen(world, began, last.as_ref())),
        };
        if !status.deployed() {
            return Err(ended(
                world,
                began,
                &status,
                Vec::new(),
                "wait::nothing-deployed",
            ));
        }
        if status.all_ready() {
            for (name, _) in status.by_part() {
                case(world, name, Verdict::Passed);
            }
            world.view.tell(&Told::new(
                "wait_complete",
                &json!({ "milliseconds": u64::try_from(began.elapsed().as_millis()).unwrap_or(0) }),
                Line::Done(
                    "wait".to_owned(),
                    format!("all is ready ({})", moment::span(began.elapsed())),
                ),
            ));
            if let Some(url) = status.url() {
                world.view.output("url", url);
            }
            return Ok(Exit::Done);
        }
        let given_up = status.given_up().next().is_some();
        if given_up || until <= Instant::now() {
            let log = last_lines(target.as_ref(), &status).await;
            let code = if given_up {
                "wait::gave-up"
            } else {
                "wait::timed-out"
            };
            return Err(ended(world, began, &status, log, code));
        }
        let waiting = status.not_ready().join(", ");
        if waiting != told {
            told.clone_from(&waiting);
            world.view.tell(&Told::new(
                "wait_progress",
                &json!({ "not_ready": status.not_ready() }),
                Line::Update("wait".to_owned(), format!("waiting for {waiting}")),
            ));
        }
        tokio::select! {
            () = target.changed(Duration::from_secs(1)) => {}
            () = tokio::time::sleep_until(until) => {}
            () = world.stop.token().cancelled() => {
                return Err(ended(world, began, &status, Vec::new(), "run::stopped"));
            }
        }
        last = Some(status);
    }
}

/// Tells that the target did not say in time how it is, and how it was when it last did.
fn unseen(world: &World, began: Instant, last: Option<&Status>) -> CliError {
    if let Some(status) = last {
        return ended(world, began, status, Vec::new(), "wait::timed-out");
    }
    let waited = began.elapsed().as_secs();
    let message = format!("the target did not say within {waited} s how it is");
    let help = "look at `platform doctor`, or wait longer with `--timeout`";
    Diagnostic::error("wait::timed-out", message)
        .help(help)
        .into()
}

fn case(world: &World, name: &str, verdict: Verdict) {
    world.view.case(Case {
        suite: "health".to_owned(),
        name: name.to_owned(),
        verdict,
    });
}

/// Tells how the wait ended, and why.
fn ended(
    world: &World,
    began: Instant,
    status: &Status,
    log: Vec<LogLine>,
    code: &str,
) -> CliError {
    world.view.tell(&Told::new(
        "wait_errored",
        &json!({ "code": code, "not_ready": status.not_ready() }),
        Line::Failed("wait".to_owned(), "not ready".to_owned()),
    ));
    let waited = began.elapsed().as_secs();
    let (message, help) = match code {
        "wait::nothing-deployed" => (
            "nothing is deployed in this environment".to_owned(),
            "run `platform deploy` first",
        ),
        "wait::gave-up" => (
            "something ended and will not be started again".to_owned(),
            "mend what the log shows and run `platform deploy`",
        ),
        "run::stopped" => (
            "stopped while waiting".to_owned(),
            "run `platform wait` to go on",
        ),
        _ => (
            format!("not all was ready after {waited} s"),
            "look at `platform status` and `platform logs`, or wait longer with `--timeout`",
        ),
    };
    for (name, ready) in status.by_part() {
        let verdict = if ready {
            Verdict::Passed
        } else {
            Verdict::Failed(status.not_ready().join("; "))
        };
        case(world, name, verdict);
    }
    let mut diagnostic = Diagnostic::error(code, message).help(help).log(log);
    diagnostic.causes = match status.not_ready() {
        lines if lines.is_empty() => Vec::new(),
        lines => vec![lines.join("; ")],
    };
    diagnostic.into()
}

/// What last was written by whatever is not ready.
async fn last_lines(target: &dyn Target, status: &Status) -> Vec<LogLine> {
    let parties = status.parties_not_ready();
    if parties.is_empty() {
        // A query that names none asks for the lines of all.
        return Vec::new();
    }
    let query = LogQuery {
        parties,
        tail: Some(LINES),
        ..LogQuery::default()
    };
    match target.logs(&query).await {
        Ok(lines) => {
            lines
                .filter_map(|line| async { line.ok() })
                .take(LINES * 4)
                .collect()
                .await
        }
        // The log is an extra; the wait's own outcome is what counts.
        Err(_) => Vec::new(),
    }
}
