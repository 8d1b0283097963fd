//! What `plan`, `deploy` and `rollback` share: from the blueprint to a plan, and from a plan to a release.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use platform_blueprint::{Build, Resolved, ResourceName, SecretName, ServiceName, Services};
use platform_decide::desired::{Desired, Missing};
use platform_decide::digest::Digest;
use platform_decide::group::{Artifact, ServiceSpec};
use platform_decide::observed::Observed;
use platform_decide::plan::{Plan, Subject};
use platform_decide::release::Release;
use platform_drive::apply::Crew;
use platform_drive::build::{BuildErrors, BuildEvent, BuildOptions, Builder};
use platform_drive::deploy::{self, Outcome, Prepared, With};
use platform_drive::events::{Event, Events};
use platform_drive::lease::{self, Lease, LeaseError};
use platform_drive::releases::History;
use platform_port::{Finding, SecretValues, Target};
use platform_secrets::Keyring;

use crate::diagnostic::{Diagnostic, Severity};
use crate::error::CliError;
use crate::exit::Exit;
use crate::parties::known_services;
use crate::run_events::RunEvents;
use crate::view::{Case, Verdict};
use crate::world::World;

/// Steps that act at once, where nobody says otherwise. They mostly wait for the target.
const PARALLELISM: usize = 32;

/// A build that ended because the run was told to stop.
const INTERRUPTED: &str = "build::interrupted";
/// How long a run that is told to stop may take to have the lock, so that it gives it back.
const LOCKED_WITHIN: Duration = Duration::from_secs(2);

/// What a blueprint comes to: the state it asks for, and what has to be built for that.
pub(crate) struct Asked<'a> {
    /// The state.
    pub(crate) desired: Desired,
    /// Services whose artifact is not built yet.
    pub(crate) unbuilt: BTreeSet<ServiceName>,
    resolved: &'a Resolved,
    artifacts: BTreeMap<ServiceName, Artifact>,
    beside: Beside,
    /// Images of resources that can be pinned.
    images: BTreeMap<ResourceName, String>,
    builder: Builder,
}

/// What is read beside the blueprint and the sources.
#[derive(PartialEq)]
struct Beside {
    /// The version of each secret that is set.
    secrets: BTreeMap<SecretName, u32>,
    /// What the files of authorities hold, by name.
    authorities: BTreeMap<String, String>,
    /// Digests of the files of certificates that the gateway shows, by name.
    certificates: BTreeMap<String, Digest>,
}

impl Beside {
    fn read(world: &World, resolved: &Resolved) -> Result<Self, CliError> {
        let project = world.project()?;
        Ok(Self {
            secrets: world.secrets()?.versions()?,
            authorities: crate::authorities::read(project, resolved)?,
            certificates: crate::certificates::digests(&project.folder, &resolved.gateway),
        })
    }

    /// The state that a blueprint asks for with this.
    fn desired(
        &self,
        resolved: &Resolved,
        artifacts: &BTreeMap<ServiceName, Artifact>,
    ) -> Result<Desired, CliError> {
        let desired = Desired::new(resolved, artifacts, &self.secrets).map_err(|m| missing(&m))?;
        Ok(desired
            .with_authorities(&self.authorities)
            .with_certificates(&self.certificates))
    }
}

impl<'a> Asked<'a> {
    /// Finds what the blueprint asks for, without building.
    pub(crate) fn of(world: &'a World) -> Result<Self, CliError> {
        let resolved = world.resolved()?;
        let folder = &world.project()?.folder;
        let builder = crate::images::builder(world, resolved, folder)?;
        let artifacts = builder
            .keys(&resolved.services)
            .map_err(|errors| build_failed(&errors))?;
        let beside = Beside::read(world, resolved)?;
        let desired = beside.desired(resolved, &artifacts)?;
        let unbuilt = artifacts
            .iter()
            .filter(|(name, artifact)| !builder.is_built(name, &resolved.services[*name], artifact))
            .map(|(name, _)| name.clone())
            .collect();
        let mut asked = Self {
            desired,
            unbuilt,
            resolved,
            artifacts,
            beside,
            images: crate::images::of_resources(resolved),
            builder,
        };
        asked.pin();
        Ok(asked)
    }

