//! Starting an instance's process, or taking over one that runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::rc::Rc;

use platform_decide::group::{GroupSpec, Need};
use platform_port::SecretValue;

use super::certificates;
use super::child::{self, Child};
use super::instance::{Instance, open_log};
use super::state::Agent;
use crate::control_group::InstanceGroups;
use crate::durable::{self, Survives};
use crate::launch::Launch;
use crate::log::Capture;
use crate::ports;
use crate::surroundings::{self, Inputs, Surroundings};

/// A running process with what belongs to it.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) capture: Capture,
    pub(super) groups: InstanceGroups,
    /// How often the kernel had ended something in its groups before.
    pub(super) memory_kills: u64,
}

/// Takes over the process in an instance's record, if it still runs.
pub(super) fn adopt(agent: &Rc<Agent>, instance: &Instance) -> Option<Started> {
    let identity = instance.record().process.clone()?;
    let Some(child) = Child::adopt(&identity, agent.layout.exits()) else {
        note_unseen_end(agent, instance, &identity);
        return None;
    };
    let kept = agent.kept.borrow();
    let spec = kept
        .groups
        .get(&instance.group)
        .or_else(|| kept.leaving.get(&instance.group))?;
    let service = instance.group.service.as_str();
    let (_, capture) = match open_log(agent, service, &instance.name, &spec.spec.service.logs) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(instance = %instance.name, error, "its output is not read");
            return None;
        }
    };
    tracing::info!(instance = %instance.name, pid = identity.pid, "adopted");
    let groups = agent.control_groups.existing(&instance.name);
    Some(Started {
        child,
        capture,
        memory_kills: groups.memory_kills(),
        groups,
    })
}

/// A process that ended while no agent ran: what it left is decided as if we had seen it.
fn note_unseen_end(
    agent: &Agent,
    instance: &Instance,
    identity: &crate::identity::ProcessIdentity,
) {
    use crate::keeper::{ProcessEnd, recorded_end};
    use crate::recorded::Outcome;
    let end = recorded_end(&agent.layout.exits(), identity).unwrap_or(ProcessEnd::Unknown);
    let rebooted = identity.boot != crate::identity::boot_id();
    let is_job = agent
        .kept
        .borrow()
        .groups
        .get(&instance.group)
        .is_some_and(|group| group.spec.service.kind == platform_blueprint::ServiceKind::Job);
    instance.note(&agent.layout, |record| {
        record.process = None;
        record.ready = false;
        record.last_exit = Some(if rebooted {
            "the machine was restarted".to_owned()
        } else {
            end.to_string()
        });
        if is_job && !rebooted {
            record.outcome = Some(match end {
                ProcessEnd::Code(0) => Outcome::Completed,
                end => Outcome::Failed(format!("the job ended with {end}")),
            });
        } else if !rebooted {
            record.restarts += 1;
        }
    });
    super::stop::end_members_now(agent, &instance.name, None);
}

/// What an instance finds around itself.
///
/// # Errors
///
/// In words.
pub(super) fn surroundings_of(
    agent: &Agent,
    instance: &Instance,
    spec: &GroupSpec,
) -> Result<Surroundings, String> {
    let secrets = agent.secrets.borrow();
    let none = BTreeMap::new();
    let own = secrets.groups.get(&instance.group).unwrap_or(&none);
    let mut needs = BTreeMap::new();
    for need in &spec.spec.needs {
        let url = match need {
            Need::Service { name } => {
                let port = agent.lasting_port(&Agent::internal_port_name(name.as_str()))?;
                format!("http://127.0.0.1:{port}")
            }
            Need::Resource { name, .. } => super::resource::url(agent, name, own)?,
        };
        needs.insert(need.variable(), url);
    }
    let volumes = spec
        .spec
        .service
        .volumes
        .iter()
        .map(|volume| {
            let name = volume.name.as_str();
            (name.to_owned(), agent.layout.volume(name))
        })
        .collect();
    surroundings::surroundings(&Inputs {
        group: spec,
        instance: &instance.name,
        zone: instance.zone.as_ref(),
        port: instance.record().port,
        needs,
        secrets: own,
        secret_files: &secret_folder(agent, instance),
        project: &agent.options.project,
        environment: &agent.options.environment,
        root: &agent.options.root,
        tag: agent.layout.tag(),
        inherited: &agent.inherited,
        volumes,
        certificates: certificates::secured(spec),
    })
}

pub(super) fn secret_folder(agent: &Agent, instance: &Instance) -> PathBuf {
    agent.secret_files.join(&instance.name)
}

/// Removes the secrets that were handed to an instance as files.
pub(super) fn remove_secret_files(agent: &Agent, instance: &Instance) {
    let _ = fs::remove_dir_all(secret_folder(agent, instance));
}

