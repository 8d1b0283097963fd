//! What this machine has: memory, a clock that goes, room, an identity, the programs that builds take.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;
use platform_blueprint::{Build, Resolved};
use platform_port::Severity;
use platform_secrets::Keyring;

use super::report::Report;
use crate::moment;

/// What a program says of its version; `None` where it is not installed.
fn version_of(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default().trim().to_owned();
    output.status.success().then_some(line)
}

pub(super) fn machine(report: &mut Report) {
    report.well("platform", env!("CARGO_PKG_VERSION"));
    match version_of("git", "--version") {
        Some(version) => report.well("git", version.replace("git version ", "")),
        None => report.found(
            "git",
            Severity::Note,
            "doctor::no-git",
            "git is not installed, so releases carry no commit",
            "install git",
        ),
    }
    memory(report);
    clock(report);
    match fs::read_to_string("/proc/self/cgroup") {
        Ok(text) if text.lines().any(|line| line.starts_with("0::")) => {
            let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
            report.well("cgroups", if unified { "version 2" } else { "version 1" });
        }
        Ok(_) => report.well("cgroups", "version 1"),
        Err(_) => report.found(
            "cgroups",
            Severity::Warning,
            "doctor::no-cgroups",
            "there are none, so limits of cpu and memory are not kept",
            "mount /sys/fs/cgroup, or leave limits to the services",
        ),
    }
}

fn memory(report: &mut Report) {
    const ENOUGH: u64 = 256 << 20;
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map(|kibibytes| kibibytes << 10);
    match available {
        Some(available) if available < ENOUGH => report.found(
            "memory",
            Severity::Warning,
            "doctor::little-memory",
            format!("only {} are available", moment::bytes(available)),
            "end something, or run fewer replicas",
        ),
        Some(available) => report.well("memory", format!("{} available", moment::bytes(available))),
        None => {}
    }
}

/// A clock far off breaks certificates, ages and the order of runs.
fn clock(report: &mut Report) {
    let built = env::current_exe()
        .and_then(fs::metadata)
        .and_then(|metadata| metadata.modified())
        .unwrap_or(UNIX_EPOCH);
    let now = SystemTime::now();
    match built.duration_since(now) {
        Ok(ahead) if 60 < ahead.as_secs() => report.found(
            "clock",
            Severity::Warning,
            "doctor::clock-behind",
            format!(
                "this program was installed {} s in the future",
                ahead.as_secs()
            ),
            "set the clock, for instance with `timedatectl set-ntp true`",
        ),
        _ => report.well(
            "clock",
            chrono::Utc::now()
                .format("%Y-%m-%d %H:%M:%S UTC")
                .to_string(),
        ),
    }
}

pub(super) fn identity(report: &mut Report) {
    match Keyring::load_existing() {
        Ok(Some(keyring)) => report.well("identity", keyring.recipient().to_string()),
        Ok(None) => report.well("identity", "none yet; the first secret makes one"),
        Err(error) => report.found(
            "identity",
            Severity::Error,
            error.code(),
            error.to_string(),
            error.help().as_deref().unwrap_or("see `platform explain`"),
        ),
    }
}

/// The programs that this blueprint's builds and commands need.
pub(super) fn toolchain(report: &mut Report, resolved: &Resolved) {
    let builds = || {
        resolved
            .services
            .values()
            .filter_map(|service| service.build.as_ref())
    };
    if builds().any(|build| matches!(build, Build::Cargo(_))) {
        tool(
            report,
            "cargo",
            "--version",
            "install Rust from https://rustup.rs",
        );
    }
    let commands = builds().filter_map(|build| match build {
        Build::Command(build) => build.command.split_whitespace().next(),
        _ => None,
    });
    let mut programs: Vec<&str> = commands.filter(|program| !program.contains('/')).collect();
    programs.sort_unstable();
    programs.dedup();
    for program in programs {
        match which(program) {
            Some(path) => report.well(program, path.display().to_string()),
            None => missing(
                report,
                program,
                "install it, or correct the build's command",
            ),
        }
    }
}

fn tool(report: &mut Report, program: &str, argument: &str, help: &str) {
    match version_of(program, argument) {
        Some(version) => report.well(program, version),
        None => missing(report, program, help),
    }
}

pub(super) fn missing(report: &mut Report, program: &str, help: &str) {
    let message = format!("`{program}` is not installed, and a build needs it");
    report.found(
        program,
        Severity::Error,
        "doctor::no-program",
        message,
        help,
    );
}

pub(super) fn which(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| {
            fs::metadata(path)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
}

pub(super) fn space(report: &mut Report, folder: &Path) {
    const ENOUGH: u64 = 512 << 20;
    let Ok(disk) = statvfs(folder) else {
        return;
    };
    let free = disk.blocks_available() * disk.fragment_size();
    if free < ENOUGH {
        report.found(
            "disk",
            Severity::Warning,
            "doctor::little-space",
            format!(
                "only {} are free for builds, logs and data",
                moment::bytes(free)
            ),
            "make room on the file system of the project's folder",
        );
    } else {
        report.well("disk", format!("{} free", moment::bytes(free)));
    }
}
