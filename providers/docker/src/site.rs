//! One environment on one engine: what every part of the adapter works with.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, SystemInfo,
};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, ListContainersOptions, RemoveContainerOptions,
    RenameContainerOptions, StopContainerOptions,
};
use platform_blueprint::{DockerSettings, Gateway};
use platform_decide::group::GroupId;
use platform_port::{SecretValues, TargetError};
use tokio::time::Instant;

use crate::PROVIDER;
use crate::engine::{Engine, fault, is_ambiguous, is_conflict, is_missing, unless};
use crate::keeper::Line;
use crate::names::{Names, ROLE, Role};
use crate::program::Program;

/// An image is not on the engine, and cannot be brought there.
pub(crate) const NO_IMAGE: &str = "docker::no-image";
/// How long a name may be taken by what is not there, as an engine gives it out before it has made the container, or be that of two
/// networks.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);
/// Where it is kept what our own program is, below the project's folder.
const PROGRAM: &str = ".platform/cache/program";

/// One environment on one engine.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) names: Names,
    pub(crate) settings: DockerSettings,
    /// The folder of the blueprint.
    pub(crate) root: PathBuf,
    /// The gateway's settings, for where its ports are published before it is given routes.
    pub(crate) published: Gateway,
    /// The file that runs as gateway and keeper.
    program: PathBuf,
    packed: OnceLock<Arc<Program>>,
    /// What the engine says of itself, as it was first asked.
    pub(crate) info: tokio::sync::OnceCell<SystemInfo>,
    /// The way to the keeper, while one is open.
    pub(crate) line: tokio::sync::Mutex<Option<Arc<Line>>>,
    /// One change of the gateway's configuration at a time.
    pub(crate) pushing: tokio::sync::Mutex<()>,
    /// Addresses are given out one at a time.
    pub(crate) addressing: tokio::sync::Mutex<()>,
    /// Held for reading while instances are made ahead, so that whoever wants them or wants them gone waits for that.
    pub(crate) making_ahead: tokio::sync::RwLock<()>,
    /// Instances that this run made ahead, by name.
    pub(crate) made_ahead: Mutex<std::collections::BTreeSet<String>>,
    /// The plumbing is laid once at a time.
    pub(crate) laying: tokio::sync::Mutex<()>,
    /// Instances that take no requests any more, by name, because they are about to stop.
    pub(crate) leaving: Mutex<std::collections::BTreeSet<String>>,
    /// Everything was taken away, or is about to be: nobody makes the keeper again but who sets something up.
    pub(crate) destroyed: AtomicBool,
    /// What this run found amiss of the keeper and put right, in words.
    pub(crate) noticed: Mutex<Vec<String>>,
    /// Ids of instances of which the engine said at a time that they ran out of memory.
    pub(crate) starved: Mutex<std::collections::BTreeSet<String>>,
    /// What happens between looks.
    pub(crate) news: crate::news::News,
    /// Credentials of resources, asked for once.
    pub(crate) credentials: Mutex<BTreeMap<String, String>>,
    /// The secrets that the gateway was last handed.
    pub(crate) gateway_secrets: Mutex<SecretValues>,
}

impl Site {
    pub(crate) fn new(
        engine: Engine,
        names: Names,
        settings: DockerSettings,
        root: PathBuf,
        published: Gateway,
        program: PathBuf,
    ) -> Self {
        Self {
            engine,
            names,
            settings,
            root,
            published,
            program,
            packed: OnceLock::new(),
            info: tokio::sync::OnceCell::new(),
            line: tokio::sync::Mutex::default(),
            pushing: tokio::sync::Mutex::default(),
            addressing: tokio::sync::Mutex::default(),
            making_ahead: tokio::sync::RwLock::default(),
            made_ahead: Mutex::default(),
            laying: tokio::sync::Mutex::default(),
            leaving: Mutex::default(),
            destroyed: AtomicBool::new(false),
            noticed: Mutex::default(),
            starved: Mutex::default(),
            news: crate::news::News::default(),
            credentials: Mutex::default(),
            gateway_secrets: Mutex::default(),
        }
    }

