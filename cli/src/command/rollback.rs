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
use platform_drive::rollout::Status;
use platform_port::{Finding, Store};

use crate::certificates;
use crate::deployment;
use crate::diagnostic::Severity;
use crate::error::CliError;
use crate::exit::Exit;
use crate::shown_plan::{Asking, agreed};
use crate::status;
use crate::under_way::{self, TakenBack};
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

async fn back(mut aim: Aim, world: &World) -> Result<Exit, CliError> {
    world.tolerate().await?;
    let crew = deployment::crew(world, world.target()?, "platform rollback");
    let target = crew.target.as_ref();
    let mut patience = world.globals.lock_timeout();
    let mut asks = !matches!(aim, Aim::Abandoned);
    let mut taken_back = None;
    while let Some(driven) = world
        .until_stopped(under_way::driven_or_next(world, target))
        .await?
    {
        let release = driven.state.release;
        if taken_back.is_some_and(|before| before != release) {
            break; // Another run's, that began since.
        }
        // What cannot be gone back to, or is not agreed to, takes nothing back.
        if asks && !agreed_to_take_back(aim, world, &crew, &driven).await? {
            return Ok(Exit::Failed);
        }
        asks = false;
        taken_back = Some(release);
        // Whoever rolls back does not mean to wait for what is to be taken back. What was promoted before it heard is followed by the
        // next rollout of its release, or serves.
        let came_to = under_way::take_back(world, target, &driven).await?;
        if came_to == TakenBack::HalfWay {
            if matches!(aim, Aim::Release(None)) {
                aim = Aim::Abandoned;
            }
            break;
        }
    }
    if taken_back.is_some() {
        let serving = History::read(target.store()).await?.head.current;
        if serving != taken_back && matches!(aim, Aim::Release(None)) {
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
    let work = async |lease: &Lease| locked(aim, asks, world, &crew, lease).await;
    let exit = deployment::under_lock_within(patience, &crew, work).await?;
    if exit == Exit::Done {
        status::show(world, crew.target.as_ref()).await?;
    }
    Ok(exit)
}

/// Whether a rollout under way is to be taken back, and a release that was named to be gone back to. Touches nothing.
async fn agreed_to_take_back(
    aim: Aim,
    world: &World,
    crew: &Crew,
    driven: &Status,
) -> Result<bool, CliError> {
    let question = format!("Take back {}", under_way::described(driven));
    let environment = world.environment()?;
    let Aim::Release(Some(named)) = aim else {
        // The run that drives it knows the way.
        return world.confirm_unless_own(&format!("{question} in `{environment}`?"));
    };
    if named == driven.state.release {
        let message = format!("{named} is what is being rolled out");
        return Err(CliError::new("rollback::under-way", message).help(
            "`platform rollout promote` sends it to its end, `platform rollout abort` takes it back",
        ));
    }
    let mut way = Way::find(Some(named), world, crew).await?;
    let question = format!("{question} and go back to {named} in `{environment}`");
    let asking = way.asking(&question, crew.target.store()).await?;
    if way.prepared.plan.is_empty() {
        // Nothing of the rollout is there yet, and it is taken back all the same.
        return match asking {
            Asking::Never => Ok(true),
            Asking::UnlessOwn(question) => world.confirm_unless_own(&question),
            Asking::Always(question) => world.confirm(&question),
        };
    }
    agreed(world, &way.prepared, &asking)
}

/// A release to go back to, and what that comes to.
struct Way {
    back_to: Release,
    prepared: Prepared,
    /// Its secrets that have another value now.
    changed: BTreeSet<SecretName>,
}

impl Way {
    /// Plans the way to the release named, else to the one that is meant. Touches nothing.
    async fn find(
        named: Option<ReleaseNumber>,
        world: &World,
        crew: &Crew,
    ) -> Result<Self, CliError> {
        let store = crew.target.store();
        let history = History::read(store).await?;
        let all = releases::all(store).await?;
        let back_to = choose(named, &history, &all)?;
        let versions = world.secrets()?.versions()?;
        let desired = Desired::of_release(back_to).with_secrets(&versions);
        let certificates = certificates::digests(&world.folder()?, &desired.ingress.gateway);
        let desired = desired.with_certificates(&certificates);
        let request = Request {
            desired: &desired,
            back_to: Some(back_to),
            unbuilt: &BTreeSet::new(),
            pace: Pace::AtOnce,
        };
        Ok(Self {
            prepared: prepare(crew, request).await?,
            changed: changed_secrets(back_to, &versions),
            back_to: back_to.clone(),
        })
    }

    /// How it is asked about; adds what is known against the release to what was found.
    ///
    /// - `question`: without its question mark
    async fn asking(&mut self, question: &str, store: &dyn Store) -> Result<Asking, CliError> {
        Ok(match bad_before(store, &self.back_to).await? {
            None => Asking::UnlessOwn(format!("{question}?")),
            Some(finding) => {
                self.prepared.findings.push(finding);
                Asking::Always(format!("{question}, although it was taken back?"))
            }
        })
    }
}

async fn locked(
    aim: Aim,
    asks: bool,
    world: &World,
    crew: &Crew,
    lease: &Lease,
) -> Result<Exit, CliError> {
    let store = crew.target.store();
    let named = match aim {
        Aim::Release(named) => named,
        Aim::Abandoned => {
            if History::read(store).await?.unfinished.is_none() {
                // Somebody else has brought it to its end meanwhile.
                return under_way::went_back(store).await;
            }
            None
        }
    };
    let mut way = Way::find(named, world, crew).await?;
    deployment::tell_left(crew, &way.prepared);
    let number = way.back_to.number;
    if !way.changed.is_empty() {
        let changed: Vec<&str> = way.changed.iter().map(SecretName::as_str).collect();
        let secrets = format!("`{}`", changed.join("`, `"));
        if way.prepared.plan.is_empty() {
            let message = format!("nothing but the secret {secrets} has changed since {number}");
            return Err(CliError::new("rollback::only-secrets", message).help(
                "earlier values are not kept: set the one that is right with `platform secrets set`, and deploy",
            ));
        }
        world.view.tell(&Told::important(format!(
            "{secrets} changed since {number}, and earlier values are not kept: what is set now is handed out"
        )));
    }
    let asking = if asks && !way.prepared.plan.is_empty() {
        let question = format!("Go back to {number} in `{}`", world.environment()?);
        way.asking(&question, store).await?
    } else {
        Asking::Never
    };
    let prepared = way.prepared;
    if !agreed(world, &prepared, &asking)? {
        return Ok(Exit::Failed);
    }
    for unfit in certificates::unfit(world, &prepared)? {
        // Whoever has to go back is not kept from it: a gateway that runs goes on showing what it has.
        world.view.diagnose(&unfit.severity(Severity::Warning));
    }
    deployment::carry_out(world, crew, lease, prepared, None).await
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
fn changed_secrets(
    release: &Release,
    versions: &BTreeMap<SecretName, u32>,
) -> BTreeSet<SecretName> {
    release
        .services
        .values()
        .flat_map(|placed| &placed.spec.secrets)
        .chain(&release.ingress.secrets)
        .filter(|(name, then)| versions.get(*name).is_some_and(|now| now != *then))
        .map(|(name, _)| name.clone())
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