    /// Has resources run the very images that are locked.
    fn pin(&mut self) {
        crate::images::pin(&mut self.desired, &self.builder.image_lock(), &self.images);
    }

    /// Whether secrets, authorities and certificates are as they were when this was found. Sources are looked at by the build.
    pub(crate) fn is_current(&self, world: &World) -> Result<bool, CliError> {
        Ok(Beside::read(world, self.resolved)? == self.beside)
    }

    /// Leaves every service but the named ones as the release that serves has it. Nothing named means all.
    pub(crate) fn narrow(
        &mut self,
        named: &[ServiceName],
        current: Option<&Release>,
    ) -> Result<(), CliError> {
        if named.is_empty() {
            return Ok(());
        }
        let named = known_services(self.resolved, named)?.into_iter().collect();
        self.desired = self.desired.clone().only(&named, current);
        self.unbuilt.retain(|name| named.contains(name));
        Ok(())
    }

    /// Whether the artifact of a spec is there to be run, whatever the sources are now.
    pub(crate) fn is_kept(&self, name: &ServiceName, spec: &ServiceSpec) -> bool {
        self.builder.is_built(name, &spec.service, &spec.artifact)
    }

    /// Whether a plan starts what a Dockerfile makes. Somebody may have removed it from the engine since.
    pub(crate) fn is_changed(&self, name: &ServiceName, plan: &Plan) -> bool {
        let service = self.resolved.services.get(name);
        let build = service.and_then(|service| service.build.as_ref());
        let subject = Subject::Service(name.clone());
        matches!(build, Some(Build::Dockerfile(_)))
            && plan.changes.iter().any(|change| change.subject == subject)
    }

    /// Builds what `wanted` names, and pins the images of `resources`; tells what of the plan that changes.
    pub(crate) async fn build(
        &mut self,
        world: &World,
        wanted: &BTreeSet<ServiceName>,
        resources: &BTreeSet<ResourceName>,
    ) -> Result<Change, CliError> {
        let options = BuildOptions {
            stop: world.stop.token().clone(),
            ..BuildOptions::default()
        };
        let events = RunEvents::new(&world.view);
        let sink = |event: BuildEvent| events.emit(Event::Build(event));
        let built = self
            .builder
            .build(&self.resolved.services, Some(wanted), &options, &sink)
            .await
            .map_err(|errors| build_failed(&errors))?;
        let mut images = self.images.clone();
        images.retain(|name, _| resources.contains(name));
        let pinned = self.builder.pin(&images, &options, &sink).await;
        let pinned = pinned.map_err(|errors| build_failed(&errors))?;
        let changes = built
            .iter()
            .map(|(name, artifact)| match self.artifacts.get(name) {
                Some(before) if before == artifact => Change::None,
                Some(before) if before.key == artifact.key => Change::Named,
                // What a reference stands for was not known, and nothing of ours has changed.
                _ if is_given(&self.resolved.services, name) => Change::Named,
                _ => Change::Sources,
            });
        let named = pinned.then_some(Change::Named);
        let change = changes.chain(named).max().unwrap_or_default();
        if change > Change::None {
            self.artifacts.extend(built);
            self.desired = self.beside.desired(self.resolved, &self.artifacts)?;
            self.pin();
        }
        self.unbuilt.clear();
        Ok(change)
    }
}

/// What a build changes of the plan that was made before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Change {
    /// Nothing.
    #[default]
    None,
    /// Images have their names now; which they are was known.
    Named,
    /// Sources changed meanwhile.
    Sources,
}

fn is_given(services: &Services, name: &ServiceName) -> bool {
    let build = services
        .get(name)
        .and_then(|service| service.build.as_ref());
    matches!(build, Some(platform_blueprint::Build::Image(_)))
}