    /// Our own program, as it is brought to the engine.
    pub(crate) fn program(&self) -> Result<Arc<Program>, TargetError> {
        if let Some(known) = self.packed.get() {
            return Ok(Arc::clone(known));
        }
        let known = self.root.join(PROGRAM);
        let found = Program::of(&self.program, &known).map_err(|error| {
            let action = format!("pack `{}` for the engine", self.program.display());
            TargetError::refused(PROVIDER, action, error)
        })?;
        Ok(Arc::clone(self.packed.get_or_init(|| Arc::new(found))))
    }

    /// What the engine says of itself, asked once.
    async fn info(&self) -> Result<&SystemInfo, TargetError> {
        self.engine.answers().await?;
        let asked = self.info.get_or_try_init(|| async {
            let info = self.engine.docker.info().await;
            info.map_err(|error| fault("ask the engine what it has", error))
        });
        asked.await
    }

    /// Whether the engine brings a first process for containers. Most packages of Docker do.
    pub(crate) async fn has_init(&self) -> Result<bool, TargetError> {
        let info = self.info().await?;
        let commit = info.init_commit.as_ref();
        let commit = commit.and_then(|commit| commit.id.as_deref());
        // How an engine says that the program is not where it should be.
        Ok(info.init_binary.is_some() && commit != Some("N/A"))
    }

    /// Makes sure that our own program can run on the engine's machine.
    ///
    /// # Errors
    ///
    /// `docker::other-architecture` where it cannot.
    pub(crate) async fn is_for_us(&self) -> Result<(), TargetError> {
        match crate::preflight::foreign_machine(self.info().await?) {
            None => Ok(()),
            Some(told) => Err(TargetError::refused(
                PROVIDER,
                "bring the gateway's program to the engine",
                told.message,
            )
            .with_code("docker::other-architecture")
            .with_help(told.help.unwrap_or_default())),
        }
    }

    /// Containers of the environment, running or not.
    pub(crate) async fn containers(&self) -> Result<Vec<ContainerSummary>, TargetError> {
        self.engine.answers().await?;
        let options = ListContainersOptions {
            all: true,
            filters: Some(self.names.filter()),
            ..ListContainersOptions::default()
        };
        self.engine
            .docker
            .list_containers(Some(options))
            .await
            .map_err(|error| fault("look at the containers", error))
    }

