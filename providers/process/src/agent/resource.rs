//! Resources: embedded ones that need no server, and real servers run as processes.

use std::cell::{Cell, RefCell};
use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use platform_blueprint::{Engine, Resource, ResourceKind, ResourceName, Restart};
use platform_decide::desired::DesiredResource;
use platform_decide::digest::Digest;
use platform_decide::observed::ResourceSeen;
use platform_port::SecretValues;
use tokio::sync::watch;

use super::child::{self, Child};
use super::engine;
use super::instance::open_log;
use super::state::Agent;
use super::stop;
use crate::durable;
use crate::launch::Launch;
use crate::log::Capture;
use crate::probe::local;
use crate::process_table::{INSTANCE_VARIABLE, STATE_VARIABLE};
use crate::protocol::Fault;
use crate::recorded::InstanceRecord;

const STOP_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A real server that is kept running.
pub(super) struct Server {
    name: ResourceName,
    wanted: DesiredResource,
    ready: Cell<bool>,
    reason: RefCell<Option<String>>,
    /// Ends, and starts that failed, in a row.
    failures: Cell<u32>,
    stop: watch::Sender<bool>,
    gone: Cell<bool>,
}

pub(super) fn is_server(resource: &Resource) -> bool {
    resource.external.is_none() && !matches!(resource.engine, Engine::Embedded | Engine::Auto)
}

fn process_name(name: &ResourceName) -> String {
    name.to_string()
}

fn port_name(name: &ResourceName) -> String {
    format!("resource:{name}")
}

/// The URL under which a service, or the gateway, reaches a resource.
///
/// - `secrets`: values that whoever asks was handed
///
/// # Errors
///
/// In words.
pub(super) fn url(
    agent: &Agent,
    name: &ResourceName,
    secrets: &SecretValues,
) -> Result<String, String> {
    let kept = agent.kept.borrow();
    let resource = &kept
        .resources
        .get(name)
        .ok_or_else(|| format!("resource `{name}` is not there"))?
        .resource;
    if let Some(external) = &resource.external {
        return secrets
            .get(&external.secret)
            .map(|value| value.reveal().to_owned())
            .ok_or_else(|| format!("the value of secret `{}` is not known", external.secret));
    }
    if is_server(resource) {
        let port = agent.lasting_port(&port_name(name))?;
        return engine::url(agent, name, resource, port);
    }
    let folder = agent.layout.data(name.as_str());
    let folder = folder.display();
    Ok(match resource.kind {
        ResourceKind::Postgres => format!("sqlite:{folder}/{name}.db"),
        ResourceKind::Redis => "memory:".to_owned(),
        ResourceKind::Nats => format!("queue:{folder}"),
        ResourceKind::ObjectStore | ResourceKind::Search => format!("file:{folder}"),
    })
}

/// Whether a resource can be used.
pub(super) fn ready(agent: &Agent, name: &ResourceName) -> bool {
    let kept = agent.kept.borrow();
    kept.resources.get(name).is_none_or(|wanted| {
        !is_server(&wanted.resource)
            || agent
                .servers
                .borrow()
                .get(name)
                .is_some_and(|server| server.ready.get())
    })
}

/// A resource as it is seen.
pub(super) fn seen(agent: &Agent, name: &ResourceName, wanted: &DesiredResource) -> ResourceSeen {
    let servers = agent.servers.borrow();
    let server = servers.get(name);
    let folder = agent.layout.data(name.as_str());
    let (is_ready, reason, address) = if is_server(&wanted.resource) {
        let port = agent.ports.borrow().get(&port_name(name));
        (
            server.is_some_and(|server| server.ready.get()),
            server.and_then(|server| server.reason.borrow().clone()),
            port.map(|port| local(port).to_string()),
        )
    } else if wanted.resource.external.is_some() || folder.is_dir() {
        let address = (wanted.resource.external.is_none()
            && wanted.resource.kind != ResourceKind::Redis)
            .then(|| folder.display().to_string());
        (true, None, address)
    } else {
        (false, Some(format!("`{}` is gone", folder.display())), None)
    };
    let crash_looping = server.is_some_and(|server| server.is_crash_looping());
    ResourceSeen {
        // One that was given up is not what was asked for.
        digest: if crash_looping {
            Digest::of(format!("{} given up", wanted.digest).as_bytes())
        } else {
            wanted.digest.clone()
        },
        ready: is_ready,
        engine: engine::describe(&wanted.resource),
        address,
        reason,
        crash_looping,
    }
}

