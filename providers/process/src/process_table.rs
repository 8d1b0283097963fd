//! What `/proc` says about processes and the ports they listen on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use nix::sys::signal::Signal;

use crate::identity::{self, ProcessIdentity};

/// The fields of `/proc/PID/stat` that we use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    /// Its number.
    pub(crate) pid: i32,
    /// The program's short name.
    pub(crate) name: String,
    /// Its state's letter.
    pub(crate) state: char,
    /// Its parent.
    pub(crate) parent: i32,
    /// Its process group.
    pub(crate) group: i32,
    /// Its session.
    pub(crate) session: i32,
    /// When it was started, in clock ticks since boot.
    pub(crate) start: u64,
    /// Resident memory in pages.
    pub(crate) resident_pages: u64,
}

impl ProcessStat {
    /// Reads one process's line.
    ///
    /// # Errors
    ///
    /// If there is no such process.
    pub(crate) fn read(pid: i32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// Source of the field numbers: proc(5).
    fn parse(text: &str) -> Option<Self> {
        // The name may hold spaces and brackets; the last bracket ends it.
        let open = text.find('(')?;
        let close = text.rfind(')')?;
        let pid = text[..open].trim().parse().ok()?;
        let name = text[open + 1..close].to_owned();
        let fields: Vec<&str> = text[close + 1..].split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<i64>().ok();
        Some(Self {
            pid,
            name,
            state: fields.first()?.chars().next()?,
            parent: i32::try_from(number(1)?).ok()?,
            group: i32::try_from(number(2)?).ok()?,
            session: i32::try_from(number(3)?).ok()?,
            start: fields.get(19)?.parse().ok()?,
            resident_pages: u64::try_from(number(21)?).unwrap_or(0),
        })
    }

    /// Whether it has ended and only waits to be waited for.
    pub(crate) fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.resident_pages * page_size()
    }
}

fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| u64::try_from(size).ok())
        .unwrap_or(4096)
}

/// Every process there is.
pub(crate) fn all() -> Vec<ProcessStat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| ProcessStat::read(pid).ok())
        .collect()
}

/// One variable of a process's environment as it was started; `None` also where we may not look.
pub(crate) fn environment_variable(pid: i32, name: &str) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    bytes
        .split(|byte| *byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok())
        .find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
        .map(str::to_owned)
}

