//! What would make a deploy fail, found before anything is touched.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use platform_blueprint::{Engine, Resource};
use platform_decide::desired::{Desired, DesiredService};
use platform_decide::group::Place;
use platform_port::{Finding, Severity};

use crate::agent;
use crate::control_group::ControlGroups;
use crate::layout::Layout;
use crate::process_table::{self, Listener, STATE_VARIABLE};
use crate::protocol::AgentInfo;
use crate::surroundings::find_program;

const MIB: u64 = 1 << 20;
/// Below this a deploy is bound to fail,
const DISK_LEAST: u64 = 64 * MIB;
/// and below this it may before long.
const DISK_SCARCE: u64 = 512 * MIB;

fn finding(code: &str, severity: Severity, subject: Option<&str>, message: String) -> Finding {
    Finding {
        code: format!("preflight::{code}"),
        severity,
        subject: subject.map(str::to_owned),
        message,
        help: None,
    }
}

fn with_help(mut finding: Finding, help: impl Into<String>) -> Finding {
    finding.help = Some(help.into());
    finding
}

/// Looks for everything that would make a deploy of `desired` fail.
pub(crate) fn preflight(layout: &Layout, root: &Path, desired: &Desired) -> Vec<Finding> {
    let mut found = Vec::from_iter(state_folder(layout));
    found.extend(space(layout));
    found.extend(crate::open_files::preflight(layout, desired));
    let gateway = &desired.ingress.gateway;
    let mut ports = vec![gateway.port.get()];
    ports.extend(gateway.tls.as_ref().map(|tls| tls.port.get()));
    for port in ports {
        found.extend(public_port(layout, SocketAddr::new(gateway.address, port)));
    }
    if let Some(figures) = &gateway.metrics {
        let at = SocketAddr::new(figures.address, figures.port.get());
        found.extend(public_port(layout, at));
    }
    let mut looked = Looked::default();
    for (name, service) in &desired.services {
        found.extend(program(root, name.as_str(), service, &mut looked));
        found.extend(user(name.as_str(), service));
    }
    for (name, wanted) in &desired.resources {
        found.extend(engine(name.as_str(), &wanted.resource));
    }
    found.extend(platform_traffic::certificates::preflight(gateway, root));
    found.extend(limits(layout, desired));
    found.extend(memory(desired));
    found
}

/// Looks at the machine and the state folder alone.
pub(crate) fn doctor(layout: &Layout) -> Vec<Finding> {
    let mut found = Vec::from_iter(state_folder(layout));
    found.extend(space(layout));
    let groups = ControlGroups::possible(layout.tag());
    let note = match (groups.limits_cpu(), groups.limits_memory()) {
        (true, true) => "limits on processor time and memory can be enforced",
        (true, false) => "limits on processor time can be enforced, on memory not",
        (false, true) => "limits on memory can be enforced, on processor time not",
        (false, false) => "limits cannot be enforced: no control group is writable",
    };
    found.push(finding("limits", Severity::Note, None, note.to_owned()));
    found
}

/// What an agent says of itself.
pub(crate) fn agent_notes(info: &AgentInfo) -> Vec<Finding> {
    info.notes
        .iter()
        .map(|note| Finding {
            code: "state::damaged".to_owned(),
            severity: Severity::Warning,
            subject: None,
            message: note.clone(),
            help: Some("run `platform deploy` to put right what may be missing".to_owned()),
        })
        .collect()
}

/// The nearest folder above that exists tells whether ours can be written.
fn state_folder(layout: &Layout) -> Option<Finding> {
    let nearest = layout.root().ancestors().find(|folder| folder.exists())?;
    let flags = nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK;
    match nix::unistd::access(nearest, flags) {
        Ok(()) => None,
        Err(error) => {
            let mut found = finding(
                "state",
                Severity::Error,
                None,
                format!("cannot write to `{}`: {error}", nearest.display()),
            );
            "state::read-only".clone_into(&mut found.code);
            Some(with_help(
                found,
                "make the project's `.platform` folder writable",
            ))
        }
    }
}

fn space(layout: &Layout) -> Option<Finding> {
    let nearest = layout.root().ancestors().find(|folder| folder.exists())?;
    let seen = nix::sys::statvfs::statvfs(nearest).ok()?;
    let free = seen.blocks_available().saturating_mul(seen.fragment_size());
    let severity = match free {
        ..DISK_LEAST => Severity::Error,
        DISK_LEAST..DISK_SCARCE => Severity::Warning,
        _ => return None,
    };
    let message = format!(
        "only {} MiB are free in `{}`",
        free / MIB,
        nearest.display()
    );
    Some(with_help(
        finding("disk-space", severity, None, message),
        "free some disk space",
    ))
}

fn public_port(layout: &Layout, address: SocketAddr) -> Option<Finding> {
    let port = address.port();
    let Err(error) = TcpListener::bind(address) else {
        return None;
    };
    match error.kind() {
        io::ErrorKind::PermissionDenied => Some(with_help(
            finding(
                "port-privileged",
                Severity::Error,
                Some("gateway"),
                format!("port {port} is for root alone"),
            ),
            "choose a port from 1024 up with `gateway.port`",
        )),
        io::ErrorKind::AddrInUse => {
            let Listener::Known(holder) = process_table::listener_of(port)? else {
                return Some(finding(
                    "port-taken",
                    Severity::Error,
                    Some("gateway"),
                    format!("port {port} is taken by a process of another user"),
                ));
            };
            let tag = process_table::environment_variable(holder.pid, STATE_VARIABLE);
            if tag.as_deref() == Some(layout.tag()) {
                return None;
            }
            Some(with_help(
                finding(
                    "port-taken",
                    Severity::Error,
                    Some("gateway"),
                    format!(
                        "port {port} is taken by `{}` (process {})",
                        holder.name, holder.pid
                    ),
                ),
                "stop it, or choose another port with `gateway.port`",
            ))
        }
        io::ErrorKind::AddrNotAvailable => Some(finding(
            "address-unknown",
            Severity::Error,
            Some("gateway"),
            format!("this machine does not have the address {}", address.ip()),
        )),
        _ => None,
    }
}