    /// Containers of a group, by their number.
    pub(crate) async fn instances(
        &self,
        group: &GroupId,
    ) -> Result<BTreeMap<u32, ContainerInspectResponse>, TargetError> {
        let mut filter = self.names.filter();
        if let Some(labels) = filter.get_mut("label") {
            labels.push(format!("{}={group}", crate::names::GROUP));
        }
        let options = ListContainersOptions {
            all: true,
            filters: Some(filter),
            ..ListContainersOptions::default()
        };
        let listed = self.engine.docker.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| fault(format!("look at {group}"), error))?;
        let looks = listed
            .into_iter()
            .filter_map(|one| one.id)
            .map(|id| async move { self.inspect(&id).await });
        let mut found = BTreeMap::new();
        for seen in futures::future::join_all(looks).await {
            if let Some(seen) = seen?
                && let Some(number) =
                    label(&seen, crate::names::NUMBER).and_then(|n| n.parse().ok())
            {
                found.insert(number, seen);
            }
        }
        Ok(found)
    }

    /// Looks at one container; `None` where it is not there.
    pub(crate) async fn inspect(
        &self,
        name: &str,
    ) -> Result<Option<ContainerInspectResponse>, TargetError> {
        self.engine.answers().await?;
        let options = None::<InspectContainerOptions>;
        match self.engine.docker.inspect_container(name, options).await {
            Ok(seen) => Ok(Some(seen)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(fault(format!("look at container `{name}`"), error)),
        }
    }

    /// Looks at a container of ours by its name; one that somebody renamed gets that back first.
    ///
    /// Beside it another one would be made that wants the same data and ports.
    pub(crate) async fn recalled(
        &self,
        name: &str,
    ) -> Result<Option<ContainerInspectResponse>, TargetError> {
        if let Some(seen) = self.inspect(name).await? {
            return Ok(Some(seen));
        }
        match self.renamed(name).await? {
            Some(id) => {
                self.rename(&id, name).await?;
                self.inspect(name).await
            }
            None => Ok(None),
        }
    }

    /// The container that has this name by its labels and none by it.
    pub(crate) async fn renamed(&self, name: &str) -> Result<Option<String>, TargetError> {
        let is_it = |one: &ContainerSummary| {
            let labels = one.labels.as_ref();
            labels
                .and_then(|labels| self.names.of_labels(labels))
                .as_deref()
                == Some(name)
        };
        let mut all = self.containers().await?.into_iter();
        Ok(all.find(is_it).and_then(|one| one.id))
    }

    pub(crate) async fn rename(&self, from: &str, to: &str) -> Result<(), TargetError> {
        let options = RenameContainerOptions {
            name: to.to_owned(),
        };
        let renamed = self.engine.docker.rename_container(from, options).await;
        renamed.map_err(|error| fault(format!("rename container `{from}` to `{to}`"), error))
    }

    /// Whether a container carries our labels.
    pub(crate) fn is_own(&self, seen: &ContainerInspectResponse) -> bool {
        labels(seen).is_some_and(|labels| self.names.own(labels))
    }

    /// Creates a container. One of ours that has the name already is left as it is.
    ///
    /// # Errors
    ///
    /// `docker::name-taken` where somebody else's has it.
    pub(crate) async fn create(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<(), TargetError> {
        let options = CreateContainerOptions {
            name: Some(name.to_owned()),
            platform: self.settings.platform.clone().unwrap_or_default(),
        };
        let begun = Instant::now();
        loop {
            let made = self
                .engine
                .docker
                .create_container(Some(options.clone()), body.clone());
            let Err(error) = made.await else {
                return Ok(());
            };
            if is_conflict(&error) {
                match self.inspect(name).await? {
                    Some(seen) if self.is_own(&seen) => return Ok(()),
                    Some(_) => return Err(taken("container", name)),
                    // Somebody has the name and is about to make it, or to take it away.
                    None if begun.elapsed() < SETTLED_WITHIN => {
                        tokio::time::sleep(LOOK).await;
                        continue;
                    }
                    None => {}
                }
            }
            if is_ambiguous(&error) && begun.elapsed() < SETTLED_WITHIN {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let missing = is_missing(&error);
            let error = fault(format!("create container `{name}`"), error);
            return Err(if missing {
                error.with_code(NO_IMAGE)
            } else {
                error
            });
        }
    }

    /// Creates a container from our own program's image, which is brought to the engine where it is not there.
    pub(crate) async fn create_own(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<(), TargetError> {
        let program = self.program()?;
        let mut tries = 0;
        loop {
            program.ensure(&self.engine).await?;
            match self.create(name, body.clone()).await {
                // Whoever took another environment away may have found nobody who uses it.
                Err(error) if error.code == NO_IMAGE && tries < 3 => tries += 1,
                done => return done,
            }
        }
    }

    /// Starts a container that does not run.
    pub(crate) async fn start(&self, name: &str) -> Result<(), TargetError> {
        let begun = Instant::now();
        loop {
            let started = self.engine.docker.start_container(name, None).await;
            match started {
                // Whoever made the other network is about to remove it.
                Err(error) if is_ambiguous(&error) && begun.elapsed() < SETTLED_WITHIN => {
                    tokio::time::sleep(LOOK).await;
                }
                started => {
                    let action = || format!("start container `{name}`");
                    return started.map_err(|error| fault(action(), error));
                }
            }
        }
    }

    /// Has what is paused go on.
    pub(crate) async fn wake_container(&self, name: &str) -> Result<(), TargetError> {
        let woken = self.engine.docker.unpause_container(name).await;
        woken.map_err(|error| fault(format!("wake container `{name}`"), error))
    }

    /// Stops a container within its grace period and leaves it there. Safe to repeat.
    pub(crate) async fn halt(&self, name: &str, grace_seconds: i32) -> Result<(), TargetError> {
        // What is paused hears nothing.
        if self.inspect(name).await?.as_ref().is_some_and(is_paused) {
            let _ = self.engine.docker.unpause_container(name).await;
        }
        let options = StopContainerOptions {
            t: Some(grace_seconds),
            signal: None,
        };
        let patient = self.engine.patient(grace_seconds);
        let stopped = patient.stop_container(name, Some(options)).await;
        unless(is_missing, stopped)
            .map_err(|error| fault(format!("stop container `{name}`"), error))
    }

    /// Stops a container of ours within its grace period and removes it. Safe to repeat; somebody else's stays as it is.
    pub(crate) async fn remove(
        &self,
        name: &str,
        grace_seconds: Option<i32>,
    ) -> Result<(), TargetError> {
        let action = || format!("remove container `{name}`");
        let docker = &self.engine.docker;
        let seen = self.inspect(name).await?;
        let Some(seen) = seen.filter(|seen| self.is_own(seen)) else {
            return Ok(());
        };
        // Whoever takes the name from now on is somebody else.
        let id = seen.id.as_deref().unwrap_or(name);
        if let Some(grace) = grace_seconds {
            self.halt(id, grace).await?;
        }
        let options = RemoveContainerOptions {
            force: true,
            v: true,
            link: false,
        };
        let removed = docker.remove_container(id, Some(options)).await;
        // Somebody else may be removing it just now.
        unless(|error| is_missing(error) || is_conflict(error), removed)
            .map_err(|error| fault(action(), error))
    }

    /// Instances that are about to stop.
    pub(crate) fn leaving(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeSet<String>> {
        lock(&self.leaving)
    }
}

/// Whether a container has a role.
pub(crate) fn is_of(one: &ContainerSummary, role: Role) -> bool {
    let labels = one.labels.as_ref();
    labels.and_then(|own| own.get(ROLE)).map(String::as_str) == Some(role.as_str())
}

/// A mutex that a panic elsewhere does not take from us.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Somebody else's object has a name of ours.
pub(crate) fn taken(what: &str, name: &str) -> TargetError {
    TargetError::refused(
        PROVIDER,
        format!("create {what} `{name}`"),
        format!("a {what} of that name is there and does not carry our labels"),
    )
    .with_code("docker::name-taken")
    .with_help(format!(
        "rename or remove it, `docker {what} rm {name}`, or give the project another name"
    ))
}

/// A container's labels.
pub(crate) fn labels(seen: &ContainerInspectResponse) -> Option<&HashMap<String, String>> {
    seen.config.as_ref()?.labels.as_ref()
}

/// One of a container's labels.
pub(crate) fn label<'a>(seen: &'a ContainerInspectResponse, name: &str) -> Option<&'a str> {
    labels(seen)?.get(name).map(String::as_str)
}

/// A container's name.
pub(crate) fn name(seen: &ContainerInspectResponse) -> &str {
    let name = seen.name.as_deref().unwrap_or_default();
    name.strip_prefix('/').unwrap_or(name)
}

/// Whether a container runs. The engine says so of one that is paused, too, which answers nobody.
pub(crate) fn is_running(seen: &ContainerInspectResponse) -> bool {
    let state = seen.state.as_ref();
    state.and_then(|state| state.running) == Some(true) && !is_paused(seen)
}

/// Whether a container is paused.
pub(crate) fn is_paused(seen: &ContainerInspectResponse) -> bool {
    seen.state.as_ref().and_then(|state| state.paused) == Some(true)
}