/// Everyone a run needs.
pub(crate) fn crew(world: &World, target: Arc<dyn Target>, command: &str) -> Crew {
    Crew {
        target,
        events: Arc::new(RunEvents::new(&world.view)),
        clock: Arc::clone(&world.clock),
        stop: world.stop.token().clone(),
        run: world.run().to_owned(),
        command: command.to_owned(),
        // Without a project there is no target either.
        root: world.folder().unwrap_or_else(|_| world.here.clone()),
    }
}

/// Whether nothing was ever deployed: then taking the lock would make what it lies in.
pub(crate) async fn is_untouched(target: &dyn Target) -> Result<bool, CliError> {
    let history = History::read(target.store()).await?;
    Ok(history.head.last.is_none() && target.observe().await? == Observed::default())
}

/// Does `work` while the run holds the environment's lock, and gives the lock back however that ends.
pub(crate) async fn under_lock<T>(
    world: &World,
    crew: &Crew,
    work: impl AsyncFnOnce(&Lease) -> Result<T, CliError>,
) -> Result<T, CliError> {
    under_lock_within(world.globals.lock_timeout(), crew, work).await
}

/// The same, waiting for the lock for so long.
pub(crate) async fn under_lock_within<T>(
    patience: Duration,
    crew: &Crew,
    work: impl AsyncFnOnce(&Lease) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let holder = lease::new_holder(&crew.run, &crew.command, crew.clock.as_ref());
    let acquiring = Lease::acquire(
        Arc::clone(&crew.target),
        holder,
        patience,
        crew.events.as_ref(),
        &crew.stop,
    );
    let told = async {
        crew.stop.cancelled().await;
        tokio::time::sleep(LOCKED_WITHIN).await;
    };
    let lease = tokio::select! {
        lease = acquiring => lease?,
        // The target does not answer, and nothing has been changed.
        () = told => return Err(LeaseError::Stopped.into()),
    };
    let result = Box::pin(work(&lease)).await;
    let released = lease.release().await;
    let done = result?;
    released?;
    Ok(done)
}