/// What was looked at already: many services share a folder and a program.
#[derive(Default)]
struct Looked {
    folders: BTreeMap<PathBuf, Result<(), nix::Error>>,
    programs: BTreeMap<(PathBuf, Vec<PathBuf>, String), bool>,
}

impl Looked {
    fn folder(&mut self, folder: &Path) -> Result<(), nix::Error> {
        let look = || {
            let flags = nix::unistd::AccessFlags::R_OK | nix::unistd::AccessFlags::X_OK;
            nix::unistd::access(folder, flags)
        };
        *self.folders.entry(folder.to_owned()).or_insert_with(look)
    }

    fn has_program(&mut self, command: &str, search: &[PathBuf], folder: &Path) -> bool {
        let key = (folder.to_owned(), search.to_vec(), command.to_owned());
        let look = || find_program(command, search, folder).is_some();
        *self.programs.entry(key).or_insert_with(look)
    }
}

fn program(root: &Path, name: &str, service: &DesiredService, looked: &mut Looked) -> Vec<Finding> {
    let written = &service.spec.service;
    let mut found = Vec::new();
    let folder = written
        .folder
        .as_ref()
        .map_or_else(|| root.to_owned(), |folder| root.join(folder));
    if let Err(error) = looked.folder(&folder) {
        found.push(finding(
            "folder-unreadable",
            Severity::Error,
            Some(name),
            format!("service `{name}` runs in `{}`: {error}", folder.display()),
        ));
    }
    let search = match &service.spec.artifact.place {
        Place::Image { reference } => {
            found.push(with_help(
                finding(
                    "needs-containers",
                    Severity::Error,
                    Some(name),
                    format!("service `{name}` is the image `{reference}`, which is no process"),
                ),
                "deploy to an environment whose provider is `docker` or `kubernetes`",
            ));
            return found;
        }
        // What is not built yet cannot be looked into.
        Place::Folder { path } if !Path::new(path).is_dir() => return found,
        Place::Folder { path } => vec![path.into()],
        Place::Installed => Vec::new(),
    };
    if let Some(command) = written.command.first()
        && !command.contains("${")
        && !looked.has_program(command, &search, &folder)
    {
        found.push(with_help(
            finding(
                "program-missing",
                Severity::Error,
                Some(name),
                format!("service `{name}` runs `{command}`, which was not found"),
            ),
            "install it, or name what the build yields",
        ));
    }
    found
}

fn user(name: &str, service: &DesiredService) -> Option<Finding> {
    let user = service.spec.service.user.as_deref()?;
    let why = agent::user_of(Some(user)).err()?;
    Some(finding(
        "user",
        Severity::Error,
        Some(name),
        format!("service `{name}`: {why}"),
    ))
}

fn engine(name: &str, resource: &Resource) -> Option<Finding> {
    if resource.external.is_some() || matches!(resource.engine, Engine::Embedded | Engine::Auto) {
        return None;
    }
    let why = agent::engine_program(resource).err()?;
    Some(with_help(
        finding(
            "engine-missing",
            Severity::Error,
            Some(name),
            format!("resource `{name}`: {why}"),
        ),
        "install it, or leave out `engine` to use the embedded stand-in",
    ))
}

fn limits(layout: &Layout, desired: &Desired) -> Vec<Finding> {
    let groups = ControlGroups::possible(layout.tag());
    let asked = |wanted: &dyn Fn(&platform_blueprint::Limits) -> bool| -> Vec<&str> {
        desired
            .services
            .iter()
            .filter(|(_, service)| wanted(&service.spec.service.limits))
            .map(|(name, _)| name.as_str())
            .collect()
    };
    let cpu = asked(&|limits| limits.cpu.is_some());
    let memory = asked(&|limits| limits.memory.is_some());
    let mut found = Vec::new();
    for (services, can, what) in [
        (cpu, groups.limits_cpu(), "processor time"),
        (memory, groups.limits_memory(), "memory"),
    ] {
        if !services.is_empty() && !can {
            found.push(with_help(
                finding(
                    "limits-not-enforced",
                    Severity::Warning,
                    None,
                    format!(
                        "limits on {what} are not enforced here (asked for by {}): no control group is writable",
                        services.join(", ")
                    ),
                ),
                "run as a user whose control group is delegated, as `systemd-run --user --scope -p Delegate=yes` does",
            ));
        }
    }
    found
}

fn memory(desired: &Desired) -> Option<Finding> {
    let wanted: u64 = desired
        .services
        .values()
        .filter_map(|service| {
            let memory = service.spec.service.limits.memory?;
            Some(memory.bytes().saturating_mul(u64::from(service.replicas)))
        })
        .sum();
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total = line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024;
    (wanted > total).then(|| {
        finding(
            "memory",
            Severity::Warning,
            None,
            format!(
                "the limits of all services add up to {} MiB, and the machine has {} MiB",
                wanted / MIB,
                total / MIB
            ),
        )
    })
}
