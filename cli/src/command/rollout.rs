//! `platform rollout`: watch and steer the rollout under way, from any terminal.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Subcommand;
use platform_blueprint::ServiceName;
use platform_decide::desired::Desired;
use platform_decide::plan::Pace;
use platform_decide::release::ReleaseNumber;
use platform_decide::rollout::{Order, Phase, State};
use platform_drive::deploy::{Request, prepare};
use platform_drive::lease::Lease;
use platform_drive::releases::History;
use platform_drive::rollout::{self, Progress, RolloutRecord};
use platform_port::Target;
use serde_json::Value;

use super::rollback;
use crate::deployment;
use crate::error::CliError;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::parties::known_service;
use crate::rollout_view::{self, RolloutShown};
use crate::status as status_page;
use crate::under_way;
use crate::view::{Shown, Told};
use crate::world::World;

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Watch and steer the rollout under way
#[derive(Debug, clap::Args)]
pub(crate) struct RolloutArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show where it stands: weights, requests, errors and latency of both sides, evidence
    Status {
        /// Go on showing it until it is over
        #[arg(short, long)]
        watch: bool,

        /// Go on with it if nobody drives it any more, as its run was killed
        #[arg(long)]
        resume: bool,
    },
    /// Stay at this step; what goes wrong still goes back
    Pause(SayArgs),
    /// Go on after a pause, or where a run that is gone left it
    Resume(SayArgs),
    /// Go to the next step without waiting for its verdict
    Next(SayArgs),
    /// Go to the end without waiting for holds, gates and verdicts
    Promote(SayArgs),
    /// Go back to the old release, in one move
    Abort(SayArgs),
    /// Show the reports of the last release's rollouts, as Markdown; `--junit FILE` writes them for CI
    Report(ReportArgs),
}

#[derive(Debug, clap::Args)]
struct SayArgs {
    /// Return only when the rollout is over
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, clap::Args)]
struct ReportArgs {
    /// Only rollouts that this service was a part of
    service: Option<ServiceName>,

    /// Those of this release, such as r7, in place of the last
    #[arg(long)]
    release: Option<ReleaseNumber>,
}

pub(crate) async fn run(args: &RolloutArgs, world: &World) -> Result<Exit, CliError> {
    world.tolerate().await?;
    let target = world.target()?;
    match &args.what {
        What::Status { watch, resume } => {
            if *resume && is_left(target.as_ref()).await? {
                return Box::pin(go_on(world, "platform rollout status --resume")).await;
            }
            status(world, target.as_ref(), *watch).await
        }
        What::Report(which) => report(world, target.as_ref(), which).await,
        What::Pause(say) => steer(world, target.as_ref(), Order::Pause, say).await,
        What::Resume(say) => steer(world, target.as_ref(), Order::Resume, say).await,
        What::Next(say) => steer(world, target.as_ref(), Order::Next, say).await,
        What::Promote(say) => steer(world, target.as_ref(), Order::Promote, say).await,
        What::Abort(say) => {
            // A run that is between two rollouts has nobody hear it before the next.
            let next = under_way::driven_or_next(world, target.as_ref());
            world.until_stopped(next).await?;
            if is_left(target.as_ref()).await? {
                if let Err(damaged) = made_out(target.as_ref()).await {
                    // The way back needs nothing of it.
                    let told = damaged.diagnostics().iter().map(|one| one.message.clone());
                    let told = told.map(Told::important);
                    told.for_each(|told| world.view.tell(&told));
                }
                // Nobody hears, so this run takes it back itself.
                return Box::pin(rollback::abandoned(world)).await;
            }
            steer(world, target.as_ref(), Order::Abort, say).await
        }
    }
}

/// Whether the rollouts of the unfinished release can be made out.
///
/// # Errors
///
/// The first that cannot.
async fn made_out(target: &dyn Target) -> Result<(), CliError> {
    let Some(release) = rollout::unfinished(target).await? else {
        return Ok(());
    };
    let damaged = rollout::damaged(target.store(), Some(release)).await?;
    let Some(error) = damaged.first() else {
        return Ok(());
    };
    let message = format!(
        "what is saved of a rollout of {release} cannot be made out, so nobody can go on with it"
    );
    Err(CliError::new("rollout::damaged", message)
        .because(error)
        .help("`platform rollback` takes the release back; `platform deploy` of the same blueprint begins the rollout anew"))
}

