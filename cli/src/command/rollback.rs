//! `platform rollback`: back to a release that served, in one move.

use std::collections::{BTreeMap, BTreeSet};

use platform_blueprint::SecretName;
use platform_decide::desired::Desired;
use platform_decide::plan::Pace;
use platform_decide::release::{Release, ReleaseNumber, ReleaseStatus};
use platform_drive::apply::Crew;
use platform_drive::deploy::{Prepared, Request, prepare};
use platform_drive::lease::Lease;
use platform_drive::record;
use platform_drive::releases::{self, History};
use platform_port::{Finding, Store};

use super::deploy::{Asking, agreed};
use super::{rollout, status};
use crate::certificates;
use crate::deployment;
use crate::diagnostic::Severity;
use crate::error::CliError;
use crate::exit::Exit;
use crate::under_way;
use crate::view::Told;
use crate::world::World;

/// Go back to the last good release, or to the one named, in one move
#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    /// The release to go back to; otherwise the last one that served
    release: Option<ReleaseNumber>,
}

/// What is gone back to.
#[derive(Debug, Clone, Copy)]
enum Aim {
    /// The release named, or else the last one that served.
    Release(Option<ReleaseNumber>),
    /// What served before a rollout that nobody drives any more.
    Abandoned,
}

pub(crate) async fn run(args: &RollbackArgs, world: &World) -> Result<Exit, CliError> {
    back(Aim::Release(args.release), world).await
}

/// Takes back a rollout whose run is gone. Like a word to a run that drives one, it asks nothing.
pub(super) async fn abandoned(world: &World) -> Result<Exit, CliError> {
    back(Aim::Abandoned, world).await
}

async fn back(aim: Aim, world: &World) -> Result<Exit, CliError> {
    let crew = deployment::crew(world, world.target()?, "platform rollback");
    let target = crew.target.as_ref();
    let mut patience = world.globals.lock_timeout();
    let mut taken_back = None;
    while let Some(driven) = world
        .until_stopped(under_way::driven_or_next(world, target))
        .await?
    {
        let release = driven.state.release;
        if taken_back.is_some_and(|before| before != release) {
            break; // Another run's, that began since.
        }
        // Whoever rolls back does not mean to wait for what is to be taken back. What was promoted before it heard is followed by the
        // next rollout of its release, or serves.
        under_way::take_back(world, target, &driven).await?;
        taken_back = Some(release);
    }
    if taken_back.is_some() {
        let serving = History::read(target.store()).await?.head.current;
        if serving != taken_back && !matches!(aim, Aim::Release(Some(_))) {
            return status::show(world, target).await.map(|()| Exit::Done);
        }
        patience = patience.max(under_way::ENDED_WITHIN);
    }
    if deployment::is_untouched(target).await? {
        let message = format!("nothing is deployed in `{}`", world.environment()?);
        return Err(CliError::new("release::none", message).help(
            "see that the folder (`-C`) and the environment (`-e`) are the ones you mean; `platform deploy` deploys",
        ));
    }
    let work = async |lease: &Lease| locked(aim, world, &crew, lease).await;
    let exit = deployment::under_lock_within(patience, &crew, work).await?;
    if exit == Exit::Done {
        status::show(world, crew.target.as_ref()).await?;
    }
    Ok(exit)
}

async fn locked(aim: Aim, world: &World, crew: &Crew, lease: &Lease) -> Result<Exit, CliError> {
    let store = crew.target.store();
    let history = History::read(store).await?;
    let all = releases::all(store).await?;
    let (named, asking) = match aim {
        Aim::Release(named) => (named, true),
        // Somebody else has brought it to its end meanwhile.
        Aim::Abandoned if history.unfinished.is_none() => return Err(rollout::none()),
        Aim::Abandoned => (None, false),
    };
    let back_to = choose(named, &history, &all)?;
    let versions = world.secrets()?.versions()?;
    let desired = Desired::of_release(back_to).with_secrets(&versions);
    let folder = &world.project()?.folder;
    let certificates = certificates::digests(folder, &desired.ingress.gateway);
    let desired = desired.with_certificates(&certificates);
    let mut prepared = prepare(
        crew,
        Request {
            desired: &desired,
            back_to: Some(back_to),
            unbuilt: &BTreeSet::new(),
            pace: Pace::AtOnce,
        },
    )
    .await?;
    deployment::tell_left(crew, &prepared);
    tell_secrets(world, back_to, &versions, &prepared)?;
    let asking = if asking && !prepared.plan.is_empty() {
        let known = bad_before(store, back_to).await?;
        let asking = question(world, back_to, known.is_some())?;
        prepared.findings.extend(known);
        asking
    } else {
        Asking::Never
    };
    if !agreed(world, &prepared, &asking)? {
        return Ok(Exit::Failed);
    }
    for unfit in certificates::unfit(world, &prepared)? {
        // Whoever has to go back is not kept from it: a gateway that runs goes on showing what it has.
        world.view.diagnose(&unfit.severity(Severity::Warning));
    }
    deployment::carry_out(world, crew, lease, prepared, None).await
}