/// The words a process was started with.
pub(crate) fn command_line(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// The variable that marks every process of an instance with its state folder's tag.
pub(crate) const STATE_VARIABLE: &str = "PLATFORM_STATE_TAG";
/// The variable that names the instance.
pub(crate) const INSTANCE_VARIABLE: &str = "PLATFORM_INSTANCE";
/// The variable that marks a command of `platform exec`, which no agent ends.
pub(crate) const EXEC_VARIABLE: &str = "PLATFORM_EXEC";

/// The living processes of an instance: those of its leader's session and group, and those that carry its name.
pub(crate) fn members(
    table: &[ProcessStat],
    leader: Option<i32>,
    tag: &str,
    instance: &str,
) -> Vec<i32> {
    let own = nix::unistd::getpid().as_raw();
    table
        .iter()
        .filter(|stat| !stat.ended() && stat.pid != own)
        .filter(|stat| {
            let related = leader.is_some_and(|leader| {
                stat.pid == leader || stat.group == leader || stat.session == leader
            });
            // Relatives by number are asked, too: the number may be another's by now.
            if related && Some(stat.pid) == leader {
                return true;
            }
            carries(stat.pid, tag, instance)
        })
        .map(|stat| stat.pid)
        .collect()
}

fn carries(pid: i32, tag: &str, instance: &str) -> bool {
    let Ok(bytes) = fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    let wanted_tag = format!("{STATE_VARIABLE}={tag}");
    let wanted_instance = format!("{INSTANCE_VARIABLE}={instance}");
    let mut tagged = false;
    let mut named = false;
    for entry in bytes.split(|byte| *byte == 0) {
        tagged |= entry == wanted_tag.as_bytes();
        named |= entry == wanted_instance.as_bytes();
        if entry.starts_with(EXEC_VARIABLE.as_bytes()) {
            return false;
        }
    }
    tagged && named
}

/// Processes that carry this state folder's tag, with the instance they name; commands of `exec` are left out.
pub(crate) fn tagged(tag: &str) -> Vec<(ProcessIdentity, String)> {
    all()
        .into_iter()
        .filter(|stat| !stat.ended())
        .filter_map(|stat| {
            // Most processes are not ours; one read settles it.
            let seen = environment_variable(stat.pid, STATE_VARIABLE)?;
            if seen != tag || environment_variable(stat.pid, EXEC_VARIABLE).is_some() {
                return None;
            }
            let instance = environment_variable(stat.pid, INSTANCE_VARIABLE)?;
            let identity = ProcessIdentity {
                boot: identity::boot_id().to_owned(),
                pid: stat.pid,
                start: stat.start,
            };
            Some((identity, instance))
        })
        .collect()
}

/// Sends a signal to each living process of an instance; returns how many got it.
pub(crate) fn signal_members(
    leader: Option<&ProcessIdentity>,
    tag: &str,
    instance: &str,
    signal: Signal,
) -> usize {
    let table = all();
    let alive_leader = leader
        .filter(|leader| leader.alive())
        .map(|leader| leader.pid);
    // None of them is older than the first of them; that spares looking into most processes.
    let since = leader.map_or(0, |leader| leader.start);
    let table: Vec<ProcessStat> = table
        .into_iter()
        .filter(|stat| stat.start >= since)
        .collect();
    let members = members(&table, alive_leader, tag, instance);
    table
        .iter()
        .filter(|stat| members.contains(&stat.pid))
        .filter(|stat| {
            ProcessIdentity {
                boot: identity::boot_id().to_owned(),
                pid: stat.pid,
                start: stat.start,
            }
            .signal(signal)
        })
        .count()
}

/// TCP ports on which sockets listen, by the socket's inode.
fn listening_sockets() -> BTreeMap<u64, u16> {
    let mut sockets = BTreeMap::new();
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        if let Ok(text) = fs::read_to_string(path) {
            sockets.extend(text.lines().skip(1).filter_map(listening_line));
        }
    }
    sockets
}

/// Source of the columns: `Documentation/networking/proc_net_tcp.rst`; state `0A` is LISTEN.
fn listening_line(line: &str) -> Option<(u64, u16)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    Some((
        fields.get(9)?.parse().ok()?,
        u16::from_str_radix(port, 16).ok()?,
    ))
}

fn socket_inodes(pid: i32) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|target| {
            let text = target.to_str()?;
            text.strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse()
                .ok()
        })
        .collect()
}

/// The TCP ports these processes listen on.
pub(crate) fn listening_ports(pids: &[i32]) -> BTreeSet<u16> {
    let sockets = listening_sockets();
    pids.iter()
        .flat_map(|pid| socket_inodes(*pid))
        .filter_map(|inode| sockets.get(&inode).copied())
        .collect()
}

/// Who listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listener {
    /// This process.
    Known(ProcessStat),
    /// Somebody whom we may not look at.
    Hidden,
}

/// Whether anything listens on a TCP port, and who, where we may know.
pub(crate) fn listener_of(port: u16) -> Option<Listener> {
    let sockets = listening_sockets();
    let inodes: Vec<u64> = sockets
        .iter()
        .filter(|(_, listening)| **listening == port)
        .map(|(inode, _)| *inode)
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let holder = all().into_iter().find(|stat| {
        socket_inodes(stat.pid)
            .iter()
            .any(|inode| inodes.contains(inode))
    });
    Some(holder.map_or(Listener::Hidden, Listener::Known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse_the_fields() {
        let line = "42 (a (b) c) S 1 42 40 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 777 1000 25 1844";
        let stat = ProcessStat::parse(line).unwrap();
        assert_eq!(stat.name, "a (b) c");
        assert_eq!((stat.parent, stat.group, stat.session), (1, 42, 40));
        assert_eq!((stat.start, stat.resident_pages), (777, 25));
    }

    #[test]
    fn a_listening_port_is_found_with_its_owner() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let own = nix::unistd::getpid().as_raw();
        assert!(listening_ports(&[own]).contains(&port));
        let Some(Listener::Known(holder)) = listener_of(port) else {
            panic!("nobody listens");
        };
        assert_eq!(holder.pid, own);
        drop(socket);
        assert!(!listening_ports(&[own]).contains(&port));
    }
}
