//! Limits on processor time and memory, through the kernel's control groups of either version.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use platform_blueprint::{Cores, Limits};

/// Where control groups can be made for one environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ControlGroups {
    cpu: Option<Hierarchy>,
    memory: Option<Hierarchy>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    /// The folder that holds this environment's groups.
    folder: PathBuf,
    version: u8,
}

/// The groups of one instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct InstanceGroups {
    cpu: Option<Hierarchy>,
    memory: Option<Hierarchy>,
}

impl ControlGroups {
    /// Finds a place for groups and makes it ready.
    pub(crate) fn find(tag: &str) -> Self {
        Self::with(tag, pass_on)
    }

    /// Finds out where groups may be made, without making or changing anything.
    pub(crate) fn possible(tag: &str) -> Self {
        Self::with(tag, |folder, controller| {
            let file = folder.join("cgroup.controllers");
            let known = fs::read_to_string(file).unwrap_or_default();
            known.split_ascii_whitespace().any(|one| one == controller) || !folder.exists()
        })
    }

    fn with(tag: &str, pass_on: PassOn) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self {
            cpu: hierarchy(&own, &mounts, "cpu", tag, pass_on),
            memory: hierarchy(&own, &mounts, "memory", tag, pass_on),
        }
    }

    /// Whether processor time can be limited.
    pub(crate) fn limits_cpu(&self) -> bool {
        self.cpu.is_some()
    }

    /// Whether memory can be limited.
    pub(crate) fn limits_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Makes an instance's groups with its limits; none where nothing is limited or nothing can be.
    ///
    /// # Errors
    ///
    /// If the kernel refuses a limit.
    pub(crate) fn make(&self, instance: &str, limits: &Limits) -> io::Result<InstanceGroups> {
        let mut groups = InstanceGroups::default();
        if let (Some(within), Some(cores)) = (&self.cpu, limits.cpu) {
            let own = within.make(instance)?;
            let quota = quota_micros(cores);
            if own.version == 2 {
                own.set("cpu.max", &format!("{quota} {PERIOD_MICROS}"))?;
            } else {
                own.set("cpu.cfs_period_us", &PERIOD_MICROS.to_string())?;
                own.set("cpu.cfs_quota_us", &quota.to_string())?;
            }
            groups.cpu = Some(own);
        }
        if let (Some(within), Some(memory)) = (&self.memory, limits.memory) {
            let own = within.make(instance)?;
            let bytes = memory.bytes().to_string();
            if own.version == 2 {
                own.set("memory.max", &bytes)?;
                // Without swap a leak ends at its limit and does not drag the machine down.
                let _ = own.set("memory.swap.max", "0");
                // A service is one thing: the kernel ends all of it, not a random part.
                let _ = own.set("memory.oom.group", "1");
            } else {
                own.set("memory.limit_in_bytes", &bytes)?;
                let _ = own.set("memory.memsw.limit_in_bytes", &bytes);
            }
            groups.memory = Some(own);
        }
        Ok(groups)
    }

    /// The groups an instance would have, whether they are there or not.
    pub(crate) fn existing(&self, instance: &str) -> InstanceGroups {
        let there = |within: &Option<Hierarchy>| {
            within.as_ref().and_then(|within| {
                let folder = within.folder.join(instance);
                folder.is_dir().then_some(Hierarchy {
                    folder,
                    version: within.version,
                })
            })
        };
        InstanceGroups {
            cpu: there(&self.cpu),
            memory: there(&self.memory),
        }
    }

    /// Removes the environment's own folders, once its instances' are gone.
    pub(crate) fn remove(&self) {
        for within in [&self.cpu, &self.memory].into_iter().flatten() {
            for entry in fs::read_dir(&within.folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    let _ = fs::remove_dir(entry.path());
                }
            }
            let _ = fs::remove_dir(&within.folder);
        }
    }
}

const PERIOD_MICROS: u64 = 100_000;

/// At least the kernel's smallest quota, 1 ms.
fn quota_micros(cores: Cores) -> u64 {
    (u64::from(cores.thousandths()) * PERIOD_MICROS / 1000).max(1000)
}

impl Hierarchy {
    fn make(&self, instance: &str) -> io::Result<Self> {
        let folder = self.folder.join(instance);
        fs::create_dir_all(&folder)?;
        Ok(Self {
            folder,
            version: self.version,
        })
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, value)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    fn count(&self, file: &str, key: &str) -> u64 {
        fs::read_to_string(self.folder.join(file))
            .unwrap_or_default()
            .lines()
            .find_map(|line| {
                line.strip_prefix(key)?
                    .strip_prefix(' ')?
                    .trim()
                    .parse()
                    .ok()
            })
            .unwrap_or(0)
    }
}