/// Whether a run that is gone left a release unfinished, at a rollout, between two, or on the way back from one.
async fn is_left(target: &dyn Target) -> Result<bool, CliError> {
    let gone = rollout::driver_of(target).await?.is_none();
    Ok(gone && rollout::unfinished(target).await?.is_some())
}

async fn status(world: &World, target: &dyn Target, watch: bool) -> Result<Exit, CliError> {
    if watch {
        begun(world, target).await?;
    }
    loop {
        let Some(shown) = look(target).await? else {
            return Err(under_way::none());
        };
        let over = shown.over;
        if watch {
            world.view.redraw(&shown);
        } else {
            world.view.show(&shown);
        }
        if !watch || over || world.view.closed() {
            return Ok(Exit::Done);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = world.stop.token().cancelled() => return Ok(Exit::Done),
        }
    }
}

/// Waits until the run that deploys begins a rollout or ends: jobs and resources come first.
async fn begun(world: &World, target: &dyn Target) -> Result<(), CliError> {
    let mut told = false;
    while let Some(release) = rollout::awaited(target).await? {
        if !std::mem::replace(&mut told, true) {
            let text = format!("{release} is being deployed; no rollout of it has begun yet");
            world.view.tell(&Told::note(text));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = world.stop.token().cancelled() => break,
        }
    }
    Ok(())
}

/// The rollout under way, or the last one that was.
async fn look(target: &dyn Target) -> Result<Option<RolloutShown>, CliError> {
    if let Some(status) = rollout::status(target).await? {
        return Ok(Some(RolloutShown {
            progress: status.progress,
            log: status.state.log,
            driver: status.driver.map(|holder| holder.run),
            own: false,
            over: false,
        }));
    }
    made_out(target).await?;
    let Some(state) = rollout::last(target.store()).await? else {
        return Ok(None);
    };
    let observed = target.observe().await.ok();
    // One that is over may be followed by others of its release, or by the way back from those that were promoted before it.
    let over = rollout::unfinished(target).await? != Some(state.release);
    let driver = rollout::driver_of(target).await?.filter(|_| !over);
    Ok(Some(RolloutShown {
        progress: Progress::of(&state, observed.as_ref(), None),
        over,
        log: state.log,
        driver: driver.map(|holder| holder.run),
        own: false,
    }))
}

/// Leaves a word for the run that drives the rollout, and waits until it has been heard.
async fn steer(
    world: &World,
    target: &dyn Target,
    order: Order,
    say: &SayArgs,
) -> Result<Exit, CliError> {
    let Some(status) = rollout::status(target).await? else {
        made_out(target).await?;
        // Between two rollouts of a run that is gone there is no word to say, and something to go on with.
        if order != Order::Pause && is_left(target).await? {
            return go_on(world, &format!("platform rollout {}", order.as_str())).await;
        }
        return Err(under_way::none());
    };
    let release = status.state.release;
    if status.driver.is_none() {
        let is_heard = matches!(order, Order::Next | Order::Promote)
            || (order == Order::Resume && status.state.paused.is_some());
        if is_heard {
            rollout::say(target.store(), under_way::said(world, release, order)).await?;
        }
        return in_its_place(world, release, order).await;
    }
    let said = under_way::said(world, release, order);
    let said = rollout::say(target.store(), said).await?;
    let Some(state) = under_way::heard(target, &said).await? else {
        return left(world, release, order).await;
    };
    // Who came too late is told how it ended.
    let last = || state.log.last().map(|entry| &entry.note);
    let text = state
        .answer_to(&said)
        .or_else(last)
        .map(ToString::to_string);
    let text = text.unwrap_or_else(|| order.as_str().to_owned());
    world
        .view
        .tell(&Told::note(format!("{}: {text}", said.release)));
    if !say.wait {
        return Ok(Exit::Done);
    }
    if let Some(exit) = under_way::until_over(world, target, &said).await? {
        return Ok(exit);
    }
    left(world, release, order).await
}