/// User and group of a name; `None` where we may not change to it, which preflight tells.
pub(crate) fn user_of(name: Option<&str>) -> Result<Option<(u32, u32)>, String> {
    let Some(name) = name else {
        return Ok(None);
    };
    let found = match name.parse::<u32>() {
        Ok(uid) => nix::unistd::User::from_uid(uid.into()),
        Err(_) => nix::unistd::User::from_name(name),
    };
    let user = found
        .ok()
        .flatten()
        .ok_or_else(|| format!("there is no user `{name}` on this machine"))?;
    let own = nix::unistd::geteuid();
    if own == user.uid {
        return Ok(None);
    }
    if !own.is_root() {
        return Err(format!("only root can run it as user `{name}`"));
    }
    Ok(Some((user.uid.as_raw(), user.gid.as_raw())))
}

/// Starts an instance's process.
///
/// # Errors
///
/// Why it cannot be started, in words.
pub(super) fn start(
    agent: &Rc<Agent>,
    instance: &Instance,
    spec: &GroupSpec,
) -> Result<Started, String> {
    let service = &spec.spec.service;
    let wants_port = service.port.is_some();
    let port = instance.record().port;
    let port = match (wants_port, port) {
        (false, _) => None,
        (true, Some(port)) if ports::is_free(port) => Some(port),
        (true, _) => Some(agent.pick_port().ok_or("no free port was found")?),
    };
    instance.note(&agent.layout, |record| {
        record.port = port;
        record.digest = Some(spec.digest.clone());
        record.ready = false;
    });
    let mut found = surroundings_of(agent, instance, spec)?;
    found
        .files
        .extend(certificates::fresh(agent, instance, spec)?);
    let (name, arguments) = found.command.split_first().ok_or("it has no command")?;
    if !found.folder.is_dir() {
        return Err(format!(
            "its folder `{}` is not there",
            found.folder.display()
        ));
    }
    let program = surroundings::find_program(name, &found.search, &found.folder)
        .ok_or_else(|| format!("its program `{name}` was not found"))?;
    let user = user_of(service.user.as_deref())?;
    write_secrets(&found.files, user)?;
    for volume in &service.volumes {
        let folder = agent.layout.volume(volume.name.as_str());
        durable::make_folder(&folder).map_err(|error| error.to_string())?;
    }
    let groups = agent
        .control_groups
        .make(&instance.name, &service.limits)
        .map_err(|error| format!("its limits cannot be set: {error}"))?;
    let launch = Launch {
        program,
        arguments: arguments.to_vec(),
        environment: found.environment.clone(),
        folder: found.folder.clone(),
        stdin: None,
        stdout: PathBuf::new(),
        stderr: PathBuf::new(),
        control_groups: groups.folders(),
        user,
        open_files: agent.open_files,
    };
    let service_name = instance.group.service.as_str();
    let (pipes, capture) = open_log(agent, service_name, &instance.name, &service.logs)?;
    let launch = Launch {
        stdout: pipes.stdout,
        stderr: pipes.stderr,
        ..launch
    };
    let memory_kills = groups.memory_kills();
    let child =
        run(agent, instance, &launch).map_err(|error| format!("cannot start it: {error}"))?;
    agent.touch();
    Ok(Started {
        child,
        capture,
        groups,
        memory_kills,
    })
}

/// Writes the process down before it becomes the program.
fn run(agent: &Agent, instance: &Instance, launch: &Launch) -> io::Result<Child> {
    let prepared = child::prepare(agent.layout.tag(), &instance.name, agent.layout.exits())?;
    instance.note(&agent.layout, |record| {
        record.process = Some(prepared.identity.clone());
        record.started_at = Some(crate::log::now());
        record.outcome = None;
    });
    prepared.launch(launch)
}

/// Writes files for an instance; whoever reads one finds the one before or the new one, whole.
///
/// # Errors
///
/// In words.
pub(super) fn write_secrets(
    files: &[(PathBuf, SecretValue)],
    user: Option<(u32, u32)>,
) -> Result<(), String> {
    for (path, value) in files {
        let folder = path.parent().unwrap_or(path);
        let write = || -> Result<(), Box<dyn std::error::Error>> {
            durable::make_folder(folder)?;
            durable::replace(path, value.reveal().as_bytes(), Survives::Crash)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o400))?;
            if let Some((uid, gid)) = user {
                for place in [folder, path.as_path()] {
                    std::os::unix::fs::chown(place, Some(uid), Some(gid))?;
                }
            }
            Ok(())
        };
        write().map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
    }
    Ok(())
}

/// Removes what is left of an instance that ended for good; its logs stay.
pub(super) fn forget(agent: &Agent, instance: &Instance) {
    remove_secret_files(agent, instance);
    agent.control_groups.existing(&instance.name).remove();
    let _ = fs::remove_dir_all(agent.layout.instance(&instance.name));
}