/// Creates a resource or brings it to what is asked.
pub(super) async fn ensure(
    agent: &Rc<Agent>,
    name: ResourceName,
    wanted: DesiredResource,
) -> Result<(), Fault> {
    durable::make_folder(&agent.layout.data(name.as_str()))?;
    if is_server(&wanted.resource) {
        engine::program(&wanted.resource).map_err(|why| {
            Fault::new(
                "resource::engine-missing",
                format!("resource `{name}`: {why}"),
            )
            .with_help("install it, or leave out `engine` to use the embedded stand-in")
        })?;
    }
    let same = agent.kept.borrow().resources.get(&name) == Some(&wanted);
    let gave_up = {
        let servers = agent.servers.borrow();
        servers
            .get(&name)
            .is_some_and(|server| server.is_crash_looping())
    };
    if gave_up {
        // Whoever deploys again may have mended what ended it: from here on ends are counted anew.
        stop_server(agent, &name).await;
    }
    if !same {
        stop_server(agent, &name).await;
        let mut kept = agent.kept.borrow_mut();
        kept.resources.insert(name.clone(), wanted.clone());
    }
    agent.keep().await?;
    run_server(agent, &name, &wanted);
    agent.touch();
    Ok(())
}

/// Starts the server of a resource that has one, if it does not run.
pub(super) fn run_server(agent: &Rc<Agent>, name: &ResourceName, wanted: &DesiredResource) {
    if !is_server(&wanted.resource) || agent.servers.borrow().contains_key(name) {
        return;
    }
    let server = Rc::new(Server {
        name: name.clone(),
        wanted: wanted.clone(),
        ready: Cell::new(false),
        reason: RefCell::new(Some("it is starting".to_owned())),
        failures: Cell::new(0),
        stop: watch::Sender::new(false),
        gone: Cell::new(false),
    });
    agent
        .servers
        .borrow_mut()
        .insert(name.clone(), Rc::clone(&server));
    tokio::task::spawn_local(supervise(Rc::clone(agent), server));
}

/// Stops a resource's server and waits until it is gone.
pub(super) async fn stop_server(agent: &Rc<Agent>, name: &ResourceName) {
    let Some(server) = agent.servers.borrow().get(name).cloned() else {
        return;
    };
    server.stop.send_replace(true);
    agent
        .wait_until(STOP_WITHIN + Duration::from_secs(5), || server.gone.get())
        .await;
    agent.servers.borrow_mut().remove(name);
}

/// Stops a resource; removes its data only where told to.
pub(super) async fn remove(
    agent: &Rc<Agent>,
    name: &ResourceName,
    remove_data: bool,
) -> Result<(), Fault> {
    stop_server(agent, name).await;
    agent.kept.borrow_mut().resources.remove(name);
    agent.keep().await?;
    if remove_data {
        for folder in [
            agent.layout.data(name.as_str()),
            engine::foreign_folder(&agent.layout, name),
            agent.layout.resource(name.as_str()),
        ] {
            remove_folder(&folder)?;
        }
    }
    agent.touch();
    Ok(())
}

/// Removes a folder with all in it; one that is not there is fine.
pub(super) fn remove_folder(folder: &std::path::Path) -> Result<(), Fault> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(durable::StateError::of("remove", folder, error).into())
        }
        _ => Ok(()),
    }
}

impl Server {
    /// Whether it failed so often that nobody waits for it any longer.
    fn is_crash_looping(&self) -> bool {
        !self.ready.get() && self.failures.get() >= Restart::default().crash_loop
    }

    fn say(&self, agent: &Agent, ready: bool, reason: Option<String>) {
        let same = self.ready.get() == ready && *self.reason.borrow() == reason;
        if !same || self.is_crash_looping() {
            self.ready.set(ready);
            *self.reason.borrow_mut() = reason;
            agent.touch();
        }
    }
}