/// Tells of secrets that have other values than the release had.
///
/// # Errors
///
/// `rollback::only-secrets` where nothing else has changed, as earlier values are not kept.
fn tell_secrets(
    world: &World,
    back_to: &Release,
    versions: &BTreeMap<SecretName, u32>,
    prepared: &Prepared,
) -> Result<(), CliError> {
    let changed = changed_secrets(back_to, versions);
    if changed.is_empty() {
        return Ok(());
    }
    let number = back_to.number;
    let secrets = format!("`{}`", changed.into_iter().collect::<Vec<_>>().join("`, `"));
    if prepared.plan.is_empty() {
        let message = format!("nothing but the secret {secrets} has changed since {number}");
        return Err(CliError::new("rollback::only-secrets", message).help(
            "earlier values are not kept: set the one that is right with `platform secrets set`, and deploy",
        ));
    }
    world.view.tell(&Told::important(format!(
        "{secrets} changed since {number}, and earlier values are not kept: what is set now is handed out"
    )));
    Ok(())
}

/// What is asked before it is gone back.
///
/// - `is_bad`: something is known against the release
fn question(world: &World, back_to: &Release, is_bad: bool) -> Result<Asking, CliError> {
    let question = format!(
        "Go back to {} in `{}`",
        back_to.number,
        world.environment()?
    );
    Ok(if is_bad {
        Asking::Always(format!("{question}, although it was taken back?"))
    } else {
        Asking::UnlessOwn(format!("{question}?"))
    })
}

/// What is known against a release that was taken back or never came up.
async fn bad_before(store: &dyn Store, back_to: &Release) -> Result<Option<Finding>, CliError> {
    if !matches!(
        back_to.status,
        ReleaseStatus::RolledBack | ReleaseStatus::Failed
    ) {
        return Ok(None);
    }
    let number = back_to.number;
    // One that was gone back from after it had served is not known to be bad.
    let why = record::why_taken_back(store, number).await?;
    Ok(why.map(|why| Finding {
        severity: platform_port::Severity::Warning,
        code: "rollback::taken-back".to_owned(),
        subject: Some(number.to_string()),
        message: format!("{number} was taken back: {why}"),
        help: Some(
            "`platform rollback` without a release goes back to the last one that served well"
                .to_owned(),
        ),
    }))
}

/// The secrets of a release, its gateway's among them, that have been given another value since.
fn changed_secrets<'a>(
    release: &'a Release,
    versions: &BTreeMap<SecretName, u32>,
) -> BTreeSet<&'a str> {
    release
        .services
        .values()
        .flat_map(|placed| &placed.spec.secrets)
        .chain(&release.ingress.secrets)
        .filter(|(name, then)| versions.get(*name).is_some_and(|now| now != *then))
        .map(|(name, _)| name.as_str())
        .collect()
}

/// The release that is meant: the one named; the one that serves, when another is half-way there; or the last that served
/// before it.
fn choose<'a>(
    named: Option<ReleaseNumber>,
    history: &'a History,
    all: &'a [Release],
) -> Result<&'a Release, CliError> {
    if let Some(named) = named {
        return all.iter().find(|r| r.number == named).ok_or_else(|| {
            CliError::new(
                "rollback::unknown-release",
                format!("there is no release {named}"),
            )
            .help("`platform releases` lists those there are")
        });
    }
    if let (Some(current), Some(_)) = (&history.current, &history.unfinished) {
        return Ok(current);
    }
    let served = |release: &&Release| {
        release.status == ReleaseStatus::Superseded
            && Some(release.number) != history.head.current
            && history
                .current
                .as_ref()
                .is_none_or(|current| current.digest != release.digest)
    };
    all.iter().rev().find(served).ok_or_else(nothing_before)
}

fn nothing_before() -> CliError {
    CliError::new(
        "rollback::nothing-before",
        "no release served before the one that serves now",
    )
    .help("`platform releases` lists those there are; name one to go back to it")
}