/// The same as [`in_its_place`], where the run was there when the word was said.
async fn left(world: &World, release: ReleaseNumber, order: Order) -> Result<Exit, CliError> {
    if order != Order::Pause {
        under_way::tell_gone(world, release);
    }
    in_its_place(world, release, order).await
}

/// Does what was asked for where the run that drove a rollout is gone, so that nobody else does.
async fn in_its_place(
    world: &World,
    release: ReleaseNumber,
    order: Order,
) -> Result<Exit, CliError> {
    match order {
        Order::Abort => Box::pin(rollback::abandoned(world)).await,
        Order::Resume | Order::Next | Order::Promote => {
            go_on(world, &format!("platform rollout {}", order.as_str())).await
        }
        Order::Pause => {
            let message =
                format!("the run that drove the rollout of {release} is gone, and it goes nowhere");
            Err(CliError::new("rollout::no-driver", message).help(
                "`platform rollout resume` goes on with it, `platform rollout abort` takes it back",
            ))
        }
    }
}

/// Goes on with a rollout whose run is gone: with the release as that run planned it, whatever the blueprint says now. On its way back
/// it goes on with that.
async fn go_on(world: &World, command: &str) -> Result<Exit, CliError> {
    let crew = deployment::crew(world, world.target()?, command);
    made_out(crew.target.as_ref()).await?;
    if let Some(release) = rollout::unfinished(crew.target.as_ref()).await? {
        let all = rollout::all(crew.target.store(), release).await?;
        let back = |state: &State| matches!(state.phase, Phase::RolledBack { .. });
        if all.iter().any(back) {
            return Box::pin(rollback::abandoned(world)).await;
        }
    }
    let work = async |lease: &Lease| {
        let history = History::read(crew.target.store()).await?;
        let Some(unfinished) = &history.unfinished else {
            return Err(under_way::none());
        };
        let request = Request {
            desired: &Desired::of_release(unfinished),
            back_to: None,
            unbuilt: &BTreeSet::new(),
            pace: Pace::ByPolicy,
        };
        let prepared = prepare(&crew, request).await?;
        deployment::tell_left(&crew, &prepared);
        deployment::judge(world, &prepared.findings)?;
        deployment::carry_out(world, &crew, lease, prepared, None).await
    };
    let exit = Box::pin(deployment::under_lock(world, &crew, work)).await?;
    if exit == Exit::Done {
        status_page::show(world, crew.target.as_ref()).await?;
    }
    Ok(exit)
}

struct ReportShown {
    /// Nothing stands above it.
    first: bool,
    record: RolloutRecord,
}

impl Shown for ReportShown {
    fn kind(&self) -> &'static str {
        "rollout_report"
    }

    fn json(&self) -> Value {
        serde_json::to_value(&self.record).unwrap_or_default()
    }

    fn human(&self, _: Paint) -> String {
        let above = if self.first { "" } else { "\n" };
        format!("{above}{}", self.record.markdown)
    }
}

async fn report(world: &World, target: &dyn Target, which: &ReportArgs) -> Result<Exit, CliError> {
    let service = which.service.as_ref();
    let records = rollout::records(target.store(), which.release, service).await?;
    if records.is_empty() {
        let resolved = world.resolved()?;
        // Of a blueprint with mistakes nobody knows the services.
        if let Some(name) = service.filter(|_| !resolved.services.is_empty()) {
            known_service(resolved, name.as_str())?;
        }
        let of = |what: Option<String>| what.map(|what| format!(" of {what}")).unwrap_or_default();
        return Err(CliError::new(
            "rollout::no-report",
            format!(
                "no rollout{}{} has ended in this environment yet",
                of(service.map(|service| format!("`{service}`"))),
                of(which.release.map(|release| release.to_string())),
            ),
        ));
    }
    for (nth, record) in records.into_iter().enumerate() {
        world.view.summary(&record.markdown);
        for case in rollout_view::report_cases(&record.report) {
            world.view.case(case);
        }
        world.view.show(&ReportShown {
            first: nth == 0,
            record,
        });
    }
    Ok(Exit::Done)
}