/// Tells what preflight found, and ends the run where something would fail.
pub(crate) fn judge(world: &World, findings: &[Finding]) -> Result<(), CliError> {
    let mut errors = Vec::new();
    for finding in findings {
        let severity = match finding.severity {
            platform_port::Severity::Error => Severity::Error,
            platform_port::Severity::Warning | platform_port::Severity::Note => Severity::Warning,
        };
        let subject = finding.subject.as_deref().unwrap_or("target");
        world.view.case(Case {
            suite: "preflight".to_owned(),
            name: format!("{} {subject}", finding.code),
            verdict: match finding.severity {
                platform_port::Severity::Error => Verdict::Failed(finding.message.clone()),
                _ => Verdict::Passed,
            },
        });
        let diagnostic = Diagnostic::error(finding.code.clone(), finding.message.clone())
            .severity(severity)
            .maybe_help(finding.help.clone());
        match severity {
            Severity::Error => errors.push(diagnostic),
            _ => world.view.diagnose(&diagnostic),
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(CliError::many(Exit::Failed, errors))
}

/// Says what a stopped run left behind, and what this one does about it.
pub(crate) fn tell_left(crew: &Crew, prepared: &Prepared) {
    if let Some(left) = &prepared.left {
        let release = &prepared.plan.release;
        let current = prepared.current().map(|current| current.number);
        let back_to = release
            .rollback_of
            .or(current.filter(|current| *current == release.number));
        let what = if prepared.plan.is_empty() {
            "everything is as asked, nothing is left to do".to_owned()
        } else if left.release == release.number {
            "this run goes on where it stopped".to_owned()
        } else if let Some(back_to) = back_to {
            format!("this run goes back to {back_to}")
        } else {
            format!("this run deploys {} in its place", release.number)
        };
        crew.events.emit(Event::UnfinishedRun {
            run: left.run.clone(),
            release: left.release,
            what,
        });
    }
}

/// Carries a plan out, and says how it ended.
///
/// - `within`: how long its rollouts may take, where that is bounded
pub(crate) async fn carry_out(
    world: &World,
    crew: &Crew,
    lease: &Lease,
    prepared: Prepared,
    within: Option<Duration>,
) -> Result<Exit, CliError> {
    let secrets = secret_values(world, &prepared)?;
    let commit = commit(&world.folder()?);
    let release = prepared.plan.release.number;
    world.stop.stands(format!(
        "{release} is being deployed; `platform deploy` goes on with it"
    ));
    let with = With {
        secrets: &secrets,
        parallelism: match world.globals.parallelism {
            0 => PARALLELISM,
            asked => asked,
        },
        commit: commit.as_deref(),
        within,
    };
    let changes = prepared.plan.changes.len();
    let outcome = Box::pin(deploy::carry_out(crew, lease, prepared, with)).await?;
    world.view.output("changes", &changes.to_string());
    let case = |verdict| Case {
        suite: "deploy".to_owned(),
        name: release.to_string(),
        verdict,
    };
    match outcome {
        Outcome::Unchanged { .. } => Ok(Exit::Done),
        Outcome::Deployed { release, .. } => {
            world.view.output("release", &release.to_string());
            world.view.case(case(Verdict::Passed));
            Ok(Exit::Done)
        }
        Outcome::RolledBack { to, failure, .. } => {
            world.view.output("release", &to.to_string());
            let why = failure.in_words();
            world.view.case(case(Verdict::Failed(why)));
            let message = format!("{release} was taken back and {to} serves on");
            let code = match failure.cause.code() {
                out_of_time @ "rollout::out-of-time" => out_of_time,
                _ => "rollout::rolled-back",
            };
            let diagnostic = Diagnostic::error(code, message)
                .because(failure.as_ref())
                .log(failure.log.clone())
                .help(format!(
                    "mend what failed and run `platform deploy`; `platform runs show {}` has the record",
                    crew.run
                ));
            Err(CliError::from(diagnostic))
        }
    }
}

/// The values of every secret that the plan, or taking it back, hands over.
fn secret_values(world: &World, prepared: &Prepared) -> Result<SecretValues, CliError> {
    let file = world.secrets()?;
    let set = file.versions()?;
    let names: Vec<SecretName> = prepared
        .secrets()
        .into_iter()
        .filter(|name| set.contains_key(name))
        .collect();
    Ok(file.values(&names, Keyring::load_or_create)?)
}

/// The commit checked out where the project lies, if it lies in a repository.
fn commit(folder: &Path) -> Option<String> {
    let repository = git2::Repository::discover(folder).ok()?;
    let head = repository.head().ok()?.target()?;
    Some(head.to_string())
}

fn missing(missing: &[Missing]) -> CliError {
    let diagnostics = missing
        .iter()
        .map(|one| match one {
            Missing::Secret { secret, .. }
            | Missing::GatewaySecret(secret)
            | Missing::RolloutSecret(secret) => {
                Diagnostic::error("preflight::secret-unset", one.to_string())
                    .help(format!("run `platform secrets set {secret}`"))
            }
            Missing::Artifact(_) => Diagnostic::error("build::no-output", one.to_string()),
        })
        .collect();
    CliError::many(Exit::Failed, diagnostics)
}

/// Builds that failed, each with the last lines of its program.
pub(crate) fn build_failed(errors: &BuildErrors) -> CliError {
    let diagnostics = errors
        .0
        .iter()
        .map(|error| {
            Diagnostic::error(error.code(), error.to_string())
                .behind(error)
                .maybe_help(error.help())
        })
        .collect();
    let stopped = errors.0.iter().any(|error| error.code() == INTERRUPTED);
    let exit = if stopped {
        Exit::Interrupted
    } else {
        Exit::Failed
    };
    CliError::many(exit, diagnostics)
}