async fn supervise(agent: Rc<Agent>, server: Rc<Server>) {
    let mut stop = server.stop.subscribe();
    while !*stop.borrow_and_update() {
        let begun = Instant::now();
        let reason = match start(&agent, &server).await {
            Ok((child, capture, password)) => {
                let end = run(&agent, &server, &child, &password, &mut stop).await;
                let name = process_name(&server.name);
                stop::end_members(&agent, &name, Some(&child.identity)).await;
                capture.finish().await;
                let _ = fs::remove_dir_all(agent.layout.instance(&name));
                format!("it ended with {end}")
            }
            Err(why) => why,
        };
        if *stop.borrow() {
            break;
        }
        tracing::warn!(resource = %server.name, reason, "the server does not run");
        let failures = if begun.elapsed() > Duration::from_secs(60) {
            0
        } else {
            server.failures.get() + 1
        };
        server.failures.set(failures);
        server.say(&agent, false, Some(reason));
        let pause = Duration::from_millis(200_u64 << failures.min(7));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => stop.mark_changed(),
        }
    }
    server.say(&agent, false, Some("it was stopped".to_owned()));
    server.gone.set(true);
    agent.touch();
}

async fn start(agent: &Rc<Agent>, server: &Server) -> Result<(Child, Capture, String), String> {
    let name = process_name(&server.name);
    let port = agent.lasting_port(&port_name(&server.name))?;
    let (pipes, capture) = open_log(agent, &name, &name, &platform_blueprint::Logs::default())?;
    let before = InstanceRecord::load(&agent.layout, &name).and_then(|record| record.process);
    if let Some(child) = before
        .as_ref()
        .and_then(|identity| Child::adopt(identity, agent.layout.exits()))
    {
        return Ok((
            child,
            capture,
            engine::password(&agent.layout, &server.name)?,
        ));
    }
    stop::end_members(agent, &name, None).await;
    let (layout, resource, resource_name) = (
        agent.layout.clone(),
        server.wanted.resource.clone(),
        server.name.clone(),
    );
    let preparing = tokio::task::spawn_blocking(move || {
        engine::prepare(&layout, &resource_name, &resource, port)
    });
    let prepared = preparing.await.map_err(|error| error.to_string())??;
    let mut environment = agent.inherited.clone();
    environment.insert(STATE_VARIABLE.to_owned(), agent.layout.tag().to_owned());
    environment.insert(INSTANCE_VARIABLE.to_owned(), name.clone());
    let launch = Launch {
        program: prepared.program,
        arguments: prepared.arguments,
        environment,
        folder: prepared.folder,
        stdin: None,
        stdout: pipes.stdout,
        stderr: pipes.stderr,
        control_groups: Vec::new(),
        user: prepared.user,
        open_files: agent.open_files,
    };
    let process = child::prepare(agent.layout.tag(), &name, agent.layout.exits())
        .map_err(|error| error.to_string())?;
    let record = InstanceRecord {
        process: Some(process.identity.clone()),
        port: Some(port),
        started_at: Some(crate::log::now()),
        ..InstanceRecord::default()
    };
    record
        .save(&agent.layout, &name)
        .map_err(|error| error.to_string())?;
    let child = process.launch(&launch).map_err(|error| error.to_string())?;
    Ok((child, capture, prepared.password))
}

async fn run(
    agent: &Agent,
    server: &Server,
    child: &Child,
    password: &str,
    stop: &mut watch::Receiver<bool>,
) -> crate::keeper::ProcessEnd {
    let resource = &server.wanted.resource;
    let ended = child.ended();
    tokio::pin!(ended);
    let mut pause = Duration::from_millis(20);
    loop {
        let port = agent
            .ports
            .borrow()
            .get(&port_name(&server.name))
            .unwrap_or(0);
        let look = async {
            tokio::time::sleep(pause).await;
            engine::answers(resource.engine, port, password).await
        };
        tokio::select! {
            end = &mut ended => return end,
            _ = stop.changed() => {
                // PostgreSQL takes SIGINT as: end sessions and close in good order.
                let signal = match resource.engine {
                    Engine::Postgres => Signal::SIGINT,
                    _ => Signal::SIGTERM,
                };
                // The first process alone: it ends its own children in good order.
                child.identity.signal(signal);
                if let Ok(end) = tokio::time::timeout(STOP_WITHIN, &mut ended).await {
                    return end;
                }
                let name = process_name(&server.name);
                return stop::end(agent, &name, child, &mut ended, Signal::SIGKILL, Duration::ZERO)
                    .await;
            }
            answer = look => {
                pause = if answer.is_ok() { LOOK_EVERY } else { (pause * 3 / 2).min(Duration::from_millis(250)) };
                server.say(agent, answer.is_ok(), answer.err());
            }
        }
    }
}