impl InstanceGroups {
    /// The folders a process joins.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = [&self.cpu, &self.memory]
            .into_iter()
            .flatten()
            .map(|own| own.folder.clone())
            .collect();
        folders.dedup();
        folders
    }

    /// How often the kernel ended one of its processes for want of memory.
    ///
    /// Source: cgroup-v1/memory.rst (`memory.oom_control`) and cgroup-v2.rst (`memory.events`).
    pub(crate) fn memory_kills(&self) -> u64 {
        self.memory.as_ref().map_or(0, |own| {
            let file = if own.version == 2 {
                "memory.events"
            } else {
                "memory.oom_control"
            };
            own.count(file, "oom_kill")
        })
    }

    /// Processes in the groups.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = self
            .folders()
            .iter()
            .flat_map(|folder| {
                let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
                text.lines()
                    .filter_map(|line| line.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Removes the groups; `false` while processes are still in them.
    pub(crate) fn remove(&self) -> bool {
        self.folders().iter().all(|folder| {
            !matches!(fs::remove_dir(folder), Err(error) if error.kind() != io::ErrorKind::NotFound)
        })
    }
}

/// Finds the folder for a controller's groups.
///
/// - `own`: `/proc/self/cgroup`; `mounts`: `/proc/self/mounts`
fn hierarchy(
    own: &str,
    mounts: &str,
    controller: &str,
    tag: &str,
    pass_on: PassOn,
) -> Option<Hierarchy> {
    let mounted = |kind: &str, option: Option<&str>| {
        mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let fits = *fields.get(2)? == kind
                && option.is_none_or(|option| {
                    fields
                        .get(3)
                        .is_some_and(|all| all.split(',').any(|one| one == option))
                });
            fits.then(|| PathBuf::from(fields[1]))
        })
    };
    let path_of = |wanted: &dyn Fn(&str) -> bool| {
        own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            wanted(controllers).then(|| fields.next().map(str::to_owned))?
        })
    };
    let first = mounted("cgroup", Some(controller)).and_then(|mount| {
        let path = path_of(&|all| all.split(',').any(|one| one == controller))?;
        version_1(&mount, &path, tag)
    });
    first.or_else(|| {
        let mount = mounted("cgroup2", None)?;
        let path = path_of(&str::is_empty)?;
        version_2(&mount, &path, controller, tag, pass_on)
    })
}

fn below(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

fn writable(folder: &Path) -> bool {
    nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK).is_ok()
}

fn version_1(mount: &Path, path: &str, tag: &str) -> Option<Hierarchy> {
    let own = below(mount, path);
    // Inside a container the path may be one that is not mounted here.
    let within = if own.is_dir() { own } else { mount.to_owned() };
    // An agent started by one of its own instances' relatives must not nest.
    let within = within
        .ancestors()
        .find(|folder| !folder.to_string_lossy().contains("/platform-"))
        .map_or(within.clone(), Path::to_owned);
    writable(&within).then(|| Hierarchy {
        folder: within.join(format!("platform-{tag}")),
        version: 1,
    })
}

/// In version 2 a group that holds processes cannot pass controllers on, so a group above ours is looked for that does.
fn version_2(
    mount: &Path,
    path: &str,
    controller: &str,
    tag: &str,
    pass_on: PassOn,
) -> Option<Hierarchy> {
    let own = below(mount, path);
    own.ancestors()
        .take_while(|folder| folder.starts_with(mount))
        .filter(|folder| writable(folder) && writable(&folder.join("cgroup.procs")))
        .find(|folder| {
            fs::read_to_string(folder.join("cgroup.subtree_control"))
                .unwrap_or_default()
                .split_ascii_whitespace()
                .any(|passed| passed == controller)
                || pass_on(folder, controller)
        })
        .map(|folder| Hierarchy {
            folder: folder.join(format!("platform-{tag}")),
            version: 2,
        })
        // The environment's folder holds no processes, so it can pass its controllers on.
        .filter(|found| pass_on(&found.folder, controller))
}

/// Has a group pass a controller on to those below it, or tells whether it would.
type PassOn = fn(&Path, &str) -> bool;

fn pass_on(folder: &Path, controller: &str) -> bool {
    let _ = fs::create_dir_all(folder);
    fs::write(
        folder.join("cgroup.subtree_control"),
        format!("+{controller}"),
    )
    .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_is_found_through_the_mounts() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        fs::create_dir_all(folder.path().join("memory/user")).unwrap();
        let mounts = format!(
            "cgroup {root}/cpu cgroup rw,cpu 0 0\ncgroup {root}/memory cgroup rw,memory 0 0\n"
        );
        let own = "4:memory:/user\n1:cpu:/\n0::/\n";
        let found = hierarchy(own, &mounts, "memory", "abc", pass_on).unwrap();
        assert_eq!(found.version, 1);
        assert_eq!(found.folder, folder.path().join("memory/user/platform-abc"));
        assert_eq!(hierarchy(own, "", "memory", "abc", pass_on), None);
    }

    #[test]
    fn the_second_version_needs_a_group_that_passes_its_controllers_on() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let own = root.join("user/app/agent");
        fs::create_dir_all(&own).unwrap();
        fs::write(root.join("user/app/cgroup.procs"), "").unwrap();
        fs::write(
            root.join("user/app/cgroup.subtree_control"),
            "memory pids\n",
        )
        .unwrap();
        let mounts = format!("cgroup2 {} cgroup2 rw 0 0\n", root.display());
        let found = hierarchy("0::/user/app/agent\n", &mounts, "memory", "abc", pass_on).unwrap();
        assert_eq!(found.version, 2);
        assert_eq!(found.folder, root.join("user/app/platform-abc"));
    }

    #[test]
    fn a_share_of_a_core_is_a_quota_of_the_period() {
        let quota = |thousandths| quota_micros(Cores::from_thousandths(thousandths).unwrap());
        assert_eq!(quota(500), 50_000);
        assert_eq!(quota(2000), 200_000);
        assert_eq!(quota(1), 1000);
    }
}
